//! Requests that are well-formed and ask for nothing that exists: made from descriptors, where a value has a form of its
//! own from the list below. A new field that no rule fits fails the walk with its name.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use sammati_api::types::v1::{CallerKind, PurposeCode};
use sammati_kernel::{Clock, Micros, Seed, Slot, TransactionId};

use crate::contract::{self, Need, collection, need, oneof};

/// Fields that the contract requires under a condition which the samples meet.
const ALSO: [&str; 11] = [
    "ExportEventsRequest.subject",
    "CreatePolicyRequest.hiu",
    "CreatePolicyRequest.scope",
    "CreateTransactionRequest.subject",
    "CreateTransactionRequest.consent",
    "StartKycRequest.identifier",
    "AcknowledgeNotificationsRequest.names",
    "RevokeSessionsRequest.names",
    "CareContextRef.patient_reference",
    "CareContextRef.hi_type",
    "Participant.name",
];

/// Fields that stand in for another one, which is left out then.
const RATHER: [(&str, &str); 3] = [
    ("GetProofRequest.event_ids", "event_id"),
    ("AcknowledgeNotificationsRequest.up_to", "names"),
    ("RevokeSessionsRequest.all_of", "names"),
];

/// Fields that go with one value of another: the field, that one, its number.
const BESIDE: [(&str, &str, i32); 1] = [("AcknowledgeNotificationsRequest.error_text", "outcome", 2)];

/// Texts of a form that no sample has, since they are never required.
const FORMED: [&str; 6] = [
    "CreatePolicyRequest.care_context_references",
    "CreateAccountRequest.chosen_address",
    "Participant.spiffe_id",
    "Participant.grievance_contact",
    "Event.event_type",
    // The same as beside it where it is linked.
    "CareContextRef.patient_reference",
];

/// Members of oneofs that are taken instead of the first.
const INSTEAD: [&str; 2] = ["GetEventRequest.event_id", "GetProofRequest.event_id"];

/// A receiver's half of a key agreement, as ABDM writes it.
const KEY_MATERIAL: &str = r#"{"cryptoAlg":"ECDH","curve":"Curve25519","dhPublicKey":{"expiry":"2099-01-01T00:00:00.000Z","parameters":"Curve25519/32byte random key","keyValue":"BB8sjdkY8VLbIyhRBSwS8uJGzBQQ3zLTWAGiTjGfWSkSLVPfVMQwOsm2cvvZ1LjsyVIBiJ0mT5gS8XfUGnD+MZ8="},"nonce":"6uj1RdDUbcpI3lVMZvijkMC8Te20O4Bcyz0SyivX8Eg="}"#;

/// The full name without its package.
pub(crate) fn short(full_name: &str) -> &str {
    full_name.split_once(".v1.").map_or(full_name, |(_, name)| name)
}

/// A new UUIDv7 of the clock's time less or plus some.
pub(crate) fn uuid(at: Micros) -> String {
    let seed = Seed::draw().expect("the system has randomness");
    let id: TransactionId = seed.id("sample", at, Slot::new(7));
    id.to_string()
}

/// Makes samples by one clock, for one kind of caller.
#[derive(Clone)]
pub(crate) struct Sampler<'a> {
    pub(crate) clock: &'a dyn Clock,
    pub(crate) caller: Option<CallerKind>,
}

