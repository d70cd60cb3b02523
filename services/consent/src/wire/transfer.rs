//! Transfers on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, ConsentId, Micros, Reason, Refusal, TransferId, Violations};
use sammati_server::event::{micros, timestamp};

use super::{range, scope, stamp};
use crate::decision::{Asker, Question};
use crate::policy;
use crate::rows::{TransferRow, consent_id, etag};
use crate::scope::Range;
use crate::transfer::key_material::Key;
use crate::transfer::report::{HIP_REPORT, HIU_REPORT};
use crate::vault::Ring;

/// Care contexts of one report.
const CONTEXTS: usize = 1000;

/// The longest push address.
const URI: usize = 2048;

/// A transfer to open, well formed.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The consent.
    pub consent: ConsentId,
    /// The question it comes to.
    pub question: Question,
    /// Scheme, host and port of the push address, as origins are compared.
    pub origin: String,
    /// The receiver's key.
    pub key: Key,
}

/// A transfer to open.
///
/// # Errors
/// FIELD_INVALID with all violations; KEY_MATERIAL_INVALID when only the key is wrong.
pub fn parse(request: &api::CreateTransferRequest, caller: &Caller) -> Result<Wanted, Refusal> {
    let me = policy::participant(caller)?.clone();
    let mut v = Violations::new();
    let consent = super::name(&mut v, "consent", &request.consent);
    let hi_types = scope::hi_types(&mut v, "hi_types", &request.hi_types, 0);
    let record_range = range(&mut v, "record_range", request.record_range.as_ref());
    let user = request
        .user
        .clone()
        .and_then(|user| super::requester(&mut v, "user", Some(user)));
    let origin = origin(&request.push_uri).filter(|_| request.push_uri.len() <= URI);
    if origin.is_none() {
        v.add(
            "push_uri",
            "https://host[:port]/path, at most 2048 characters, without user, blanks or fragment",
        );
    }
    let reason = if v.is_empty() {
        Reason::KeyMaterialInvalid
    } else {
        Reason::FieldInvalid
    };
    let key = key(&mut v, request.key_material.as_ref());
    v.check_as(reason)?;
    let missing = || Refusal::new(Reason::FieldInvalid);
    let question = Question {
        asker: Asker::Participant(me.clone()),
        requester: Some(me),
        provider: None,
        user: user.as_ref().map(super::registration),
        purpose: None,
        access_mode: None,
        hi_types: hi_types.ok_or_else(missing)?,
        record_range: record_range.ok_or_else(missing)?,
        care_contexts: BTreeSet::new(),
        has_use: false,
        allow_reduced: false,
    };
    Ok(Wanted {
        consent: consent.ok_or_else(missing)?,
        question,
        origin: origin.ok_or_else(missing)?,
        key: key.ok_or_else(missing)?,
    })
}

fn key(v: &mut Violations, material: Option<&api::KeyMaterial>) -> Option<Key> {
    let Some(material) = material else {
        v.add("key_material", "required");
        return None;
    };
    Key::read(v, &material.content, material.expire_time.as_ref().and_then(micros))
}

/// `https://host[:port]` of an address, in lower case and without the default port; `None` for anything that is not a
/// plain https address.
pub fn origin(uri: &str) -> Option<String> {
    let rest = uri
        .get(..8)
        .filter(|scheme| scheme.eq_ignore_ascii_case("https://"))
        .and_then(|_| uri.get(8..))?;
    if !uri.bytes().all(|b| b.is_ascii_graphic()) || uri.contains('#') || uri.contains('\\') {
        return None;
    }
    let authority = rest.split(['/', '?']).next()?.to_ascii_lowercase();
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port)
        }
        Some(_) => return None,
        None => (authority.as_str(), "443"),
    };
    let name = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    let is_host = !host.is_empty() && host.bytes().all(name) && !host.starts_with('.') && !host.contains("..");
    is_host.then(|| {
        if port == "443" {
            format!("https://{host}")
        } else {
            format!("https://{host}:{port}")
        }
    })
}

