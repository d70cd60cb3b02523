//! Who may? The object rules, over the caller and the row. What is not there and what is not yours answer alike.

use std::time::Duration;

use sammati_kernel::{Caller, Micros, ParticipantId, Reason, Refusal};

use crate::artefact::Audience;
use crate::notification::OPERATORS;
use crate::rows::{
    ConsentRow, DiscoveryRow, LinkRow, NotificationRow, PolicyRow, ProfileShareRow, RequestRow, RightsRow, StudyRow,
    SubscriptionRow, TransferRow,
};
use crate::study;

/// How old a person's authentication may be when she grants.
pub const STEP_UP: Duration = Duration::from_secs(300);

/// The answer to whoever may not, and about what is not there: operators alone are told the difference.
pub fn unavailable(caller: &Caller) -> Refusal {
    if caller.is_operator() {
        Reason::NotFound.into()
    } else {
        Reason::NotAvailable.into()
    }
}

fn is_hers(caller: &Caller, owner: &[u8]) -> bool {
    caller.account().is_some_and(|account| account.as_bytes() == owner)
}

/// Whether the caller is the participant with this bare id.
pub fn is(caller: &Caller, id: &str) -> bool {
    caller
        .participant()
        .is_some_and(|participant| participant.as_str() == id)
}

fn keep<R>(caller: &Caller, row: Option<R>, may: impl FnOnce(&R) -> bool) -> Result<R, Refusal> {
    row.filter(may).ok_or_else(|| unavailable(caller))
}

/// The asker named in a request, the patient herself, or an operator.
///
/// # Errors
/// NOT_AVAILABLE; NOT_FOUND to an operator.
pub fn may_see_request(caller: &Caller, row: Option<RequestRow>) -> Result<RequestRow, Refusal> {
    keep(caller, row, |r| {
        caller.is_operator() || receives(caller, &r.hiu, &r.study) || (r.known && is_hers(caller, &r.owner))
    })
}

/// Whether the caller is the receiver and may know so: the sponsor of a study may not, it knows people by pseudonyms.
fn receives(caller: &Caller, hiu: &str, study: &[u8]) -> bool {
    study.is_empty() && is(caller, hiu)
}

/// The patient asked.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_decide(caller: &Caller, row: Option<RequestRow>) -> Result<RequestRow, Refusal> {
    keep(caller, row, |r| r.known && is_hers(caller, &r.owner))
}

/// Whether a person, or who acts for her, proved who that is recently enough to grant.
///
/// # Errors
/// STEP_UP_REQUIRED.
pub fn recently_proved(caller: &Caller, now: Micros) -> Result<(), Refusal> {
    match caller.auth_time() {
        Some(proved) if now.minus(STEP_UP) <= Micros::from_seconds(proved) => Ok(()),
        _ => Err(Refusal::new(Reason::StepUpRequired)
            .saying("granting needs a login of the last 5 minutes; log in again, then approve")),
    }
}

/// A party of a consent, the patient herself, or an operator.
///
/// # Errors
/// NOT_AVAILABLE; NOT_FOUND to an operator.
pub fn may_see_consent(caller: &Caller, row: Option<ConsentRow>) -> Result<ConsentRow, Refusal> {
    let party = |r: &ConsentRow| is(caller, &r.hip) || receives(caller, &r.hiu, &r.study);
    keep(caller, row, |r| {
        caller.is_operator() || party(r) || is_hers(caller, &r.subject)
    })
}

/// The patient herself.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn hers(caller: &Caller, row: Option<ConsentRow>) -> Result<ConsentRow, Refusal> {
    keep(caller, row, |r| is_hers(caller, &r.subject))
}

/// The asker named in a request.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_cancel(caller: &Caller, row: Option<RequestRow>) -> Result<RequestRow, Refusal> {
    keep(caller, row, |r| receives(caller, &r.hiu, &r.study))
}

/// The patient herself, or an operator.
///
/// # Errors
/// NOT_AVAILABLE; NOT_FOUND to an operator.
pub fn revocable(caller: &Caller, row: Option<ConsentRow>) -> Result<ConsentRow, Refusal> {
    keep(caller, row, |r| caller.is_operator() || is_hers(caller, &r.subject))
}

/// A party its own copy, the patient either.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_fetch(caller: &Caller, audience: Audience, row: Option<ConsentRow>) -> Result<ConsentRow, Refusal> {
    let own = |r: &ConsentRow| match audience {
        Audience::Hip => is(caller, &r.hip),
        Audience::Hiu => receives(caller, &r.hiu, &r.study),
    };
    keep(caller, row, |r| own(r) || is_hers(caller, &r.subject))
}

/// A party of a transfer, or the patient herself.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_see_transfer(caller: &Caller, row: Option<TransferRow>) -> Result<TransferRow, Refusal> {
    keep(caller, row, |r| {
        is(caller, &r.hip) || is(caller, &r.hiu) || is_hers(caller, &r.subject)
    })
}

