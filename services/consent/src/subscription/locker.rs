//! Setting up a locker: what it is told of and what it may fetch, in one commit.

use std::sync::Arc;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::SubscriptionCategory;
use sammati_api::consent::v1::notification::Kind;
use sammati_kernel::{
    AccessMode, AccountId, Caller, HiType, Micros, ParticipantId, PurposeCode, Reason, Refusal, Role, Slot,
    SubscriptionId,
};
use sammati_store::{Command, Keys, View};

use super::{State, draft};
use crate::directory::Directory;
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::representative;
use crate::rows::{PolicyRow, SourcesRow, SubscriptionRow};
use crate::scope::{Frequency, Range, Scope, Unit};
use crate::standing::Effect;
use crate::standing::create::{Wanted, ensure, reads};
use crate::step_up::{self, Token};
use crate::vault::{Private, Vault, seal};

/// SetupLocker.
pub struct SetupLocker {
    /// Who asks.
    pub caller: Caller,
    /// The person.
    pub account: AccountId,
    /// Her address, in lower case.
    pub patient: String,
    /// The locker.
    pub locker: ParticipantId,
    /// From where, bare ids in order; empty: from all.
    pub hips: Vec<String>,
    /// What.
    pub hi_types: Vec<HiType>,
    /// Until when.
    pub expire: Micros,
    /// Who takes part.
    pub directory: Arc<dyn Directory>,
    /// The action token that came with it.
    pub token: Option<Token>,
    /// Seals.
    pub vault: Vault,
}

/// What came of it.
pub struct LockerSet {
    /// What it is told of.
    pub subscription: SubscriptionRow,
    /// What it may fetch.
    pub policy: PolicyRow,
}

impl Command for SetupLocker {
    type Answer = LockerSet;

    const NAME: &'static str = "subscription.locker";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.group::<SubscriptionRow>("live", self.account.to_vec());
        reads(keys, self.account);
        step_up::reads(keys, self.account);
    }

    fn decide(&self, view: &mut View<'_>) -> Result<LockerSet, Refusal> {
        policy::recently_proved(&self.caller, view.now())?;
        let shown = step_up::check(view, &self.caller, self.account, step_up::APPROVE, self.token.as_ref())?;
        self.check(view)?;
        let wanted = Wanted {
            content: self.policy(view.now()),
            references: Vec::new(),
        };
        // One of the same content is left of a locker that was taken back.
        let policy = ensure(view, &self.caller, self.account, &wanted, &self.vault)?;
        let subscription = self.subscribe(view, &policy)?;
        shown.spend(view);
        Ok(LockerSet { subscription, policy })
    }

    fn outcome(&self, answer: &LockerSet) -> Vec<u8> {
        [answer.subscription.id.as_slice(), &answer.policy.id].concat()
    }
}

impl SetupLocker {
    fn check(&self, view: &View<'_>) -> Result<(), Refusal> {
        self.directory.fresh()?;
        if !self.directory.is_active_as(&self.locker, Role::Locker) {
            return Err(Refusal::new(Reason::ParticipantNotActive)
                .saying("this is no locker that takes part now; choose another"));
        }
        let now = view.now();
        let live = view.group::<SubscriptionRow>("live", self.account.as_bytes());
        let same = |row: &&SubscriptionRow| row.locker && row.holder == self.locker.as_str();
        let ended = |row: &SubscriptionRow| row.state_at(now) == State::Expired;
        if live.iter().filter(same).any(|row| !ended(row)) {
            return Err(Refusal::new(Reason::LockerActive)
                .saying("this locker is set up; change its subscription, or take it back first"));
        }
        let most = now.plus(std::time::Duration::from_secs(5 * 365 * 24 * 3600));
        if self.expire <= now || self.expire > most {
            return Err(Refusal::field("expire_time", "in the future, at most 5 years"));
        }
        Ok(())
    }

    fn subscribe(&self, view: &mut View<'_>, policy: &PolicyRow) -> Result<SubscriptionRow, Refusal> {
        let id: SubscriptionId = view.id("subscription");
        let now = view.now();
        let key = self.vault.key(view, self.account.as_bytes())?;
        let private = Private {
            patient: self.patient.clone(),
            ..Private::default()
        };
        let to = representative::ends(&self.caller, self.expire.0);
        let categories = [SubscriptionCategory::Link, SubscriptionCategory::Data];
        let sources = SourcesRow {
            categories: categories.map(i32::from).to_vec(),
            hips: self.hips.clone(),
            hi_types: self.hi_types.iter().map(|kind| kind.number()).collect(),
            from: now.0,
            to,
            excluded: Vec::new(),
        };
        let row = SubscriptionRow {
            id: id.to_vec(),
            owner: self.account.to_vec(),
            known: true,
            holder: self.locker.as_str().to_owned(),
            purpose: PurposeCode::Patrqt.number(),
            asked: sources.clone(),
            given: Some(sources),
            state: State::Granted.number(),
            locker: true,
            expire: now.0,
            decided: now.0,
            created: now.0,
            updated: now.0,
            version: 1,
            sealed: seal(&key, view, "subscription", id.as_bytes(), &private)?,
            policy: policy.id.clone(),
            decided_by: representative::kind(&self.caller),
            decided_under: representative::representation(&self.caller),
            ..SubscriptionRow::default()
        };
        view.put(&row);
        let told = draft("subscription.granted", Action::Create, &self.caller, &row)?.emit(view);
        let locker = Recipients::new().participant(&row.holder);
        notify(
            view,
            told,
            Kind::SubscriptionChanged,
            &id.name(),
            &locker,
            Some(self.account),
        );
        Ok(row)
    }

    /// Whatever the locker asks for her own use, as long as it is set up.
    fn policy(&self, now: Micros) -> PolicyRow {
        let bound = Scope {
            purpose: PurposeCode::Patrqt,
            hi_types: self.hi_types.iter().copied().collect(),
            access_mode: AccessMode::Store,
            record_range: Range {
                from: Micros(0).min(now),
                to: self.expire,
            },
            erase_time: self.expire,
            frequency: Frequency {
                unit: Unit::Hour,
                value: 0,
                repeats: 0,
            },
            max_uses: 0,
            bind_requester: false,
            care_contexts: std::collections::BTreeSet::new(),
        };
        PolicyRow {
            effect: Effect::Approve.number(),
            hiu: self.locker.as_str().to_owned(),
            hips: self.hips.clone(),
            scope: Some((&bound).into()),
            ..PolicyRow::default()
        }
    }
}
