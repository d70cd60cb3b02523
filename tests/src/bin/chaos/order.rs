//! Is there an order in which everything about one consent could have happened, one after another?

use std::time::Duration;

use sammati_tests::history::{self, Consent, Model, Operation, What, Why, check};
use sammati_tests::journal::{Answer, Call, Op};

use crate::findings::Findings;

/// C1, C2 and C4 at once: holds what one case's journal says against the model.
pub(crate) fn explain(name: &str, max_uses: usize, calls: &[Call], found: &mut Findings) {
    let Ok(limit) = u32::try_from(max_uses) else { return };
    let history: Vec<_> = calls.iter().filter_map(|call| operation(call, limit)).collect();
    if let Err(violation) = check(Model::requested(limit), &history) {
        found.illegal(format!("{name}: no order explains the answers: {violation}"));
    }
}

/// A call that was answered; a refusal does not say enough to be held against anything.
fn operation(call: &Call, limit: u32) -> Option<Operation> {
    let Answer::Done(told) = &call.answer else { return None };
    let (what, answer) = match call.op {
        Op::Enrol | Op::Ask => return None,
        Op::Approve => (What::Approve, history::Answer::Approved),
        Op::Deny => (What::Deny, history::Answer::Denied),
        Op::Revoke if told == "1" => (What::Revoke, history::Answer::Revoked),
        Op::Revoke => (What::Revoke, history::Answer::Ended(Consent::Revoked)),
        Op::Authorize => (What::Authorize, decision(told, limit)?),
        Op::Check => (What::Check, decision(told, limit)?),
    };
    let [start, end] = [call.start, call.end].map(Duration::from_micros);
    Some(Operation::answered(start, end, what, answer))
}

/// `PERMIT {use} {left}`, use 0 of a check; or why not.
fn decision(told: &str, limit: u32) -> Option<history::Answer> {
    let Some(permit) = told.strip_prefix("PERMIT ") else {
        return Some(history::Answer::Deny(match told {
            "NO_CONSENT" => Why::NoConsent,
            "CONSENT_REVOKED" => Why::Revoked,
            "USE_LIMIT_REACHED" => Why::Spent,
            _ => return None,
        }));
    };
    let (taken, left) = permit.split_once(' ')?;
    let taken: u32 = taken.parse().ok()?;
    let left: u32 = left.parse().ok().filter(|left| *left <= limit)?;
    let taken = (taken > 0).then_some(taken);
    Some(history::Answer::Permit { taken, left })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(op: Op, start: u64, end: u64, told: &str) -> Call {
        Call {
            cycle: 0,
            object: "consentRequests/1".into(),
            op,
            request_id: String::new(),
            start,
            end,
            answer: Answer::Done(told.into()),
        }
    }

    fn found(calls: &[Call]) -> usize {
        let mut found = Findings::default();
        explain("consentRequests/1", 2, calls, &mut found);
        found.iter().count()
    }

    #[test]
    fn what_has_an_order_is_not_complained_of() {
        let calls = [
            call(Op::Approve, 0, 10, "consents/1"),
            call(Op::Authorize, 11, 30, "PERMIT 2 0"),
            call(Op::Authorize, 11, 20, "PERMIT 1 1"),
            call(Op::Check, 31, 32, "USE_LIMIT_REACHED"),
            call(Op::Revoke, 30, 40, "1"),
            call(Op::Check, 35, 60, "CONSENT_REVOKED"),
            call(Op::Revoke, 41, 42, "0"),
        ];
        assert_eq!(found(&calls), 0);
    }

    #[test]
    fn c2_c4_what_has_none_is_found() {
        let given = call(Op::Approve, 0, 10, "consents/1");
        // Each answer may be by itself: it is the order that cannot.
        let late = [
            given.clone(),
            call(Op::Authorize, 11, 20, "PERMIT 2 0"),
            call(Op::Authorize, 21, 30, "PERMIT 1 1"),
        ];
        assert_eq!(found(&late), 1);
        let early = [
            given.clone(),
            call(Op::Authorize, 11, 20, "PERMIT 1 1"),
            call(Op::Check, 21, 30, "PERMIT 0 2"),
        ];
        assert_eq!(found(&early), 1);
        let revoked = [
            given,
            call(Op::Revoke, 11, 30, "1"),
            call(Op::Check, 12, 13, "CONSENT_REVOKED"),
            call(Op::Check, 14, 15, "PERMIT 0 2"),
        ];
        assert_eq!(found(&revoked), 1);
    }
}
