//! Where does the next page begin? Sizes of AIP-158, and tokens that are sealed, and good for one caller and query.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use ring::digest::{Context, SHA256};
use sammati_kernel::{Caller, Key, Refusal};

use crate::error;

/// How many a page has when the caller does not say.
pub const DEFAULT_SIZE: usize = 50;

/// How many a page has at most, whatever the caller says.
pub const MAX_SIZE: usize = 1000;

/// Makes and reads page tokens.
#[derive(Debug, Clone)]
pub struct PageTokens(Key);

impl PageTokens {
    /// Tokens under a key derived from `key`, the same on all replicas.
    pub fn new(key: &Key) -> Self {
        Self(key.derive("page tokens"))
    }

    /// The page that `caller` asks `method` for. `query` is the request with its `page_size` and `page_token` cleared:
    /// a token is good only for the query it was made for.
    ///
    /// # Errors
    /// FIELD_INVALID for a negative size, and for a token of another caller, method or query.
    pub fn page(
        &self,
        caller: &Caller,
        method: &str,
        query: &impl Message,
        size: i32,
        token: &str,
    ) -> Result<Page, Refusal> {
        let size = match usize::try_from(size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(n) => n.min(MAX_SIZE),
            Err(_) => return Err(Refusal::field("page_size", "0 for the default of 50, or 1 to 1000")),
        };
        let bound = bound(caller, method, query);
        let after =
            match token {
                "" => None,
                token => {
                    let sealed = URL_SAFE_NO_PAD.decode(token).ok();
                    let opened = sealed.and_then(|sealed| self.0.open(&bound, &sealed));
                    Some(opened.ok_or_else(|| {
                        Refusal::field("page_token", "a next_page_token of the same list and filters")
                    })?)
                }
            };
        Ok(Page {
            size,
            after,
            key: self.0.clone(),
            bound,
        })
    }
}

/// One page of a list.
#[derive(Debug)]
pub struct Page {
    /// How many to return at most.
    pub size: usize,
    /// The sort key of the last item before it, as it was given to [`Page::next`]; `None` on the first page.
    pub after: Option<Vec<u8>>,
    key: Key,
    bound: [u8; 32],
}

impl Page {
    /// The token of the page after the item with the sort key `last`. Leave it empty on the last page.
    ///
    /// # Errors
    /// INTERNAL when the system has no randomness to give.
    pub fn next(&self, last: &[u8]) -> Result<String, tonic::Status> {
        let sealed = self
            .key
            .seal(&self.bound, last)
            .map_err(|_| error::internal("no randomness"))?;
        Ok(URL_SAFE_NO_PAD.encode(sealed))
    }
}

/// What a token is bound to.
fn bound(caller: &Caller, method: &str, query: &impl Message) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in [caller.id().as_bytes(), method.as_bytes(), &query.encode_to_vec()] {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use sammati_kernel::Peer;

    fn caller(name: &str) -> Caller {
        Caller {
            peer: Peer::Operator(name.into()),
            actor: None,
        }
    }

    #[test]
    fn sizes_are_those_of_aip_158() {
        let tokens = PageTokens::new(&Key::from_bytes([1; 32]));
        let size = |n| tokens.page(&caller("a"), "M", &"q".to_owned(), n, "").map(|p| p.size);
        assert_eq!((size(0).unwrap(), size(7).unwrap(), size(5000).unwrap()), (50, 7, 1000));
        assert!(size(-1).is_err());
    }

    #[test]
    fn a_token_is_good_for_its_caller_method_and_query_alone() {
        let tokens = PageTokens::new(&Key::from_bytes([1; 32]));
        let token = tokens
            .page(&caller("a"), "M", &"q".to_owned(), 0, "")
            .unwrap()
            .next(b"key")
            .unwrap();
        let open = |who: &str, method: &str, query: &str, token: &str| {
            tokens
                .page(&caller(who), method, &query.to_owned(), 0, token)
                .ok()
                .and_then(|p| p.after)
        };
        assert_eq!(open("a", "M", "q", &token).as_deref(), Some(&b"key"[..]));
        assert_eq!(open("b", "M", "q", &token), None);
        assert_eq!(open("a", "N", "q", &token), None);
        assert_eq!(open("a", "M", "r", &token), None);
        assert_eq!(open("a", "M", "q", "AAAA"), None);
    }
}
