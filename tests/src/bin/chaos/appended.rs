//! Events that are appended to the log directly: each is where it was said to be, as it was said to be, and there once.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use sammati_kernel::Seed;
use sammati_tests::direct::{self, Place, Told};
use sammati_tests::journal::Op;
use sammati_tests::proofs::{self, Grown};
use sammati_tests::story::{Failure, Story};

use crate::client::{Asked, Clients, Dice};
use crate::findings::Findings;

/// How many are looked for at once.
const AT_ONCE: usize = 16;

/// What was acknowledged: the places of events, and the checkpoints that came along.
#[derive(Default)]
pub(crate) struct Appended {
    places: Vec<Place>,
    pub(crate) notes: Vec<String>,
}

impl Appended {
    fn add(&mut self, told: Told) {
        self.places.extend(told.places);
        self.notes.extend(Some(told.checkpoint).filter(|note| !note.is_empty()));
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.places.extend(other.places);
        self.notes.extend(other.notes);
    }
}

impl FromIterator<Self> for Appended {
    fn from_iter<T: IntoIterator<Item = Self>>(all: T) -> Self {
        all.into_iter().fold(Self::default(), |mut sum, one| {
            sum.extend(one);
            sum
        })
    }
}

/// Appends one to three events at a time until the load is over; some again by the same ids.
pub(crate) async fn load(clients: &Clients, seed: Seed) -> Result<Appended, Failure> {
    let addresses = &clients.story.addresses;
    let client = direct::appender(&addresses.folder, &addresses.audit)?;
    let (mut dice, mut appended) = (Dice::new(seed), Appended::default());
    while !clients.is_over() {
        let events: Vec<_> = (0..=dice.below(3)).map(|_| direct::event()).collect();
        let with_checkpoint = dice.below(3) == 0;
        let first = &events[0].event_id;
        let asked = Asked {
            object: first,
            op: Op::Append,
            request_id: first,
        };
        let append = async |_| direct::append(&client, &events, with_checkpoint).await;
        let (told, call) = clients.change(&asked, &mut dice, append, places).await?;
        match told {
            Some(told) => appended.add(told),
            None => clients.find(|found| found.illegal(format!("appending {first}: {:?}", call.answer))),
        }
        dice.pause(20, 150).await;
    }
    Ok(appended)
}

/// As the journal has them.
fn places(told: &Told) -> String {
    let place = |place: &Place| {
        let hash: String = place.leaf_hash.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{} {} {hash}", place.event_id, place.index)
    };
    told.places.iter().map(place).collect::<Vec<_>>().join(",")
}

/// A1: whether each acknowledged event is found, by its id, where it was acknowledged.
pub(crate) async fn there(story: &Story, appended: &Appended) -> Result<Findings, Failure> {
    let looks = futures::stream::iter(&appended.places).map(async |place| {
        let proved = proofs::of_event(story, &place.event_id).await?;
        let found = proved.map(|proved| (proved.event_id, proved.index, proved.hash.0.to_vec()));
        Ok::<_, Failure>((place, found))
    });
    let mut found = Findings::default();
    for (place, there) in looks.buffered(AT_ONCE).try_collect::<Vec<_>>().await? {
        judge(place, there.as_ref(), &mut found);
    }
    Ok(found)
}

/// An event as it is in the log: its id, its index, the hash of its leaf.
type There = (String, u64, Vec<u8>);

fn judge(place: &Place, there: Option<&There>, found: &mut Findings) {
    let Some(there) = there else {
        return found.lost(format!(
            "{} was appended at {} and is not there",
            place.event_id, place.index
        ));
    };
    let said = (place.event_id.clone(), place.index, place.leaf_hash.clone());
    if *there != said {
        found.illegal(format!("{said:?} was acknowledged, and the log has {there:?}"));
    }
}

/// Every leaf of the log that was proved, by its index.
#[derive(Default)]
pub(crate) struct Leaves {
    by_index: BTreeMap<u64, There>,
    by_event: BTreeMap<String, u64>,
}

impl Leaves {
    /// Takes in what was proved: the leaves follow on those before, and none tells of an event that one has told of.
    pub(crate) fn take(&mut self, grown: &Grown, found: &mut Findings) {
        for leaf in &grown.leaves {
            let (id, index) = (leaf.event_id.clone(), leaf.index);
            if index != self.by_index.len() as u64 {
                found.illegal(format!("leaf {index} follows on {} leaves", self.by_index.len()));
            }
            if let Some(other) = self.by_event.insert(id.clone(), index) {
                found.duplicated(format!("{id} is at {other} and at {index}"));
            }
            self.by_index.insert(index, (id, index, leaf.hash.0.to_vec()));
        }
    }

    /// A1: whether all that was ever acknowledged is where it was.
    pub(crate) fn have(&self, appended: &Appended, found: &mut Findings) {
        for place in &appended.places {
            judge(place, self.by_index.get(&place.index), found);
        }
    }
}

#[cfg(test)]
mod tests {
    use sammati_kernel::Micros;
    use sammati_log::hash::Hash32;
    use sammati_tests::proofs::Proved;

    use super::*;

    fn leaf(index: u64, event_id: &str, byte: u8) -> Proved {
        Proved {
            index,
            event_id: event_id.to_owned(),
            hash: Hash32([byte; 32]),
            accepted: Micros::ZERO,
        }
    }

    fn place(index: u64, event_id: &str, byte: u8) -> Place {
        Place {
            event_id: event_id.to_owned(),
            index,
            leaf_hash: vec![byte; 32],
        }
    }

    /// How many are lost, illegal and duplicated.
    fn found(leaves: Vec<Proved>, places: Vec<Place>) -> String {
        let (mut all, mut found) = (Leaves::default(), Findings::default());
        let grown = Grown {
            checkpoint: String::new(),
            size: leaves.len() as u64,
            leaves,
        };
        all.take(&grown, &mut found);
        let appended = Appended {
            places,
            notes: Vec::new(),
        };
        all.have(&appended, &mut found);
        found.to_string()
    }

    #[test]
    fn a1_what_is_not_where_it_was_acknowledged_is_found() {
        let log = || vec![leaf(0, "a", 1), leaf(1, "b", 2)];
        let none = "0 lost, 0 illegal, 0 duplicated";
        let (lost, illegal) = ("1 lost, 0 illegal, 0 duplicated", "0 lost, 1 illegal, 0 duplicated");
        assert_eq!(found(log(), vec![place(1, "b", 2), place(0, "a", 1)]), none);
        assert_eq!(found(log(), vec![place(2, "c", 3)]), lost);
        assert_eq!(found(log(), vec![place(0, "b", 2)]), illegal, "elsewhere");
        assert_eq!(found(log(), vec![place(1, "b", 3)]), illegal, "another leaf");
    }

    #[test]
    fn a1_holes_and_repeats_are_found() {
        let hole = vec![leaf(0, "a", 1), leaf(2, "b", 2)];
        assert_eq!(found(hole, vec![]), "0 lost, 1 illegal, 0 duplicated");
        let twice = vec![leaf(0, "a", 1), leaf(1, "a", 1)];
        assert_eq!(found(twice, vec![]), "0 lost, 0 illegal, 1 duplicated");
    }
}
