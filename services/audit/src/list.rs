//! Listing: newest first, by the narrowest look-up that the filter names; what else it names is compared row by row.

use sammati_api::audit::v1::Leaf;
use sammati_kernel::Refusal;
use sammati_store::Reader;

use crate::log::Log;
use crate::posting::{Tag, Walk};
use crate::rows::{LeafRow, Name, role};
use crate::tags::Tagger;
use crate::wire::Filter;

/// Rows that one call looks at, at most: a filter that hardly anything passes goes on in the next page.
const MOST: usize = 5000;

/// Rows of one query.
const CHUNK: usize = 256;

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
pub(crate) struct Place {
    day: i64,
    index: u64,
}

impl Place {
    pub(crate) fn write(self) -> Vec<u8> {
        [self.day.to_be_bytes(), self.index.to_be_bytes()].concat()
    }

    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let (day, index) = bytes.split_first_chunk()?;
        Some(Self {
            day: i64::from_be_bytes(*day),
            index: u64::from_be_bytes(index.try_into().ok()?),
        })
    }
}

/// The rows that are looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    /// Those with one tag.
    Tag(Tag),
    /// Those of some days, the last first.
    Days(i64, i64),
}

/// A filter, as the rows have it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    filter: Filter,
    subject: Vec<u8>,
    named: Vec<(Name, u8)>,
    /// By which look-up.
    pub(crate) by: By,
}

impl Wanted {
    pub(crate) fn new(filter: &Filter, tags: &Tagger) -> Self {
        let subject = tags.subject(&filter.subject);
        let name = |name: &str, role| (!name.is_empty()).then(|| (tags.name(name), role));
        let consent = name(&filter.consent, role::CONSENT);
        let resource = name(&filter.resource, role::RESOURCE);
        let party = name(&filter.participant, role::PARTY);
        let actor = name(&filter.actor, role::ACTOR);
        let tag = |named: Option<(Name, u8)>| named.and_then(|(name, _)| Tag::of(&name));
        // The narrowest first: a consent has few events, an actor may have millions.
        let narrowest = tag(consent)
            .or_else(|| tag(resource))
            .or_else(|| Tag::of_trace(&filter.trace_id))
            .or_else(|| Tag::of(&subject))
            .or_else(|| tag(party))
            .or_else(|| tag(actor));
        let (from, to) = filter.occurred.unwrap_or_default();
        let days = By::Days(LeafRow::day_of(from), LeafRow::day_of(to.saturating_sub(1)));
        Self {
            filter: filter.clone(),
            subject,
            named: [consent, resource, party, actor].into_iter().flatten().collect(),
            by: narrowest.map_or(days, By::Tag),
        }
    }

    fn page(&self, r: &mut Reader<'_>, size: usize, place: Option<Place>) -> Result<Listed, sammati_store::Error> {
        let (mut listed, mut seen) = (Listed::default(), 0);
        let walk = Walk::begin(r)?;
        let begin = Place {
            day: if let By::Days(_, to) = self.by { to } else { 0 },
            index: u64::MAX,
        };
        let mut place = place.unwrap_or(begin);
        while seen < MOST {
            let (tag, day) = match self.by {
                By::Tag(tag) => (tag, None),
                By::Days(..) => (Tag::of_day(place.day), Some(place.day)),
            };
            let rows = walk.rows(r, tag, place.index, CHUNK)?;
            if rows.is_empty() {
                match self.by {
                    By::Days(from, _) if place.day > from => {
                        place = Place {
                            day: place.day - 1,
                            index: u64::MAX,
                        };
                        continue;
                    }
                    _ => return Ok(listed),
                }
            }
            for row in rows {
                let header = row.header();
                let matches = day.is_none_or(|day| day == LeafRow::day(&header)) && self.matches(&row, &header);
                if matches && listed.rows.len() == size {
                    listed.next = Some(place.write());
                    return Ok(listed);
                }
                seen += 1;
                place.index = row.index;
                if matches {
                    listed.rows.push(row);
                }
            }
        }
        listed.next = Some(place.write());
        Ok(listed)
    }

    /// Whether the filter lets a row pass.
    pub(crate) fn matches(&self, row: &LeafRow, header: &Leaf) -> bool {
        let same = |wanted: &[u8], has: &[u8]| wanted.is_empty() || wanted == has;
        let time = header
            .occurred_time
            .as_ref()
            .and_then(sammati_server::event::micros)
            .map_or(0, |t| t.0);
        same(&self.subject, &header.subject_tag)
            && self.named.iter().all(|(name, role)| row.names(*name, *role))
            && same(self.filter.trace_id.as_bytes(), header.trace_id.as_bytes())
            && header.event_type.starts_with(&self.filter.event_type_prefix)
            && self.filter.occurred.is_none_or(|(from, to)| (from..to).contains(&time))
    }
}
