//! Which events are there, and how long is each kept? A closed vocabulary: services tell nothing else, and whoever appends
//! to the log directly is held to it. A log that is older than a service takes what it is relayed all the same.

use sammati_api::audit::v1 as audit;
use sammati_api::types::v1::RetentionClass;

/// What says how long an event is kept.
#[derive(Debug, Clone, Copy)]
enum Kept {
    /// What happened.
    As(RetentionClass),
    /// CONSENT if it names a consent, of whose record sharing is a part (DPDP Rules 2025, First Schedule B 4(c)); else ACCESS.
    WithConsent,
    /// `AADHAAR_AUTH` if a factor of the actor was Aadhaar (Aadhaar Regulations 2021, r. 18 and 20); else GENERAL.
    ByFactor,
    /// GENERAL if it is about a person; else ADMIN.
    BySubject,
}

use Kept::{As, ByFactor, BySubject, WithConsent};
use RetentionClass::{Access, Admin, Consent, General};

/// What of each family there is.
type Family = (&'static str, &'static [(Kept, &'static [&'static str])]);

/// The type of the event that records where a feed was cut, and the only one with a `cut`.
pub const EPOCH_OPENED: &str = "admin.epoch_opened";

/// The family that the log alone tells: of itself.
const OWN: &str = "audit";

const FAMILIES: [Family; 15] = [
    (
        "access",
        &[(
            WithConsent,
            &[
                "authorized",
                "break_glass",
                "break_glass_review_due",
                "break_glass_reviewed",
                "cohort_authorized",
                "cohort_checked",
                "denied",
                "explained",
                "grantees_listed",
            ],
        )],
    ),
    ("admin", &[(As(Admin), &["epoch_opened"])]),
    (
        OWN,
        &[(
            As(Admin),
            &[
                "begun",
                "cosigned",
                "erasure_executed",
                "exported",
                "legal_hold_lifted",
                "legal_hold_set",
                "queried",
                "sealed",
                "watched",
            ],
        )],
    ),
    ("breach", &[(As(Admin), &["opened", "subject_notified", "updated"])]),
    (
        "consent",
        &[
            (
                As(Consent),
                &[
                    "artefact_fetched",
                    "artefact_issued",
                    "denied",
                    "expired",
                    "exported",
                    "granted",
                    "modified",
                    "notice_bound",
                    "notice_shown",
                    "notification_acknowledged",
                    "paused",
                    "receipt_issued",
                    "request_cancelled",
                    "request_expired",
                    "requested",
                    "resumed",
                    "revocation_propagated",
                    "step_up_set",
                    "superseded",
                    "withdrawn",
                ],
            ),
            (As(General), &["purged"]),
        ],
    ),
    (
        "data",
        &[(
            WithConsent,
            &[
                "acknowledged",
                "disclosed",
                "failed",
                "received",
                "requested",
                "use_consumed",
                "use_returned",
            ],
        )],
    ),
    (
        "identity",
        &[
            (
                ByFactor,
                &[
                    "authn_failed",
                    "authn_succeeded",
                    "challenge_sent",
                    "enrolment_consented",
                    "kyc_refreshed",
                    "step_up_granted",
                ],
            ),
            (
                BySubject,
                &[
                    "participant_session_created",
                    "session_created",
                    "session_refreshed",
                    "session_reuse_detected",
                    "session_revoked",
                ],
            ),
            (
                As(General),
                &[
                    "address_assigned",
                    "address_preferred",
                    "claims_kept",
                    "credential_set",
                    "deactivated",
                    "deleted",
                    "enrolled",
                    "linked",
                    "lookup_refused",
                    "merged",
                    "profile_share_acknowledged",
                    "profile_share_expired",
                    "profile_shared",
                    "purged",
                    "reactivated",
                    "viewed",
                ],
            ),
            (
                As(Admin),
                &[
                    "blocked",
                    "participant_activated",
                    "participant_created",
                    "participant_suspended",
                    "participant_updated",
                    "representation_accepted",
                    "representation_activated",
                    "representation_ended",
                    "representation_proposed",
                    "unblocked",
                ],
            ),
        ],
    ),
    ("key", &[(As(Admin), &["created", "destroyed", "rotated"])]),
    (
        "link",
        &[(
            As(General),
            &[
                "care_contexts_selected",
                "confirmed",
                "data_available",
                "deep_link_sent",
                "discovery_answered",
                "discovery_started",
                "token_issued",
                "token_refused",
            ],
        )],
    ),
    ("notice", &[(As(Consent), &["published", "retired"])]),
    ("policy", &[(As(Consent), &["applied", "disabled", "enabled"])]),
    (
        "rights",
        &[(As(Consent), &["answered", "closed", "escalated", "opened"])],
    ),
    (
        "study",
        &[
            (As(Consent), &["activated", "closed", "created", "key_destroyed"]),
            (As(Access), &["counted", "pseudonyms_mapped", "subject_identified"]),
        ],
    ),
    (
        "subscription",
        &[(
            As(Consent),
            &[
                "denied",
                "expired",
                "granted",
                "modified",
                "paused",
                "requested",
                "resumed",
                "withdrawn",
            ],
        )],
    ),
    ("transfer", &[(WithConsent, &["cancelled", "expired"])]),
];

