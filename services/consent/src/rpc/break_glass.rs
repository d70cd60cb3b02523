//! `BreakGlassService`: emergencies.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::break_glass::{Emergency, Outcome};
use sammati_api::consent::v1::break_glass_service_server::BreakGlassService;
use sammati_api::types::v1::Requester;
use sammati_kernel::{
    AbhaAddress, AccountId, Caller, ConsentId, HiType, ParticipantId, PurposeCode, Reason, Refusal, Role, Slot,
    Violations,
};
use sammati_server::{authz, error};
use sammati_store::Outcome as Ran;
use tonic::{Request, Response, Status};

use super::{Core, Rpc};
use crate::break_glass::count::{self, CountGlass};
use crate::break_glass::open::{OpenGlasses, check_openings, is_shut};
use crate::break_glass::refuse::RefuseGlass;
use crate::break_glass::review::ReviewGlass;
use crate::break_glass::{HIPS, REASON, WORDS, refused};
use crate::place::Place;
use crate::policy;
use crate::rows::{ConsentRow, GlassCountRow, PolicyRow};
use crate::wire::{self, scope};

#[tonic::async_trait]
impl BreakGlassService for Rpc {
    async fn open_break_glass(
        &self,
        request: Request<api::OpenBreakGlassRequest>,
    ) -> Result<Response<api::OpenBreakGlassResponse>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .open_break_glass(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }

    async fn review_break_glass(
        &self,
        request: Request<api::ReviewBreakGlassRequest>,
    ) -> Result<Response<api::Consent>, Status> {
        let caller = authz::caller(&request)?.clone();
        self.0
            .review_break_glass(&caller, request.into_inner())
            .await
            .map(Response::new)
            .map_err(error::status)
    }
}

/// What is asked for, read.
struct Ask {
    patient: String,
    hips: Vec<ParticipantId>,
    requester: Requester,
    hi_types: BTreeSet<HiType>,
}

impl Core {
    async fn open_break_glass(
        &self,
        caller: &Caller,
        message: api::OpenBreakGlassRequest,
    ) -> Result<api::OpenBreakGlassResponse, Refusal> {
        let key = self.request_key(caller, "consent.break_glass", &message.request_id, &message);
        let (key, ask) = Refusal::both(key, parse(&message))?;
        let hiu = policy::participant(caller)?.clone();
        self.directory.fresh()?;
        // A repeat needs nobody to be as they were, once the records are open.
        let known = self.store.known(&key).await?.map(|outcome| count::read(&outcome));
        if let Some(ids) = &known
            && self.are_open(ids).await?
        {
            return self.opened(caller, ids).await;
        }
        if let Some(n) = ask
            .hips
            .iter()
            .position(|hip| !self.directory.is_active_as(hip, Role::Hip))
        {
            return Err(Refusal {
                reason: Reason::HipUnknown,
                ..Refusal::field(format!("hips[{n}]"), "no active HIP; leave it out or ask the operator")
            });
        }
        let registration = ask.requester.identifier.clone().unwrap_or_default();
        let professional = self.directory.professional(&registration);
        let counted_as = professional.as_ref().map(|found| self.lookup.professional(&found.id));
        if known.is_none() {
            self.check_room(hiu.clone(), counted_as).await?;
        }
        let place = self.place_at(&ask.patient).await?;
        let account = match counted_as {
            Some(_) => self.openable(&hiu, &ask, &place).await?,
            None => None,
        };
        let Some(((professional, counted_as), account)) = professional.zip(counted_as).zip(account) else {
            let refuse = RefuseGlass {
                caller: caller.clone(),
                place,
                hips: ask.hips,
            };
            self.store.once(refuse).await?;
            return Err(refused());
        };
        let ids = match known {
            Some(ids) => ids,
            None => {
                let counted = CountGlass {
                    hiu: hiu.clone(),
                    professional: counted_as,
                    home: account.slot(),
                    consents: ask.hips.len(),
                };
                match self.store.run(counted, Some(key)).await? {
                    Ran::Fresh(ids) => ids,
                    Ran::Known(outcome) => count::read(&outcome),
                }
            }
        };
        let notice = self.notices.bind("", 0, "en", PurposeCode::Btg);
        let open = OpenGlasses {
            caller: caller.clone(),
            hiu,
            account,
            patient: ask.patient,
            hips: ask.hips.into_iter().zip(ids.iter().copied()).collect(),
            // Verified is what was found, and nothing that was only said.
            requester: Requester {
                name: professional.display_name,
                verified: true,
                ..ask.requester
            },
            hi_types: ask.hi_types,
            emergency: message.emergency,
            reason: message.reason,
            notice: notice.unwrap_or_default(),
            issuer: self.issuer(),
            lookup: self.lookup.clone(),
            vault: self.vault.clone(),
        };
        self.store.once(open).await?;
        self.opened(caller, &ids).await
    }

    /// Whether the second half was done.
    async fn are_open(&self, ids: &[ConsentId]) -> Result<bool, Refusal> {
        let keys: Vec<_> = ids.iter().map(|id| (id.slot(), id.to_vec())).collect();
        let rows = self.store.read(move |r| r.many::<ConsentRow>(&keys)).await?;
        Ok(rows.len() == ids.len())
    }

