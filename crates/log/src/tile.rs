//! `c2sp.org/tlog-tiles`: stored hashes in runs of 256. A tile of level L holds hashes at height 8·L;
//! those between are recomputed from it. A full tile never changes; the last one of a level is partial.

use std::collections::{BTreeSet, HashMap};

use crate::error::check_size;
use crate::hash::node_hash;
use crate::proof::HashReader;
use crate::{Error, Hash32, MAX_SIZE, path, text};

/// Tree levels that one tile spans.
pub const HEIGHT: u8 = 8;
/// Hashes in a full tile.
pub const FULL: u16 = 1 << HEIGHT;
/// Tile levels that a log can have: 8 · 8 = 64 tree levels.
pub const LEVELS: u8 = 8;

/// Which tile: its level, its position within the level and how many hashes it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TileId {
    level: u8,
    index: u64,
    width: u16,
}

impl TileId {
    /// `width` is 1 to 256.
    ///
    /// # Errors
    /// [`Error::Malformed`] if no log of at most [`MAX_SIZE`] leaves has such a tile.
    pub fn new(level: u8, index: u64, width: u16) -> Result<Self, Error> {
        let hashes = index
            .checked_mul(u64::from(FULL))
            .and_then(|n| n.checked_add(u64::from(width)));
        let fits = level < LEVELS && hashes.is_some_and(|n| n <= MAX_SIZE >> (HEIGHT * level));
        if !fits || width == 0 || width > FULL {
            let why = format!("no log has a tile {index} of level {level}, {width} wide");
            return Err(Error::malformed("tile", why));
        }
        Ok(Self { level, index, width })
    }

    /// Tile level: its hashes are at height 8 times this.
    #[must_use]
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// Position within the level.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Hashes in it, 1 to 256.
    #[must_use]
    pub const fn width(&self) -> u16 {
        self.width
    }

    /// Whether it has all 256 hashes and so can never change.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.width == FULL
    }

    /// `tile/<level>/<index in groups of three digits>[.p/<width>]`, such as `tile/0/x001/x234/067.p/8`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("tile/{}/{}", self.level, path::format(self.index, self.width))
    }

    /// The inverse of [`TileId::path`]; accepts that one spelling only.
    ///
    /// # Errors
    /// [`Error::Malformed`].
    pub fn parse_path(path: &str) -> Result<Self, Error> {
        let bad = || Error::malformed("tile path", format!("{path:.80?}"));
        let rest = path.strip_prefix("tile/").ok_or_else(bad)?;
        let (level, rest) = rest.split_once('/').ok_or_else(bad)?;
        let level = text::decimal(level).and_then(|level| u8::try_from(level).ok());
        let (index, width) = path::parse(rest).ok_or_else(bad)?;
        Self::new(level.ok_or_else(bad)?, index, width)
    }
}

/// The tiles that growing from `old_size` to `new_size` leaves completes or changes, as they are at
/// `new_size`, level by level. Lazy, for the growth may be large.
///
/// # Errors
/// [`Error::SizesReversed`], [`Error::TooLarge`].
pub fn changed(old_size: u64, new_size: u64) -> Result<impl Iterator<Item = TileId>, Error> {
    check_size(new_size)?;
    if old_size > new_size {
        return Err(Error::SizesReversed {
            first: old_size,
            second: new_size,
        });
    }
    Ok((0..LEVELS).flat_map(move |level| {
        let (old, new) = (old_size >> (HEIGHT * level), new_size >> (HEIGHT * level));
        let tiles = old / u64::from(FULL)..new.div_ceil(u64::from(FULL));
        let tiles = if old == new { 0..0 } else { tiles };
        tiles.map(move |index| TileId {
            level,
            index,
            width: width_at(new, index),
        })
    }))
}

/// The tiles, as they are in a tree of `size` leaves, that hold these (level, index) hashes; each once, in
/// ascending order. With [`crate::proof::Plan::needs`] it says what to load for a proof.
///
/// # Errors
/// [`Error::MissingHash`] for a hash that a tree of this size does not have; [`Error::TooLarge`].
pub fn holding(needs: &[(u8, u64)], size: u64) -> Result<Vec<TileId>, Error> {
    check_size(size)?;
    let mut tiles = BTreeSet::new();
    for &(level, index) in needs {
        let missing = Error::MissingHash { level, index };
        let place = Place::of(level, index).ok_or_else(|| missing.clone())?;
        let hashes = size >> (HEIGHT * place.level);
        if place.tile * u64::from(FULL) + u64::from(place.offset + place.count) > hashes {
            return Err(missing);
        }
        let width = width_at(hashes, place.tile);
        tiles.insert(TileId {
            level: place.level,
            index: place.tile,
            width,
        });
    }
    Ok(tiles.into_iter().collect())
}

/// Width of tile `index` of a level that has `hashes` hashes, more than `index * 256`.
fn width_at(hashes: u64, index: u64) -> u16 {
    u16::try_from(hashes - index * u64::from(FULL)).map_or(FULL, |width| width.min(FULL))
}

/// Where the hash of a complete subtree is found: `count` neighbouring hashes of one tile.
struct Place {
    level: u8,
    tile: u64,
    offset: u16,
    count: u16,
}