/// What is wrong with the type or the class of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field that must change.
    pub field: &'static str,
    /// What it may be.
    pub allowed: String,
}

impl Fault {
    fn new(field: &'static str, allowed: String) -> Self {
        Self { field, allowed }
    }
}

/// How long an event is kept: it follows from its type, and for some from whom or what it names.
///
/// # Errors
/// What its type may be, when there is none such.
pub fn class_of(event: &audit::Event) -> Result<RetentionClass, Fault> {
    find(event).map(|kept| kept.class(event))
}

/// What is wrong with the type or the class of an event that a service tells of itself.
pub fn fault(event: &audit::Event) -> Option<Fault> {
    let kept = match find(event) {
        Ok(kept) => kept,
        Err(fault) => return Some(fault),
    };
    let class = kept.class(event);
    (event.class != class as i32).then(|| {
        let (kind, why) = (&event.event_type, kept.why());
        Fault::new("class", format!("{} for {kind}{why}", class.as_str_name()))
    })
}

/// The same of one that somebody appends to the log directly, which tells of itself alone.
pub fn fault_of_direct(event: &audit::Event) -> Option<Fault> {
    match event.event_type.split_once('.') {
        Some((OWN, _)) => Some(Fault::new(
            "event_type",
            format!("none of {OWN}, which the log itself tells"),
        )),
        _ => fault(event),
    }
}

fn find(event: &audit::Event) -> Result<Kept, Fault> {
    let (family, verb) = event.event_type.split_once('.').unwrap_or_default();
    let Some((_, kinds)) = FAMILIES.iter().find(|(name, _)| *name == family) else {
        let all = FAMILIES.iter().map(|(name, _)| *name).filter(|name| *name != OWN);
        let all: Vec<_> = all.collect();
        return Err(Fault::new(
            "event_type",
            format!("of a family that there is: {}", all.join(", ")),
        ));
    };
    let found = kinds.iter().find(|(_, verbs)| verbs.contains(&verb));
    found.map(|(kept, _)| *kept).ok_or_else(|| {
        let all: Vec<_> = kinds.iter().flat_map(|(_, verbs)| verbs.iter().copied()).collect();
        Fault::new("event_type", format!("{family}. and one of: {}", all.join(", ")))
    })
}