impl Sampler<'_> {
    /// A request with all that is required, and no more.
    pub(crate) fn message(&self, descriptor: &MessageDescriptor) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            if self.belongs(&field) {
                message.set_field(&field, self.value(&field));
            }
        }
        message
    }

    /// Whether a sample has the field.
    pub(crate) fn belongs(&self, field: &FieldDescriptor) -> bool {
        let name = match oneof(field) {
            Some(oneof) => {
                let members: Vec<_> = oneof.fields().collect();
                let chosen = members
                    .iter()
                    .find(|f| INSTEAD.contains(&short(f.full_name())))
                    .or(members.first());
                if chosen != Some(field) {
                    return false;
                }
                oneof.full_name().to_owned()
            }
            None => field.full_name().to_owned(),
        };
        need(field) == Need::Required || ALSO.contains(&short(&name)) || self.conditional(field)
    }

    /// "Required for an operator, …": whether the caller is the one meant.
    pub(crate) fn conditional(&self, field: &FieldDescriptor) -> bool {
        let text = contract::about(field);
        let Some(whom) = text.strip_prefix("Required for ") else {
            return false;
        };
        let whom = whom.split([',', '.', ';']).next().unwrap_or_default();
        let word = match self.caller {
            Some(CallerKind::Operator) => "operator",
            Some(CallerKind::App) => "app",
            Some(CallerKind::Person | CallerKind::Representative) => "person",
            Some(CallerKind::Hip) => "HIP",
            Some(CallerKind::Hiu) => "HIU",
            _ => return false,
        };
        whom.split(' ').any(|part| part == word)
    }

    /// The request without what `field` stands in for.
    pub(crate) fn making_room(mut message: DynamicMessage, field: &FieldDescriptor) -> DynamicMessage {
        for (_, other) in RATHER.iter().filter(|(name, _)| *name == short(field.full_name())) {
            message.clear_field_by_name(other);
        }
        message
    }

    /// Whether the field stands in for another one.
    pub(crate) fn is_instead(field: &FieldDescriptor) -> bool {
        RATHER.iter().any(|(name, _)| *name == short(field.full_name()))
    }

    /// Whether any text will do for the field, and this caller may send one.
    pub(crate) fn is_free(&self, field: &FieldDescriptor) -> bool {
        let text = contract::about(field);
        let formed = special(short(field.full_name())).is_some() || FORMED.contains(&short(field.full_name()));
        let refused = text.contains("refused for") && !self.conditional(field);
        !formed && !refused && collection(field).is_none()
    }

    /// The request with what it needs beside `field`.
    pub(crate) fn fit(&self, mut message: DynamicMessage, field: &FieldDescriptor) -> DynamicMessage {
        for (_, beside, number) in BESIDE.iter().filter(|(name, ..)| *name == short(field.full_name())) {
            message.set_field_by_name(beside, Value::EnumNumber(*number));
        }
        message
    }

    /// A value of the field, with one element if it has many.
    pub(crate) fn value(&self, field: &FieldDescriptor) -> Value {
        if field.is_map() {
            return Value::Map([(MapKey::String("otp".into()), Value::String("123456".into()))].into());
        }
        let one = self.element(field, 0);
        if field.is_list() { Value::List(vec![one]) } else { one }
    }

    /// The `n`th element: all different.
    pub(crate) fn element(&self, field: &FieldDescriptor, n: usize) -> Value {
        if let Some(text) = special(short(field.full_name())) {
            return Value::String(text.to_owned());
        }
        match field.kind() {
            Kind::String => Value::String(self.text(field, n)),
            Kind::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
                Value::Message(self.time(&message, field.name()))
            }
            Kind::Message(message) => Value::Message(self.message(&message)),
            Kind::Enum(_) if short(field.full_name()) == "CreateRepresentationRequest.kind" => {
                // A guardian of an operator, a nominee of a person.
                Value::EnumNumber(if self.caller == Some(CallerKind::Operator) {
                    1
                } else {
                    3
                })
            }
            Kind::Enum(_) if short(field.full_name()) == "ReviewBreakGlassRequest.outcome" => {
                // An operator upholds, everybody else disputes.
                Value::EnumNumber(if self.caller == Some(CallerKind::Operator) {
                    1
                } else {
                    3
                })
            }
            Kind::Enum(_)
                if short(field.full_name()) == "Purpose.code" && self.caller == Some(CallerKind::Researcher) =>
            {
                Value::EnumNumber(PurposeCode::Dsrch.into())
            }
            Kind::Enum(names) => Value::EnumNumber(names.values().map(|v| v.number()).find(|n| *n != 0).unwrap_or(0)),
            Kind::Bytes => Value::Bytes(vec![0; 32].into()),
            Kind::Bool => Value::Bool(true),
            _ if field.name() == "year_of_birth" => Value::I32(1990),
            Kind::Int64 => Value::I64(1),
            Kind::Int32 => Value::I32(1),
            other => panic!("no sample for {}: {other:?}", field.full_name()),
        }
    }

    fn text(&self, field: &FieldDescriptor, n: usize) -> String {
        match collection(field).as_deref() {
            Some("participants") => format!("participants/nobody-{n}"),
            Some("notices") => format!("notices/nothing-{n}"),
            Some("events") => "logs/nothing-here/events/1".to_owned(),
            Some("logs") => "logs/nothing-here".to_owned(),
            Some(collection) => format!("{collection}/{}", uuid(self.clock.now())),
            None if contract::about(field).contains("UUID") => uuid(self.clock.now()),
            None if contract::about(field).contains("base32") => "A".repeat(26),
            None => format!("text {n}"),
        }
    }

    fn time(&self, timestamp: &MessageDescriptor, name: &str) -> DynamicMessage {
        const DAY: i64 = 86_400;
        let off = match name {
            "from" => -365 * DAY,
            "to" => -DAY,
            "erase_time" => DAY,
            "expire_time" => 3600,
            "until_time" => 30 * DAY,
            _ => 0,
        };
        let mut time = DynamicMessage::new(timestamp.clone());
        time.set_field_by_name("seconds", Value::I64(self.clock.now().seconds() + off));
        time
    }
}