impl Place {
    /// None if no log of at most [`MAX_SIZE`] leaves has this subtree.
    fn of(level: u8, index: u64) -> Option<Self> {
        let exists = level < 63 && index < MAX_SIZE >> level;
        exists.then(|| {
            let first = index << (level % HEIGHT);
            Self {
                level: level / HEIGHT,
                tile: first / u64::from(FULL),
                offset: (first % u64::from(FULL)) as u16,
                count: 1 << (level % HEIGHT),
            }
        })
    }
}

/// A tile with its hashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    level: u8,
    index: u64,
    hashes: Vec<Hash32>,
}

impl Tile {
    /// From 1 to 256 hashes.
    ///
    /// # Errors
    /// [`Error::Malformed`] as for [`TileId::new`].
    pub fn new(level: u8, index: u64, hashes: Vec<Hash32>) -> Result<Self, Error> {
        TileId::new(level, index, u16::try_from(hashes.len()).unwrap_or(u16::MAX))?;
        Ok(Self { level, index, hashes })
    }

    /// Which tile it is.
    #[must_use]
    pub const fn id(&self) -> TileId {
        // Never more than 256 hashes.
        TileId {
            level: self.level,
            index: self.index,
            width: self.hashes.len() as u16,
        }
    }

    /// Its hashes, left to right.
    #[must_use]
    pub fn hashes(&self) -> &[Hash32] {
        &self.hashes
    }

    /// The hash of the subtree that a full tile is.
    #[must_use]
    pub fn above(&self) -> Option<Hash32> {
        self.id().is_full().then(|| fold(self.hashes.clone())).flatten()
    }

    /// The hashes one after the other: the bytes that `tlog-tiles` serves.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.hashes.len() * Hash32::LEN);
        // Piece by piece, not byte by byte: whoever appends does this each time.
        self.hashes.iter().for_each(|hash| bytes.extend_from_slice(&hash.0));
        bytes
    }

    /// The inverse of [`Tile::encode`] for the tile of this name.
    ///
    /// # Errors
    /// [`Error::Damaged`] if the bytes are not as many as its width says.
    pub fn decode(id: TileId, bytes: &[u8]) -> Result<Self, Error> {
        let (hashes, tail) = bytes.as_chunks::<{ Hash32::LEN }>();
        if hashes.len() != usize::from(id.width) || !tail.is_empty() {
            let why = format!("{} has {} bytes", id.path(), bytes.len());
            return Err(Error::Damaged { why });
        }
        let hashes = hashes.iter().map(|hash| Hash32(*hash)).collect();
        Ok(Self {
            level: id.level,
            index: id.index,
            hashes,
        })
    }
}

/// Puts the hashes that [`crate::edge::RightEdge::append`] returned into tiles. `open` are the partial tiles
/// of the tree before and becomes those of the tree after; the answer is every tile that changed, full ones
/// first, partial ones with their new width.
///
/// # Errors
/// [`Error::Damaged`] if the open tiles are not those of the tree that was appended to; `open` is then of no
/// more use.
pub fn grow(open: &mut Vec<Tile>, completed: &[(u8, u64, Hash32)]) -> Result<Vec<Tile>, Error> {
    let (mut done, mut touched) = (Vec::new(), BTreeSet::new());
    for &(level, index, hash) in completed.iter().filter(|(level, ..)| level % HEIGHT == 0) {
        let level = level / HEIGHT;
        let (tile, offset) = (index / u64::from(FULL), (index % u64::from(FULL)) as usize);
        let gap = || Error::Damaged {
            why: format!("hash {index} does not continue tile level {level}"),
        };
        let at = match open.iter().position(|tile| tile.level == level) {
            Some(at) => at,
            None => {
                open.push(Tile {
                    level,
                    index: tile,
                    hashes: Vec::with_capacity(usize::from(FULL)),
                });
                open.len() - 1
            }
        };
        let last = open.get_mut(at).filter(|t| t.index == tile && t.hashes.len() == offset);
        let last = last.ok_or_else(gap)?;
        last.hashes.push(hash);
        touched.insert(level);
        if last.hashes.len() == usize::from(FULL) {
            done.push(open.swap_remove(at));
        }
    }
    done.extend(open.iter().filter(|tile| touched.contains(&tile.level)).cloned());
    Ok(done)
}

/// Loaded tiles as the source of a proof's hashes.
#[derive(Debug, Clone, Default)]
pub struct TileSet(HashMap<(u8, u64), Tile>);

impl FromIterator<Tile> for TileSet {
    fn from_iter<I: IntoIterator<Item = Tile>>(tiles: I) -> Self {
        Self(tiles.into_iter().map(|tile| ((tile.level, tile.index), tile)).collect())
    }
}

impl HashReader for TileSet {
    fn read(&self, level: u8, index: u64) -> Result<Hash32, Error> {
        let missing = || Error::MissingHash { level, index };
        let place = Place::of(level, index).ok_or_else(missing)?;
        let tile = self.0.get(&(place.level, place.tile)).ok_or_else(missing)?;
        let hashes = usize::from(place.offset)..usize::from(place.offset + place.count);
        let row = tile.hashes.get(hashes).ok_or_else(missing)?.to_vec();
        fold(row).ok_or_else(missing)
    }
}

/// The hash over a power of two of neighbouring hashes: they are halved until one is left.
fn fold(mut row: Vec<Hash32>) -> Option<Hash32> {
    while row.len() > 1 {
        let (pairs, _) = row.as_chunks::<2>();
        row = pairs.iter().map(|&[left, right]| node_hash(left, right)).collect();
    }
    row.first().copied()
}