/// The HIP of a transfer.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_acknowledge(caller: &Caller, row: Option<TransferRow>) -> Result<TransferRow, Refusal> {
    keep(caller, row, |r| is(caller, &r.hip))
}

/// The name that a caller's notifications are kept under; who acts for her reads hers.
pub fn recipient(caller: &Caller) -> String {
    if caller.is_operator() {
        return OPERATORS.to_owned();
    }
    caller.account().map_or_else(|| caller.id(), |account| account.name())
}

/// Either end of a transfer.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_report(caller: &Caller, row: Option<TransferRow>) -> Result<TransferRow, Refusal> {
    keep(caller, row, |r| is(caller, &r.hip) || is(caller, &r.hiu))
}

/// The HIP of a link.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_announce(caller: &Caller, row: Option<LinkRow>) -> Result<LinkRow, Refusal> {
    keep(caller, row, |r| is(caller, &r.hip))
}

/// Whoever looks for her records, or the HIP where she looks.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_see_discovery(caller: &Caller, row: Option<DiscoveryRow>) -> Result<DiscoveryRow, Refusal> {
    keep(caller, row, |r| is(caller, &r.hip) || is_hers(caller, &r.subject))
}

/// The HIP where she looks.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_answer(caller: &Caller, row: Option<DiscoveryRow>) -> Result<DiscoveryRow, Refusal> {
    keep(caller, row, |r| is(caller, &r.hip))
}

/// Whoever looks for her records.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_choose(caller: &Caller, row: Option<DiscoveryRow>) -> Result<DiscoveryRow, Refusal> {
    keep(caller, row, |r| is_hers(caller, &r.subject))
}

/// Whoever shares her profile, or the HIP with whom.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_see_share(caller: &Caller, row: Option<ProfileShareRow>) -> Result<ProfileShareRow, Refusal> {
    keep(caller, row, |r| is(caller, &r.hip) || is_hers(caller, &r.subject))
}

/// The HIP with whom a profile is shared.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_acknowledge_share(caller: &Caller, row: Option<ProfileShareRow>) -> Result<ProfileShareRow, Refusal> {
    keep(caller, row, |r| is(caller, &r.hip))
}

/// The person whose policy it is.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_switch(caller: &Caller, row: Option<PolicyRow>) -> Result<PolicyRow, Refusal> {
    keep(caller, row, |r| is_hers(caller, &r.subject))
}

/// The holder of a subscription, the person asked, or an operator.
///
/// # Errors
/// NOT_AVAILABLE; NOT_FOUND to an operator.
pub fn may_see_subscription(caller: &Caller, row: Option<SubscriptionRow>) -> Result<SubscriptionRow, Refusal> {
    keep(caller, row, |r| {
        caller.is_operator() || is(caller, &r.holder) || (r.known && is_hers(caller, &r.owner))
    })
}

/// The person whom a subscription asks.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_decide_subscription(caller: &Caller, row: Option<SubscriptionRow>) -> Result<SubscriptionRow, Refusal> {
    keep(caller, row, |r| r.known && is_hers(caller, &r.owner))
}

/// The same, or its holder.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_end_subscription(caller: &Caller, row: Option<SubscriptionRow>) -> Result<SubscriptionRow, Refusal> {
    keep(caller, row, |r| {
        is(caller, &r.holder) || (r.known && is_hers(caller, &r.owner))
    })
}

/// The sponsor of a study, a node of it, an operator; a person whom it asked while it is ACTIVE.
///
/// # Errors
/// NOT_AVAILABLE; NOT_FOUND to an operator.
pub fn may_see_study(caller: &Caller, row: Option<StudyRow>, asked: bool, now: Micros) -> Result<StudyRow, Refusal> {
    let node = |r: &StudyRow| caller.participant().is_some_and(|id| r.has_node(id.as_str()));
    keep(caller, row, |r| match caller.account() {
        Some(_) => asked && r.state_at(now) == study::State::Active,
        None => caller.is_operator() || is(caller, &r.sponsor) || node(r),
    })
}

/// The sponsor of a study, or an operator.
///
/// # Errors
/// NOT_AVAILABLE; NOT_FOUND to an operator.
pub fn may_run_study(caller: &Caller, row: Option<StudyRow>) -> Result<StudyRow, Refusal> {
    keep(caller, row, |r| caller.is_operator() || is(caller, &r.sponsor))
}

/// Whose rights a request is about, whom it is against, or an operator.
///
/// # Errors
/// NOT_AVAILABLE; NOT_FOUND to an operator.
pub fn may_see_rights(caller: &Caller, row: Option<RightsRow>) -> Result<RightsRow, Refusal> {
    keep(caller, row, |r| {
        caller.is_operator() || is_against(caller, r) || is_hers(caller, &r.subject)
    })
}

