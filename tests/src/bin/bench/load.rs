//! A consent database with as much in it as is wanted, as the service itself would have written it: for each consent the
//! decisions of CreateConsentRequest and of ApproveConsentRequest are made one after another in one command, 256 to a
//! commit. That writes the request, the consent, both artefacts, three notifications (those of the two participants
//! acknowledged), six events, and her data key with her first consent. Request ids are left out: they go after a day.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use sammati_api::types::v1 as types;
use sammati_consent::artefact::ArtefactKeys;
use sammati_consent::artefact::issue::Issuer;
use sammati_consent::directory::{Directory, Found, Party, Professional, Resolver, Resolving};
use sammati_consent::lookup::Lookup;
use sammati_consent::notice::Notices;
use sammati_consent::place::Place;
use sammati_consent::recorded::Logs;
use sammati_consent::request::approve::{ApproveRequest, Grant};
use sammati_consent::request::ask::Ask;
use sammati_consent::request::create::CreateRequest;
use sammati_consent::rows::{ConsentRow, LinkRow, MIGRATIONS, NotificationRow};
use sammati_consent::scope::{Frequency, Range, Scope, Unit};
use sammati_consent::step_up;
use sammati_consent::vault::Vault;
use sammati_consent::{Parts, Settings};
use sammati_kernel::jws::PublicKey;
use sammati_kernel::{
    AccessMode, AccountId, Actor, Caller, Clock, ConsentId, HiType, Micros, NotificationId, ParticipantId, Peer,
    PurposeCode, Refusal, Role, SLOTS, SessionId, Slot, SystemClock, TransactionId,
};
use sammati_server::Config;
use sammati_server::messages::NoMessages;
use sammati_store::{Command, Keys, Store, View};

use crate::measure::Failure;

/// Consents of one person.
const EACH: usize = 2;

/// Rows of two consents of one person: seven and six events each, and her data key.
pub(crate) const ROWS_OF_TWO: usize = 27;

/// Commands on their way to the lanes.
const IN_FLIGHT: usize = 2048;

/// Who asks, and who has the records.
const PARTIES: (&str, &str) = ("clinic", "hospital");

const DAY: Duration = Duration::from_secs(86_400);

/// What a consent service is made of, by its configuration, without its peers: identity knows everybody.
pub(crate) struct Desk {
    config: Config<Settings>,
    everybody: Arc<Everybody>,
}

impl Desk {
    /// Of the service whose configuration is `config`.
    pub(crate) fn new(config: &Path) -> Result<Self, Failure> {
        let config = Config::load(config)?;
        let everybody = Arc::default();
        Ok(Self { config, everybody })
    }

    /// The database's URL.
    pub(crate) fn url(&self) -> Result<&str, Failure> {
        Ok(&self.config.database()?.url)
    }

    /// The file, on SQLite.
    pub(crate) fn file(&self) -> Result<Option<PathBuf>, Failure> {
        Ok(self.url()?.strip_prefix("sqlite:").map(PathBuf::from))
    }

    /// The store, as the service opens it.
    pub(crate) fn open(&self) -> Result<Store, Failure> {
        let key = self.config.secrets.key("lookup")?.derive("store");
        let options = self.config.database()?.options(key)?;
        Ok(Store::open(&options, Arc::new(SystemClock), MIGRATIONS)?)
    }

    /// All of it, over `store`, with `cache` bytes for decisions.
    pub(crate) fn parts(&self, store: Store, cache: u64) -> Result<Parts, Failure> {
        let secrets = &self.config.secrets;
        Ok(Parts {
            store,
            directory: self.everybody.clone(),
            resolver: self.everybody.clone(),
            messages: Arc::new(NoMessages),
            logs: Logs::default(),
            artefact_keys: ArtefactKeys::of(secrets.signing_key("artefact_key.pem")?),
            kek: secrets.key("kek")?,
            lookup: secrets.key("lookup")?,
            settings: Settings {
                cache_bytes: cache,
                ..self.config.service.clone()
            },
        })
    }

    /// Fills `store` with `count` consents and tells them.
    pub(crate) async fn fill(&self, store: &Store, count: usize) -> Result<Vec<ConsentId>, Failure> {
        let pen = Arc::new(Pen::new(self.parts(store.clone(), 0)?)?);
        let people = people(count);
        let give = |n: usize| {
            let give = Give {
                pen: Arc::clone(&pen),
                person: n % people,
            };
            let store = store.clone();
            async move { store.apply(give).await }
        };
        let given = stream::iter(0..count).map(give).buffer_unordered(IN_FLIGHT);
        given
            .try_collect()
            .await
            .map_err(|refusal: Refusal| format!("{refusal:?}").into())
    }
}

