//! TransactionService: proving something, once.

use sammati_api::identity::v1 as api;
use sammati_api::identity::v1::Factor;
use sammati_api::identity::v1::transaction::{Purpose, State};
use sammati_api::provider::v1 as provider;
use sammati_kernel::{AadhaarNumber, AccountId, Caller, MobileNumber, Refusal, Secret, Seed, TransactionId};
use sammati_server::event::micros;
use sammati_store::Outcome;
use tonic::Request;

use crate::policy;
use crate::providers::{Otp, kyc_refusal};
use crate::rows::{Target, TransactionRow, Verdict};
use crate::service::Inner;
use crate::transaction::{Begin, CountAttempt, Proof, Resend, Started, mismatch};
use crate::vault::{Sealed, broken};
use crate::wire::{self, Shown, Subject};

impl Inner {
    pub(crate) async fn create_transaction(
        &self,
        caller: &Caller,
        request: api::CreateTransactionRequest,
    ) -> Result<api::Transaction, Refusal> {
        let key = self.request::<Begin>(caller, &request.request_id, &request);
        let (key, beginning) = Refusal::both(key, wire::beginning(&request))?;
        policy::may_begin(caller, beginning.purpose)?;
        let who = self.who(caller, &beginning, &key).await?;
        let (data_key, key_row) = self.vault.create()?;
        let mobile = who.mobile.as_ref().map_or_else(String::new, |m| m.expose().to_owned());
        let target = data_key.seal_message(
            Sealed::Target,
            &Target {
                mobile,
                masked: who.masked,
            },
        )?;
        let otp = if beginning.factor == Factor::MobileOtp {
            Some(draw_otp()?)
        } else {
            None
        };
        let begin = Begin {
            caller: caller.clone(),
            lookup: self.lookup.clone(),
            purpose: beginning.purpose,
            factor: beginning.factor,
            slot: who.slot,
            route: who.route,
            subject: who.subject,
            decoy: who.decoy,
            account: who.account,
            mobile: who.mobile_hash,
            key: key_row,
            target,
            otp: otp.clone(),
            usable: who.usable,
            consent: request.consent.clone(),
            bound_to: request.bound_to.clone(),
        };
        let language = request.consent.as_ref().map_or("en", |stamp| stamp.language.as_str());
        let id = match self.store.run(begin, Some(key)).await? {
            Outcome::Fresh(id) => {
                if let Some(otp) = &otp {
                    self.send_otp(id, 1, beginning.purpose, who.mobile.as_ref(), otp, language)
                        .await?;
                }
                id
            }
            Outcome::Known(bytes) => {
                TransactionId::from_slice(&bytes).ok_or_else(|| broken("an outcome without id"))?
            }
        };
        if let Subject::Aadhaar(number) = &beginning.subject {
            self.start_kyc(caller, id, Some(number)).await?;
        }
        self.shown(caller, id).await
    }

    pub(crate) async fn resend_otp(
        &self,
        caller: &Caller,
        request: api::ResendOtpRequest,
    ) -> Result<api::Transaction, Refusal> {
        let key = self.request::<Resend>(caller, &request.request_id, &request);
        let (key, id) = Refusal::both(key, self.transaction_id("name", &request.name))?;
        let (before, data_key) = self.transaction(caller, id).await?;
        let otp = draw_otp()?;
        let resend = Resend {
            caller: caller.clone(),
            lookup: self.lookup.clone(),
            id,
            etag: request.etag,
            purpose: before.purpose(),
            subject: before.subject.clone(),
            otp: otp.clone(),
        };
        let outcome = self.store.run(resend, Some(key)).await?;
        if before.factor() == Factor::AadhaarOtp {
            // The agency knows the number by its transaction; we do not keep it.
            self.start_kyc(caller, id, None).await?;
        } else if matches!(outcome, Outcome::Fresh(())) {
            let target: Target = data_key.open_message(Sealed::Target, &before.target)?;
            let mobile = MobileNumber::parse(&target.mobile).ok();
            self.send_otp(
                id,
                before.sends + 1,
                before.purpose(),
                mobile.as_ref(),
                &otp,
                &before.language,
            )
            .await?;
        }
        self.shown(caller, id).await
    }

    pub(crate) async fn verify_transaction(
        &self,
        caller: &Caller,
        request: api::VerifyTransactionRequest,
    ) -> Result<api::Transaction, Refusal> {
        let key = self.request::<CountAttempt>(caller, &request.request_id, &request);
        let named = Refusal::both(self.transaction_id("name", &request.name), wire::proof(&request));
        let (key, (id, proof)) = Refusal::both(key, named)?;
        let (before, _) = self.transaction(caller, id).await?;
        let by_mobile = before.purpose() == Purpose::Login && before.account.is_empty() && !before.mobile.is_empty();
        let count = CountAttempt {
            caller: caller.clone(),
            lookup: self.lookup.clone(),
            id,
            etag: request.etag,
            proof: proof.clone(),
            subject: before.subject.clone(),
            claims: if by_mobile {
                self.lookup.mobile_claims(&before.mobile)
            } else {
                Vec::new()
            },
        };
        let number = match self.store.run(count, Some(key)).await? {
            Outcome::Fresh(number) => number,
            Outcome::Known(bytes) => *bytes.first().ok_or_else(|| broken("an outcome without attempt"))?,
        };
        self.concluded(caller, id, number, &proof).await?;
        self.shown(caller, id).await
    }

