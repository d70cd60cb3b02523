//! AccountService: the person.

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::set_credential_request::Credential as ApiCredential;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_kernel::{
    AccountId, Caller, LocalPart, Micros, Reason, Refusal, Secret, Slot, Violations, weakness_of_password,
    weakness_of_pin, year_in_india,
};
use sammati_store::Outcome;

use crate::account::{
    ApplyCredential, ConsumeCredential, Delete, Enrol, Enrolled, Found, LookupRefused, Viewed, compare, may_set,
    time_of,
};
use crate::password;
use crate::policy;
use crate::rows::{Credential, TransactionRow, check_etag};
use crate::service::Inner;
use crate::session::{OpenSession, may_enter};
use crate::vault::{DataKey, broken};
use crate::wire::{self, Shown};

impl Inner {
    pub(crate) async fn create_account(
        &self,
        caller: &Caller,
        request: api::CreateAccountRequest,
    ) -> Result<api::CreateAccountResponse, Refusal> {
        let key = self.request::<Enrol>(caller, &request.request_id, &request);
        let mut v = Violations::new();
        wire::audiences(&mut v, &request.audiences);
        let transaction = self.transaction_named(&mut v, "transaction", &request.transaction);
        let chosen = request.chosen_address.as_deref().filter(|c| !c.is_empty());
        let chosen = chosen.map(|text| local_part("chosen_address", text)).transpose();
        let (key, ((), chosen)) = Refusal::both(key, Refusal::both(v.check(), chosen))?;
        let transaction = wire::present(transaction)?;
        let (row, data_key) = self.transaction(caller, transaction).await?;
        self.may_enrol(&row).await?;
        let enrol = Enrol {
            caller: caller.clone(),
            lookup: self.lookup.clone(),
            suffix: self.suffix,
            transaction,
            reference: row
                .reference
                .as_slice()
                .try_into()
                .map_err(|_| Refusal::new(Reason::TransactionState))?,
            mobile: row.mobile.clone(),
            key: data_key,
            chosen,
        };
        let outcome = self.store.run(enrol, Some(key)).await?;
        let (enrolled, fresh) = match outcome {
            Outcome::Fresh(enrolled) => (enrolled, true),
            Outcome::Known(bytes) => (
                Enrolled::from_bytes(&bytes).ok_or_else(|| broken("an outcome without ids"))?,
                false,
            ),
        };
        let Enrolled { login, is_new } = enrolled;
        if !is_new {
            self.store
                .apply(OpenSession {
                    caller: caller.clone(),
                    login,
                    transaction: row,
                })
                .await?;
        }
        let session = self.opened_session(login.session, &request.audiences, fresh).await?;
        let (shown, _) = self.her_account(caller, login.account, false).await?;
        Ok(api::CreateAccountResponse {
            account: Some(wire::account(shown, false)),
            is_new,
            session: Some(session),
        })
    }

    /// Refuses before anything is consumed where it can be known already.
    async fn may_enrol(&self, row: &TransactionRow) -> Result<(), Refusal> {
        let state = row.state_at(self.now());
        if row.purpose() != Purpose::Enrol || (state != State::Consumed && state != State::Verified) {
            return row.require_verified(Purpose::Enrol, self.now());
        }
        let claim = row
            .reference
            .as_slice()
            .try_into()
            .map_err(|_| Refusal::new(Reason::TransactionState))?;
        if state == State::Verified
            && let Some(account) = self.owner(claim).await?
            && let Some((shown, _)) = self.account(account, false).await?
        {
            may_enter(&shown.row, row)?;
        }
        Ok(())
    }

    pub(crate) async fn get_account(
        &self,
        caller: &Caller,
        request: api::GetAccountRequest,
    ) -> Result<api::Account, Refusal> {
        let mut v = Violations::new();
        let id = wire::named(&mut v, "name", &request.name);
        let view = api::AccountView::try_from(request.view);
        if view.is_err() {
            v.add("view", "ACCOUNT_VIEW_BASIC or ACCOUNT_VIEW_FULL");
        }
        v.check()?;
        let id: AccountId = wire::present(id)?;
        policy::may_read_account(caller, id)?;
        let full = view == Ok(api::AccountView::Full);
        let (shown, _) = self.her_account(caller, id, full).await?;
        if full && caller.is_operator() {
            self.store
                .once(Viewed {
                    caller: caller.clone(),
                    account: id,
                })
                .await?;
        }
        Ok(wire::account(shown, caller.is_operator()))
    }

