//! Witnesses of this log: others who remember what was signed, by `c2sp.org/tlog-witness`.
//!
//! Each is asked what it knows before the first signature after a start, and whenever it is asked for a cosignature. One
//! that knows more than was signed, or another root, has seen what this database has lost: the log freezes.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use sammati_kernel::{Reason, Refusal};
use sammati_log::checkpoint::{self, Checkpoint};
use sammati_log::cosignature::{Witness, cosignatures, split_note};
use sammati_log::hash::EMPTY_ROOT;
use sammati_log::witness::AddCheckpoint;
use sammati_server::post::Post;
use tokio::time::Instant;

use crate::cosigned::{Cosigned, row};
use crate::log::Log;
use crate::rows::CheckpointRow;

/// How often one witness is asked anew within one exchange: it says its size, another replica goes on meanwhile.
const TRIES: usize = 4;

/// After a failure a witness is left alone for so long, then twice as long, up to a minute.
const PAUSE: Duration = Duration::from_secs(1);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(60);

/// The witnesses of a log, and how many of them its readers ask for.
#[derive(Debug, Default)]
pub struct Witnesses {
    all: Vec<One>,
    required: usize,
    /// When the comparison before the first signature failed last.
    waiting: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct One {
    key: Witness,
    post: Post,
    state: Mutex<State>,
}

/// What is known of a witness since the start.
#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// The size that it had last.
    size: u64,
    /// Whether it was heard, and knew nothing that the log does not.
    compared: bool,
    /// How long it is left alone after a failure, and until when.
    pause: Option<(Duration, Instant)>,
}

/// What came of asking.
enum Said {
    /// Its cosignature, stored.
    Cosigned,
    /// It has a larger size.
    Ahead(u64),
    /// It knows another history.
    Contradicts(String),
    /// Nothing of use.
    Silent(String),
}

impl Witnesses {
    /// The witnesses with these keys, each at its own place.
    pub fn new(all: Vec<(Witness, Post)>, required: usize) -> Self {
        let one = |(key, post)| One {
            key,
            post,
            state: Mutex::default(),
        };
        Self {
            all: all.into_iter().map(one).collect(),
            required,
            waiting: Mutex::default(),
        }
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// How many cosignatures the log's readers ask for.
    pub const fn required(&self) -> usize {
        self.required
    }

    /// Their keys.
    pub fn keys(&self) -> Vec<Witness> {
        self.all.iter().map(|one| one.key.clone()).collect()
    }

    fn compared(&self) -> usize {
        self.all.iter().filter(|one| one.state().compared).count()
    }
}

impl One {
    fn state(&self) -> State {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn heard(&self, size: u64, compared: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State {
            size,
            compared: state.compared || compared,
            pause: None,
        };
    }

    fn failed(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = state.pause.map_or(PAUSE, |(pause, _)| LONGEST.min(pause * 2));
        state.pause = Some((pause, Instant::now() + pause));
    }

    fn is_due(&self) -> bool {
        self.state().pause.is_none_or(|(_, until)| Instant::now() >= until)
    }
}

impl Log {
    /// Has the newest checkpoint cosigned by every witness that has not done it, and is due.
    ///
    /// # Errors
    /// `LOG_FROZEN`, also when a witness knows what the log does not; `STORAGE_UNAVAILABLE`.
    pub async fn cosign(&self) -> Result<(), Refusal> {
        if self.witnesses.is_empty() {
            return Ok(());
        }
        let Some(newest) = self.good_enough(0).await? else {
            return Ok(());
        };
        let have = self.cosignatures(newest.size).await?;
        let lacks = |one: &&One| {
            let has = have.iter().any(|row| row.is_of(&one.key));
            one.is_due() && !(has && one.state().compared)
        };
        self.ask_all(self.witnesses.all.iter().filter(lacks), &newest).await?;
        self.stats
            .cosigned(self.cosigned(self.witnesses.required).await?.map(|row| row.size));
        Ok(())
    }

    /// Before the first signature after a start: hears what enough witnesses know.
    ///
    /// # Errors
    /// `COSIGNATURES_MISSING` while too few answer, `LOG_FROZEN`, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn compare(&self) -> Result<(), Refusal> {
        let witnesses = &self.witnesses;
        if witnesses.compared() >= witnesses.required {
            return Ok(());
        }
        let lock = || witnesses.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().is_some_and(|failed| failed.elapsed() < PAUSE) {
            return Err(waiting());
        }
        let last = match self.good_enough(0).await? {
            Some(last) => last,
            None => self.nothing()?,
        };
        let rest = witnesses.all.iter().filter(|one| !one.state().compared);
        self.ask_all(rest, &last).await?;
        if witnesses.compared() >= witnesses.required {
            return Ok(());
        }
        *lock() = Some(Instant::now());
        Err(waiting())
    }

