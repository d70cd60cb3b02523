//! Where in its stream is a recipient? A sealed vector of places, one for each partition.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use prost::Message;
use sammati_kernel::{Key, Reason, Refusal};
use sammati_store::Head;

/// What a recipient has seen of one partition.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Place {
    /// The partition.
    #[prost(int64, tag = "1")]
    pub partition: i64,
    /// The epoch of its feed.
    #[prost(int64, tag = "2")]
    pub epoch: i64,
    /// The last position seen; −1 is none.
    #[prost(sint64, tag = "3")]
    pub seen: i64,
}

/// What a recipient has seen.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Places {
    /// One for each partition, ascending.
    #[prost(message, repeated, tag = "1")]
    pub places: Vec<Place>,
}

/// Seals and opens resume tokens: good for one recipient.
#[derive(Debug, Clone)]
pub struct ResumeTokens(Key);

impl ResumeTokens {
    /// Under a key derived from the store's.
    pub fn new(key: &Key) -> Self {
        Self(key.derive("notification places"))
    }

    /// As text that means nothing to whoever carries it.
    pub fn seal(&self, recipient: &str, places: &Places) -> String {
        let sealed = self.0.seal(recipient.as_bytes(), &places.encode_to_vec());
        sealed.map(|sealed| B64.encode(sealed)).unwrap_or_default()
    }

    /// Reads one back, against where the feeds are.
    ///
    /// # Errors
    /// POSITION_UNKNOWN when it is no token of this recipient's, of another epoch, or ahead of the feed.
    pub fn open(&self, recipient: &str, token: &str, heads: &[(i64, Head)]) -> Result<Places, Refusal> {
        let sealed = B64.decode(token).ok();
        let plain = sealed.and_then(|sealed| self.0.open(recipient.as_bytes(), &sealed));
        let places = plain
            .and_then(|plain| Places::decode(plain.as_slice()).ok())
            .ok_or_else(unknown)?;
        let known = |place: &Place| {
            let head = heads.iter().find(|(partition, _)| *partition == place.partition);
            head.is_some_and(|(_, head)| head.epoch == place.epoch && place.seen < head.next)
        };
        if places.places.len() == heads.len() && places.places.iter().all(known) {
            Ok(places)
        } else {
            Err(unknown())
        }
    }

    /// Before everything.
    pub fn beginning(heads: &[(i64, Head)]) -> Places {
        let place = |(partition, head): &(i64, Head)| Place {
            partition: *partition,
            epoch: head.epoch,
            seen: -1,
        };
        Places {
            places: heads.iter().map(place).collect(),
        }
    }
}

fn unknown() -> Refusal {
    Refusal::new(Reason::PositionUnknown).saying("begin again without a token, and read your consents anew")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_recipient_and_epoch() {
        let heads = vec![
            (
                0,
                Head {
                    epoch: 1,
                    next: 5,
                    chain: Vec::new(),
                },
            ),
            (
                1,
                Head {
                    epoch: 1,
                    next: 0,
                    chain: Vec::new(),
                },
            ),
        ];
        let tokens = ResumeTokens::new(&Key::from_bytes([1; 32]));
        let mut places = ResumeTokens::beginning(&heads);
        places.places[0].seen = 4;
        let token = tokens.seal("participants/a1", &places);
        assert_eq!(tokens.open("participants/a1", &token, &heads).unwrap(), places);
        assert!(tokens.open("participants/b1", &token, &heads).is_err());
        let restored = vec![
            (
                0,
                Head {
                    epoch: 2,
                    next: 5,
                    chain: Vec::new(),
                },
            ),
            heads[1].clone(),
        ];
        assert!(tokens.open("participants/a1", &token, &restored).is_err());
        let behind = vec![
            (
                0,
                Head {
                    epoch: 1,
                    next: 4,
                    chain: Vec::new(),
                },
            ),
            heads[1].clone(),
        ];
        assert_eq!(
            tokens.open("participants/a1", &token, &behind).unwrap_err().reason,
            Reason::PositionUnknown
        );
    }
}
