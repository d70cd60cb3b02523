//! One consent, asked for and then raced over by several at once.

use std::sync::{Mutex, PoisonError};

use sammati_api::consent::v1 as consent;
use sammati_api::consent::v1::consent_request_service_client::ConsentRequestServiceClient;
use sammati_api::consent::v1::decision::Outcome;
use sammati_api::consent::v1::decision_service_client::DecisionServiceClient;
use sammati_tests::journal::{Answer, Call, Op};
use sammati_tests::story::{Failure, Person};

use crate::client::{Asked, Clients, Dice};

/// How many race over it.
const RACERS: usize = 5;

/// A consent and everything that was answered about it.
pub(crate) struct Case {
    pub(crate) person: Person,
    pub(crate) request: consent::ConsentRequest,
    pub(crate) max_uses: usize,
    calls: Mutex<Vec<Call>>,
}

/// How far it has got, as far as the racers know.
enum Phase {
    Open,
    Given(String),
    Denied,
    Revoked(String),
}

impl Case {
    /// The clinic asks her; `None` when the load was over before it was answered.
    pub(crate) async fn ask(clients: &Clients, person: &Person, dice: &mut Dice) -> Result<Option<Self>, Failure> {
        let max_uses = 5 + dice.below(30);
        let mut scope = clients.story.scope();
        scope.max_uses = i32::try_from(max_uses)?;
        let message = clients.story.asking(&person.address(), scope);
        let asked = Asked {
            object: &person.account.name,
            op: Op::Ask,
            request_id: &message.request_id,
        };
        let ask = async |replica| {
            let mut client = ConsentRequestServiceClient::new(clients.story.clinic.consent_at(replica));
            Ok(client.create_consent_request(message.clone()).await?.into_inner())
        };
        let (request, call) = clients
            .change(&asked, dice, ask, |request| request.name.clone())
            .await?;
        let Some(request) = request else {
            clients.find(|found| found.illegal(format!("asking was refused: {:?}", call.answer)));
            return Ok(None);
        };
        Ok(Some(Self {
            person: person.clone(),
            request,
            max_uses,
            calls: Mutex::new(vec![call]),
        }))
    }

    /// The same, with tokens that are fresh.
    pub(crate) fn of(self, person: Person) -> Self {
        Self { person, ..self }
    }

    /// Everything that was answered about it.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keep(&self, call: Call) {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// All race until it is taken back or denied, or the load is over.
    pub(crate) async fn race(&self, clients: &Clients, dice: &mut Dice) -> Result<(), Failure> {
        let racers = (0..RACERS).map(|_| self.run(clients, Dice::new(dice.seed())));
        futures::future::try_join_all(racers).await.map(drop)
    }

    async fn run(&self, clients: &Clients, mut dice: Dice) -> Result<(), Failure> {
        // After the end some look whether it is one.
        let mut last_looks = 2;
        while !clients.is_over() && last_looks > 0 {
            dice.pause(5, 60).await;
            match self.phase() {
                Phase::Open if dice.below(8) == 0 => self.deny(clients, &mut dice).await?,
                Phase::Open => self.approve(clients, &mut dice).await?,
                Phase::Denied => {
                    last_looks -= 1;
                    self.approve(clients, &mut dice).await?;
                }
                Phase::Given(name) => match dice.below(40) {
                    0 => self.revoke(clients, &mut dice, &name).await?,
                    1 => self.deny(clients, &mut dice).await?,
                    2 => self.approve(clients, &mut dice).await?,
                    3..20 => self.authorize(clients, &mut dice, &name).await?,
                    _ => self.check(clients, &mut dice, &name).await?,
                },
                Phase::Revoked(name) => {
                    last_looks -= 1;
                    if dice.below(2) == 0 {
                        self.authorize(clients, &mut dice, &name).await?;
                    } else {
                        self.check(clients, &mut dice, &name).await?;
                    }
                }
            }
        }
        Ok(())
    }

