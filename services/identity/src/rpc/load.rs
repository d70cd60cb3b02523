//! What is read before and after a command: rows, with what is sealed in them opened.

use prost::Message;
use sammati_kernel::{
    AbhaNumber, AccountId, Caller, Refusal, RepresentationId, SessionId, Slot, TransactionId, Violations,
};
use sammati_store::{ClaimKey, Reader, Stored};

use crate::policy;
use crate::rows::{
    AccountRow, DataKeyRow, GuardRow, ParticipantRow, Portrait, PortraitRow, Profile, RepresentationRow, SessionRow,
    TransactionRow,
};
use crate::service::Inner;
use crate::vault::{DataKey, Sealed, broken};
use crate::wire::{self, Named, Shown};

type Read<T> = Result<T, sammati_store::Error>;

/// An account's rows as they are kept.
struct Rows {
    account: AccountRow,
    key: Option<DataKeyRow>,
    guard: Option<GuardRow>,
    portrait: Option<PortraitRow>,
}

impl Inner {
    /// `transactions/{id}` as others see it; the id where it lives.
    pub(super) fn transaction_named(
        &self,
        v: &mut Violations,
        field: &'static str,
        name: &str,
    ) -> Option<TransactionId> {
        wire::named(v, field, name).map(|id| self.lookup.veiled(id))
    }

    /// The same where nothing else can be wrong.
    pub(super) fn transaction_id(&self, field: &'static str, name: &str) -> Result<TransactionId, Refusal> {
        let mut v = Violations::new();
        let id = self.transaction_named(&mut v, field, name);
        v.check()?;
        wire::present(id)
    }