    /// Sees an attempt to its end: compares if nobody has yet, and refuses if it was wrong.
    async fn concluded(&self, caller: &Caller, id: TransactionId, number: u8, proof: &Proof) -> Result<(), Refusal> {
        let (mut row, key) = self.transaction(caller, id).await?;
        if verdict(&row, number) == Verdict::Pending {
            match proof {
                Proof::Otp(otp) => self.complete_kyc(caller, &row, &key, number, otp).await?,
                Proof::Password(secret) | Proof::Pin(secret) => self.check_secret(caller, &row, number, secret).await?,
            }
            row = self.transaction(caller, id).await?.0;
        }
        match verdict(&row, number) {
            Verdict::Matched => Ok(()),
            Verdict::Rejected => Err(mismatch(row.factor(), usize::from(number))),
            Verdict::Pending => Err(broken("an attempt was not settled")),
        }
    }

    async fn send_otp(
        &self,
        id: TransactionId,
        send: i32,
        purpose: Purpose,
        to: Option<&MobileNumber>,
        otp: &Secret<String>,
        language: &str,
    ) -> Result<(), Refusal> {
        let template = if purpose == Purpose::SetCredential {
            "otp-set-credential"
        } else {
            "otp-login"
        };
        // One message for each sending: the last byte of the transaction's id and its number make the id.
        let mut message_id = *self.lookup.veiled(id).as_bytes();
        message_id[15] ^= u8::try_from(send).unwrap_or(0);
        let otp = Otp {
            message_id: uuid::Uuid::from_bytes(message_id).to_string(),
            template,
            language: language.to_owned(),
            otp: otp.expose().clone(),
        };
        self.courier.send(to, otp).await
    }

    /// Has the agency send what was asked for and is not yet acknowledged. A repeat asks with the same key.
    async fn start_kyc(
        &self,
        caller: &Caller,
        id: TransactionId,
        aadhaar: Option<&AadhaarNumber>,
    ) -> Result<(), Refusal> {
        let (row, key) = self.transaction(caller, id).await?;
        if row.started >= row.sends || row.state_at(self.now()) != State::Challenged {
            return Ok(());
        }
        let ask = provider::StartKycRequest {
            transaction: row.name(),
            send_number: row.sends,
            identifier: aadhaar
                .filter(|_| row.sends == 1)
                .map(|n| provider::start_kyc_request::Identifier::Aadhaar(n.expose().to_owned())),
            factor: row.factor,
            consent: row.consent.clone(),
        };
        let told = self
            .kyc
            .start_kyc(Request::new(ask))
            .await
            .map_err(|status| kyc_refusal(&status))?
            .into_inner();
        let target = Target {
            mobile: String::new(),
            masked: masked_only(told.masked_target),
        };
        let started = Started {
            id,
            send: row.sends,
            provider_transaction: told.provider_transaction,
            target: key.seal_message(Sealed::Target, &target)?,
            otp_end: told.expire_time.as_ref().and_then(micros),
        };
        self.store.apply(started).await
    }

    /// A transaction as its creator sees it now.
    pub(super) async fn shown(&self, caller: &Caller, id: TransactionId) -> Result<api::Transaction, Refusal> {
        let (row, key) = self.transaction(caller, id).await?;
        let target: Target = key.open_message(Sealed::Target, &row.target)?;
        let now = self.now();
        let candidates = match row.state_at(now) {
            State::Verified => self.candidates(&row).await?,
            _ => Vec::new(),
        };
        Ok(wire::transaction(&row, &target, candidates, caller, now))
    }

    /// The index of the account that is meant where none is named: the only one that is offered. Of one that is gone it is told.
    pub(super) async fn only_candidate(&self, row: &TransactionRow) -> Result<Option<i32>, Refusal> {
        Ok(match self.candidates(row).await?.as_slice() {
            [only] => Some(only.index),
            [] if !row.candidates.is_empty() => Some(1),
            _ => None,
        })
    }

    async fn candidates(&self, row: &TransactionRow) -> Result<Vec<api::Candidate>, Refusal> {
        let ids = row
            .candidates
            .iter()
            .filter_map(|id| AccountId::from_slice(id))
            .collect();
        let accounts = self.accounts(ids).await?;
        // Those that are gone for ever are not offered; the others keep their numbers.
        let number = |shown: &Shown| row.candidates.iter().position(|id| *id == shown.row.id);
        let offered = accounts
            .iter()
            .filter(|a| a.row.state() != api::account::State::Deleted);
        Ok(offered
            .filter_map(|a| Some(wire::candidate(number(a)? + 1, &a.row, a.number, &a.profile)))
            .collect())
    }
}

fn verdict(row: &TransactionRow, number: u8) -> Verdict {
    let at = usize::from(number).checked_sub(1);
    at.and_then(|at| row.attempts.get(at))
        .map_or(Verdict::Pending, |attempt| attempt.verdict())
}

/// Six digits from the system's random source.
fn draw_otp() -> Result<Secret<String>, Refusal> {
    let seed = Seed::draw().map_err(|_| broken("the system has no randomness to give"))?;
    Ok(format!("{:06}", seed.below("otp", 1_000_000)).into())
}

/// What an agency shows of a mobile, should it show too much.
fn masked_only(target: String) -> String {
    let digits = target.bytes().filter(u8::is_ascii_digit).count();
    if digits <= 4 && target.len() <= 64 {
        target
    } else {
        "******".to_owned()
    }
}
