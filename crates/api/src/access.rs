//! Who may call which method, and which fields are sensitive, as the contracts say it.

use std::borrow::Cow;

use prost_reflect::{DescriptorPool, DynamicMessage, ExtensionDescriptor, MethodDescriptor, Value};

use crate::{
    DESCRIPTORS,
    types::v1::{Access, CallerKind, Class, Power, Sensitivity},
};

/// The rule of one method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodAccess {
    /// The path of the call, e.g. `/sammati.consent.v1.ConsentService/RevokeConsents`.
    pub path: String,
    /// The callers that pass the gate; never empty.
    pub grants: Vec<Grant>,
    /// What narrows the gate to particular objects, in words; may be empty.
    pub object_rule: String,
    /// The call needs a fresh proof of the person.
    pub step_up: bool,
    /// The class in which the call is shed.
    pub class: Class,
    /// What a representative needs; never `Unspecified` where one is named, and always where none is.
    pub power: Power,
}

/// One kind of caller that passes the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The kind; never `Unspecified`.
    pub caller: CallerKind,
    /// The services meant; empty unless `caller` is `Service`, and then never empty.
    pub services: Vec<String>,
}

/// Why the permission table cannot be built. A server that gets one does not start.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The embedded descriptors do not decode.
    #[error("the descriptors do not decode: {0}")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// The contracts lack the option itself.
    #[error("the contracts do not define {0}")]
    Extension(&'static str),
    /// These methods have no option, or one that names no caller, an unknown one or no class, or a
    /// representative without the power that it needs.
    #[error("methods without a valid (sammati.type.v1.access): {}", .0.join(", "))]
    Methods(Vec<String>),
}

/// Reads the rule of every method of every service, in the order of the contracts.
///
/// # Errors
/// [`AccessError::Methods`] names every method that does not say who may call it.
pub fn methods() -> Result<Vec<MethodAccess>, AccessError> {
    let pool = DescriptorPool::decode(DESCRIPTORS)?;
    let option = extension(&pool, "sammati.type.v1.access")?;
    let mut rules = Vec::new();
    let mut wrong = Vec::new();
    for method in pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
    {
        match rule(&method, &option) {
            Some(rule) => rules.push(rule),
            None => wrong.push(path(&method)),
        }
    }
    if wrong.is_empty() {
        Ok(rules)
    } else {
        Err(AccessError::Methods(wrong))
    }
}

/// Lists the full names of the fields of one sensitivity, e.g. `sammati.identity.v1.VerifyTransactionRequest.otp`.
///
/// # Errors
/// The embedded descriptors do not decode or lack the option.
pub fn fields(sensitivity: Sensitivity) -> Result<Vec<String>, AccessError> {
    let pool = DescriptorPool::decode(DESCRIPTORS)?;
    let option = extension(&pool, "sammati.type.v1.sensitivity")?;
    let wanted = Value::EnumNumber(sensitivity.into());
    let fields = pool
        .all_messages()
        .flat_map(|message| message.fields().collect::<Vec<_>>());
    Ok(fields
        .filter(|field| value(&field.options(), &option).as_deref() == Some(&wanted))
        .map(|field| field.full_name().to_owned())
        .collect())
}

fn extension(pool: &DescriptorPool, name: &'static str) -> Result<ExtensionDescriptor, AccessError> {
    pool.get_extension_by_name(name).ok_or(AccessError::Extension(name))
}

/// The value of an option that is set.
fn value<'a>(options: &'a DynamicMessage, option: &ExtensionDescriptor) -> Option<Cow<'a, Value>> {
    options.has_extension(option).then(|| options.get_extension(option))
}

fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// The rule a method's option spells, or nothing if it spells none.
fn rule(method: &MethodDescriptor, option: &ExtensionDescriptor) -> Option<MethodAccess> {
    let options = method.options();
    let value = value(&options, option)?;
    whole(path(method), value.as_message()?.transcode_to().ok()?)
}

/// What an option says, if it says all that it must.
fn whole(path: String, access: Access) -> Option<MethodAccess> {
    let grants: Vec<Grant> = access.grants.into_iter().map(grant).collect::<Option<_>>()?;
    let class = Class::try_from(access.class)
        .ok()
        .filter(|class| *class != Class::Unspecified)?;
    let power = Power::try_from(access.power).ok()?;
    let represented = grants.iter().any(|grant| grant.caller == CallerKind::Representative);
    let empowered = represented == (power != Power::Unspecified);
    (!grants.is_empty() && empowered).then_some(MethodAccess {
        path,
        grants,
        object_rule: access.object_rule,
        step_up: access.step_up,
        class,
        power,
    })
}

fn grant(grant: crate::types::v1::Grant) -> Option<Grant> {
    let caller = CallerKind::try_from(grant.caller)
        .ok()
        .filter(|kind| *kind != CallerKind::Unspecified)?;
    let names_services = !grant.services.is_empty();
    (names_services == (caller == CallerKind::Service)).then_some(Grant {
        caller,
        services: grant.services,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_representative_is_granted_with_the_power_that_it_needs_and_not_without() {
        let access = |caller: CallerKind, power: Power| Access {
            grants: vec![crate::types::v1::Grant {
                caller: caller.into(),
                services: Vec::new(),
            }],
            class: Class::Check.into(),
            power: power.into(),
            ..Access::default()
        };
        for (caller, power, is_whole) in [
            (CallerKind::Representative, Power::Read, true),
            (CallerKind::Representative, Power::Unspecified, false),
            (CallerKind::Person, Power::Unspecified, true),
            (CallerKind::Person, Power::Read, false),
        ] {
            let found = whole("/any".to_owned(), access(caller, power));
            assert_eq!(found.is_some(), is_whole, "{caller:?} {power:?}");
        }
    }
}
