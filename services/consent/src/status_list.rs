//! Is what an artefact says still so? One signed list for many consents, so that reading it tells nobody which one is
//! asked about: a Token Status List as IETF's draft-ietf-oauth-status-list has it, two bits for each consent.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use miniz_oxide::deflate::compress_to_vec_zlib;
use sammati_kernel::{Micros, Refusal, StatusListId};
use sammati_store::{Keys, View};
use serde::Serialize;

use crate::artefact::ArtefactKeys;
use crate::consent::State;
use crate::lookup::Lookup;
use crate::rows::{ConsentRow, StatusListRow, broken};

/// The `typ` of a status list.
pub const TYP: &str = "statuslist+jwt";

/// Consents of one list.
pub const ENTRIES: u32 = 131_072;

/// How long a list is good for, in seconds.
pub const LIFE: i64 = 60;

/// Bits of an entry.
const BITS: u32 = 2;

/// The list of a partition that has room is found by this.
const OPEN: &[u8] = b"open";

/// How hard the list is pressed: the best that costs no more than a few milliseconds.
const LEVEL: u8 = 6;

/// What an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// In force.
    Valid = 0,
    /// Not in force, and never again; also where there is no consent.
    Invalid = 1,
    /// Paused.
    Suspended = 2,
}

impl Status {
    /// Of a consent in this state.
    pub const fn of(state: State) -> Self {
        match state {
            State::Granted => Self::Valid,
            State::Paused => Self::Suspended,
            State::Revoked | State::Expired | State::Superseded => Self::Invalid,
        }
    }
}

/// What [`give`] reads.
pub fn reads(keys: &mut Keys) {
    keys.group::<StatusListRow>("open", OPEN);
}

/// Gives a new consent its entry: the next of its partition's list, at a place that does not tell how many were before.
pub fn give(view: &mut View<'_>, lookup: &Lookup, row: &mut ConsentRow) {
    let open = view.group::<StatusListRow>("open", OPEN).into_iter().next();
    let mut list = open.unwrap_or_else(|| {
        let id: StatusListId = view.id("status list");
        StatusListRow {
            id: id.to_vec(),
            given: 0,
        }
    });
    row.status_list.clone_from(&list.id);
    row.status_index = place(&lookup.status_list(&list.id), list.given);
    list.given += 1;
    view.put(&list);
}

/// Where a consent's entry stands, and in which list; `None` of a consent that is older than the lists.
pub fn entry(consent: &ConsentRow) -> Option<(u32, StatusListId)> {
    StatusListId::from_slice(&consent.status_list).map(|list| (consent.status_index, list))
}

/// Where the `n`th entry of a list stands: each place once, in an order that only the key tells.
fn place(key: &[u8; 32], n: u32) -> u32 {
    let [a, b, c, d, e, f, g, h, ..] = *key;
    // Any odd factor runs through all places, for there are a power of two.
    let (factor, first) = (u32::from_be_bytes([a, b, c, d]) | 1, u32::from_be_bytes([e, f, g, h]));
    n.wrapping_mul(factor).wrapping_add(first) % ENTRIES
}

impl StatusListRow {
    /// What an index finds it by while it has room.
    pub fn open(&self) -> Option<Vec<u8>> {
        (self.given < ENTRIES).then(|| OPEN.to_vec())
    }
}

/// A list to be filled.
#[derive(PartialEq, Eq)]
pub struct Bits(Vec<u8>);

impl Default for Bits {
    fn default() -> Self {
        let byte = (0..8 / BITS).fold(0, |byte, n| byte | (Status::Invalid as u8) << (n * BITS));
        Self(vec![byte; (ENTRIES * BITS / 8) as usize])
    }
}

impl Bits {
    /// Writes the entry of a consent that was found by its list. A binary from before the lists drops what a row says of
    /// them when it writes it, and leaves the index: what is then not known to be in force is invalid.
    pub fn tell(&mut self, id: StatusListId, consent: &ConsentRow, now: Micros) {
        if consent.status_list == id.as_bytes() {
            self.set(consent.status_index, Status::of(consent.state_at(now)));
        }
    }

