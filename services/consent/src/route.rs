//! Where does a call go whose partition depends on a look-up? The first attempt claims it; a repeat follows the claim.

use sammati_kernel::{AccountId, Reason, Refusal, Slot};
use sammati_store::{ClaimKey, Keys, RequestKey, Store, View};

use crate::lookup::Lookup;

/// Where one call goes: a slot, and whose rows it is about there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The slot.
    pub slot: Slot,
    /// The owner of the rows: an account, or something that is none.
    pub owner: Vec<u8>,
    /// The person, if there is one.
    pub subject: Option<AccountId>,
}

impl Place {
    /// A person's.
    pub fn person(account: AccountId) -> Self {
        Self {
            slot: account.slot(),
            owner: account.to_vec(),
            subject: Some(account),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.subject.is_some())];
        out.extend_from_slice(&self.slot.number().to_be_bytes());
        out.extend_from_slice(&self.owner);
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (known, rest) = bytes.split_first()?;
        let (slot, owner) = rest.split_first_chunk::<2>()?;
        let subject = if *known == 1 {
            Some(AccountId::from_slice(owner)?)
        } else {
            None
        };
        Some(Self {
            slot: Slot::new(u16::from_be_bytes(*slot)),
            owner: owner.to_vec(),
            subject,
        })
    }
}

/// The claim of one call on its place.
#[derive(Debug, Clone)]
pub struct Route {
    key: ClaimKey,
    /// Where it goes.
    pub place: Place,
}

/// What the claim says.
pub enum Taken {
    /// This call goes here.
    Here,
    /// An earlier attempt went elsewhere: follow it.
    Elsewhere(Place),
}

impl Route {
    /// Where an earlier attempt of this call went.
    ///
    /// # Errors
    /// STORAGE_UNAVAILABLE.
    pub async fn earlier(store: &Store, lookup: &Lookup, request: &RequestKey) -> Result<Option<Self>, Refusal> {
        let key = lookup.route(request.scope());
        let owner = store.read(move |r| r.claim(&key)).await?;
        let place = owner.map(|bytes| Place::decode(&bytes).ok_or_else(|| crate::rows::broken("a route")));
        Ok(place.transpose()?.map(|place| Self { key, place }))
    }

    /// A first attempt.
    pub fn first(lookup: &Lookup, request: &RequestKey, place: Place) -> Self {
        Self {
            key: lookup.route(request.scope()),
            place,
        }
    }

    /// What a command reads for it.
    pub fn reads(&self, keys: &mut Keys) {
        keys.claim(self.key);
    }

    /// Claims the place, unless an earlier attempt did.
    ///
    /// # Errors
    /// INTERNAL when the claim is damaged.
    pub fn take(&self, view: &mut View<'_>) -> Result<Taken, Refusal> {
        let Some(owner) = view.claimed(&self.key) else {
            view.claim(self.key, self.place.encode());
            return Ok(Taken::Here);
        };
        match Place::decode(&owner) {
            Some(place) if place == self.place => Ok(Taken::Here),
            Some(place) => Ok(Taken::Elsewhere(place)),
            None => Err(Reason::Internal.into()),
        }
    }
}
