//! Who takes part, as identity tells it, and what is handed to the message sender.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use sammati_api::provider::v1 as provider;
use sammati_api::provider::v1::message_sender_service_server::MessageSenderService;
use sammati_api::types::v1 as types;
use sammati_consent::directory::{Directory, Found, Party, Professional, Resolver, Resolving};
use sammati_kernel::jws::{PublicKey, SigningKey};
use sammati_kernel::{AccountId, Micros, ParticipantId, Reason, Refusal, Role};
use sammati_server::error;
use tonic::{Request, Status};

use super::*;

/// Who takes part, and who is suspended.
pub(crate) struct People {
    pub(crate) origins: Mutex<Vec<String>>,
    pub(crate) suspended: Mutex<BTreeSet<String>>,
    pub(crate) inactive: Mutex<BTreeSet<AccountId>>,
    pub(crate) deleted: Mutex<Vec<(AccountId, bool)>>,
    pub(crate) stale: Mutex<bool>,
    /// Identity's, which signs tokens.
    pub(crate) tokens: SigningKey,
    /// How often somebody was asked for.
    pub(crate) asked: AtomicU64,
    pub(super) addresses: Mutex<HashMap<String, AccountId>>,
}

impl Default for People {
    fn default() -> Self {
        Self {
            origins: Mutex::new(vec!["https://clinic.example".to_owned()]),
            suspended: Mutex::default(),
            inactive: Mutex::default(),
            deleted: Mutex::default(),
            stale: Mutex::default(),
            tokens: signing_key(),
            addresses: Mutex::default(),
            asked: Default::default(),
        }
    }
}

impl Directory for People {
    fn participant(&self, id: &ParticipantId) -> Option<Party> {
        let roles = match id.as_str() {
            "hospital" | "lab" => BTreeSet::from([Role::Hip]),
            id if id.starts_with("hospital-") => BTreeSet::from([Role::Hip]),
            "clinic" | "insurer" => BTreeSet::from([Role::Hiu]),
            "both" => BTreeSet::from([Role::Hip, Role::Hiu]),
            "locker" => BTreeSet::from([Role::Locker]),
            "institute" | "university" => BTreeSet::from([Role::Researcher]),
            "sponsor" => BTreeSet::from([Role::Researcher, Role::Hiu]),
            _ => return None,
        };
        let active = !self.suspended.lock().unwrap().contains(id.as_str());
        let transfer_origins = self.origins.lock().unwrap().clone();
        Some(Party {
            display_name: format!("The {id}"),
            active,
            roles,
            transfer_origins,
        })
    }

    fn inactive(&self) -> Vec<ParticipantId> {
        let suspended = self.suspended.lock().unwrap();
        suspended.iter().map(|id| ParticipantId::parse(id).unwrap()).collect()
    }

    fn deleted(&self) -> Vec<(AccountId, bool)> {
        self.deleted.lock().unwrap().clone()
    }

    fn is_active(&self, account: AccountId) -> bool {
        !self.inactive.lock().unwrap().contains(&account)
    }

    fn token_key(&self, kid: &str) -> Option<PublicKey> {
        (kid == self.tokens.kid()).then(|| self.tokens.public())
    }

    fn professional(&self, registration: &types::RequesterIdentifier) -> Option<Professional> {
        let known = registration.value == "MH1001" && registration.system == "https://www.mciindia.org";
        known.then(|| Professional {
            id: ParticipantId::parse("dr-manju").unwrap(),
            display_name: "Dr Manju Nair".to_owned(),
        })
    }

    fn as_of(&self) -> Micros {
        START
    }

    fn fresh(&self) -> Result<(), Refusal> {
        if *self.stale.lock().unwrap() {
            Err(Reason::IdentityStale.into())
        } else {
            Ok(())
        }
    }
}

impl Resolver for People {
    fn resolve(&self, identifier: types::Identifier, demographics: Option<types::Demographics>) -> Resolving<'_> {
        use types::identifier::Identifier as I;
        self.asked.fetch_add(1, Ordering::Relaxed);
        let account = match identifier.identifier {
            Some(I::AbhaAddress(address)) => self.addresses.lock().unwrap().get(&address).copied(),
            Some(I::Account(name)) => self
                .addresses
                .lock()
                .unwrap()
                .values()
                .find(|a| a.name() == name)
                .copied(),
            _ => None,
        };
        let fits = demographics.is_none_or(|d| d.year_of_birth == 1990);
        let found = account.map(|account| Found {
            account,
            active: Directory::is_active(self, account),
            fits,
        });
        Box::pin(async move { Ok(found) })
    }
}

/// What was handed to the message sender, once for each id, and how it answers.
#[derive(Default)]
pub(crate) struct Outbox {
    pub(crate) sent: Mutex<Vec<provider::SendMessageRequest>>,
    pub(crate) refuses: Mutex<Option<Reason>>,
}

#[tonic::async_trait]
impl MessageSenderService for Outbox {
    async fn send_message(
        &self,
        request: Request<provider::SendMessageRequest>,
    ) -> Result<tonic::Response<provider::SendMessageResponse>, Status> {
        if let Some(reason) = *self.refuses.lock().unwrap() {
            return Err(error::status(reason.into()));
        }
        let (message, mut sent) = (request.into_inner(), self.sent.lock().unwrap());
        if sent.iter().all(|m| m.message_id != message.message_id) {
            sent.push(message);
        }
        Ok(tonic::Response::new(provider::SendMessageResponse::default()))
    }
}
