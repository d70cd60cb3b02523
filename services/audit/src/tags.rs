//! Keyed hashes: what events are looked up by, without keeping what they are about.

use sammati_api::audit::v1 as audit;
use sammati_kernel::Key;

use crate::rows::Tags;

/// Makes the keyed hashes that events are looked up by.
pub struct Tagger {
    subject: Key,
    other: Key,
}

impl Tagger {
    /// Of the log with this origin: tags differ in every log.
    pub fn new(lookup: &Key, origin: &str) -> Self {
        Self {
            subject: lookup.derive(&format!("subject tag {origin}")),
            other: lookup.derive(&format!("look-up {origin}")),
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

    /// The look-up value of an id as `what`, 16 bytes; empty without one.
    pub fn other(&self, what: &str, id: &str) -> Vec<u8> {
        if id.is_empty() {
            Vec::new()
        } else {
            self.other.mac(what, id.as_bytes())[..16].to_vec()
        }
    }

    /// The look-up value of a participant, by its resource name.
    pub fn party(&self, participant: &str) -> Vec<u8> {
        self.other("party", participant)
    }

    /// The hash of an event as it was sent, 32 bytes.
    pub fn digest(&self, body: &[u8]) -> Vec<u8> {
        self.other.mac("digest", body).to_vec()
    }

    /// All look-up values of an event but its subject's.
    pub fn of(&self, payload: &audit::Payload) -> Tags {
        let actor = payload.actor.as_ref().map_or("", |actor| &actor.id);
        let app = payload.client.as_ref().map_or("", |client| &client.app);
        let named = payload
            .object_refs
            .iter()
            .map(String::as_str)
            .chain([actor, app, &payload.resource]);
        let mut parties: Vec<_> = named
            .filter(|name| name.starts_with("participants/"))
            .map(|name| self.party(name))
            .collect();
        parties.sort_unstable();
        parties.dedup();
        Tags {
            actor: self.other("actor", actor),
            resource: self.other("resource", &payload.resource),
            consent: self.other("consent", consent_of(payload)),
            parties,
        }
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