    pub(crate) async fn set_credential(
        &self,
        caller: &Caller,
        request: api::SetCredentialRequest,
    ) -> Result<api::Account, Refusal> {
        let key = self.request::<ConsumeCredential>(caller, &request.request_id, &request);
        let mut v = Violations::new();
        let account = wire::named(&mut v, "name", &request.name);
        let transaction = self.transaction_named(&mut v, "transaction", &request.transaction);
        let wanted = credential(&mut v, request.credential.as_ref());
        let (key, ()) = Refusal::both(key, v.check())?;
        let (account, transaction): (AccountId, _) = (wire::present(account)?, wire::present(transaction)?);
        policy::own_account(caller, account)?;
        let (credential, secret) = wire::present(wanted)?;
        if let Some(secret) = &secret {
            strong(credential, secret)?;
        }
        let (row, _) = self.transaction(caller, transaction).await?;
        let (before, data_key) = self.her_account(caller, account, false).await?;
        // Nobody guesses here: only who has proved herself learns whether it is the old one. One who used her proof may
        // be repeating the call, of which the command knows.
        if row.state_at(self.now()) != State::Consumed {
            may_set(&row, account, caller, self.now())?;
            check_etag(&request.etag, before.row.version)?;
            if let Some(secret) = &secret {
                self.check_new(&before, &data_key, credential, secret).await?;
            }
        }
        let consume = ConsumeCredential {
            caller: caller.clone(),
            transaction,
            account,
        };
        let consumed = match self.store.run(consume, Some(key)).await? {
            Outcome::Fresh(at) => at,
            Outcome::Known(bytes) => time_of(&bytes).ok_or_else(|| broken("an outcome without time"))?,
        };
        if !before.row.has_settled(credential, (transaction.as_bytes(), consumed)) {
            let hash = match secret {
                Some(secret) => data_key.seal(credential.sealed(), self.passwords.hash(secret).await?.as_bytes())?,
                None => Vec::new(),
            };
            let keep = caller.session();
            let apply = ApplyCredential {
                caller: caller.clone(),
                transaction,
                name: row.name(),
                consumed,
                account,
                etag: request.etag,
                credential,
                hash,
                keep,
            };
            let ended = self.store.apply(apply).await?;
            self.facts.end(&ended, self.now());
        }
        let (shown, _) = self.her_account(caller, account, false).await?;
        Ok(wire::account(shown, false))
    }

    pub(crate) async fn delete_account(
        &self,
        caller: &Caller,
        request: api::DeleteAccountRequest,
    ) -> Result<api::Account, Refusal> {
        let key = self.request::<Delete>(caller, &request.request_id, &request);
        let mut v = Violations::new();
        let account = wire::named(&mut v, "name", &request.name);
        if caller.is_operator() {
            wire::text(&mut v, "legal_basis", &request.legal_basis, 1, 255);
        } else if !request.legal_basis.is_empty() {
            v.add("legal_basis", "for operators only");
        }
        let (key, ()) = Refusal::both(key, v.check())?;
        let account: AccountId = wire::present(account)?;
        let delete = Delete {
            caller: caller.clone(),
            account,
            etag: request.etag,
            legal_basis: request.legal_basis,
            again: None,
        };
        if let Outcome::Fresh(ended) = self.store.run(delete, Some(key)).await? {
            self.facts.end(&ended, self.now());
        }
        let (shown, _) = self.her_account(caller, account, false).await?;
        Ok(wire::account(shown, caller.is_operator()))
    }

    /// A new password or PIN is not the old one.
    async fn check_new(
        &self,
        before: &Shown,
        key: &DataKey,
        credential: Credential,
        secret: &Secret<String>,
    ) -> Result<(), Refusal> {
        let hash = before.row.hash_of(credential);
        if hash.is_empty() {
            return Ok(());
        }
        let phc = key.open_text(credential.sealed(), hash)?;
        if self.passwords.compare(secret.clone(), Some(phc)).await?.matches {
            let why = match credential {
                Credential::Password => "this is your password already; choose another one",
                Credential::Pin => "this is your PIN already; choose another one",
            };
            return Err(Refusal::new(Reason::CredentialReused).saying(why));
        }
        Ok(())
    }

