//! Links on the wire.

use std::collections::BTreeSet;

use sammati_api::consent::v1 as api;
use sammati_api::types::v1 as types;
use sammati_kernel::{Caller, Micros, MobileNumber, Refusal, Violations, year_in_india};

use super::{Person, check_text, scope, stamp};
use crate::rows::{CareContextRow, LinkRow, etag, link_id};
use crate::vault::Ring;

/// Care contexts of one call.
const CONTEXTS: usize = 20;

/// Whom a provider has before it, and what it knows of her.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse_issue(
    request: &api::IssueLinkTokenRequest,
    now: Micros,
) -> Result<(Person, types::Demographics), Refusal> {
    let mut v = Violations::new();
    let person = super::person(&mut v, "identifier", request.identifier.as_ref());
    if matches!(person, Some(Person::Account(_))) {
        v.add("identifier.account", "name her by ABHA number or address");
    }
    let demographics = request.demographics.clone().unwrap_or_default();
    if request.demographics.is_none() {
        v.add("demographics", "required");
    } else {
        check_demographics(&mut v, "demographics", &demographics, now);
    }
    v.check()?;
    let person = person.ok_or_else(|| Refusal::new(sammati_kernel::Reason::FieldInvalid))?;
    Ok((person, demographics))
}

/// Where a deep link goes, and in which language.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn parse_deep_link(request: &api::SendDeepLinkRequest) -> Result<(MobileNumber, String), Refusal> {
    let mut v = Violations::new();
    let mobile = v.keep("mobile", MobileNumber::parse(&request.mobile));
    super::check_language(&mut v, &request.language);
    v.check()?;
    let mobile = mobile.ok_or_else(|| Refusal::new(sammati_kernel::Reason::FieldInvalid))?;
    let language = match request.language.as_str() {
        "" => "en",
        language => language,
    };
    Ok((mobile, language.to_owned()))
}

/// What is said of a person, in `field`.
pub fn check_demographics(v: &mut Violations, field: &str, demographics: &types::Demographics, now: Micros) {
    check_text(v, &format!("{field}.name"), &demographics.name, 1, super::TEXT);
    let asked = [types::Gender::M, types::Gender::F, types::Gender::O];
    if !asked.contains(&demographics.gender()) {
        v.add(format!("{field}.gender"), "M, F or O");
    }
    if !(1900..=year_in_india(now)).contains(&demographics.year_of_birth) {
        v.add(format!("{field}.year_of_birth"), "four digits, from 1900 to this year");
    }
    if let Some(mobile) = &demographics.mobile
        && let Err(why) = MobileNumber::parse(mobile)
    {
        v.add(format!("{field}.mobile"), why);
    }
}

/// Care contexts to link.
///
/// # Errors
/// FIELD_INVALID with all violations.
pub fn check_contexts(request: &api::LinkCareContextsRequest) -> Result<(), Refusal> {
    let mut v = Violations::new();
    if request.link_token.is_empty() {
        v.add("link_token", "required: the token of IssueLinkToken");
    }
    scope::reference(&mut v, "patient_reference", &request.patient_reference, "");
    if !(1..=CONTEXTS).contains(&request.care_contexts.len()) {
        v.add("care_contexts", "1 to 20");
        return v.check();
    }
    let mut seen = BTreeSet::new();
    for (n, context) in request.care_contexts.iter().enumerate() {
        let field = format!("care_contexts[{n}]");
        if !["", request.patient_reference.as_str()].contains(&context.patient_reference.as_str()) {
            v.add(
                format!("{field}.patient_reference"),
                "must equal patient_reference of the call, or be empty",
            );
        }
        scope::reference(
            &mut v,
            &format!("{field}.care_context_reference"),
            &context.care_context_reference,
            "|",
        );
        scope::check_kind(&mut v, &field, context, true);
        if !seen.insert(&context.care_context_reference) {
            v.add(field, "each care context once");
        }
    }
    v.check()
}

/// What a caller sees of a link: a participant no account.
///
/// # Errors
/// INTERNAL when a row is damaged.
pub fn render(
    row: &LinkRow,
    contexts: &[CareContextRow],
    ring: &Ring,
    caller: &Caller,
    revision: String,
) -> Result<api::Link, Refusal> {
    let private = ring.open(&row.subject, "link", &row.id, &row.sealed)?;
    let mut contexts: Vec<_> = contexts.iter().collect();
    contexts.sort_by_key(|context| context.place);
    let open = |context: &&CareContextRow| {
        let private = ring.open(&context.subject, "care context", &context.key, &context.sealed)?;
        Ok(private.care_contexts.into_iter().next().unwrap_or_default())
    };
    let account = caller.account().map(|account| account.name()).unwrap_or_default();
    Ok(api::Link {
        name: link_id(&row.id)?.name(),
        subject: account,
        hip: format!("participants/{}", row.hip),
        patient_reference: private.text,
        care_contexts: contexts.iter().map(open).collect::<Result<_, Refusal>>()?,
        origin: row.origin.max(api::link::Origin::HipToken.into()),
        create_time: stamp(row.created),
        update_time: stamp(row.updated),
        etag: etag(row.version),
        revision,
    })
}