    /// Writes one entry; a place outside the list is none.
    fn set(&mut self, place: u32, status: Status) {
        let (byte, shift) = (place * BITS / 8, place * BITS % 8);
        if let Some(byte) = self.0.get_mut(byte as usize) {
            *byte = *byte & !(0b11 << shift) | (status as u8) << shift;
        }
    }

    /// The list signed, as of `now`.
    ///
    /// # Errors
    /// INTERNAL; it cannot fail for what fits into a claim.
    pub fn sign(&self, keys: &ArtefactKeys, issuer: &str, id: StatusListId, now: Micros) -> Result<String, Refusal> {
        let claims = Claims {
            exp: now.seconds() + LIFE,
            iat: now.seconds(),
            iss: issuer,
            status_list: Packed {
                bits: BITS,
                lst: URL_SAFE_NO_PAD.encode(compress_to_vec_zlib(&self.0, LEVEL)),
            },
            sub: id.name(),
            ttl: LIFE,
        };
        keys.active().sign(TYP, &claims).map_err(|_| broken("a status list"))
    }
}

/// The claims, in RFC 8785 order.
#[derive(Serialize)]
struct Claims<'a> {
    exp: i64,
    iat: i64,
    iss: &'a str,
    status_list: Packed,
    sub: String,
    ttl: i64,
}

#[derive(Serialize)]
struct Packed {
    bits: u32,
    lst: String,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use miniz_oxide::inflate::decompress_to_vec_zlib;
    use sammati_kernel::Slot;

    use super::*;

    #[test]
    fn each_place_is_given_once_and_not_in_the_order_of_the_grants() {
        for key in [[0; 32], [0xff; 32], [7; 32]] {
            let places: BTreeSet<_> = (0..ENTRIES).map(|n| place(&key, n)).collect();
            assert_eq!((places.len(), places.last()), (ENTRIES as usize, Some(&(ENTRIES - 1))));
        }
        assert_ne!(place(&[7; 32], 1), place(&[7; 32], 0) + 1);
    }

    #[test]
    fn an_entry_stands_where_the_draft_says_and_what_was_not_given_is_invalid() {
        let mut bits = Bits::default();
        bits.set(0, Status::Valid);
        bits.set(2, Status::Suspended);
        bits.set(ENTRIES - 1, Status::Valid);
        bits.set(ENTRIES, Status::Valid);
        // The lowest bits of the first byte are the first entry.
        assert_eq!(bits.0[0], 0b01_10_01_00);
        assert_eq!(
            (bits.0[1], bits.0[32_767], bits.0.len()),
            (0b01_01_01_01, 0b00_01_01_01, 32_768)
        );
        bits.set(2, Status::Valid);
        assert_eq!(bits.0[0], 0b01_00_01_00);
        let pressed = compress_to_vec_zlib(&bits.0, LEVEL);
        assert!(pressed.len() < 200);
        assert_eq!(decompress_to_vec_zlib(&pressed).unwrap(), bits.0);
    }

    #[test]
    fn c4_a_row_that_lost_its_place_writes_nobodys_entry() {
        let id = StatusListId::new(Micros(0), Slot::new(0), [1; 8]);
        let mut consent = ConsentRow {
            state: State::Granted.number(),
            expire: 100,
            status_list: id.to_vec(),
            status_index: 3,
            ..ConsentRow::default()
        };
        let mut bits = Bits::default();
        bits.tell(id, &consent, Micros(99));
        assert_eq!(bits.0[0], 0b00_01_01_01);
        bits.tell(id, &consent, Micros(100));
        assert_eq!(bits.0[0], 0b01_01_01_01);
        (consent.status_list, consent.status_index) = (Vec::new(), 0);
        bits.tell(id, &consent, Micros(99));
        assert_eq!(bits.0[0], 0b01_01_01_01);
    }

    #[test]
    fn a_list_with_room_is_open_and_a_full_one_is_not() {
        let mut row = StatusListRow {
            id: vec![1; 16],
            given: ENTRIES - 1,
        };
        assert!(row.open().is_some());
        row.given += 1;
        assert!(row.open().is_none());
    }
}
