//! A login consumes its transaction, and fixes the session it leads to.

use sammati_api::identity::v1::transaction::Purpose;
use sammati_kernel::{AccountId, Caller, Reason, Refusal, RepresentationId, SessionId, Slot, TransactionId};
use sammati_store::{Command, Keys, View};

use crate::policy;
use crate::rows::TransactionRow;

/// The first half of a login. The account may live elsewhere: [`super::OpenSession`] is the second half.
#[derive(Debug)]
pub(crate) struct ConsumeLogin {
    pub(crate) caller: Caller,
    pub(crate) transaction: TransactionId,
    /// `index` of a candidate, from 1.
    pub(crate) candidate: Option<i32>,
    /// For whom the account acts that logs in, if for another.
    pub(crate) representation: Option<RepresentationId>,
}

/// Which session is to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) account: AccountId,
    pub(crate) session: SessionId,
}

impl Login {
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        [self.account.to_vec(), self.session.to_vec()].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (account, session) = bytes.split_at_checked(16)?;
        Some(Self {
            account: AccountId::from_slice(account)?,
            session: SessionId::from_slice(session)?,
        })
    }
}

impl Command for ConsumeLogin {
    type Answer = Login;
    const NAME: &'static str = "identity.create_session";

    fn slot(&self) -> Slot {
        self.transaction.slot()
    }

    /// Who cannot sign in cannot take anything back.
    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<TransactionRow>(self.transaction.to_vec());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Login, Refusal> {
        let now = view.now();
        let row = view.get::<TransactionRow>(self.transaction.as_bytes());
        let mut row = row.ok_or_else(|| policy::unavailable(&self.caller))?;
        policy::created_by(&row, &self.caller)?;
        row.require_verified(Purpose::Login, now)?;
        let account = chosen(&row, self.candidate)?;
        // It belongs to where the account lives that it is about, so that its id finds it.
        let home = self.representation.map_or(account.slot(), |id| id.slot());
        let session = view.seed().id("session", now, home);
        row.consume(now);
        view.put(&row);
        Ok(Login { account, session })
    }

    fn outcome(&self, login: &Login) -> Vec<u8> {
        login.to_bytes()
    }
}

/// The candidate with this index; without one the only one.
pub(crate) fn chosen(row: &TransactionRow, index: Option<i32>) -> Result<AccountId, Refusal> {
    if row.candidates.is_empty() {
        return Err(Refusal::new(Reason::NotAvailable)
            .saying("nobody is enrolled with this yet; enrol with a transaction of purpose ENROL"));
    }
    let at = match (index, row.candidates.len()) {
        (None, 1) => 1,
        (None, _) => {
            let why = "several accounts are reached; ask which one, and pass its candidate_index";
            return Err(Refusal::new(Reason::SelectionRequired).saying(why));
        }
        (Some(index), _) => index,
    };
    let found = usize::try_from(at)
        .ok()
        .and_then(|n| n.checked_sub(1))
        .and_then(|n| row.candidates.get(n));
    found
        .and_then(|bytes| AccountId::from_slice(bytes))
        .ok_or_else(|| Refusal::field("candidate_index", format!("must be 1 to {}", row.candidates.len())))
}