    fn phase(&self) -> Phase {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let done = |op| {
            calls.iter().find_map(|call| match &call.answer {
                Answer::Done(told) if call.op == op => Some(told.clone()),
                _ => None,
            })
        };
        match (done(Op::Approve), done(Op::Revoke), done(Op::Deny)) {
            (Some(name), Some(_), _) => Phase::Revoked(name),
            (Some(name), None, _) => Phase::Given(name),
            (None, _, Some(_)) => Phase::Denied,
            (None, _, None) => Phase::Open,
        }
    }

    async fn approve(&self, clients: &Clients, dice: &mut Dice) -> Result<(), Failure> {
        let message = clients.story.approval(&self.request, None);
        let asked = self.asked(Op::Approve, &message.request_id);
        let approve = async |replica| {
            let mut client = ConsentRequestServiceClient::new(self.person.who.consent_at(replica));
            Ok(client.approve_consent_request(message.clone()).await?.into_inner())
        };
        let names = |done: &consent::ApproveConsentRequestResponse| {
            let names: Vec<_> = done.consents.iter().map(|consent| consent.name.clone()).collect();
            names.join(",")
        };
        let (_, call) = clients.change(&asked, dice, approve, names).await?;
        self.keep(call);
        Ok(())
    }

    async fn deny(&self, clients: &Clients, dice: &mut Dice) -> Result<(), Failure> {
        let message = consent::DenyConsentRequestRequest {
            name: self.request.name.clone(),
            reason: "not now".into(),
            etag: String::new(),
            request_id: clients.story.rid(),
        };
        let asked = self.asked(Op::Deny, &message.request_id);
        let deny = async |replica| {
            let mut client = ConsentRequestServiceClient::new(self.person.who.consent_at(replica));
            Ok(client.deny_consent_request(message.clone()).await?.into_inner())
        };
        let (_, call) = clients.change(&asked, dice, deny, |_| String::new()).await?;
        self.keep(call);
        Ok(())
    }

    async fn revoke(&self, clients: &Clients, dice: &mut Dice, name: &str) -> Result<(), Failure> {
        let message = clients.story.revocation(&[name]);
        let asked = self.asked(Op::Revoke, &message.request_id);
        let revoke = async |replica| clients.story.revoke_as(replica, &self.person, message.clone()).await;
        let (_, call) = clients
            .change(&asked, dice, revoke, |done| done.changed_count.to_string())
            .await?;
        self.keep(call);
        Ok(())
    }

    async fn authorize(&self, clients: &Clients, dice: &mut Dice, name: &str) -> Result<(), Failure> {
        let message = clients.story.authorization(name);
        let asked = self.asked(Op::Authorize, &message.request_id);
        let authorize = async |replica| {
            let mut client = DecisionServiceClient::new(clients.story.hospital.consent_at(replica));
            Ok(client.authorize_access(message.clone()).await?.into_inner())
        };
        let (_, call) = clients.change(&asked, dice, authorize, decision).await?;
        self.keep(call);
        Ok(())
    }

    async fn check(&self, clients: &Clients, dice: &mut Dice, name: &str) -> Result<(), Failure> {
        // The hospital asks: it need not have acknowledged the consent, which the clinic would be told.
        let question = consent::CheckAccessRequest {
            requester: "participants/clinic".into(),
            ..clients.story.question(name)
        };
        let asked = self.asked(Op::Check, "");
        let check = async |replica| {
            let mut client = DecisionServiceClient::new(clients.story.hospital.consent_at(replica));
            Ok(client.check_access(question.clone()).await?.into_inner())
        };
        let (_, call) = clients.call(&asked, dice, check, decision).await?;
        self.keep(call);
        Ok(())
    }

    fn asked<'a>(&'a self, op: Op, request_id: &'a str) -> Asked<'a> {
        Asked {
            object: &self.request.name,
            op,
            request_id,
        }
    }
}

/// `PERMIT 3 4` with the use that it took and how many are left, or the reason of a denial.
fn decision(decision: &consent::Decision) -> String {
    match decision.outcome() {
        Outcome::Permit => {
            let left = decision.uses_left.map_or_else(String::new, |left| format!(" {left}"));
            format!("PERMIT {}{left}", decision.r#use.unwrap_or_default())
        }
        _ => decision.reason().as_str_name().trim_start_matches("REASON_").to_owned(),
    }
}