    /// The checkpoint of no leaves, which every history continues. It is only shown to witnesses.
    fn nothing(&self) -> Result<CheckpointRow, Refusal> {
        let signed = Checkpoint::new(self.origin(), 0, EMPTY_ROOT)
            .and_then(|nothing| checkpoint::sign_by(&nothing, &self.keys.signers()));
        Ok(CheckpointRow {
            size: 0,
            root: EMPTY_ROOT.0.to_vec(),
            note: signed.map_err(|_| Reason::Internal)?,
        })
    }

    async fn ask_all(&self, witnesses: impl Iterator<Item = &One>, row: &CheckpointRow) -> Result<(), Refusal> {
        let all = join_all(witnesses.map(|one| self.hear(one, row))).await;
        all.into_iter().collect()
    }

    /// Asks one witness, and does what its answer demands.
    async fn hear(&self, one: &One, row: &CheckpointRow) -> Result<(), Refusal> {
        let said = match self.ask(one, row).await? {
            // Another replica may have signed more by now, and every checkpoint is committed before it is shown.
            Said::Ahead(size) => match self.head().await?.signed.unwrap_or(0) {
                signed if size <= signed => {
                    one.heard(size, true);
                    return Ok(());
                }
                signed => Said::Contradicts(format!("it has {size} leaves, and the log signed {signed}")),
            },
            said => said,
        };
        let witness = one.key.name();
        match said {
            Said::Contradicts(what) => {
                let why = format!("the witness {witness} knows another history: {what}");
                Err(self.freeze(why).await)
            }
            Said::Silent(why) => {
                one.failed();
                self.stats.witness_failed(witness);
                tracing::warn!(witness, why, "a witness did not cosign; it is asked again");
                Ok(())
            }
            Said::Cosigned | Said::Ahead(_) => {
                one.heard(row.size, true);
                self.stats.witness_cosigned(witness);
                Ok(())
            }
        }
    }

    async fn ask(&self, one: &One, row: &CheckpointRow) -> Result<Said, Refusal> {
        let mut old = one.state().size.min(row.size);
        for _ in 0..TRIES {
            // Verified against our own roots: if the witness refuses it, its root is another.
            let proof = self.prove_consistency(old, row).await?;
            let note = row.note.clone();
            let request = AddCheckpoint { old, proof, note }.to_string();
            let answer = match one.post.send(request.into_bytes()).await {
                Ok(answer) => answer,
                Err(why) => return Ok(Said::Silent(why)),
            };
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            match answer.status.as_u16() {
                200 => return self.take(one, row, &body).await,
                409 => match size(&body) {
                    None => return Ok(Said::Silent("it answered 409 without its size".to_owned())),
                    Some(size) if size > row.size => return Ok(Said::Ahead(size)),
                    Some(size) if size == old && size == row.size => {
                        return Ok(Said::Contradicts(format!("it has another root of the {size} leaves")));
                    }
                    Some(size) if size == old => {
                        return Ok(Said::Silent(format!("it answered 409 for its own size {size}")));
                    }
                    Some(size) => old = size,
                },
                422 if old > 0 => {
                    return Ok(Said::Contradicts(format!(
                        "it has another root of the first {old} leaves"
                    )));
                }
                status => return Ok(Said::Silent(format!("it answered {status}: {body:.200}"))),
            }
        }
        Ok(Said::Silent("its size changes while it is asked".to_owned()))
    }

    /// Keeps the cosignature in an answer.
    async fn take(&self, one: &One, row_: &CheckpointRow, lines: &str) -> Result<Said, Refusal> {
        let text = split_note(&row_.note).map_or("", |(text, _)| text);
        match cosignatures(text, lines, std::slice::from_ref(&one.key)) {
            Err(error) => Ok(Said::Silent(error.to_string())),
            Ok(found) => match found.into_iter().next() {
                None => Ok(Said::Silent("its answer has no cosignature of its key".to_owned())),
                Some(cosignature) => {
                    let row = row(row_.size, &one.key, cosignature);
                    self.store.apply(Cosigned { row }).await?;
                    Ok(Said::Cosigned)
                }
            },
        }
    }
}

/// A size and a newline.
fn size(body: &str) -> Option<u64> {
    let digits = body.strip_suffix('\n').unwrap_or(body);
    digits.parse().ok().filter(|size: &u64| size.to_string() == digits)
}

fn waiting() -> Refusal {
    Refusal::new(Reason::CosignaturesMissing).saying(
        "the log was started and signs nothing before it has heard from its witnesses what they know; try again",
    )
}
