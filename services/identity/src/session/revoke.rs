//! Sessions are ended: those named, or all of one holder.

use sammati_kernel::{AccountId, Caller, Reason, Refusal, RepresentationId, SessionId, Slot};
use sammati_store::{Command, Keys, View};

use super::end;
use crate::policy;
use crate::rows::{AccountRow, RepresentationRow, SessionRow};

/// Ends sessions of one holder.
#[derive(Debug)]
pub(crate) struct Revoke {
    pub(crate) caller: Caller,
    pub(crate) slot: Slot,
    pub(crate) which: Which,
    /// How many were ended by this call before, in commits of their own.
    pub(crate) before: usize,
}

/// Which ones.
#[derive(Debug, Clone)]
pub(crate) enum Which {
    Named(Vec<SessionId>),
    /// All of this account or participant, by its name.
    AllOf(String),
}

/// What ended by this call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Revoked {
    /// The ones that ended in this commit.
    pub(crate) ended: Vec<SessionId>,
    /// How many there are with those before.
    pub(crate) count: u32,
}

impl Command for Revoke {
    type Answer = Revoked;
    const NAME: &'static str = "identity.revoke_sessions";

    fn slot(&self) -> Slot {
        self.slot
    }

    fn is_essential(&self) -> bool {
        true
    }

    fn reads(&self, keys: &mut Keys) {
        match &self.which {
            Which::Named(ids) => ids.iter().for_each(|id| keys.row::<SessionRow>(id.to_vec())),
            Which::AllOf(holder) => {
                keys.group::<SessionRow>("live", holder.clone());
                if let Some(id) = AccountId::parse_name(holder) {
                    keys.row::<AccountRow>(id.to_vec());
                }
                if let Some(id) = RepresentationId::parse_name(holder) {
                    keys.row::<RepresentationRow>(id.to_vec());
                }
            }
        }
    }

    fn decide(&self, view: &mut View<'_>) -> Result<Revoked, Refusal> {
        let rows = match &self.which {
            Which::Named(ids) => self.named(ids, view)?,
            Which::AllOf(holder) => {
                policy::may_end_all_of(&self.caller, holder)?;
                end_logins(holder, view);
                view.group::<SessionRow>("live", holder.as_bytes())
            }
        };
        let now = view.now();
        let mut ended = Vec::new();
        for mut row in rows {
            if row.is_live(now) {
                end(&mut row, "identity.session_revoked", &self.caller, view);
                ended.extend(row.id());
            }
        }
        let count = u32::try_from(self.before + ended.len()).unwrap_or(u32::MAX);
        Ok(Revoked { ended, count })
    }

    fn outcome(&self, revoked: &Revoked) -> Vec<u8> {
        revoked.count.to_be_bytes().to_vec()
    }
}

impl Revoke {
    fn named(&self, ids: &[SessionId], view: &View<'_>) -> Result<Vec<SessionRow>, Refusal> {
        let mut rows: Vec<SessionRow> = Vec::with_capacity(ids.len());
        for id in ids {
            let row = view
                .get::<SessionRow>(id.as_bytes())
                .ok_or_else(|| policy::unavailable(&self.caller))?;
            policy::may_end(&self.caller, &row)?;
            if rows.first().is_some_and(|first| first.holder() != row.holder()) {
                return Err(several_holders());
            }
            rows.push(row);
        }
        Ok(rows)
    }
}

/// A login that is under way opens no session of this holder any more. A participant's has no second half.
fn end_logins(holder: &str, view: &mut View<'_>) {
    let now = view.now().0;
    if let Some(id) = AccountId::parse_name(holder)
        && let Some(mut row) = view.get::<AccountRow>(id.as_bytes())
    {
        row.sessions_from = now;
        view.put(&row);
    }
    if let Some(id) = RepresentationId::parse_name(holder)
        && let Some(mut row) = view.get::<RepresentationRow>(id.as_bytes())
    {
        row.sessions_from = now;
        view.put(&row);
    }
}

pub(crate) fn several_holders() -> Refusal {
    Refusal::new(Reason::BatchSubjects)
        .saying("the sessions belong to more than one account or participant; end each one's on its own")
}
