//! Keyed hashes: what events are looked up by, without keeping what they are about.

use std::collections::HashMap;

use sammati_api::audit::v1 as audit;
use sammati_kernel::{Key, Mac};

use crate::rows::{Name, role};

/// Bytes of an event's digest.
const DIGEST: usize = 16;

/// Look-up values that are made already: events that are told together name the same participants, and mostly what their
/// subjects did themselves.
#[derive(Default)]
pub(crate) struct Made<'a>(HashMap<&'a str, Name>);

/// What names of accounts begin with.
const ACCOUNTS: &str = "accounts/";

/// Makes the keyed hashes that events are looked up by.
pub struct Tagger {
    subject: Mac,
    other: Mac,
}

impl Tagger {
    /// Of the log with this origin: tags differ in every log.
    pub fn new(lookup: &Key, origin: &str) -> Self {
        Self {
            subject: Mac::new(&lookup.derive(&format!("subject tag {origin}"))),
            other: Mac::new(&lookup.derive(&format!("look-up {origin}"))),
        }
    }

    /// The tag of a subject in the leaf, 32 bytes; empty without one.
    pub fn subject(&self, account: &str) -> Vec<u8> {
        if account.is_empty() {
            Vec::new()
        } else {
            self.subject.mac("subject", account.as_bytes()).to_vec()
        }
    }

    /// The tag of a payload's subject in the leaf.
    pub(crate) fn subject_of<'a>(&self, payload: &'a audit::Payload, made: &mut Made<'a>) -> Vec<u8> {
        let (name, tag) = (payload.subject.as_str(), self.subject(&payload.subject));
        if let Some(begin) = tag.first_chunk().filter(|_| name.starts_with(ACCOUNTS)) {
            made.0.insert(name, *begin);
        }
        tag
    }

    /// The look-up value of a name, whatever it is the name of. An account's begins as the subject's tag does, so that what
    /// she did herself is found as one thing.
    pub(crate) fn name(&self, name: &str) -> Name {
        let hash = match name.starts_with(ACCOUNTS) {
            true => self.subject.mac("subject", name.as_bytes()),
            false => self.other.mac("name", name.as_bytes()),
        };
        hash.first_chunk().copied().unwrap_or_default()
    }

    /// The hash of an event as it was sent.
    pub fn digest(&self, body: &[u8]) -> Vec<u8> {
        self.other.mac("digest", body)[..DIGEST].to_vec()
    }

    /// All look-up values of an event but its subject's, as a leaf's row has them: each name once, after its roles.
    pub(crate) fn of<'a>(&self, payload: &'a audit::Payload, made: &mut Made<'a>) -> Vec<u8> {
        let actor = payload.actor.as_ref().map_or("", |actor| &actor.id);
        let app = payload.client.as_ref().map_or("", |client| &client.app);
        let mut named: Vec<(&str, u8)> = Vec::with_capacity(6);
        let mut note = |name, roles| {
            let party = match str::starts_with(name, "participants/") {
                true => role::PARTY,
                false => 0,
            };
            match named.iter_mut().find(|(known, _)| *known == name) {
                _ if name.is_empty() || roles | party == 0 => {}
                Some((_, known)) => *known |= roles | party,
                None => named.push((name, roles | party)),
            }
        };
        note(actor, role::ACTOR);
        note(&payload.resource, role::RESOURCE);
        note(consent_of(payload), role::CONSENT);
        payload.object_refs.iter().for_each(|name| note(name, 0));
        note(app, 0);
        let mut out = Vec::with_capacity(named.len() * 9);
        for (name, roles) in named {
            out.push(roles);
            out.extend_from_slice(made.0.entry(name).or_insert_with(|| self.name(name)));
        }
        out
    }
}

/// The consent that an event belongs to: the one it rests on, else the one it was done to, else the first it concerns.
fn consent_of(payload: &audit::Payload) -> &str {
    let named = [&payload.consent, &payload.resource]
        .into_iter()
        .chain(&payload.object_refs);
    named
        .map(String::as_str)
        .find(|name| name.starts_with("consents/"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is made once for several events is what is made for each.
    #[test]
    fn names_are_hashed_alike_together_and_alone() {
        let tagger = Tagger::new(&Key::from_bytes([5; 32]), "sammati.test/audit/1");
        let payload = |subject: &str, actor: &str, resource: &str| audit::Payload {
            actor: Some(audit::Actor {
                id: actor.to_owned(),
                ..audit::Actor::default()
            }),
            subject: subject.to_owned(),
            resource: resource.to_owned(),
            object_refs: vec!["participants/hospital".to_owned(), "accounts/two".to_owned()],
            ..audit::Payload::default()
        };
        let payloads = [
            payload("accounts/one", "accounts/one", "consents/one"),
            payload("accounts/two", "accounts/one", "consents/two"),
            payload("", "services/consent", "accounts/one"),
            // No account: its name is hashed as any other, its tag as a subject's.
            payload("somebody", "somebody", "consents/one"),
        ];
        let mut made = Made::default();
        for payload in &payloads {
            assert_eq!(tagger.subject_of(payload, &mut made), tagger.subject(&payload.subject));
            assert_eq!(tagger.of(payload, &mut made), tagger.of(payload, &mut Made::default()));
        }
        let one = tagger.of(&payloads[0], &mut Made::default());
        assert_eq!(one[1..9], tagger.subject("accounts/one")[..8]);
        assert_eq!(one[1..9], tagger.name("accounts/one"));
    }
}
