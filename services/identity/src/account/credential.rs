//! Her password or PIN is set or removed: the proof is consumed where it lives, the change is made where the account lives.

use sammati_api::audit::v1::event::Action;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_kernel::{AccountId, Caller, Micros, Refusal, SessionId, Slot, TransactionId};
use sammati_store::{Command, Keys, View};

use super::told;
use crate::policy;
use crate::rows::{AccountRow, Credential, GuardRow, SessionRow, TransactionRow, check_etag};
use crate::session::{self, may_log_in};

/// Refuses unless the transaction proves that `account` may be given another password or PIN.
pub(crate) fn may_set(row: &TransactionRow, account: AccountId, caller: &Caller, now: Micros) -> Result<(), Refusal> {
    row.require_verified(Purpose::SetCredential, now)?;
    if row.account() == Some(account) {
        Ok(())
    } else {
        Err(policy::unavailable(caller))
    }
}

/// The first half: consumes a SET_CREDENTIAL transaction.
#[derive(Debug)]
pub(crate) struct ConsumeCredential {
    pub(crate) caller: Caller,
    pub(crate) transaction: TransactionId,
    pub(crate) account: AccountId,
}

impl Command for ConsumeCredential {
    /// When it was consumed: what was consumed later is her later wish.
    type Answer = Micros;
    const NAME: &'static str = "identity.set_credential";

    fn slot(&self) -> Slot {
        self.transaction.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransactionRow>(self.transaction.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Micros, Refusal> {
        let now = view.now();
        let row = view.get::<TransactionRow>(self.transaction.as_bytes());
        let mut row = row.ok_or_else(|| policy::unavailable(&self.caller))?;
        policy::created_by(&row, &self.caller)?;
        may_set(&row, self.account, &self.caller, now)?;
        row.consume(now);
        view.put(&row);
        Ok(now)
    }

    fn outcome(&self, consumed: &Micros) -> Vec<u8> {
        consumed.0.to_be_bytes().to_vec()
    }
}

/// Reads the outcome back.
pub(crate) fn time_of(outcome: &[u8]) -> Option<Micros> {
    outcome.try_into().ok().map(|bytes| Micros(i64::from_be_bytes(bytes)))
}

/// The second half. Harmless when repeated, early or late: the account remembers by which proofs it was changed last and when
/// they were consumed, and neither they nor older ones change it again.
#[derive(Debug)]
pub(crate) struct ApplyCredential {
    pub(crate) caller: Caller,
    pub(crate) transaction: TransactionId,
    /// Its name, as others see it.
    pub(crate) name: String,
    /// When the first half consumed it.
    pub(crate) consumed: Micros,
    pub(crate) account: AccountId,
    pub(crate) etag: String,
    pub(crate) credential: Credential,
    /// The PHC string, sealed; empty: it is removed.
    pub(crate) hash: Vec<u8>,
    /// The session that goes on.
    pub(crate) keep: Option<SessionId>,
}

impl Command for ApplyCredential {
    /// The sessions that ended.
    type Answer = Vec<SessionId>;
    const NAME: &'static str = "identity.apply_credential";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.account.to_vec());
        keys.row::<GuardRow>(self.account.to_vec());
        keys.group::<SessionRow>("live", self.account.name());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Vec<SessionId>, Refusal> {
        policy::own_account(&self.caller, self.account)?;
        let row = view.get::<AccountRow>(self.account.as_bytes());
        let mut row = row.ok_or_else(|| policy::unavailable(&self.caller))?;
        let proof = (self.transaction.as_bytes().as_slice(), self.consumed);
        if row.has_settled(self.credential, proof) {
            return Ok(Vec::new());
        }
        // It may have been deleted while the hash was made.
        may_log_in(row.state())?;
        check_etag(&self.etag, row.version)?;
        row.set_credential(self.credential, &self.hash, proof, view.now());
        row.touch(view.now());
        view.put(&row);
        self.lift(view);
        let mut draft = told("identity.credential_set", Action::Update, &row, &self.caller);
        draft.event.txn_id.clone_from(&self.name);
        draft.payload().changed_fields.push(self.credential.as_str().to_owned());
        draft.emit(view);
        Ok(self.end_others(view))
    }
}

impl ApplyCredential {
    /// Wrong PINs count against the one they were tried for. Those of the password stay: whoever tries them has no session.
    fn lift(&self, view: &mut View<'_>) {
        let guard = view.get::<GuardRow>(self.account.as_bytes());
        if let (Credential::Pin, Some(mut guard)) = (self.credential, guard) {
            guard.forgive(Credential::Pin);
            view.put(&guard);
        }
    }

    fn end_others(&self, view: &mut View<'_>) -> Vec<SessionId> {
        let now = view.now();
        let mut ended = Vec::new();
        for mut row in view.group::<SessionRow>("live", self.account.name().as_bytes()) {
            if row.is_live(now) && row.id() != self.keep {
                session::end(&mut row, "identity.session_revoked", &self.caller, view);
                ended.extend(row.id());
            }
        }
        ended
    }
}

/// A right password or PIN whose hash is of an older cost is kept with today's.
#[derive(Debug)]
pub(crate) struct UpgradeCredential {
    pub(crate) account: AccountId,
    pub(crate) credential: Credential,
    /// The sealed hash that was compared with.
    pub(crate) old: Vec<u8>,
    pub(crate) new: Vec<u8>,
}

impl Command for UpgradeCredential {
    type Answer = ();
    const NAME: &'static str = "identity.upgrade_password";

    fn slot(&self) -> Slot {
        self.account.slot()
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<AccountRow>(self.account.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        if let Some(mut row) = view.get::<AccountRow>(self.account.as_bytes())
            && *row.hash_of(self.credential) == self.old
        {
            row.hash_mut(self.credential).clone_from(&self.new);
            view.put(&row);
        }
        Ok(())
    }
}
