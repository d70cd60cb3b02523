//! What the two copies say, written as RFC 8785 has it: members in the order of their names, no blanks. Every approval writes
//! both, so they are written as they stand, without a tree between, and what is the same in both is written once.

use chrono::{DateTime, SecondsFormat};
use sammati_api::consent::v1::consent::Origin;
use sammati_api::types::v1::{CareContextRef, RequesterIdentifier};
use sammati_kernel::{Caller, ConsentId, Micros, Refusal};

use super::{Audience, write_text};
use crate::rows::{self, ConsentRow, broken};
use crate::scope::Scope;
use crate::status_list;

/// What both copies are made of.
pub struct Claims<'a> {
    /// The consent manager, as `sbx`.
    pub manager: &'a str,
    /// The log that holds the grant's event.
    pub log_origin: &'a str,
    /// The consent.
    pub consent: &'a ConsentRow,
    /// Her address; in a study her pseudonym.
    pub patient: &'a str,
    /// Care contexts that are named.
    pub care_contexts: &'a [CareContextRef],
    /// What people read for the HIP.
    pub hip_name: &'a str,
    /// What people read for the HIU.
    pub hiu_name: &'a str,
    /// The event of the grant.
    pub event_id: &'a str,
    /// The version whose place it takes: of this consent, or of the one it renews.
    pub supersedes: Option<(ConsentId, i32)>,
    /// Who granted.
    pub caller: &'a Caller,
}

impl Claims<'_> {
    /// Both copies, in the order of [`Audience::ALL`].
    pub(super) fn copies(&self) -> Result<[String; 2], Refusal> {
        let id = self.consent.id()?;
        // Between what differs stand three pieces that do not.
        let pieces = [self.until_issuer(id)?, self.until_purpose()?, self.until_status()];
        Ok(Audience::ALL.map(|audience| self.copy(audience, id, &pieces)))
    }

    fn copy(&self, audience: Audience, id: ConsentId, [first, second, third]: &[Members; 3]) -> String {
        let consent = self.consent;
        let (to, copy) = match audience {
            Audience::Hip => (&consent.hip, audience.as_str()),
            Audience::Hiu => (&consent.hiu, audience.as_str()),
        };
        let mut all = Members::default();
        all.text("aud", &["participants/", to.as_str()].concat());
        all.array("care_contexts", self.care_contexts, |out, context| {
            out.push_str(&self::context(context, audience).object());
        });
        all.append(first);
        all.text("jti", &format!("{id}.{}.{copy}", consent.grant_version));
        all.append(second);
        all.members("requester", &self.requester(audience));
        all.append(third);
        if let Some((id, version)) = self.supersedes {
            all.text("supersedes", &format!("{id}.{version}.{copy}"));
        }
        all.number("version", consent.grant_version);
        all.object()
    }

    fn until_issuer(&self, id: ConsentId) -> Result<Members, Refusal> {
        let consent = self.consent;
        let scope = consent.scope.read()?;
        let mut all = Members::default();
        all.text("consent_id", &id.to_string());
        all.members("consent_manager", &Members::of("id", self.manager));
        all.text("created_at", &text(Micros(consent.granted))?);
        all.text("event_id", self.event_id);
        all.number("exp", Micros(consent.expire).seconds());
        all.members("granted_by", &self.granted_by());
        all.array("hi_types", &scope.hi_types, |out, kind| write_text(kind.as_str(), out));
        all.members("hip", &party(&consent.hip, self.hip_name, "HIP"));
        all.members("hiu", &party(&consent.hiu, self.hiu_name, "HIU"));
        all.number("iat", Micros(consent.made()).seconds());
        all.text("iss", self.manager);
        Ok(all)
    }

    fn until_purpose(&self) -> Result<Members, Refusal> {
        let consent = self.consent;
        let (scope, made) = (consent.scope.read()?, Micros(consent.made()));
        let mut notice = Members::of("language", &consent.notice.language);
        notice.text("notice", &consent.notice.notice);
        notice.text("sha256", &consent.notice.sha256);
        notice.number("version", consent.notice.version);
        let mut purpose = Members::of("code", scope.purpose.code());
        purpose.text("refUri", scope.purpose.ref_uri());
        purpose.text("text", scope.purpose.text());
        let mut all = Members::of("last_updated", &text(made)?);
        all.text("log_origin", self.log_origin);
        all.number("nbf", made.seconds());
        all.members("notice", &notice);
        all.text("origin", origin(self.origin()));
        all.members("patient", &Members::of("id", self.patient));
        all.members("permission", &permission(&scope)?);
        all.members("purpose", &purpose);
        Ok(all)
    }

    fn until_status(&self) -> Members {
        let mut all = Members::of("schema_version", "v3");
        if let Some((index, list)) = status_list::entry(self.consent) {
            let mut entry = Members::default();
            entry.number("idx", index);
            entry.text("uri", &list.name());
            let mut status = Members::default();
            status.members("status_list", &entry);
            all.members("status", &status);
        }
        all
    }

    /// A policy is her own word, or that of who acted for her, given beforehand; an emergency is nobody's of hers, whoever
    /// narrows it later.
    fn granted_by(&self) -> Members {
        let origin = self.origin();
        let under = rows::representation(&self.consent.granted_under);
        let representative = |representation: &str| {
            let mut by = Members::of("kind", "REPRESENTATIVE");
            by.text("representation", representation);
            by
        };
        match (self.caller.representing(), self.caller.account()) {
            _ if origin == Origin::BreakGlass => Members::of("kind", "HIU"),
            (Some(acting), _) => representative(&acting.representation.name()),
            (None, None) if origin != Origin::Policy => Members::of("kind", "UNKNOWN"),
            (None, None) if !under.is_empty() => representative(&under),
            (None, _) => Members::of("kind", "PERSON"),
        }
    }

    fn origin(&self) -> Origin {
        Origin::try_from(self.consent.origin).unwrap_or_default()
    }

    fn requester(&self, audience: Audience) -> Members {
        let requester = &self.consent.requester;
        let who = requester.identifier.as_ref();
        let part = |of: fn(&RequesterIdentifier) -> &String| who.map_or("", |who| of(who).as_str());
        let mut identifier = Members::of("system", part(|who| &who.system));
        identifier.text("type", part(|who| &who.r#type));
        identifier.text("value", part(|who| &who.value));
        let mut all = Members::default();
        all.members("identifier", &identifier);
        if audience == Audience::Hiu {
            all.text("name", &requester.name);
        }
        all
    }
}

const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Policy => "POLICY",
        Origin::BreakGlass => "BREAK_GLASS",
        Origin::Study => "STUDY",
        Origin::Request | Origin::Unspecified => "REQUEST",
    }
}

