//! How is it spelled? The contract's messages to domain values, with every violation named at once, and back.

mod account;
mod participant;
mod representation;
mod request;
mod session;
mod transaction;

use sammati_api::types::v1::ParticipantRole;
use sammati_kernel::{CallerKind, Role, Violations};

pub(crate) use account::{Shown, account};
pub(crate) use participant::{all_fields, fields_of, kind, participant, resource};
pub(crate) use representation::{Proposal, evidence, may_propose, no_evidence, proposal, representation};
pub(crate) use request::{
    ACCEPTED, Named, audiences, identifier, identifier_in, named, participant_named, present, text, told,
};
pub(crate) use session::session;
pub(crate) use transaction::{Beginning, Subject, beginning, candidate, proof, transaction};

/// The kernel's role.
pub(crate) const fn role_of(role: ParticipantRole) -> Option<Role> {
    Some(match role {
        ParticipantRole::Unspecified => return None,
        ParticipantRole::Hip => Role::Hip,
        ParticipantRole::Hiu => Role::Hiu,
        ParticipantRole::Locker => Role::Locker,
        ParticipantRole::PhrApp => Role::PhrApp,
        ParticipantRole::Researcher => Role::Researcher,
        ParticipantRole::BenefitProgramme => Role::BenefitProgramme,
    })
}

/// The number of a kind in the contract.
pub(crate) const fn kind_number(kind: CallerKind) -> i32 {
    use sammati_api::types::v1::CallerKind as Api;
    (match kind {
        CallerKind::Anyone => Api::Anyone,
        CallerKind::App => Api::App,
        CallerKind::Person => Api::Person,
        CallerKind::Representative => Api::Representative,
        CallerKind::Hip => Api::Hip,
        CallerKind::Hiu => Api::Hiu,
        CallerKind::Locker => Api::Locker,
        CallerKind::Researcher => Api::Researcher,
        CallerKind::Operator => Api::Operator,
        CallerKind::Service => Api::Service,
    }) as i32
}

/// The roles of a request or resource: at least one, each once.
pub(crate) fn roles(v: &mut Violations, field: &'static str, numbers: &[i32]) -> Vec<Role> {
    let roles: Vec<Role> = numbers
        .iter()
        .filter_map(|n| ParticipantRole::try_from(*n).ok().and_then(role_of))
        .collect();
    let distinct: std::collections::BTreeSet<_> = roles.iter().collect();
    if roles.is_empty() || roles.len() != numbers.len() || distinct.len() != roles.len() {
        v.add(
            field,
            "at least 1 of PARTICIPANT_ROLE_HIP, _HIU, _LOCKER, _PHR_APP, _RESEARCHER, _BENEFIT_PROGRAMME, each once",
        );
    }
    roles
}