    /// A transaction and its data key; what the caller did not create is as absent.
    pub(super) async fn transaction(
        &self,
        caller: &Caller,
        id: TransactionId,
    ) -> Result<(TransactionRow, DataKey), Refusal> {
        let read = move |r: &mut Reader<'_>| {
            let Some(row) = record::<TransactionRow>(r.get(id.slot(), id.as_bytes())?) else {
                return Ok(None);
            };
            let key = record::<DataKeyRow>(r.get(id.slot(), &row.key)?);
            Ok(Some((row, key)))
        };
        let (row, key) = self
            .store
            .read(read)
            .await?
            .ok_or_else(|| policy::unavailable(caller))?;
        policy::created_by(&row, caller)?;
        let key = self
            .vault
            .open(&key.ok_or_else(|| broken("a transaction without its data key"))?)?;
        Ok((row, key))
    }

    /// An account, opened; `full` with photo and postal address.
    pub(super) async fn account(&self, id: AccountId, full: bool) -> Result<Option<(Shown, DataKey)>, Refusal> {
        let rows = self.store.read(move |r| account_rows(r, id, full)).await?;
        rows.map(|rows| self.opened(rows)).transpose()
    }

    /// The same where there may be nobody: as much is read for nobody, so that the time tells nothing.
    pub(super) async fn account_or_nobody(&self, id: Option<AccountId>) -> Result<Option<(Shown, DataKey)>, Refusal> {
        let read = id.unwrap_or_else(|| AccountId::new(self.now(), Slot::new(0), [0; 8]));
        let found = self.account(read, false).await?;
        Ok(found.filter(|_| id.is_some()))
    }

    /// The same; absent and forbidden alike.
    pub(super) async fn her_account(
        &self,
        caller: &Caller,
        id: AccountId,
        full: bool,
    ) -> Result<(Shown, DataKey), Refusal> {
        self.account(id, full).await?.ok_or_else(|| policy::unavailable(caller))
    }

    /// Several accounts, in the order of their ids; those that are gone are left out.
    pub(super) async fn accounts(&self, ids: Vec<AccountId>) -> Result<Vec<Shown>, Refusal> {
        let read = move |r: &mut Reader<'_>| {
            ids.iter()
                .map(|id| account_rows(r, *id, false))
                .collect::<Read<Vec<_>>>()
        };
        let rows = self.store.read(read).await?;
        rows.into_iter()
            .flatten()
            .map(|rows| self.opened(rows).map(|(shown, _)| shown))
            .collect()
    }

    fn opened(&self, rows: Rows) -> Result<(Shown, DataKey), Refusal> {
        let Rows {
            account: row,
            key,
            guard,
            portrait,
        } = rows;
        let key = self
            .vault
            .open(&key.ok_or_else(|| broken("an account without its data key"))?)?;
        let number = key.open_text(Sealed::Number, &row.number)?;
        let addresses = row.addresses.iter().map(|a| key.open_text(Sealed::Address, &a.address));
        let portrait = portrait
            .map(|p| key.open_message::<Portrait>(Sealed::Portrait, &p.sealed))
            .transpose()?;
        let shown = Shown {
            number: AbhaNumber::parse(&number).ok(),
            addresses: addresses.collect::<Result<_, _>>()?,
            profile: key.open_message::<Profile>(Sealed::Profile, &row.profile)?,
            portrait,
            lock_until: guard.and_then(|guard| guard.lock_until(self.now())),
            row,
        };
        Ok((shown, key))
    }

    /// Who is meant, if anybody.
    pub(super) async fn find(&self, named: &Named) -> Result<Option<AccountId>, Refusal> {
        match named {
            Named::Number(number) => self.owner(self.lookup.number(*number)).await,
            // Of another consent manager is nobody here.
            Named::Address(address) if address.suffix() != self.suffix => Ok(None),
            Named::Address(address) => self.owner(self.lookup.address(address)).await,
            Named::Account(id) => {
                let id = *id;
                let row = self
                    .store
                    .read(move |r| r.get::<AccountRow>(id.slot(), id.as_bytes()))
                    .await?;
                Ok(row.and_then(|stored| stored.record.id()))
            }
        }
    }

    /// The account that owns a claim.
    pub(super) async fn owner(&self, claim: ClaimKey) -> Result<Option<AccountId>, Refusal> {
        let owner = self.store.read(move |r| r.claim(&claim)).await?;
        Ok(owner.and_then(|bytes| AccountId::from_slice(&bytes)))
    }

    /// Which of these claims somebody has, in their order.
    pub(super) async fn taken(&self, claims: Vec<ClaimKey>) -> Result<Vec<bool>, Refusal> {
        self.store
            .read(move |r| {
                claims
                    .iter()
                    .map(|c| r.claim(c).map(|o| o.is_some()))
                    .collect::<Read<_>>()
            })
            .await
    }

    /// A session.
    pub(crate) async fn session(&self, id: SessionId) -> Result<Option<SessionRow>, Refusal> {
        Ok(record(self.store.read(move |r| r.get(id.slot(), id.as_bytes())).await?))
    }

    /// Who may act for whom.
    pub(super) async fn representation(&self, id: RepresentationId) -> Result<Option<RepresentationRow>, Refusal> {
        Ok(record(self.store.read(move |r| r.get(id.slot(), id.as_bytes())).await?))
    }

    /// A participant.
    pub(super) async fn participant(
        &self,
        id: &sammati_kernel::ParticipantId,
    ) -> Result<Option<ParticipantRow>, Refusal> {
        let id = id.as_str().to_owned();
        let slot = Slot::of_participant(&id);
        Ok(record(self.store.read(move |r| r.get(slot, id.as_bytes())).await?))
    }
}

fn account_rows(r: &mut Reader<'_>, id: AccountId, full: bool) -> Read<Option<Rows>> {
    let account = record::<AccountRow>(r.get(id.slot(), id.as_bytes())?);
    // Of nobody the same is asked.
    let sealed = account.as_ref().map_or_else(|| id.to_vec(), |row| row.key.clone());
    let key = record(r.get(id.slot(), &sealed)?);
    let guard = record(r.get(id.slot(), id.as_bytes())?);
    let portrait = if full { record(r.get(id.slot(), &sealed)?) } else { None };
    // Of one whose data is destroyed nothing can be shown: she is as absent.
    Ok(account.filter(|account| !account.purged).map(|account| Rows {
        account,
        key,
        guard,
        portrait,
    }))
}

fn record<R: Message>(stored: Option<Stored<R>>) -> Option<R> {
    stored.map(|stored| stored.record)
}