/// Texts with a form of their own.
fn special(name: &str) -> Option<&'static str> {
    Some(match name {
        "Identifier.abha_number" => "91-1234-5678-9015",
        "Identifier.abha_address"
        | "CreateConsentRequestRequest.patient"
        | "OpenBreakGlassRequest.patient"
        | "CreateSubscriptionRequest.patient"
        | "SetupLockerRequest.patient" => "nobody.there@sbx",
        "CreateTransactionRequest.aadhaar" | "StartKycRequest.aadhaar" => "999941057058",
        "CreateTransactionRequest.mobile"
        | "SendDeepLinkRequest.mobile"
        | "SendMessageRequest.recipient"
        | "Demographics.mobile" => "9876543210",
        "VerifyTransactionRequest.otp" | "CompleteKycRequest.otp" => "123456",
        "VerifyTransactionRequest.pin" | "SetCredentialRequest.pin" => "2580",
        "BoundAction.method" => "sammati.consent.v1.ConsentService/RevokeConsents",
        "VerifyTransactionRequest.password" | "SetCredentialRequest.password" => "Rq7!vTz2#Lm",
        "ConsentStamp.code" => "abha-enrollment",
        "ConsentStamp.version" => "1.4",
        "NoticeText.withdraw_uri" | "NoticeText.rights_uri" | "NoticeText.board_uri" => {
            "https://clinic.example/consents"
        }
        "ConsentStamp.language" | "NoticeText.language" | "NoticeRef.language" | "SendMessageRequest.language" => "en",
        "EthicsApproval.sha256"
        | "CreateStudyRequest.protocol_sha256"
        | "NoticeRef.sha256"
        | "BoundAction.body_sha256" => "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff",
        "ExpireClassRequest.month" => "2020-01",
        "CreateAddressRequest.local_part" => "walk.er1990",
        "SetPreferredAddressRequest.address" => "walk.er1990@sbx",
        "CreateParticipantRequest.participant_id" => "walked",
        "ParticipantKey.jwk" => r#"{"crv":"Ed25519","kty":"OKP","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
        "RequesterIdentifier.system" => "https://www.nmc.org.in",
        "CreateProfileShareRequest.counter" => "OPD1",
        "AcknowledgeProfileShareRequest.token_number" => "17",
        "CreateTransferRequest.push_uri" => "https://clinic.example/push",
        "KeyMaterial.content" => KEY_MATERIAL,
        "Event.event_type" => "consent.granted",
        "Actor.id" => "services/identity",
        "SourceRange.service" => "identity",
        "Registration.registry" => "HFR",
        "OpenBreakGlassRequest.reason" => "brought in unconscious and alone",
        "Evidence.type" => "BIRTH_CERTIFICATE",
        "ExchangeTokenRequest.audience" => "identity",
        "CreateAccountRequest.audiences"
        | "CreateSessionRequest.audiences"
        | "RefreshSessionRequest.audiences"
        | "CreateParticipantSessionRequest.audiences" => "identity",
        _ => return None,
    })
}
