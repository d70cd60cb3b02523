//! Scan and share: her profile at a counter, a token number back.

use std::sync::Arc;
use std::time::Duration;

use sammati_api::audit::v1::event::Action;
use sammati_api::consent::v1::SharedProfile;
use sammati_api::consent::v1::notification::Kind;
use sammati_api::types::v1::RetentionClass;
use sammati_kernel::{AccountId, Caller, Fact, Micros, ParticipantId, ProfileShareId, Reason, Refusal, Slot};
use sammati_server::event::{Draft, system};
use sammati_store::{Command, Keys, View};

use crate::directory::Directory;
use crate::discovery::start::available;
use crate::notification::{Recipients, notify};
use crate::policy;
use crate::representative;
use crate::rows::{self, ProfileShareRow, broken};
use crate::vault::{Vault, seal};

/// How long the HIP may take to answer.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long a token is good.
pub const TOKEN_LIFE: Duration = Duration::from_secs(30 * 60);

/// The states, as the contract names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The HIP has been told.
    Sent,
    /// It answered.
    Acknowledged,
    /// It did not, or the token is too old.
    Expired,
}

/// What may be done to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// The HIP answers.
    Acknowledge,
    /// Its time ends.
    Expire,
}

impl State {
    /// All of them, in the order of their numbers in the contract, from 1.
    pub const ALL: [Self; 3] = [Self::Sent, Self::Acknowledged, Self::Expired];

    /// Its number in the contract.
    pub const fn number(self) -> i32 {
        self as i32 + 1
    }

    /// Reads it back; an unknown number is over.
    pub const fn from_number(number: i32) -> Self {
        match number {
            1 => Self::Sent,
            2 => Self::Acknowledged,
            _ => Self::Expired,
        }
    }

    /// As refusals name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "SENT",
            Self::Acknowledged => "ACKNOWLEDGED",
            Self::Expired => "EXPIRED",
        }
    }

    /// Where `verb` leads from here, if anywhere.
    pub const fn after(self, verb: Verb) -> Option<Self> {
        match (self, verb) {
            (Self::Sent, Verb::Acknowledge) => Some(Self::Acknowledged),
            (Self::Sent, Verb::Expire) => Some(Self::Expired),
            _ => None,
        }
    }
}

/// CreateProfileShare.
pub struct CreateShare {
    /// Who asks.
    pub caller: Caller,
    /// The person.
    pub account: AccountId,
    /// With whom.
    pub hip: ParticipantId,
    /// At which counter.
    pub counter: String,
    /// What for.
    pub intent: i32,
    /// What.
    pub profile: SharedProfile,
    /// Who takes part.
    pub directory: Arc<dyn Directory>,
    /// Seals.
    pub vault: Vault,
}

impl Command for CreateShare {
    type Answer = ProfileShareRow;

    const NAME: &'static str = "share.create";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        Vault::reads(keys, self.account.as_bytes());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<ProfileShareRow, Refusal> {
        representative::within(&self.caller, None, [self.hip.as_str()])?;
        available(self.directory.as_ref(), &self.hip)?;
        let id: ProfileShareId = view.id("profile share");
        let now = view.now();
        let key = self.vault.key(view, self.account.as_bytes())?;
        let row = ProfileShareRow {
            id: id.to_vec(),
            subject: self.account.to_vec(),
            hip: self.hip.as_str().to_owned(),
            counter: self.counter.clone(),
            intent: self.intent,
            sealed: seal(&key, view, SEALED, id.as_bytes(), &self.profile)?,
            state: State::Sent.number(),
            expire: now.plus(ANSWER_WITHIN).0,
            created: now.0,
            updated: now.0,
            version: 1,
            ..ProfileShareRow::default()
        };
        view.put(&row);
        let told = draft("identity.profile_shared", &self.caller, &row)?.emit(view);
        let hip = Recipients::new().participant(&row.hip);
        notify(view, told, Kind::ProfileShared, &id.name(), &hip, Some(self.account));
        Ok(row)
    }

    fn outcome(&self, answer: &ProfileShareRow) -> Vec<u8> {
        answer.id.clone()
    }
}

/// AcknowledgeProfileShare.
pub struct AcknowledgeShare {
    /// Who asks.
    pub caller: Caller,
    /// Which.
    pub share: ProfileShareId,
    /// Her number in the queue.
    pub token_number: String,
    /// The etag that was read.
    pub etag: String,
}

