//! Is there an order in which everything about one consent could have happened, one after another?

use std::time::Duration;

use sammati_tests::history::{self, Consent, Model, Operation, What, Why, check};
use sammati_tests::journal::{Answer, Call, Op};

use crate::findings::Findings;

/// C1, C2 and C4 at once: holds what one case's journal says against the model.
pub(crate) fn explain(name: &str, max_uses: usize, calls: &[Call], found: &mut Findings) {
    let Ok(limit) = u32::try_from(max_uses) else { return };
    let mut history = Vec::new();
    for call in calls {
        match operation(call, limit) {
            Ok(told) => history.extend(told),
            Err(what) => found.illegal(format!("{:?} of {name}: {what}", call.op)),
        }
    }
    if let Err(violation) = check(Model::requested(limit), &history) {
        found.illegal(format!("{name}: no order explains the answers: {violation}"));
    }
}

/// A call that was answered; a refusal does not say enough to be held against anything. An answer that nothing explains is
/// no operation of any history.
fn operation(call: &Call, limit: u32) -> Result<Option<Operation>, String> {
    let Answer::Done(told) = &call.answer else {
        return Ok(None);
    };
    let (what, answer) = match call.op {
        Op::Enrol | Op::Ask | Op::Append => return Ok(None),
        Op::Approve => (What::Approve, history::Answer::Approved),
        Op::Deny => (What::Deny, history::Answer::Denied),
        Op::Revoke if told == "1" => (What::Revoke, history::Answer::Revoked),
        Op::Revoke => (What::Revoke, history::Answer::Ended(Consent::Revoked)),
        Op::Authorize | Op::Check => {
            let what = if call.op == Op::Check {
                What::Check
            } else {
                What::Authorize
            };
            let Some(answer) = decision(told, limit)? else {
                return Ok(None);
            };
            (what, answer)
        }
    };
    let [start, end] = [call.start, call.end].map(Duration::from_micros);
    Ok(Some(Operation::answered(start, end, what, answer)))
}

/// `PERMIT {use} {left}`, use 0 of a check; or why not, if the model knows that reason: whether there may be another is
/// asked elsewhere.
fn decision(told: &str, limit: u32) -> Result<Option<history::Answer>, String> {
    if told != "PERMIT" && !told.starts_with("PERMIT ") {
        return Ok(match told {
            "NO_CONSENT" => Some(history::Answer::Deny(Why::NoConsent)),
            "CONSENT_REVOKED" => Some(history::Answer::Deny(Why::Revoked)),
            "USE_LIMIT_REACHED" => Some(history::Answer::Deny(Why::Spent)),
            _ => None,
        });
    }
    let mut words = told.split(' ').skip(1).map(str::parse::<u32>);
    let (Some(Ok(taken)), Some(Ok(left)), None) = (words.next(), words.next(), words.next()) else {
        return Err(format!(
            "{told}, which does not say the use that it took and how many are left"
        ));
    };
    if taken > limit || left > limit {
        return Err(format!("{told}, and there were never more than {limit}"));
    }
    let taken = (taken > 0).then_some(taken);
    Ok(Some(history::Answer::Permit { taken, left }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::tests::call;

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

    #[test]
    fn c2_a_permit_of_more_than_there_is_or_that_does_not_say_is_found() {
        let given = call(Op::Approve, 0, 10, "consents/1");
        for told in [
            "PERMIT 1 3",
            "PERMIT 3 0",
            "PERMIT 1",
            "PERMIT",
            "PERMIT 1 many",
            "PERMIT 1 1 1",
        ] {
            for op in [Op::Authorize, Op::Check] {
                assert_eq!(found(&[given.clone(), call(op, 11, 20, told)]), 1, "{told}");
            }
        }
    }
}