/// The participant it is against; an operator what is against us.
///
/// # Errors
/// NOT_AVAILABLE; NOT_FOUND to an operator.
pub fn may_answer_rights(caller: &Caller, row: Option<RightsRow>) -> Result<RightsRow, Refusal> {
    keep(caller, row, |r| {
        is_against(caller, r) || (caller.is_operator() && r.against.is_empty())
    })
}

/// The person whose rights it is about.
///
/// # Errors
/// NOT_AVAILABLE.
pub fn may_close_rights(caller: &Caller, row: Option<RightsRow>) -> Result<RightsRow, Refusal> {
    keep(caller, row, |r| is_hers(caller, &r.subject))
}

fn is_against(caller: &Caller, row: &RightsRow) -> bool {
    caller.participant().is_some_and(|id| id.name() == row.against)
}

/// The recipient of a notification; every operator is that of all operators'.
pub fn is_recipient(caller: &Caller, row: &NotificationRow) -> bool {
    row.recipient == recipient(caller)
}

/// The participant that calls.
///
/// # Errors
/// CALLER_KIND for a caller that is none; the outer gate lets none through.
pub fn participant(caller: &Caller) -> Result<&ParticipantId, Refusal> {
    caller.participant().ok_or_else(|| Reason::CallerKind.into())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use sammati_kernel::{AccountId, Actor, Peer, Role, SessionId, Slot};

    fn account(n: u8) -> AccountId {
        AccountId::new(Micros(1_000_000), Slot::new(7), [n; 8])
    }

    fn person(n: u8, auth_time: i64) -> Caller {
        let session = SessionId::new(Micros(1), Slot::new(7), [n; 8]);
        let actor = Actor::Person {
            account: account(n),
            session,
            app: None,
            auth_time,
        };
        Caller {
            peer: Peer::Anonymous,
            actor: Some(actor),
        }
    }

    fn participant(id: &str) -> Caller {
        let actor = Actor::Participant {
            id: ParticipantId::parse(id).unwrap(),
            roles: BTreeSet::from([Role::Hip, Role::Hiu]),
        };
        Caller {
            peer: Peer::Anonymous,
            actor: Some(actor),
        }
    }

    fn operator() -> Caller {
        Caller {
            peer: Peer::Operator("asha".into()),
            actor: None,
        }
    }

    fn consent() -> ConsentRow {
        ConsentRow {
            subject: account(1).to_vec(),
            hip: "hospital".into(),
            hiu: "clinic".into(),
            ..ConsentRow::default()
        }
    }

    #[test]
    fn a_stranger_and_an_unknown_id_get_the_same_answer() {
        for stranger in [person(2, 0), participant("other")] {
            let refused = may_see_consent(&stranger, Some(consent())).unwrap_err();
            assert_eq!(refused, may_see_consent(&stranger, None).unwrap_err());
            assert_eq!(refused.reason, Reason::NotAvailable);
        }
        assert_eq!(may_see_consent(&operator(), None).unwrap_err().reason, Reason::NotFound);
    }

    #[test]
    fn parties_the_person_and_operators_see_a_consent() {
        for caller in [person(1, 0), participant("hospital"), participant("clinic"), operator()] {
            assert!(may_see_consent(&caller, Some(consent())).is_ok());
        }
    }

    #[test]
    fn nobody_but_her_and_an_operator_takes_it_back() {
        assert!(revocable(&person(1, 0), Some(consent())).is_ok() && revocable(&operator(), Some(consent())).is_ok());
        for caller in [participant("hospital"), participant("clinic"), person(2, 0)] {
            assert!(revocable(&caller, Some(consent())).is_err());
        }
    }

    #[test]
    fn a_party_fetches_its_own_copy_only() {
        assert!(may_fetch(&participant("hospital"), Audience::Hip, Some(consent())).is_ok());
        assert!(may_fetch(&participant("hospital"), Audience::Hiu, Some(consent())).is_err());
        assert!(may_fetch(&participant("clinic"), Audience::Hip, Some(consent())).is_err());
        assert!(
            [Audience::Hip, Audience::Hiu]
                .iter()
                .all(|a| may_fetch(&person(1, 0), *a, Some(consent())).is_ok())
        );
        assert!(may_fetch(&operator(), Audience::Hip, Some(consent())).is_err());
    }

    #[test]
    fn an_address_that_is_nobodys_is_nobodys_to_decide() {
        let row = RequestRow {
            owner: account(1).to_vec(),
            hiu: "clinic".into(),
            known: false,
            ..RequestRow::default()
        };
        assert!(may_decide(&person(1, 0), Some(row.clone())).is_err());
        assert!(may_see_request(&participant("clinic"), Some(row)).is_ok());
    }

    #[test]
    fn granting_needs_a_login_of_the_last_five_minutes() {
        let now = Micros::from_seconds(1000);
        assert!(recently_proved(&person(1, 700), now).is_ok());
        assert_eq!(
            recently_proved(&person(1, 699), now).unwrap_err().reason,
            Reason::StepUpRequired
        );
        assert!(recently_proved(&participant("clinic"), now).is_err());
    }
}
