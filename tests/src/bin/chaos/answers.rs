//! What the answers about one consent may be, among themselves.

use std::collections::BTreeSet;

use sammati_tests::journal::{Answer, Call, Op};

use crate::findings::Findings;

/// What one case's journal says.
pub(crate) struct Told {
    /// The consents that approvals told of.
    pub(crate) approvals: Vec<String>,
    pub(crate) denials: usize,
    /// How many revokes changed something.
    pub(crate) revokes: usize,
    /// The uses that were told, one for each permit.
    pub(crate) uses: Vec<i64>,
    /// When the first revoke had returned.
    pub(crate) revoked: Option<u64>,
}

/// The refusals that a racer may meet who came too late.
fn may_refuse(op: Op, reason: &str) -> bool {
    matches!((op, reason), (Op::Approve | Op::Deny, "STATE_CONFLICT"))
}

/// C1, C2, C4 and I1 in the answers alone.
pub(crate) fn read(name: &str, max_uses: usize, calls: &[Call], found: &mut Findings) -> Told {
    let done = |op: Op| {
        calls.iter().filter_map(move |call| match &call.answer {
            Answer::Done(told) if call.op == op => Some((call, told.as_str())),
            _ => None,
        })
    };
    for call in calls {
        if let Answer::Refused(reason) = &call.answer
            && !may_refuse(call.op, reason)
        {
            found.illegal(format!("{:?} of {name} was refused: {reason}", call.op));
        }
    }
    // Whoever changes nothing is told so as well; only one is told that it did.
    let revokes = done(Op::Revoke).filter(|(_, changed)| *changed == "1").count();
    let told = Told {
        approvals: done(Op::Approve).map(|(_, names)| names.to_owned()).collect(),
        denials: done(Op::Deny).count(),
        revokes,
        uses: done(Op::Authorize).filter_map(|(_, decision)| used(decision)).collect(),
        revoked: done(Op::Revoke).map(|(call, _)| call.end).min(),
    };
    if told.approvals.len() + told.denials > 1 || revokes > 1 {
        let (approved, denied) = (told.approvals.len(), told.denials);
        found.illegal(format!(
            "{name}: {approved} approvals, {denied} denials, {revokes} revokes won"
        ));
    }
    let distinct: BTreeSet<_> = told.uses.iter().collect();
    if distinct.len() < told.uses.len() {
        found.illegal(format!("{name}: a use was given twice: {:?}", told.uses));
    }
    if told.uses.len() > max_uses {
        found.illegal(format!("{name}: {} permits of {max_uses} uses", told.uses.len()));
    }
    for (call, decision) in done(Op::Check).chain(done(Op::Authorize)) {
        if let Some(what) = illegal(call, decision, max_uses, &told) {
            found.illegal(format!("{:?} of {name}: {decision}, {what}", call.op));
        }
    }
    told
}

fn used(decision: &str) -> Option<i64> {
    decision.strip_prefix("PERMIT ")?.split(' ').next()?.parse().ok()
}

/// Why a decision cannot be, if it cannot.
fn illegal(call: &Call, decision: &str, max_uses: usize, told: &Told) -> Option<&'static str> {
    let is_late = told.revoked.is_some_and(|revoked| call.start > revoked);
    match decision {
        "CONSENT_REVOKED" if told.revoked.is_none() => Some("and nobody revoked it"),
        "CONSENT_REVOKED" => None,
        _ if is_late => Some("begun after the revoke had returned"),
        // Each use is told to somebody, for every call was answered in the end.
        "USE_LIMIT_REACHED" if told.uses.len() < max_uses => Some("and uses are left"),
        "USE_LIMIT_REACHED" => None,
        decision if decision.starts_with("PERMIT ") => None,
        _ => Some("for no reason"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A call of the case's that was answered.
    pub(crate) fn call(op: Op, start: u64, end: u64, told: &str) -> Call {
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

    /// How many findings there are, with two uses.
    fn found(calls: &[Call]) -> usize {
        let mut found = Findings::default();
        read("consentRequests/1", 2, calls, &mut found);
        found.iter().count()
    }

    #[test]
    fn a_history_that_may_be_is_not_complained_of() {
        let mut late = call(Op::Deny, 30, 31, "");
        late.answer = Answer::Refused("STATE_CONFLICT".into());
        let calls = [
            call(Op::Approve, 0, 10, "consents/1"),
            late,
            call(Op::Authorize, 11, 20, "PERMIT 2 0"),
            call(Op::Authorize, 11, 20, "PERMIT 1 1"),
            call(Op::Authorize, 19, 30, "USE_LIMIT_REACHED"),
            // Begun before the revoke had returned.
            call(Op::Check, 39, 60, "PERMIT 0 1"),
            call(Op::Revoke, 30, 40, "1"),
            call(Op::Revoke, 32, 41, "0"),
            call(Op::Check, 41, 42, "CONSENT_REVOKED"),
        ];
        assert_eq!(found(&calls), 0);
    }

    #[test]
    fn c4_a_permit_or_another_reason_after_the_revoke_returned_is_illegal() {
        let given = call(Op::Approve, 0, 10, "consents/1");
        let revoke = call(Op::Revoke, 30, 40, "1");
        for told in ["PERMIT 1 1", "NO_CONSENT", "USE_LIMIT_REACHED"] {
            for op in [Op::Check, Op::Authorize] {
                assert!(
                    found(&[given.clone(), revoke.clone(), call(op, 41, 50, told)]) > 0,
                    "{told}"
                );
            }
        }
        let nobody = call(Op::Check, 20, 21, "CONSENT_REVOKED");
        assert_eq!(found(&[given, nobody]), 1, "nobody revoked it");
    }

    #[test]
    fn c1_two_winners_are_illegal() {
        let approve = || call(Op::Approve, 0, 10, "consents/1");
        let (deny, revoke) = (call(Op::Deny, 0, 10, ""), || call(Op::Revoke, 11, 12, "1"));
        assert_eq!(found(&[approve(), approve()]), 1);
        assert_eq!(found(&[approve(), deny]), 1);
        assert_eq!(found(&[approve(), revoke(), revoke()]), 1);
    }

    #[test]
    fn c2_a_use_given_twice_or_beyond_the_limit_or_refused_too_early_is_illegal() {
        let given = call(Op::Approve, 0, 10, "consents/1");
        let permit = |n: u32| call(Op::Authorize, 11, 20, &format!("PERMIT {n} 0"));
        assert_eq!(found(&[given.clone(), permit(1), permit(1)]), 1);
        assert_eq!(found(&[given.clone(), permit(1), permit(2), permit(3)]), 1);
        let early = call(Op::Check, 11, 20, "USE_LIMIT_REACHED");
        assert_eq!(found(&[given, permit(1), early]), 1);
    }

    #[test]
    fn a_refusal_that_nobody_expects_is_illegal() {
        let mut refused = call(Op::Revoke, 0, 10, "");
        refused.answer = Answer::Refused("INTERNAL".into());
        assert_eq!(found(&[refused]), 1);
    }
}