    pub(crate) async fn resolve_subject(
        &self,
        caller: &Caller,
        request: api::ResolveSubjectRequest,
    ) -> Result<api::ResolveSubjectResponse, Refusal> {
        let must_match = policy::must_match(caller);
        let mut v = Violations::new();
        let named = wire::identifier(&mut v, request.identifier.as_ref());
        match &request.demographics {
            Some(given) => demographics(&mut v, given, self.now()),
            None if must_match => v.add("demographics", "required: what you know of the patient"),
            None => {}
        }
        v.check()?;
        let named = wire::present(named)?;
        let id = self.find(&named).await?;
        let shown = self.account_or_nobody(id).await?.map(|(shown, _)| shown);
        let compared = |shown: &Shown| {
            request
                .demographics
                .as_ref()
                .map_or(Found::NOT_GIVEN, |d| compare(d, &shown.profile))
        };
        let found = shown.as_ref().map(compared);
        let usable = !must_match || shown.as_ref().is_some_and(|s| s.row.is_active());
        if !usable || !found.is_some_and(|f| f.fits()) {
            let slot = id.map_or_else(
                || Slot::of_hash(&self.lookup.unknown(&named.folded(self.suffix))),
                |id| id.slot(),
            );
            self.store
                .once(LookupRefused {
                    caller: caller.clone(),
                    account: id,
                    slot,
                })
                .await?;
        }
        let (Some(shown), Some(found)) = (shown, found) else {
            return Err(if must_match {
                no_match()
            } else {
                Reason::NotAvailable.into()
            });
        };
        if must_match && !(usable && found.fits()) {
            return Err(no_match());
        }
        // A participant knows her by what it sent: the account's name is the same everywhere, and tells of her elsewhere.
        let (account, preferred_address, state) = match must_match {
            true => Default::default(),
            false => (shown.row.name(), shown.preferred(), shown.row.state),
        };
        Ok(api::ResolveSubjectResponse {
            account,
            preferred_address,
            state,
            name_match: found.name.into(),
            gender_match: found.gender.into(),
            year_of_birth_match: found.year.into(),
            mobile_match: found.mobile.into(),
        })
    }
}

/// Whatever the cause.
fn no_match() -> Refusal {
    Refusal::new(Reason::NoMatch).saying("nobody matches all that was sent; check it against the patient's card")
}

/// The part before the `@`.
pub(super) fn local_part(field: &'static str, text: &str) -> Result<LocalPart, Refusal> {
    LocalPart::parse(text).map_err(|why| Refusal {
        reason: Reason::AddressForm,
        ..Refusal::field(field, why)
    })
}

/// Whether it is good enough.
fn strong(credential: Credential, secret: &Secret<String>) -> Result<(), Refusal> {
    let weak = match credential {
        Credential::Password => weakness_of_password(secret.expose()),
        Credential::Pin => weakness_of_pin(secret.expose()),
    };
    weak.map_or(Ok(()), |weak| {
        Err(Refusal {
            reason: Reason::CredentialWeak,
            ..Refusal::field(credential.as_str(), weak)
        })
    })
}

/// What to set; with `None` it is removed.
fn credential(v: &mut Violations, given: Option<&ApiCredential>) -> Option<(Credential, Option<Secret<String>>)> {
    match given {
        Some(ApiCredential::Password(text))
            if text.chars().count() <= password::MAX_CHARACTERS && !text.contains(char::is_control) =>
        {
            Some((Credential::Password, Some(text.clone().into())))
        }
        Some(ApiCredential::Password(_)) => {
            v.add(
                "password",
                "must be 8 to 128 characters, none of them a control character",
            );
            None
        }
        Some(ApiCredential::Pin(pin)) if pin.len() == 4 && pin.bytes().all(|b| b.is_ascii_digit()) => {
            Some((Credential::Pin, Some(pin.clone().into())))
        }
        Some(ApiCredential::Pin(_)) => {
            v.add("pin", "must be 4 digits");
            None
        }
        Some(ApiCredential::Clear(true)) => Some((Credential::Password, None)),
        Some(ApiCredential::ClearPin(true)) => Some((Credential::Pin, None)),
        Some(ApiCredential::Clear(false) | ApiCredential::ClearPin(false)) | None => {
            v.add(
                "credential",
                "required: password, pin, or one of clear and clear_pin as true",
            );
            None
        }
    }
}

fn demographics(v: &mut Violations, given: &sammati_api::types::v1::Demographics, now: Micros) {
    wire::text(v, "demographics.name", &given.name, 1, 255);
    if !(1..=3).contains(&given.gender) {
        v.add("demographics.gender", "required: GENDER_M, GENDER_F or GENDER_O");
    }
    if !(1900..=year_in_india(now)).contains(&given.year_of_birth) {
        v.add("demographics.year_of_birth", "required: a year from 1900 to this one");
    }
    if let Some(mobile) = given.mobile.as_deref().filter(|m| !m.is_empty()) {
        v.keep("demographics.mobile", sammati_kernel::MobileNumber::parse(mobile));
    }
}