impl Kept {
    fn class(self, event: &audit::Event) -> RetentionClass {
        let payload = event.payload.as_ref();
        let by_aadhaar = || {
            let mut factors = payload
                .and_then(|p| p.actor.as_ref())
                .into_iter()
                .flat_map(|actor| &actor.factors);
            factors.any(|factor| factor.starts_with("AADHAAR"))
        };
        match self {
            As(class) => class,
            WithConsent if payload.is_some_and(|p| !p.consent.is_empty()) => Consent,
            WithConsent => Access,
            ByFactor if by_aadhaar() => RetentionClass::AadhaarAuth,
            BySubject if payload.is_none_or(|p| p.subject.is_empty()) => Admin,
            ByFactor | BySubject => General,
        }
    }

    const fn why(self) -> &'static str {
        match self {
            As(_) => "",
            WithConsent => ": CONSENT if payload.consent is set, else ACCESS",
            ByFactor => ": AADHAAR_AUTH if a factor in payload.actor.factors begins with AADHAAR, else GENERAL",
            BySubject => ": GENERAL if payload.subject is set, else ADMIN",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, class: RetentionClass) -> audit::Event {
        audit::Event {
            event_type: event_type.to_owned(),
            class: class.into(),
            payload: Some(audit::Payload::default()),
            ..audit::Event::default()
        }
    }

    fn told(event: &audit::Event) -> (&'static str, String) {
        let fault = fault_of_direct(event).unwrap();
        (fault.field, fault.allowed)
    }

    #[test]
    fn every_word_stands_once_and_in_order() {
        assert!(FAMILIES.is_sorted_by(|(a, _), (b, _)| a < b));
        for (family, kinds) in FAMILIES {
            assert!(
                kinds.iter().all(|(_, verbs)| verbs.is_sorted_by(|a, b| a < b)),
                "{family}"
            );
            let mut all: Vec<_> = kinds.iter().flat_map(|(_, verbs)| *verbs).collect();
            let count = all.len();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), count, "{family}");
        }
    }

    #[test]
    fn a_type_that_there_is_not_is_told_those_that_there_are() {
        let (field, allowed) = told(&event("gossip.heard", General));
        assert_eq!(field, "event_type");
        assert!(allowed.contains("access, admin, breach, consent, data, "), "{allowed}");
        assert!(!allowed.contains("audit"), "{allowed}");
        let (field, allowed) = told(&event("notice.heard", Consent));
        assert_eq!(
            (field, allowed.as_str()),
            ("event_type", "notice. and one of: published, retired")
        );
    }

    #[test]
    fn the_log_alone_tells_of_the_log() {
        let read = event("audit.queried", Admin);
        assert_eq!(fault(&read), None);
        assert_eq!(told(&read).0, "event_type");
    }

    #[test]
    fn the_class_follows_from_what_happened() {
        assert_eq!(fault_of_direct(&event("consent.granted", Consent)), None);
        let (field, allowed) = told(&event("consent.granted", General));
        assert_eq!(
            (field, allowed.as_str()),
            ("class", "RETENTION_CLASS_CONSENT for consent.granted")
        );
    }

    #[test]
    fn the_class_follows_from_what_an_event_names() {
        let class = |kind: &str, change: fn(&mut audit::Payload)| {
            let mut event = event(kind, Access);
            change(event.payload.as_mut().unwrap());
            class_of(&event).unwrap()
        };
        let with_factor = |payload: &mut audit::Payload| {
            payload.actor.get_or_insert_default().factors = vec!["PIN".to_owned(), "AADHAAR_OTP".to_owned()];
        };
        assert_eq!(class("data.disclosed", |_| {}), Access);
        assert_eq!(
            class("data.disclosed", |p| p.consent = "consents/1".to_owned()),
            Consent
        );
        assert_eq!(class("identity.authn_failed", |_| {}), General);
        assert_eq!(class("identity.authn_failed", with_factor), RetentionClass::AadhaarAuth);
        assert_eq!(class("identity.session_created", |_| {}), Admin);
        assert_eq!(
            class("identity.session_created", |p| p.subject = "accounts/1".to_owned()),
            General
        );
    }
}
