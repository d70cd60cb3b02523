//! What compares a proof that is not ours to compare within a commit: the agency, and argon2.

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::transaction::Purpose;
use sammati_api::provider::v1 as provider;
use sammati_api::provider::v1::complete_kyc_response::Verdict;
use sammati_kernel::{AccountId, Caller, MobileNumber, Reason, Refusal, Secret};
use tonic::Request;

use crate::account::UpgradeCredential;
use crate::providers::kyc_refusal;
use crate::rows::{Credential, Portrait, PortraitRow, Profile, TransactionRow};
use crate::service::Inner;
use crate::transaction::{Known, Matched, Settle};
use crate::vault::{DataKey, Sealed};

/// The largest photo that is kept.
const PHOTO: usize = 100 * 1024;

impl Inner {
    /// Asks the agency about a counted attempt, and notes what it says. A repeat asks with the same key.
    pub(super) async fn complete_kyc(
        &self,
        caller: &Caller,
        row: &TransactionRow,
        key: &DataKey,
        number: u8,
        otp: &Secret<String>,
    ) -> Result<(), Refusal> {
        let ask = provider::CompleteKycRequest {
            provider_transaction: row.provider_transaction.clone(),
            attempt: i32::from(number),
            transaction: row.name(),
            proof: Some(provider::complete_kyc_request::Proof::Otp(otp.expose().clone())),
        };
        let told = self
            .kyc
            .complete_kyc(Request::new(ask))
            .await
            .map_err(|status| kyc_refusal(&status))?
            .into_inner();
        let found = match told.verdict() {
            Verdict::Matched => Matched::Kyc(Box::new(self.known(row, key, told)?)),
            Verdict::Rejected => Matched::No,
            Verdict::Unspecified => return Err(senseless()),
        };
        self.settle(caller, row, number, found).await
    }

    fn known(
        &self,
        row: &TransactionRow,
        key: &DataKey,
        told: provider::CompleteKycResponse,
    ) -> Result<Known, Refusal> {
        if !(16..=255).contains(&told.reference.len()) {
            return Err(senseless());
        }
        let mobile = MobileNumber::parse(&told.mobile).ok();
        let enrolling = row.purpose() == Purpose::Enrol;
        let names = told.names.clone().unwrap_or_default();
        if enrolling
            && [&names.first, &names.middle, &names.last]
                .iter()
                .all(|n| n.trim().is_empty())
        {
            return Err(senseless());
        }
        let profile = Profile {
            names: told.names,
            birth: told.birth,
            gender: told.gender,
            mobile: mobile.as_ref().map_or_else(String::new, |m| m.expose().to_owned()),
        };
        let photo = if told.photo.len() <= PHOTO {
            told.photo
        } else {
            Vec::new()
        };
        let portrait = Portrait {
            photo,
            postal: told.postal,
        };
        Ok(Known {
            reference: self.lookup.reference(&told.reference),
            mobile: mobile.map_or_else(Vec::new, |m| self.lookup.mobile(&m).to_vec()),
            profile: key.seal_message(Sealed::Profile, &profile)?,
            portrait: PortraitRow {
                key: key.id.clone(),
                sealed: key.seal_message(Sealed::Portrait, &portrait)?,
            },
        })
    }

    /// Compares the password or PIN of a counted attempt, and notes what came of it. Unknown accounts take as long.
    pub(super) async fn check_secret(
        &self,
        caller: &Caller,
        row: &TransactionRow,
        number: u8,
        secret: &Secret<String>,
    ) -> Result<(), Refusal> {
        let credential = Credential::of(row.factor()).ok_or(Reason::Internal)?;
        let kept = self.kept_hash(row.account().filter(|_| !row.decoy), credential).await?;
        let phc = match &kept {
            Some((_, sealed, key)) => Some(key.open_text(credential.sealed(), sealed)?),
            None => None,
        };
        let compared = self.passwords.compare(secret.clone(), phc).await?;
        let found = if compared.matches {
            Matched::Credential
        } else {
            Matched::No
        };
        self.settle(caller, row, number, found).await?;
        if let (Some(phc), Some((account, old, key))) = (compared.upgrade, kept) {
            let new = key.seal(credential.sealed(), phc.as_bytes())?;
            let upgrade = UpgradeCredential {
                account,
                credential,
                old,
                new,
            };
            self.store.apply(upgrade).await?;
        }
        Ok(())
    }

    /// The sealed hash of an account's password or PIN, and the key it is sealed under.
    async fn kept_hash(
        &self,
        account: Option<AccountId>,
        credential: Credential,
    ) -> Result<Option<(AccountId, Vec<u8>, DataKey)>, Refusal> {
        let found = self.account_or_nobody(account).await?;
        Ok(found.zip(account).and_then(|((shown, key), account)| {
            let hash = shown.row.hash_of(credential).clone();
            (!hash.is_empty()).then_some((account, hash, key))
        }))
    }

    async fn settle(&self, caller: &Caller, row: &TransactionRow, number: u8, found: Matched) -> Result<(), Refusal> {
        let id = row.id().ok_or(Reason::Internal)?;
        let settle = Settle {
            caller: caller.clone(),
            id,
            subject: row.subject.clone(),
            number,
            found,
        };
        self.store.apply(settle).await
    }
}

/// The agency answered, and not as agreed.
fn senseless() -> Refusal {
    tracing::error!("the e-KYC provider's answer breaks its contract");
    Refusal::new(Reason::KycUnavailable).saying("UIDAI's answer could not be read; repeat the same call in a moment")
}

/// The names of a person as one, for those who see them so.
pub(super) fn words(names: &api::PersonName) -> Vec<&str> {
    [&names.first, &names.middle, &names.last]
        .into_iter()
        .map(|n| n.trim())
        .filter(|n| !n.is_empty())
        .collect()
}