    /// Limits are told before anybody is looked for, so that they tell nothing of anybody.
    async fn check_room(&self, hiu: ParticipantId, professional: Option<[u8; 32]>) -> Result<(), Refusal> {
        let slot = Slot::of_participant(hiu.as_str());
        let row = self
            .store
            .read(move |r| r.get::<GlassCountRow>(slot, hiu.as_str().as_bytes()));
        match row.await? {
            // Who is not known has nothing open.
            Some(mut row) => count::make_room(&mut row.record, &professional.unwrap_or_default(), self.now()),
            None => Ok(()),
        }
    }

    /// Her, if she has not shut this off and it was not opened too often: what would be refused is not counted. Decided
    /// again under the lock.
    async fn openable(&self, hiu: &ParticipantId, ask: &Ask, place: &Place) -> Result<Option<AccountId>, Refusal> {
        let Some(account) = place.subject else {
            return Ok(None);
        };
        let pair = |hip| self.lookup.parties(account.as_bytes(), hip, hiu);
        let pairs: Vec<_> = ask.hips.iter().map(pair).collect();
        let read = self.store.read(move |r| {
            let policies = r.group::<PolicyRow>(account.slot(), "enabled", account.as_bytes())?;
            let before = pairs
                .iter()
                .map(|pair| r.group::<ConsentRow>(account.slot(), "pair", pair))
                .collect::<Result<Vec<_>, _>>()?;
            Ok((policies, before))
        });
        let (policies, before) = read.await?;
        let policies: Vec<_> = policies.into_iter().map(|stored| stored.record).collect();
        if is_shut(&policies, hiu, &ask.hips)? {
            return Ok(None);
        }
        for before in before {
            check_openings(before.iter().map(|stored| &stored.record), self.now())?;
        }
        Ok(Some(account))
    }

    async fn opened(&self, caller: &Caller, ids: &[ConsentId]) -> Result<api::OpenBreakGlassResponse, Refusal> {
        let mut consents = Vec::with_capacity(ids.len());
        for id in ids {
            consents.push(self.get(caller, &id.name()).await?);
        }
        Ok(api::OpenBreakGlassResponse { consents })
    }

    async fn review_break_glass(
        &self,
        caller: &Caller,
        message: api::ReviewBreakGlassRequest,
    ) -> Result<api::Consent, Refusal> {
        let key = self.request_key(caller, "consent.review_break_glass", &message.request_id, &message);
        let mut v = Violations::new();
        let id: Option<ConsentId> = wire::name(&mut v, "name", &message.name);
        let outcome = Outcome::try_from(message.outcome).unwrap_or_default();
        let allowed = match outcome {
            Outcome::Upheld | Outcome::Misuse => caller.is_operator(),
            Outcome::Disputed => !caller.is_operator(),
            Outcome::Unspecified => false,
        };
        if !allowed {
            v.add(
                "outcome",
                "OUTCOME_UPHELD or OUTCOME_MISUSE of an operator, OUTCOME_DISPUTED of everybody else",
            );
        }
        wire::check_text(&mut v, "comment", &message.comment, 1, WORDS);
        let (key, ()) = Refusal::both(key, v.check())?;
        let id = id.ok_or(Reason::FieldInvalid)?;
        let row = self
            .store
            .read(move |r| r.get::<ConsentRow>(id.slot(), id.as_bytes()))
            .await?;
        let row = policy::revocable(caller, row.map(|stored| stored.record))?;
        let review = ReviewGlass {
            caller: caller.clone(),
            consent: id,
            outcome,
            comment: message.comment,
            etag: message.etag,
            subject: row.subject,
            vault: self.vault.clone(),
        };
        self.store.run(review, Some(key)).await?;
        self.get(caller, &id.name()).await
    }
}

fn parse(message: &api::OpenBreakGlassRequest) -> Result<Ask, Refusal> {
    let mut v = Violations::new();
    let patient = v.keep(
        "patient",
        AbhaAddress::parse(&message.patient).map_err(|why| format!("Invalid ABHA Address: {why}")),
    );
    if message.hips.is_empty() || message.hips.len() > HIPS {
        v.add("hips", "1 to 5");
    }
    let hips: Vec<_> = message
        .hips
        .iter()
        .enumerate()
        .filter_map(|(n, name)| wire::participant(&mut v, &format!("hips[{n}]"), name))
        .collect();
    if hips.iter().collect::<BTreeSet<_>>().len() != hips.len() {
        v.add("hips", "each once");
    }
    let requester = wire::requester(&mut v, "requester", message.requester.clone());
    let hi_types = scope::hi_types(&mut v, "hi_types", &message.hi_types, 1);
    if !matches!(Emergency::try_from(message.emergency), Ok(e) if e != Emergency::Unspecified) {
        v.add(
            "emergency",
            "required: EMERGENCY_UNCONSCIOUS, _ACCIDENT, _POISONING, _MENTAL or _OTHER",
        );
    }
    let is_short = message.reason.chars().count() < REASON;
    let why = if v.is_empty() && is_short {
        Reason::ReasonRequired
    } else {
        Reason::FieldInvalid
    };
    wire::check_text(&mut v, "reason", &message.reason, 0, WORDS);
    if is_short {
        v.add("reason", "why it cannot wait, in at least 20 characters: she reads it");
    }
    v.check_as(why)?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    Ok(Ask {
        patient: patient.ok_or_else(missing)?.folded(),
        hips,
        requester: requester.ok_or_else(missing)?,
        hi_types: hi_types.ok_or_else(missing)?,
    })
}