impl Command for AcknowledgeShare {
    type Answer = ProfileShareRow;

    const NAME: &'static str = "share.acknowledge";

    fn slot(&self) -> Slot {
        self.share.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<ProfileShareRow>(self.share.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<ProfileShareRow, Refusal> {
        let row = view.get::<ProfileShareRow>(self.share.as_bytes());
        let mut row = policy::may_acknowledge_share(&self.caller, row)?;
        rows::check_etag(&self.etag, row.version)?;
        if expire(view, &mut row)? {
            return Err(conflict(State::Expired).recorded());
        }
        let to = row
            .state()
            .after(Verb::Acknowledge)
            .ok_or_else(|| conflict(row.state_at(view.now())))?;
        let now = view.now();
        row.token_number.clone_from(&self.token_number);
        settle(&mut row, to, now);
        row.expire = now.plus(TOKEN_LIFE).0;
        view.put(&row);
        let told = draft("identity.profile_share_acknowledged", &self.caller, &row)?.emit(view);
        tell_her(view, told, &row)?;
        Ok(row)
    }

    fn outcome(&self, answer: &ProfileShareRow) -> Vec<u8> {
        answer.id.clone()
    }
}

/// Under what a profile is sealed.
pub const SEALED: &str = "profile share";

/// Writes the expiry of one that nobody answered in time, and tells whether it did.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn expire(view: &mut View<'_>, row: &mut ProfileShareRow) -> Result<bool, Refusal> {
    let Some(to) = row.state().after(Verb::Expire).filter(|_| view.now().0 >= row.expire) else {
        return Ok(false);
    };
    let due = Micros(row.expire);
    settle(row, to, view.now());
    view.put(row);
    let told = draft("identity.profile_share_expired", &system("consent"), row)?
        .occurred(due)
        .emit(view);
    tell_her(view, told, row)?;
    Ok(true)
}

/// Ends one whose person's account is deleted, on that `ground`: nobody answers it, and its token is good no more.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub(crate) fn end_of_account(view: &mut View<'_>, row: &mut ProfileShareRow, ground: &str) -> Result<(), Refusal> {
    let now = view.now();
    if expire(view, row)? || row.state_at(now) == State::Expired {
        return Ok(());
    }
    let to = row.state().after(Verb::Expire).unwrap_or(row.state());
    row.expire = now.0;
    settle(row, to, now);
    view.put(row);
    let mut draft = draft("identity.profile_share_expired", &system("consent"), row)?;
    ground.clone_into(&mut draft.payload().legal_basis);
    draft.emit(view);
    Ok(())
}

const fn settle(row: &mut ProfileShareRow, state: State, now: Micros) {
    row.state = state.number();
    row.updated = now.0;
    row.version += 1;
}

fn tell_her(view: &mut View<'_>, told: sammati_server::event::Emitted, row: &ProfileShareRow) -> Result<(), Refusal> {
    let account = subject(row)?;
    let her = Recipients::new().person(Some(account));
    notify(
        view,
        told,
        Kind::ProfileShareAnswered,
        &row.id()?.name(),
        &her,
        Some(account),
    );
    Ok(())
}

fn subject(row: &ProfileShareRow) -> Result<AccountId, Refusal> {
    rows::account(&row.subject).ok_or_else(|| broken("a share's subject"))
}

fn draft(kind: &str, caller: &Caller, row: &ProfileShareRow) -> Result<Draft, Refusal> {
    let mut draft = Draft::new(kind, Action::Update, RetentionClass::General, caller)
        .resource(&row.id()?.name(), row.version)
        .participant(&rows::participant(&row.hip)?);
    draft.payload().subject = subject(row)?.name();
    Ok(draft)
}

fn conflict(state: State) -> Refusal {
    Refusal::new(Reason::StateConflict)
        .saying("the share was answered, or its 30 seconds are over; ask the patient to scan again")
        .with(Fact::State, state.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_of_state_and_verb_goes_where_the_graph_says() {
        for from in State::ALL {
            for verb in [Verb::Acknowledge, Verb::Expire] {
                let expected = match (from, verb) {
                    (State::Sent, Verb::Acknowledge) => Some(State::Acknowledged),
                    (State::Sent, Verb::Expire) => Some(State::Expired),
                    (State::Acknowledged | State::Expired, _) => None,
                };
                assert_eq!(from.after(verb), expected, "{from:?} {verb:?}");
            }
            assert_eq!(State::from_number(from.number()), from);
        }
    }
}
