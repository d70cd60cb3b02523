//! Who is to be proved, and where does she live? Nobody who is unknown can be told from somebody who is.

use sammati_api::identity::v1::Factor;
use sammati_kernel::{AccountId, Caller, MobileNumber, Reason, Refusal, Slot, masked_mobile};
use sammati_store::{ClaimKey, RequestKey};

use crate::lookup::slot_of;
use crate::rows::Credential;
use crate::service::Inner;
use crate::vault::broken;
use crate::wire::{Beginning, Subject};

/// What a transaction proves.
#[derive(Debug)]
pub(super) struct Who {
    pub(super) slot: Slot,
    /// The key of the guard.
    pub(super) subject: Vec<u8>,
    /// The claim that fixes the slot for repeats, where a look-up chose it.
    pub(super) route: Option<ClaimKey>,
    pub(super) decoy: bool,
    /// Whether she has what the factor asks for; of others than the caller nobody is told.
    pub(super) usable: bool,
    pub(super) account: Option<AccountId>,
    /// Where an OTP of ours goes.
    pub(super) mobile: Option<MobileNumber>,
    pub(super) mobile_hash: Vec<u8>,
    /// What the caller is shown of it.
    pub(super) masked: String,
}

impl Who {
    fn of(subject: [u8; 32]) -> Self {
        Self {
            slot: Slot::of_hash(&subject),
            subject: subject.to_vec(),
            route: None,
            decoy: false,
            usable: true,
            account: None,
            mobile: None,
            mobile_hash: Vec::new(),
            masked: String::new(),
        }
    }
}

impl Inner {
    /// Finds whom a CreateTransaction is about.
    pub(super) async fn who(&self, caller: &Caller, beginning: &Beginning, key: &RequestKey) -> Result<Who, Refusal> {
        match &beginning.subject {
            Subject::Aadhaar(number) => Ok(Who::of(self.lookup.aadhaar(number))),
            Subject::Mobile(mobile) => self.by_mobile(mobile).await,
            Subject::Named(named) => {
                let account = self.find(named).await?;
                let named = named.folded(self.suffix);
                let who = self.by_account(account, &named, beginning.factor).await?;
                self.routed(who, key).await
            }
            Subject::Caller => {
                // Who acts for another proves that it is he who is there.
                let acting = caller.representing().map(|acting| acting.representative);
                let account = acting.or(caller.account()).ok_or(Reason::NotAvailable)?;
                let who = self.by_account(Some(account), "", beginning.factor).await?;
                let usable = !who.decoy;
                self.routed(Who { usable, ..who }, key).await
            }
        }
    }

    async fn by_mobile(&self, mobile: &MobileNumber) -> Result<Who, Refusal> {
        let hash = self.lookup.mobile(mobile);
        let known = self.taken(self.lookup.mobile_claims(&hash)).await?.contains(&true);
        Ok(Who {
            decoy: !known,
            mobile: known.then(|| mobile.clone()),
            mobile_hash: hash.to_vec(),
            masked: masked_mobile(mobile),
            ..Who::of(hash)
        })
    }

    async fn by_account(&self, account: Option<AccountId>, named: &str, factor: Factor) -> Result<Who, Refusal> {
        let Some((shown, _)) = self.account_or_nobody(account).await? else {
            return Ok(self.nobody(named, factor));
        };
        if let Some(credential) = Credential::of(factor) {
            let id = shown.row.id().ok_or_else(|| broken("an account without id"))?;
            return Ok(Who {
                slot: id.slot(),
                subject: id.to_vec(),
                account: Some(id),
                decoy: shown.row.hash_of(credential).is_empty(),
                ..Who::of([0; 32])
            });
        }
        let Ok(mobile) = MobileNumber::parse(&shown.profile.mobile) else {
            return Ok(self.nobody(named, factor));
        };
        let hash = self.lookup.mobile(&mobile);
        Ok(Who {
            account: shown.row.id(),
            mobile_hash: hash.to_vec(),
            masked: masked_mobile(&mobile),
            mobile: Some(mobile),
            ..Who::of(hash)
        })
    }

    /// One who looks like anybody else and never verifies.
    fn nobody(&self, named: &str, factor: Factor) -> Who {
        let subject = self.lookup.nobody(named, factor);
        let masked = match factor {
            Factor::Password | Factor::Pin => String::new(),
            _ => format!("******{:04}", self.lookup.invented_digits(&subject)),
        };
        Who {
            decoy: true,
            masked,
            ..Who::of(subject)
        }
    }

    /// Where a look-up chose the slot, a repeat goes where the first attempt went.
    async fn routed(&self, who: Who, key: &RequestKey) -> Result<Who, Refusal> {
        let route = self.lookup.route(key);
        let before = self.store.read(move |r| r.claim(&route)).await?;
        let slot = before.and_then(|bytes| slot_of(&bytes)).unwrap_or(who.slot);
        Ok(Who {
            slot,
            route: Some(route),
            ..who
        })
    }
}