fn party(id: &str, name: &str, kind: &str) -> Members {
    let mut party = Members::of("id", id);
    party.text("name", name);
    party.text("type", kind);
    party
}

fn context(context: &CareContextRef, audience: Audience) -> Members {
    let mut all = Members::of("care_context_reference", &context.care_context_reference);
    if audience == Audience::Hip {
        all.text("patient_reference", &context.patient_reference);
    }
    all
}

fn permission(scope: &Scope) -> Result<Members, Refusal> {
    let mut range = Members::of("from", &text(scope.record_range.from)?);
    range.text("to", &text(scope.record_range.to)?);
    let mut frequency = Members::default();
    frequency.number("repeats", scope.frequency.repeats);
    frequency.text("unit", scope.frequency.unit.as_str());
    frequency.number("value", scope.frequency.value);
    let mut all = Members::of("accessMode", scope.access_mode.as_str());
    if scope.bind_requester {
        all.yes("bindRequester");
    }
    all.text("dataEraseAt", &text(scope.erase_time)?);
    all.members("dateRange", &range);
    all.members("frequency", &frequency);
    all.number("maxUses", scope.max_uses);
    Ok(all)
}

/// RFC 3339 in UTC, to the millisecond or, where that would widen an interval, to the microsecond.
pub(super) fn text(at: Micros) -> Result<String, Refusal> {
    let time = DateTime::from_timestamp_micros(at.0).ok_or_else(|| broken("a time"))?;
    let form = if at.0 % 1000 == 0 {
        SecondsFormat::Millis
    } else {
        SecondsFormat::Micros
    };
    Ok(time.to_rfc3339_opts(form, true))
}

/// Members of an object, written one after another; whoever writes them keeps the order of their names.
#[derive(Default)]
struct Members(String);

impl Members {
    fn of(name: &str, text: &str) -> Self {
        let mut all = Self::default();
        all.text(name, text);
        all
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        write_text(text, &mut self.0);
    }

    fn number(&mut self, name: &str, number: impl Into<i64>) {
        let number: i64 = number.into();
        self.name(name);
        self.0.push_str(&number.to_string());
    }

    fn yes(&mut self, name: &str) {
        self.name(name);
        self.0.push_str("true");
    }

    fn members(&mut self, name: &str, members: &Self) {
        self.name(name);
        self.0.push('{');
        self.0.push_str(&members.0);
        self.0.push('}');
    }

    fn array<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, write: impl Fn(&mut String, T)) {
        self.name(name);
        self.0.push('[');
        for (n, item) in items.into_iter().enumerate() {
            if n > 0 {
                self.0.push(',');
            }
            write(&mut self.0, item);
        }
        self.0.push(']');
    }

    fn append(&mut self, others: &Self) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&others.0);
    }

    fn name(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push('"');
        self.0.push_str(name);
        self.0.push_str("\":");
    }

    fn object(&self) -> String {
        ["{", &self.0, "}"].concat()
    }
}

#[cfg(test)]
mod tests;