/// What a caller sees of a transfer: the person neither address nor key.
///
/// # Errors
/// INTERNAL when the row is damaged.
pub fn render(
    row: &TransferRow,
    ring: &Ring,
    caller: &Caller,
    now: Micros,
    revision: String,
) -> Result<api::Transfer, Refusal> {
    let is_party = caller.participant().is_some();
    let time = |at: i64| Some(timestamp(Micros(at)));
    Ok(api::Transfer {
        name: row.id()?.name(),
        consent: consent_id(&row.consent)?.name(),
        version: row.grant_version,
        hip: format!("participants/{}", row.hip),
        hiu: format!("participants/{}", row.hiu),
        hi_types: row.hi_types.clone(),
        record_range: Some(types::TimeRange {
            from: time(row.from),
            to: time(row.to),
        }),
        push_uri: if is_party { row.push_uri.clone() } else { String::new() },
        key_material: is_party.then(|| api::KeyMaterial {
            content: row.key_content.clone(),
            expire_time: stamp(row.key_expire),
        }),
        state: row.state_at(now).number(),
        r#use: row.r#use,
        expire_time: stamp(row.expire),
        create_time: stamp(row.created),
        update_time: stamp(row.updated),
        etag: etag(row.version),
        revision,
        hip_report: ring.open_as(&row.subject, HIP_REPORT, &row.id, &row.hip_report)?,
        hiu_report: ring.open_as(&row.subject, HIU_REPORT, &row.id, &row.hiu_report)?,
    })
}

/// What one end says.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse_report(request: &api::ReportTransferRequest) -> Result<(TransferId, api::TransferReport), Refusal> {
    use api::transfer_context::Status;
    use api::transfer_report::Outcome;
    let mut v = Violations::new();
    let transfer = super::name(&mut v, "name", &request.name);
    let report = request.report.clone().unwrap_or_default();
    if request.report.is_none() {
        v.add("report", "required");
    } else if !matches!(Outcome::try_from(report.outcome), Ok(outcome) if outcome != Outcome::Unspecified) {
        v.add(
            "report.outcome",
            "OUTCOME_TRANSFERRED, OUTCOME_RECEIVED or OUTCOME_FAILED",
        );
    }
    if report.bytes < 0 {
        v.add("report.bytes", "0 and up");
    }
    if report.pages < 0 {
        v.add("report.pages", "0 and up");
    }
    if report.contexts.len() > CONTEXTS {
        v.add("report.contexts", "at most 1000");
    }
    let mut seen = BTreeSet::new();
    for (n, context) in report.contexts.iter().take(CONTEXTS).enumerate() {
        let field = format!("report.contexts[{n}]");
        scope::reference(
            &mut v,
            &format!("{field}.care_context_reference"),
            &context.care_context_reference,
            "|",
        );
        if !matches!(Status::try_from(context.status), Ok(status) if status != Status::Unspecified) {
            v.add(format!("{field}.status"), "STATUS_DELIVERED or STATUS_ERRORED");
        }
        super::check_text(
            &mut v,
            &format!("{field}.description"),
            &context.description,
            0,
            super::TEXT,
        );
        if !seen.insert(&context.care_context_reference) {
            v.add(field, "each care context once");
        }
    }
    v.check()?;
    let report = api::TransferReport {
        report_time: None,
        ..report.clone()
    };
    let transfer = transfer.ok_or_else(|| Refusal::new(Reason::FieldInvalid))?;
    Ok((transfer, report))
}

/// What a list is narrowed to.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    consent: Option<ConsentId>,
    states: Vec<i32>,
    created: Option<Range>,
}

impl Filter {
    /// Of a list's request.
    pub fn parse(v: &mut Violations, request: &api::ListTransfersRequest) -> Self {
        Self {
            consent: super::optional_name(v, "consent", &request.consent),
            states: super::states::<api::transfer::State>(v, "states", &request.states),
            created: request
                .create_range
                .as_ref()
                .and_then(|r| range(v, "create_range", Some(r))),
        }
    }

    /// Whether a row is in the list.
    pub fn holds(&self, row: &TransferRow, now: Micros) -> bool {
        (self.states.is_empty() || self.states.contains(&row.state_at(now).number()))
            && self.consent.is_none_or(|id| id.as_bytes().as_slice() == row.consent)
            && self
                .created
                .is_none_or(|r| r.from.0 <= row.created && row.created < r.to.0)
    }
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn an_origin_is_scheme_host_and_port_and_nothing_can_be_smuggled_into_it() {
        assert_eq!(
            origin("https://Clinic.Example/push?x=1").as_deref(),
            Some("https://clinic.example")
        );
        assert_eq!(
            origin("HTTPS://clinic.example:443/").as_deref(),
            Some("https://clinic.example")
        );
        assert_eq!(
            origin("https://clinic.example:8443").as_deref(),
            Some("https://clinic.example:8443")
        );
        for bad in [
            "http://clinic.example",
            "https://",
            "https://clinic.example@evil.example/",
            "https://evil.example\\@clinic.example",
            "https://clinic.example#x",
            "https://clinic .example/",
            "https://clinic.example:/",
            "https://a..b/",
            "ftp://x",
            "",
            "https://clinic.example:99999999/",
            "https://clínic.example/",
        ] {
            assert_eq!(origin(bad), None, "{bad}");
        }
    }
}
