//! What an archive of a log that has ended is made of: one signed tree, cut into parts that verify by themselves.

use ring::digest::{SHA256, digest};
use sammati_api::audit::v1 as audit;
use sammati_kernel::{Caller, Reason, Refusal};
use sammati_log::archive::{Frame, Part};
use sammati_log::entries;
use sammati_log::tile::Tile;
use sammati_log::{Error, Hash32};
use tokio::sync::mpsc::Sender;

use super::piece::{Piece, Pieces, Stop};
use crate::cosigned::unknown;
use crate::log::{Log, queried};
use crate::rows::{CheckpointRow, LeafRow, LogKeyRow};
use crate::wire;

/// Leaves of a part, but for the last one.
pub(crate) const PART: u64 = sammati_log::archive::MAX_PART;

/// The tree that an archive is to be of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tree {
    /// What was signed last.
    Newest,
    /// What was signed at this size.
    Size(u64),
    /// That of a checkpoint in parts that were taken before: the size in it, and its bytes.
    Like(u64, String),
}

/// The archive of a log.
#[derive(Debug, Clone)]
pub(crate) struct Archive {
    /// What its files are called by.
    log: String,
    origin: String,
    checkpoint: CheckpointRow,
    /// The keys that had signed by then, one a line.
    vkeys: String,
    /// Leaves of a part.
    part: u64,
}

impl Archive {
    /// Leaves in it.
    pub(crate) const fn size(&self) -> u64 {
        self.checkpoint.size
    }

    /// How many parts it has.
    pub(crate) const fn count(&self) -> u64 {
        self.size().div_ceil(self.part)
    }

    /// The file name of a part.
    pub(crate) fn file_name(&self, number: u64) -> String {
        format!("{}-{}-{number:05}.zip", self.log, self.size())
    }

    fn part(&self, number: u64) -> Result<Part, Error> {
        let first = number.saturating_mul(self.part);
        Part::new(self.size(), first..first.saturating_add(self.part).min(self.size()))
    }

    fn readme(&self) -> String {
        let (origin, size, count, part) = (&self.origin, self.size(), self.count(), self.part);
        let (first, all) = (self.file_name(0), format!("{}-{size}-*.zip", self.log));
        format!(
            "This is a part of the archive of the transparency log\n\n    {origin}\n\n\
             as it was signed at {size} leaves. The archive has {count} parts: {first} and so on. Part n\n\
             has the leaves from n times {part} on, {part} at most; the number of the part is in its name.\n\
             Each part verifies by itself:\n\n    \
             sammati-verify archive --vkey <key> --partial {first}\n    \
             sammati-verify archive --vkey <key> {all}\n\n\
             says which leaves are there and which are missing; the second wants all of them. It needs\n\
             no service. Take <key> from where you trusted it, not from `vkeys`.\n\n\
             checkpoint      what the log signed: how many leaves, and their root; witnesses' cosignatures\n\
             vkeys           the keys that had signed the log by then\n\
             tile/entries/   the leaves, 256 in a file, each behind its length (2 bytes, big-endian)\n\
             tile/<level>/   the hashes over them, up to those at the right edge, which make the root\n\n\
             The formats are c2sp.org/tlog-tiles and c2sp.org/tlog-checkpoint; parts that are unpacked\n\
             into one folder are the log as its readers know it. README.txt, checkpoint and vkeys are the\n\
             same in all parts. A leaf is an encoded sammati.audit.v1.Leaf and names nobody; payloads are\n\
             not in the archive.\n"
        )
    }

    /// The event that says that parts were taken, from `first` on.
    fn taken(&self, caller: &Caller, first: u64) -> sammati_server::event::Draft {
        let log = format!("logs/{}", self.log);
        let mut taken = queried(caller, &log).object(wire::checkpoint_name(&log, self.size()));
        "audit.exported".clone_into(&mut taken.event.event_type);
        let payload = taken.payload();
        payload.artefact_sha256 = digest(&SHA256, self.checkpoint.note.as_bytes()).as_ref().to_vec();
        let before = first.saturating_mul(self.part);
        payload.counts = Some(audit::Counts {
            records: wire::number(self.size().saturating_sub(before)),
            ..audit::Counts::default()
        });
        taken
    }
}

