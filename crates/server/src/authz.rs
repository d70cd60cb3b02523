//! Who may call what? The table made from the contracts' access options, and the outer gate that asks it.

use std::collections::HashMap;
use std::sync::Arc;

use http::{Request, Response};
use prost_reflect::DescriptorPool;
use sammati_api::access::{self, AccessError, MethodAccess};
use sammati_api::types::v1 as api;
use sammati_kernel::{Actor, Caller, CallerKind, Peer, Power, Reason, Refusal};
use tonic::Status;
use tonic::body::Body;

use crate::authn::AccessToken;
use crate::error;
use crate::layer::{Around, Inner};
use crate::rate::{Allowance, Limiter};
use crate::tls::Connection;

/// The caller of a request, as the authentication layer found it.
///
/// # Errors
/// INTERNAL when the request did not come through the stack.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<&Caller, Status> {
    request
        .extensions()
        .get()
        .ok_or_else(|| error::internal("a request without a caller"))
}

/// The access token that the request carries, if any: what a service gives to `ExchangeToken`.
pub fn access_token<T>(request: &tonic::Request<T>) -> Option<&AccessToken> {
    request.extensions().get::<Arc<AccessToken>>().map(AsRef::as_ref)
}

/// What the participant who calls may still ask, if one does and it is bounded: for a call that asks several things.
pub fn allowance<T>(request: &tonic::Request<T>) -> Option<Arc<Allowance>> {
    let token = request.extensions().get::<Arc<AccessToken>>()?;
    token.allowance.get().cloned()
}

/// The connection that the request came over.
///
/// # Errors
/// INTERNAL when the request did not come through the stack.
pub fn connection<T>(request: &tonic::Request<T>) -> Result<&Connection, Status> {
    let found = request.extensions().get::<Arc<Connection>>();
    found
        .map(AsRef::as_ref)
        .ok_or_else(|| error::internal("a request without a connection"))
}

/// The shedding class of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Check,
    Write,
    Login,
    Admin,
}

/// What the contract says about one method.
#[derive(Debug)]
pub(crate) struct Rule {
    /// `sammati.consent.v1.ConsentService`.
    pub(crate) service: String,
    /// `RevokeConsents`.
    pub(crate) method: String,
    /// Both, as a metric's label.
    pub(crate) label: Arc<str>,
    pub(crate) streaming: bool,
    pub(crate) class: Class,
    grants: Vec<(CallerKind, Vec<String>)>,
    /// What a representative needs; `None` where none is named.
    power: Option<Power>,
}

impl Rule {
    /// Whether it is a stream to stay on. Reflection is not: it is open to anyone and over in a moment.
    pub(crate) fn lasting(&self) -> bool {
        self.streaming && !SIDE_DOORS.contains(&self.service.as_str())
    }

    fn names(&self, kind: CallerKind) -> bool {
        self.grants.iter().any(|(granted, _)| *granted == kind)
    }

    fn names_service(&self, name: &String) -> bool {
        let granted =
            |(kind, services): &(CallerKind, Vec<String>)| *kind == CallerKind::Service && services.contains(name);
        self.grants.iter().any(granted)
    }

    /// Whether the contract names who holds the connection together with whose token it carries.
    fn names_pair(&self, caller: &Caller) -> bool {
        let actor = || caller.kinds().into_iter().any(|kind| self.names(kind));
        match (&caller.peer, &caller.actor) {
            (Peer::Service(name), None) => self.names_service(name),
            // On behalf of somebody: the service must be named as well as the one it acts for.
            (Peer::Service(name), Some(_)) => self.names_service(name) && actor(),
            // An operator is a certificate. One that carries a token besides is neither an operator nor its holder.
            (Peer::Operator(_), Some(_)) => false,
            (Peer::Operator(_) | Peer::Anonymous | Peer::Participant(_), _) => actor(),
        }
    }

    /// A representative needs what the method needs.
    fn has_power(&self, caller: &Caller) -> Result<(), Refusal> {
        let Some(acting) = caller.representing() else {
            return Ok(());
        };
        match self.power {
            Some(power) if acting.powers.contains(&power) => Ok(()),
            needed => Err(Refusal::new(Reason::PowerMissing).saying(format!(
                "the representation does not give the power {} that this needs",
                needed.map_or("", Power::as_str)
            ))),
        }
    }

    /// The answer of the outer gate. The object rules are the service's.
    fn admit(&self, caller: &Caller) -> Result<(), Refusal> {
        if self.names(CallerKind::Anyone) {
            return Ok(());
        }
        if self.names_pair(caller) {
            return self.has_power(caller);
        }
        Err(if *caller == Caller::ANYONE {
            Reason::TokenMissing
        } else {
            Reason::CallerKind
        }
        .into())
    }
}

