//! Listing: newest first, by the narrowest look-up that the filter names; what else it names is compared row by row.

use sammati_api::audit::v1::Leaf;
use sammati_kernel::Refusal;
use sammati_store::Reader;

use crate::log::Log;
use crate::rows::{LeafRow, MentionRow, SLOT};
use crate::tags::Tagger;
use crate::wire::Filter;

/// Rows that one call looks at, at most: a filter that hardly anything passes goes on in the next page.
const MOST: usize = 5000;

/// Rows of one query.
const CHUNK: i64 = 256;

/// A page of rows, and the place after which the next one begins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listed {
    /// Newest first.
    pub rows: Vec<LeafRow>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<Vec<u8>>,
}

impl Log {
    /// A page of at most `size` events that pass `filter`, after the place that an earlier page ended at.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub async fn list(&self, filter: &Filter, size: usize, after: Option<&[u8]>) -> Result<Listed, Refusal> {
        let wanted = Wanted::new(filter, self.tags());
        let place = after.and_then(Place::read);
        self.store.snapshot(move |r| wanted.page(r, size, place)).await
    }
}

/// Where a list stands: within the day, if it goes by days, below the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    day: i64,
    index: u64,
}

impl Place {
    fn of(row: &LeafRow, header: &Leaf) -> Self {
        Self {
            day: LeafRow::day(header),
            index: row.index,
        }
    }

    fn write(self) -> Vec<u8> {
        [self.day.to_be_bytes(), self.index.to_be_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (day, index) = bytes.split_first_chunk()?;
        Some(Self {
            day: i64::from_be_bytes(*day),
            index: u64::from_be_bytes(index.try_into().ok()?),
        })
    }
}

/// The rows that are looked at.
#[derive(Debug, Clone)]
enum Walk {
    /// Those of one look-up value.
    Column(&'static str, Vec<u8>),
    /// Those that name one participant.
    Party(Vec<u8>),
    /// Those of some days, the last first.
    Days(i64, i64),
}

/// A filter, as the rows have it.
#[derive(Debug, Clone)]
struct Wanted {
    filter: Filter,
    subject: Vec<u8>,
    actor: Vec<u8>,
    resource: Vec<u8>,
    consent: Vec<u8>,
    party: Vec<u8>,
    walk: Walk,
}

impl Wanted {
    fn new(filter: &Filter, tags: &Tagger) -> Self {
        let (subject, party) = (tags.subject(&filter.subject), tags.party(&filter.participant));
        let actor = tags.other("actor", &filter.actor);
        let resource = tags.other("resource", &filter.resource);
        let consent = tags.other("consent", &filter.consent);
        let trace = filter.trace_id.as_bytes().to_vec();
        let (from, to) = filter.occurred.unwrap_or_default();
        // The narrowest first: a consent has few events, an actor may have millions.
        let columns = [
            ("consent", &consent),
            ("resource", &resource),
            ("trace", &trace),
            ("subject", &subject),
        ];
        let walk = match columns.into_iter().find(|(_, value)| !value.is_empty()) {
            Some((column, value)) => Walk::Column(column, value.clone()),
            None if !party.is_empty() => Walk::Party(party.clone()),
            None if !actor.is_empty() => Walk::Column("actor", actor.clone()),
            None => Walk::Days(LeafRow::day_of(from), LeafRow::day_of(to.saturating_sub(1))),
        };
        Self {
            filter: filter.clone(),
            subject,
            actor,
            resource,
            consent,
            party,
            walk,
        }
    }

    fn page(&self, r: &mut Reader<'_>, size: usize, mut place: Option<Place>) -> Result<Listed, sammati_store::Error> {
        let (mut listed, mut seen) = (Listed::default(), 0);
        while seen < MOST {
            let rows = self.rows(r, place)?;
            if rows.is_empty() {
                return Ok(listed);
            }
            for row in rows {
                let header = row.header();
                let matches = self.matches(&row, &header);
                if matches && listed.rows.len() == size {
                    listed.next = place.map(Place::write);
                    return Ok(listed);
                }
                seen += 1;
                place = Some(Place::of(&row, &header));
                if matches {
                    listed.rows.push(row);
                }
            }
        }
        listed.next = place.map(Place::write);
        Ok(listed)
    }

    /// The next rows of the walk; none when it has ended.
    fn rows(&self, r: &mut Reader<'_>, place: Option<Place>) -> Result<Vec<LeafRow>, sammati_store::Error> {
        let below = place.map(|place| place.index.to_be_bytes());
        match &self.walk {
            Walk::Column(column, value) => {
                records(r.page(column, value, below.as_ref().map(<[u8; 8]>::as_slice), CHUNK)?)
            }
            Walk::Party(party) => {
                let before = place.map(|place| MentionRow::key_of(party, place.index));
                let mentions = r.page::<MentionRow>("party", party, before.as_deref(), CHUNK)?;
                let keys: Vec<_> = mentions
                    .iter()
                    .map(|m| (SLOT, m.record.index.to_be_bytes().to_vec()))
                    .collect();
                let mut rows = records(r.many(&keys)?)?;
                rows.sort_by_key(|row: &LeafRow| std::cmp::Reverse(row.index));
                Ok(rows)
            }
            Walk::Days(from, to) => {
                let first = place.map_or(*to, |place| place.day);
                for day in (*from..=first).rev() {
                    let within = below.filter(|_| day == first);
                    let before = within.as_ref().map(<[u8; 8]>::as_slice);
                    let rows = r.page::<LeafRow>("day", &day.to_be_bytes(), before, CHUNK)?;
                    if !rows.is_empty() {
                        return records(rows);
                    }
                }
                Ok(Vec::new())
            }
        }
    }

    fn matches(&self, row: &LeafRow, header: &Leaf) -> bool {
        let same = |wanted: &[u8], has: &[u8]| wanted.is_empty() || wanted == has;
        let time = header
            .occurred_time
            .as_ref()
            .and_then(sammati_server::event::micros)
            .map_or(0, |t| t.0);
        same(&self.subject, &header.subject_tag)
            && same(&self.actor, &row.tags.actor)
            && same(&self.resource, &row.tags.resource)
            && same(&self.consent, &row.tags.consent)
            && same(self.filter.trace_id.as_bytes(), header.trace_id.as_bytes())
            && (self.party.is_empty() || row.tags.parties.contains(&self.party))
            && header.event_type.starts_with(&self.filter.event_type_prefix)
            && self.filter.occurred.is_none_or(|(from, to)| (from..to).contains(&time))
    }
}

#[expect(clippy::unnecessary_wraps, reason = "every arm of a walk ends alike")]
fn records(rows: Vec<sammati_store::Stored<LeafRow>>) -> Result<Vec<LeafRow>, sammati_store::Error> {
    Ok(rows.into_iter().map(|row| row.record).collect())
}