impl Log {
    /// What an archive of the log is made of, in parts of so many leaves; and records that `caller` takes it, from part `first`
    /// on. A frozen log takes no record.
    ///
    /// # Errors
    /// `LOG_ACTIVE`, `CHECKPOINT_UNKNOWN`, `INDEX_BEYOND_TREE`, `COSIGNATURES_MISSING`, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn begin_archive(
        &self,
        caller: &Caller,
        tree: Tree,
        first: u64,
        part: u64,
    ) -> Result<Archive, Refusal> {
        let is_frozen = !self.head().await?.frozen.is_empty();
        let checkpoint = match (tree, self.ends().await?.sealed) {
            (_, None) if !is_frozen => return Err(active()),
            (Tree::Newest, Some(sealed)) if !is_frozen => self.last_signed(sealed.size).await?,
            (Tree::Newest, _) => self.signed_at(self.head().await?.signed).await?,
            (Tree::Size(size), _) => self.signed_at(Some(size)).await?,
            (Tree::Like(size, note), _) => self.like(size, note).await?,
        };
        let keys = self.key_history().await?.into_iter();
        // A key that came later did not sign this.
        let keys = keys.filter(|key: &LogKeyRow| key.number == 0 || key.after < checkpoint.size);
        let vkeys = keys.map(|key| key.vkey + "\n").collect();
        let archive = Archive {
            log: self.name().trim_start_matches("logs/").to_owned(),
            origin: self.origin().to_owned(),
            checkpoint,
            vkeys,
            part,
        };
        if first >= archive.count() {
            let why = format!("the archive of {} leaves has {} parts", archive.size(), archive.count());
            return Err(Refusal::new(Reason::IndexBeyondTree).saying(why));
        }
        match is_frozen {
            false => self.record(archive.taken(caller, first)).await?,
            true => tracing::warn!(
                log = self.origin(),
                size = archive.size(),
                caller = caller.id(),
                "the archive of this log is taken; it is frozen and takes no record of that"
            ),
        }
        Ok(archive)
    }

    /// The checkpoint of a log that was sealed at `end` leaves: with witnesses the newest that enough of them cosigned since.
    async fn last_signed(&self, end: u64) -> Result<CheckpointRow, Refusal> {
        // The leaf that says that it was sealed is behind them.
        let newest = self.covering(end + 1).await?;
        let cosigned = match self.witnesses.is_empty() {
            true => None,
            false => self.cosigned(self.witnesses.required()).await?,
        };
        self.noted(cosigned.filter(|row| row.size > end).unwrap_or(newest))
            .await
    }

    async fn signed_at(&self, size: Option<u64>) -> Result<CheckpointRow, Refusal> {
        let row = match size {
            Some(size) => self.checkpoint(size).await?,
            None => None,
        };
        self.noted(row.ok_or_else(unknown)?).await
    }

    /// The checkpoint with just those cosignatures that `note` has.
    async fn like(&self, size: u64, note: String) -> Result<CheckpointRow, Refusal> {
        let row = self.checkpoint(size).await?.ok_or_else(unknown)?;
        let lines = note.strip_prefix(&row.note).ok_or_else(unknown)?;
        let known = self.cosignatures(size).await?;
        let is_known = |line: &str| known.iter().any(|cosignature| cosignature.line == line);
        match lines.split_inclusive('\n').all(is_known) {
            true => Ok(CheckpointRow { note, ..row }),
            false => Err(unknown()),
        }
    }

    /// Sends the parts of an archive from `first` on, or as much as is taken. It reads beside the lane that appends, one bundle
    /// at a time.
    ///
    /// # Errors
    /// `LOG_FROZEN` when what is there is not what was signed, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn send_archive(
        &self,
        archive: &Archive,
        first: u64,
        pieces: &Sender<Result<Piece, Refusal>>,
    ) -> Result<(), Refusal> {
        for number in first..archive.count() {
            match self.send_part(archive, number, pieces).await {
                Ok(()) => {}
                Err(Stop::Gone) => return Ok(()),
                Err(Stop::Refused(refusal)) => return Err(refusal),
                Err(Stop::Damaged(why)) => {
                    let why = format!("part {number} of the archive cannot be made: {why}");
                    return Err(self.freeze(why.clone()).await.saying(why));
                }
            }
        }
        Ok(())
    }

    async fn send_part(
        &self,
        archive: &Archive,
        number: u64,
        pieces: &Sender<Result<Piece, Refusal>>,
    ) -> Result<(), Stop> {
        let part = archive.part(number)?;
        let mut out = Pieces::of(archive.file_name(number), number, pieces);
        let mut files = vec![
            ("README.txt".to_owned(), archive.readme().into_bytes()),
            ("checkpoint".to_owned(), archive.checkpoint.note.clone().into_bytes()),
            ("vkeys".to_owned(), archive.vkeys.clone().into_bytes()),
        ];
        let mut tiles = Vec::new();
        for id in part.frame()? {
            let bytes = self.tile(id).await?;
            tiles.push(Tile::decode(id, &bytes)?);
            // A partial one of level 0 goes with its leaves, where they are in this part.
            files.push((id.path(), bytes));
        }
        let own: Vec<_> = tiles.iter().map(Tile::id).collect();
        let frame = Frame::new(&part, Hash32::from_slice(&archive.checkpoint.root)?, tiles)?;
        out.files(files).await?;
        for id in part.entries() {
            let rows = self.leaves(id.leaves()).await?;
            let tile = Tile::new(0, id.index(), rows.iter().map(LeafRow::hash).collect())?;
            frame.verify(&tile)?;
            let bundle = entries::encode(rows.iter().map(|row| &row.leaf))?;
            let mut files = vec![(id.path(), bundle)];
            if !own.contains(&tile.id()) {
                files.push((tile.id().path(), tile.encode()));
            }
            out.files(files).await?;
        }
        let leaves = part.leaves();
        out.end((leaves.start, leaves.end), (archive.count(), archive.size()))
            .await
    }
}

/// What is said of a log that has not ended.
fn active() -> Refusal {
    Refusal::new(Reason::LogActive).saying(
        "the log still takes events, and an archive is of one that has ended: seal it first (LogService/SealLog); until then \
         it is mirrored by GetTile, over HTTP or with the verb `archive`",
    )
}
