//! AddressService: names in place of a number.

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::types::v1::ErrorReason;
use sammati_kernel::{
    AbhaAddress, AccountId, Actor, Caller, LocalPart, Micros, Reason, Refusal, Seed, TransactionId, Violations,
};

use crate::account::{CreateAddress, PreferAddress};
use crate::policy;
use crate::rows::Profile;
use crate::service::Inner;
use crate::transaction::{CountProbe, LIFE};
use crate::vault::{Sealed, broken};
use crate::wire;

use super::accounts::local_part;
use super::proof::words;

/// Suggestions shown at least; ABDM wants 3.
const ENOUGH: usize = 3;

impl Inner {
    pub(crate) async fn suggest_addresses(
        &self,
        caller: &Caller,
        request: api::SuggestAddressesRequest,
    ) -> Result<api::SuggestAddressesResponse, Refusal> {
        let candidate = request.candidate.as_deref().filter(|c| !c.is_empty());
        let mut v = Violations::new();
        wire::text(&mut v, "candidate", candidate.unwrap_or_default(), 0, 64);
        let ((), enrolment) = Refusal::both(v.check(), self.enrolment(caller, &request.transaction))?;
        let (profile, probe) = self.asking(caller, enrolment).await?;
        let why_not = match candidate {
            None => None,
            Some(text) => {
                self.store.once(probe).await?;
                self.why_not(text).await?
            }
        };
        let suggestions = self.suggestions(&profile).await?;
        Ok(api::SuggestAddressesResponse {
            available: candidate.is_some() && why_not.is_none(),
            why_not: why_not.unwrap_or(ErrorReason::Unspecified).into(),
            suggestions: suggestions.iter().map(LocalPart::folded).collect(),
        })
    }

    /// The ENROL transaction that an app must name, and a person must not.
    fn enrolment(&self, caller: &Caller, name: &str) -> Result<Option<TransactionId>, Refusal> {
        match caller.account() {
            None => self.transaction_id("transaction", name).map(Some),
            Some(_) if name.is_empty() => Ok(None),
            Some(_) => Err(Refusal::field("transaction", "must be absent: you are logged in")),
        }
    }

    /// For whom addresses are suggested, and where candidates are counted.
    async fn asking(
        &self,
        caller: &Caller,
        enrolment: Option<TransactionId>,
    ) -> Result<(Profile, CountProbe), Refusal> {
        if let Some(id) = enrolment {
            let (row, key) = self.transaction(caller, id).await?;
            row.require_verified(Purpose::Enrol, self.now())?;
            let profile = key.open_message(Sealed::Profile, &row.profile)?;
            return Ok((profile, CountProbe::transaction(caller.clone(), id)));
        }
        let Some(Actor::Person { account, session, .. }) = &caller.actor else {
            return Err(policy::unavailable(caller));
        };
        let (shown, _) = self.her_account(caller, *account, false).await?;
        Ok((shown.profile, CountProbe::session(caller.clone(), *session)))
    }

    async fn why_not(&self, text: &str) -> Result<Option<ErrorReason>, Refusal> {
        let Ok(local) = LocalPart::parse(text) else {
            return Ok(Some(ErrorReason::AddressForm));
        };
        let claim = self.lookup.address(&AbhaAddress::new(local, self.suffix));
        Ok(self.owner(claim).await?.map(|_| ErrorReason::AddressTaken))
    }

    /// At least three that are free now.
    async fn suggestions(&self, profile: &Profile) -> Result<Vec<LocalPart>, Refusal> {
        let names = profile.names.clone().unwrap_or_default();
        let year = profile.birth.as_ref().map_or(0, |birth| birth.year);
        let year = u16::try_from(year).unwrap_or(0);
        let mut free: Vec<LocalPart> = Vec::new();
        for _ in 0..8 {
            let seed = Seed::draw().map_err(|_| broken("the system has no randomness to give"))?;
            let offered = AbhaAddress::suggestions(&words(&names), year, &seed);
            let claims = offered
                .iter()
                .map(|l| self.lookup.address(&AbhaAddress::new(l.clone(), self.suffix)));
            let taken = self.taken(claims.collect()).await?;
            for (local, taken) in offered.into_iter().zip(taken) {
                if !taken && !free.contains(&local) {
                    free.push(local);
                }
            }
            if free.len() >= ENOUGH {
                return Ok(free);
            }
        }
        Ok(free)
    }

    pub(crate) async fn create_address(
        &self,
        caller: &Caller,
        request: api::CreateAddressRequest,
    ) -> Result<api::Account, Refusal> {
        let key = self.request::<CreateAddress>(caller, &request.request_id, &request);
        let mut v = Violations::new();
        let account = wire::named(&mut v, "account", &request.account);
        let local = if request.local_part.is_empty() {
            Err(Refusal::field("local_part", "required: the part before the @"))
        } else {
            local_part("local_part", &request.local_part)
        };
        let named = Refusal::both(v.check(), self.enrolment(caller, &request.transaction));
        let (key, (((), enrolment), local)) = Refusal::both(key, Refusal::both(named, local))?;
        let account: AccountId = wire::present(account)?;
        self.may_name(caller, account, enrolment).await?;
        let (_, data_key) = self.her_account(caller, account, false).await?;
        let address = AbhaAddress::new(local, self.suffix);
        let create = CreateAddress {
            caller: caller.clone(),
            account,
            etag: request.etag,
            claim: self.lookup.address(&address),
            address,
            preferred: request.preferred,
            key: data_key,
        };
        self.store.run(create, Some(key)).await?;
        let (shown, _) = self.her_account(caller, account, false).await?;
        Ok(wire::account(shown, false))
    }

    /// A person only her own account; an app only with the ENROL transaction it created that account with.
    async fn may_name(
        &self,
        caller: &Caller,
        account: AccountId,
        enrolment: Option<TransactionId>,
    ) -> Result<(), Refusal> {
        let Some(id) = enrolment else {
            return policy::own_account(caller, account);
        };
        let (row, _) = self.transaction(caller, id).await?;
        if row.purpose() != Purpose::Enrol {
            return Err(Reason::TransactionPurpose.into());
        }
        let within = self.now() < Micros(row.create_time).plus(LIFE);
        if row.state_at(self.now()) == State::Consumed && row.account() == Some(account) && within {
            Ok(())
        } else {
            Err(policy::unavailable(caller))
        }
    }

    pub(crate) async fn set_preferred_address(
        &self,
        caller: &Caller,
        request: api::SetPreferredAddressRequest,
    ) -> Result<api::Account, Refusal> {
        let key = self.request::<PreferAddress>(caller, &request.request_id, &request);
        let mut v = Violations::new();
        let account = wire::named(&mut v, "account", &request.account);
        let address = v.keep("address", AbhaAddress::parse(&request.address));
        let (key, ()) = Refusal::both(key, v.check())?;
        let (account, address): (AccountId, _) = (wire::present(account)?, wire::present(address)?);
        policy::own_account(caller, account)?;
        if address.suffix() != self.suffix {
            return Err(policy::unavailable(caller));
        }
        let claim = self.lookup.address(&address);
        self.store
            .run(
                PreferAddress {
                    caller: caller.clone(),
                    account,
                    etag: request.etag,
                    claim,
                },
                Some(key),
            )
            .await?;
        let (shown, _) = self.her_account(caller, account, false).await?;
        Ok(wire::account(shown, false))
    }
}