/// Whose `count` consents are.
pub(crate) const fn people(count: usize) -> usize {
    count.div_ceil(EACH)
}

/// The person with this number: her slot and the age of her account have nothing to do with it.
pub(crate) fn account(person: usize) -> AccountId {
    let mixed = mix(person as u64);
    let slot = u16::try_from(mixed % u64::from(SLOTS)).unwrap_or(0);
    let age = DAY * u32::try_from(mixed >> 32 & 1023).unwrap_or(0);
    AccountId::new(BORN.minus(age), Slot::new(slot), mixed.to_be_bytes())
}

/// When the youngest accounts were made.
const BORN: Micros = Micros::from_seconds(1_760_000_000);

/// The finalizer of splitmix64: neighbours have nothing in common, and no two numbers come to the same.
pub(crate) const fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// How she is addressed.
pub(crate) fn address(person: usize) -> String {
    format!("person{person:010}@sbx")
}

/// A participant in its one role.
pub(crate) fn participant(id: &str, role: Role) -> Result<Caller, Failure> {
    let actor = Actor::Participant {
        id: ParticipantId::parse(id).map_err(|_| "not a participant's id")?,
        roles: BTreeSet::from([role]),
    };
    Ok(Caller {
        peer: Peer::Anonymous,
        actor: Some(actor),
    })
}

/// Her, who proved just now who she is.
pub(crate) fn she(account: AccountId) -> Caller {
    let now = SystemClock.now();
    let actor = Actor::Person {
        account,
        session: SessionId::new(now, account.slot(), [1; 8]),
        app: None,
        auth_time: now.seconds(),
    };
    Caller {
        peer: Peer::Anonymous,
        actor: Some(actor),
    }
}

/// Everybody there is, and all of them well.
#[derive(Debug, Default)]
struct Everybody;

impl Directory for Everybody {
    fn participant(&self, id: &ParticipantId) -> Option<Party> {
        let role = if id.as_str() == PARTIES.1 { Role::Hip } else { Role::Hiu };
        Some(Party {
            display_name: format!("The {}", id.as_str()),
            active: true,
            roles: BTreeSet::from([role]),
            transfer_origins: Vec::new(),
        })
    }

    fn inactive(&self) -> Vec<ParticipantId> {
        Vec::new()
    }

    /// As cheap as from identity's feed, which is asked without a copy.
    fn is_active_as(&self, id: &ParticipantId, role: Role) -> bool {
        role == if id.as_str() == PARTIES.1 { Role::Hip } else { Role::Hiu }
    }

    fn deleted(&self) -> Vec<(AccountId, bool)> {
        Vec::new()
    }

    fn is_active(&self, _: AccountId) -> bool {
        true
    }

    fn token_key(&self, _: &str) -> Option<PublicKey> {
        None
    }

    fn professional(&self, _: &types::RequesterIdentifier) -> Option<Professional> {
        None
    }

    fn as_of(&self) -> Micros {
        SystemClock.now()
    }

    fn fresh(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

impl Resolver for Everybody {
    fn resolve(&self, identifier: types::Identifier, _: Option<types::Demographics>) -> Resolving<'_> {
        let number = match identifier.identifier {
            Some(types::identifier::Identifier::AbhaAddress(address)) => address
                .strip_prefix("person")
                .and_then(|rest| rest.split('@').next()?.parse().ok()),
            _ => None,
        };
        let found = number.map(|person| Found {
            account: account(person),
            active: true,
            fits: true,
        });
        Box::pin(async move { Ok(found) })
    }
}

/// What writes consents.
struct Pen {
    directory: Arc<dyn Directory>,
    keys: Arc<ArtefactKeys>,
    manager: Arc<str>,
    log_origin: Arc<str>,
    lookup: Lookup,
    vault: Vault,
    notice: types::NoticeRef,
    clinic: Caller,
    parties: (ParticipantId, ParticipantId),
}

impl Pen {
    fn new(parts: Parts) -> Result<Self, Failure> {
        let notices = Notices::built_in(&parts.settings.portal);
        let party = |id: &str| ParticipantId::parse(id).map_err(|_| "not a participant's id");
        Ok(Self {
            directory: parts.directory,
            keys: Arc::new(parts.artefact_keys),
            manager: parts.settings.consent_manager_id.into(),
            log_origin: parts.settings.log_origin.into(),
            lookup: Lookup::new(&parts.lookup),
            vault: Vault::new(&parts.kek),
            notice: notices
                .bind("", 0, "en", PurposeCode::Caremgt)
                .ok_or("no notice for care")?,
            clinic: participant(PARTIES.0, Role::Hiu)?,
            parties: (party(PARTIES.0)?, party(PARTIES.1)?),
        })
    }

