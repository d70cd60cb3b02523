//! Does this need her PIN, and was it shown? What she has set, and the action token that came with the call, decided under
//! the lock of the commit that uses the token up: two replicas cannot both use it.

pub mod set;

use sammati_api::consent::v1::step_up::Action;
use sammati_kernel::{AccountId, Caller, Micros, Reason, Refusal};
use sammati_server::action::{ActionClaims, wrong};
use sammati_store::{Keys, View};

use crate::rows::{SpentRow, StepUpRow};

pub use sammati_api::consent::v1::step_up::Action::{Approve as APPROVE, Revoke as REVOKE};

/// The action token of a call: it fits caller, method, resource and content. Whether it is over or was used is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    jti: String,
    /// From when it is over.
    until: Micros,
}

impl From<ActionClaims> for Token {
    fn from(claims: ActionClaims) -> Self {
        Self {
            jti: claims.jti,
            until: Micros::from_seconds(claims.exp),
        }
    }
}

/// A token that will be used up by this commit; of a call without one, nothing.
#[must_use = "the token is used up by the commit of what it allows"]
#[derive(Debug)]
pub struct Shown(Option<StepUpRow>);

impl Shown {
    /// Uses it up. Call it where nothing is refused any more.
    pub fn spend(self, view: &mut View<'_>) {
        if let Some(row) = self.0 {
            view.put(&row);
        }
    }
}

/// What [`check`] reads.
pub fn reads(keys: &mut Keys, account: AccountId) {
    keys.row::<StepUpRow>(account.to_vec());
}

/// Refuses what she has set to need the PIN and comes without a token that is good now; where there is no `action`, nothing
/// needs one, and one that came must be good all the same.
///
/// # Errors
/// STEP_UP_REQUIRED.
pub fn check(
    view: &View<'_>,
    caller: &Caller,
    account: AccountId,
    action: impl Into<Option<Action>>,
    token: Option<&Token>,
) -> Result<Shown, Refusal> {
    let row = view.get::<StepUpRow>(account.as_bytes());
    let Some(token) = token else {
        let action = action.into().map(i32::from);
        let needed = action.is_some_and(|action| row.is_some_and(|row| row.actions.contains(&action)));
        // An operator acts on legal grounds, which are recorded.
        return if needed && !caller.is_operator() {
            Err(missing())
        } else {
            Ok(Shown(None))
        };
    };
    let row = row.unwrap_or_else(|| StepUpRow::of(account.as_bytes()));
    take(row, token, view.now()).map(|row| Shown(Some(row)))
}

fn missing() -> Refusal {
    Refusal::new(Reason::StepUpRequired).saying(
        "she has set that this needs the PIN: make a STEP_UP transaction for this call at identity, and send the token of \
         AuthorizeAction as action_token",
    )
}

/// The row with the token used up.
fn take(mut row: StepUpRow, token: &Token, now: Micros) -> Result<StepUpRow, Refusal> {
    if now >= token.until {
        return Err(wrong("the action token is over; step up again"));
    }
    if row.spent.iter().any(|spent| spent.jti == token.jti) {
        return Err(wrong("the action token was used; step up again"));
    }
    row.spent.retain(|spent| spent.until > now.0);
    row.spent.push(SpentRow {
        jti: token.jti.clone(),
        until: token.until.0,
    });
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_once_and_forgotten_when_it_is_over() {
        let token = |n: i64| Token {
            jti: n.to_string(),
            until: Micros::from_seconds(n),
        };
        let at = Micros::from_seconds;
        let row = take(StepUpRow::of(b"a"), &token(100), at(10)).unwrap();
        assert_eq!(
            take(row.clone(), &token(100), at(11)).unwrap_err().reason,
            Reason::StepUpRequired
        );
        let row = take(row, &token(150), at(99)).unwrap();
        assert_eq!(row.spent.len(), 2);
        assert_eq!(
            take(row.clone(), &token(100), at(100)).unwrap_err().reason,
            Reason::StepUpRequired
        );
        let row = take(row, &token(200), at(100)).unwrap();
        let kept: Vec<_> = row.spent.iter().map(|spent| spent.jti.as_str()).collect();
        assert_eq!(kept, ["150", "200"]);
    }
}