/// The rules of all methods that a server serves.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    rules: Arc<HashMap<String, Arc<Rule>>>,
    unknown: Arc<Rule>,
}

/// Reflection stands beside the contracts: anybody may learn how to ask.
const SIDE_DOORS: [&str; 2] = [
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

impl Table {
    /// The rules of the methods of `services`, by their full names.
    ///
    /// # Errors
    /// When a method of theirs does not say in its contract who may call it, or a service has no contract: such a
    /// server does not start.
    pub(crate) fn new(services: &[&str]) -> Result<Self, AccessError> {
        Self::of(
            access::methods()?,
            services,
            &DescriptorPool::decode(sammati_api::DESCRIPTORS)?,
        )
    }

    fn of(methods: Vec<MethodAccess>, services: &[&str], pool: &DescriptorPool) -> Result<Self, AccessError> {
        let mut said: HashMap<String, MethodAccess> = methods.into_iter().map(|m| (m.path.clone(), m)).collect();
        let mut rules = HashMap::new();
        let mut silent = Vec::new();
        for service in services {
            let Some(contract) = pool.get_service_by_name(service) else {
                silent.push((*service).to_owned());
                continue;
            };
            for method in contract.methods() {
                let path = format!("/{service}/{}", method.name());
                match said.remove(&path) {
                    Some(access) => {
                        rules.insert(
                            path,
                            Arc::new(rule(service, method.name(), method.is_server_streaming(), access)),
                        );
                    }
                    None => silent.push(path),
                }
            }
        }
        for service in SIDE_DOORS {
            let grants = vec![(CallerKind::Anyone, Vec::new())];
            let door = Rule {
                grants,
                ..blank(service, "ServerReflectionInfo", true)
            };
            rules.insert(format!("/{service}/ServerReflectionInfo"), Arc::new(door));
        }
        if !silent.is_empty() {
            return Err(AccessError::Methods(silent));
        }
        Ok(Self {
            rules: Arc::new(rules),
            unknown: Arc::new(blank("unknown", "unknown", false)),
        })
    }

    /// The rule of the method at `path`; for any other path the one that admits nobody.
    pub(crate) fn rule(&self, path: &str) -> Arc<Rule> {
        self.rules.get(path).unwrap_or(&self.unknown).clone()
    }
}

fn blank(service: &str, method: &str, streaming: bool) -> Rule {
    let label = format!("{service}/{method}").into();
    Rule {
        service: service.to_owned(),
        method: method.to_owned(),
        label,
        streaming,
        class: Class::Check,
        grants: Vec::new(),
        power: None,
    }
}

fn rule(service: &str, method: &str, streaming: bool, access: MethodAccess) -> Rule {
    let class = match access.class {
        api::Class::Unspecified | api::Class::Check => Class::Check,
        api::Class::Write => Class::Write,
        api::Class::Login => Class::Login,
        api::Class::Admin => Class::Admin,
    };
    let grants = access
        .grants
        .into_iter()
        .filter_map(|grant| Some((kind(grant.caller)?, grant.services)))
        .collect();
    Rule {
        class,
        grants,
        power: Power::from_number(access.power.into()),
        ..blank(service, method, streaming)
    }
}

const fn kind(caller: api::CallerKind) -> Option<CallerKind> {
    Some(match caller {
        api::CallerKind::Unspecified => return None,
        api::CallerKind::Anyone => CallerKind::Anyone,
        api::CallerKind::App => CallerKind::App,
        api::CallerKind::Person => CallerKind::Person,
        api::CallerKind::Representative => CallerKind::Representative,
        api::CallerKind::Hip => CallerKind::Hip,
        api::CallerKind::Hiu => CallerKind::Hiu,
        api::CallerKind::Locker => CallerKind::Locker,
        api::CallerKind::Researcher => CallerKind::Researcher,
        api::CallerKind::Operator => CallerKind::Operator,
        api::CallerKind::Service => CallerKind::Service,
    })
}

/// The outer gate.
#[derive(Clone)]
pub(crate) struct Authorize {
    /// Counts participants' calls, those that do not pass too.
    pub(crate) limiter: Limiter,
}

impl Around for Authorize {
    async fn around<S: Inner>(self, mut inner: S, request: Request<Body>) -> Response<Body> {
        let found = request
            .extensions()
            .get::<Arc<Rule>>()
            .zip(request.extensions().get::<Caller>());
        let token = request.extensions().get::<Arc<AccessToken>>();
        let admitted = found.map_or(Err(Reason::Internal.into()), |(rule, caller)| {
            self.limiter.pass(rule, &caller.peer, token.map(AsRef::as_ref))?;
            rule.admit(caller)
        });
        match admitted {
            Ok(()) => error::ours(inner.ask(request).await),
            Err(refusal) => error::answer(refusal),
        }
    }
}

/// The participant who must not act for another: its certificate names it, and so must the token.
pub(crate) fn same_participant(peer: &Peer, actor: &Actor) -> bool {
    !matches!((peer, actor), (Peer::Participant(peer), Actor::Participant { id, .. }) if peer != id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sammati_kernel::{AccountId, Micros, ParticipantId, RepresentationId, RepresentationKind, Representing};
    use sammati_kernel::{Role, SessionId, Slot};

    use super::*;

    const SERVICE: &str = "sammati.identity.v1.SessionService";

    fn table(methods: Vec<MethodAccess>, services: &[&str]) -> Result<Table, AccessError> {
        Table::of(
            methods,
            services,
            &DescriptorPool::decode(sammati_api::DESCRIPTORS).unwrap(),
        )
    }

    #[test]
    fn a_method_that_does_not_say_who_may_call_it_does_not_start() {
        let path = format!("/{SERVICE}/ListKeys");
        let mut methods = access::methods().unwrap();
        assert!(table(methods.clone(), &[SERVICE]).is_ok());
        methods.retain(|method| method.path != path);
        let error = table(methods, &[SERVICE]).unwrap_err().to_string();
        assert!(error.contains(&path), "{error}");
        assert!(table(access::methods().unwrap(), &["sammati.identity.v1.KingService"]).is_err());
    }

    #[test]
    fn z1_a_service_acts_for_those_alone_that_are_named_beside_it() {
        let rule = Rule {
            grants: vec![
                (CallerKind::Hip, Vec::new()),
                (CallerKind::Service, vec!["consent".to_owned()]),
            ],
            ..blank(SERVICE, "Any", false)
        };
        let caller = |service: &str, roles: Option<Role>| Caller {
            peer: Peer::Service(service.to_owned()),
            actor: roles.map(|role| Actor::Participant {
                id: ParticipantId::parse("IN27001").unwrap(),
                roles: [role].into(),
            }),
        };
        for (service, role, admitted) in [
            ("consent", None, true),
            ("consent", Some(Role::Hip), true),
            ("consent", Some(Role::Hiu), false),
            ("audit", Some(Role::Hip), false),
            ("audit", None, false),
        ] {
            assert_eq!(
                rule.admit(&caller(service, role)).is_ok(),
                admitted,
                "{service} {role:?}"
            );
        }
    }

    #[test]
    fn z1_a_representative_passes_with_the_power_that_is_needed_alone() {
        let id = |n: u8| AccountId::new(Micros(1), Slot::new(1), [n; 8]);
        let with = |powers: &[Power]| Caller {
            peer: Peer::Anonymous,
            actor: Some(Actor::Representative(Box::new(Representing {
                representation: RepresentationId::new(Micros(1), Slot::new(1), [1; 8]),
                principal: id(1),
                representative: id(2),
                kind: RepresentationKind::Delegate,
                powers: powers.iter().copied().collect(),
                purposes: BTreeSet::new(),
                participants: BTreeSet::new(),
                ends: None,
                session: SessionId::new(Micros(1), Slot::new(1), [1; 8]),
                app: None,
                auth_time: 0,
            }))),
        };
        let rule = |kind: CallerKind, power: Option<Power>| Rule {
            grants: vec![(kind, Vec::new())],
            power,
            ..blank(SERVICE, "Any", false)
        };
        let decides = rule(CallerKind::Representative, Some(Power::Decide));
        assert!(decides.admit(&with(&[Power::Read, Power::Decide])).is_ok());
        let missing = decides.admit(&with(&[Power::Read, Power::Revoke])).unwrap_err();
        assert_eq!(missing.reason, Reason::PowerMissing);
        // What a person may, nobody may for her unless it says so.
        let hers = rule(CallerKind::Person, None);
        let refused = hers.admit(&with(&Power::ALL)).unwrap_err();
        assert_eq!(refused.reason, Reason::CallerKind);
        let silent = rule(CallerKind::Representative, None);
        assert_eq!(
            silent.admit(&with(&Power::ALL)).unwrap_err().reason,
            Reason::PowerMissing
        );
    }

    #[test]
    fn what_is_not_served_admits_nobody() {
        let table = table(access::methods().unwrap(), &[SERVICE]).unwrap();
        let operator = Caller {
            peer: Peer::Operator("asha".into()),
            actor: None,
        };
        for path in ["/sammati.identity.v1.AccountService/GetAccount", "/", ""] {
            assert_eq!(
                table.rule(path).admit(&operator).unwrap_err().reason,
                Reason::CallerKind
            );
            assert_eq!(
                table.rule(path).admit(&Caller::ANYONE).unwrap_err().reason,
                Reason::TokenMissing
            );
        }
        assert!(
            table
                .rule(&format!("/{SERVICE}/ListKeys"))
                .admit(&Caller::ANYONE)
                .is_ok()
        );
    }
}