    /// What artefacts are made with.
    fn issuer(&self) -> Issuer {
        Issuer {
            directory: Arc::clone(&self.directory),
            keys: Arc::clone(&self.keys),
            manager: Arc::clone(&self.manager),
            log_origin: Arc::clone(&self.log_origin),
        }
    }

    /// Two kinds of record of the last ten years, until some day of the next year.
    fn ask(&self, person: usize, now: Micros) -> Ask {
        let days = u32::try_from(mix(person as u64) % 365).unwrap_or(0) + 1;
        let scope = Scope {
            purpose: PurposeCode::Caremgt,
            hi_types: BTreeSet::from([HiType::Prescription, HiType::DiagnosticReport]),
            access_mode: AccessMode::View,
            record_range: Range {
                from: now.minus(DAY * 3650),
                to: now.minus(Duration::from_secs(3600)),
            },
            erase_time: now.plus(DAY * days),
            frequency: Frequency {
                unit: Unit::Hour,
                value: 0,
                repeats: 0,
            },
            max_uses: 0,
            bind_requester: false,
            care_contexts: BTreeSet::new(),
        };
        let identifier = types::RequesterIdentifier {
            r#type: "REGNO".into(),
            value: "MH1001".into(),
            system: "https://www.nmc.org.in".into(),
        };
        Ask {
            hiu: self.parties.0.clone(),
            patient: address(person),
            hips: vec![self.parties.1.clone()],
            requester: types::Requester {
                name: "Dr Meera Joshi".into(),
                identifier: Some(identifier),
                verified: false,
            },
            scope,
            care_contexts: Vec::new(),
            notice: self.notice.clone(),
            expire: None,
            renews: None,
        }
    }
}

/// One consent, asked for and given.
struct Give {
    pen: Arc<Pen>,
    person: usize,
}

impl Give {
    fn asking(&self) -> CreateRequest {
        let pen = &self.pen;
        CreateRequest {
            caller: pen.clinic.clone(),
            ask: pen.ask(self.person, SystemClock.now()),
            place: Place::person(account(self.person)),
            directory: Arc::clone(&pen.directory),
            lookup: pen.lookup.clone(),
            vault: pen.vault.clone(),
            issuer: pen.issuer(),
        }
    }

    /// Both participants have taken the consent in.
    fn acknowledge(view: &mut View<'_>, mut consent: ConsentRow) -> Result<ConsentId, Refusal> {
        let now = view.now().0;
        // The event of the grant is the fourth of this command; see the two decisions.
        let granted: TransactionId = view.seed().placeless_id("event 3", view.now());
        for party in [&consent.hip, &consent.hiu] {
            let id: NotificationId = view.id(&format!("notification {granted} participants/{party}"));
            let row = view.get::<NotificationRow>(id.as_bytes());
            let mut row = row.ok_or(sammati_kernel::Reason::Internal)?;
            row.acknowledged = now;
            view.put(&row);
        }
        (consent.hip_acknowledged, consent.hiu_acknowledged) = (now, now);
        view.put(&consent);
        consent.id()
    }
}

impl Command for Give {
    type Answer = ConsentId;

    const NAME: &'static str = "bench.give";

    fn slot(&self) -> Slot {
        account(self.person).slot()
    }

    fn reads(&self, keys: &mut Keys) {
        self.asking().reads(keys);
        keys.group::<LinkRow>("subject", account(self.person).to_vec());
        step_up::reads(keys, account(self.person));
    }

    fn decide(&self, view: &mut View<'_>) -> Result<ConsentId, Refusal> {
        let (pen, account) = (&self.pen, account(self.person));
        let request = self.asking().decide(view)?;
        let approve = ApproveRequest {
            caller: she(account),
            account,
            request: request.id()?,
            grants: vec![Grant {
                hip: pen.parties.1.clone(),
                scope: None,
            }],
            notice: pen.notice.clone(),
            is_written: true,
            etag: String::new(),
            dry_run: false,
            token: None,
            issuer: pen.issuer(),
            lookup: pen.lookup.clone(),
            vault: pen.vault.clone(),
        };
        let approved = approve.decide(view)?;
        let consent = approved
            .consents
            .into_iter()
            .next()
            .ok_or(sammati_kernel::Reason::Internal)?;
        Self::acknowledge(view, consent)
    }
}
