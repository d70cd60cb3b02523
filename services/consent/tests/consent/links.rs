//! Link tokens and care contexts.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::link_service_server::LinkService;
use sammati_kernel::Reason;

use crate::world::{DAY, by, everywhere, participant, reason, refused};

#[test]
fn care_contexts_are_linked_once_and_a_second_call_adds() {
    everywhere(|w| async move {
        let account = w.person("asha.rao@sbx");
        let token = w.link_token("asha.rao@sbx", 1990).await.unwrap().link_token;
        let link = w.link(&token, &["visit-1", "visit-2"]).await.unwrap();
        assert_eq!((link.care_contexts.len(), link.subject.as_str()), (2, ""));
        let refusal = refused(w.link(&token, &["visit-3", "visit-2"]).await);
        assert_eq!(refusal.reason, Reason::AlreadyLinked);
        let more = w.link(&token, &["visit-3"]).await.unwrap();
        assert_eq!((&more.name, more.care_contexts.len()), (&link.name, 3));
        let order: Vec<_> = more
            .care_contexts
            .iter()
            .map(|c| c.care_context_reference.as_str())
            .collect();
        assert_eq!(order, ["visit-1", "visit-2", "visit-3"]);
        for who in [w.she(account), participant("hospital")] {
            let links = w
                .rpc()
                .list_links(by(&who, Default::default()))
                .await
                .unwrap()
                .into_inner()
                .links;
            assert_eq!((links.len(), links[0].care_contexts.len()), (1, 3));
        }
        assert!(
            w.rpc()
                .list_links(by(&participant("lab"), Default::default()))
                .await
                .unwrap()
                .into_inner()
                .links
                .is_empty()
        );
        let told = w.notifications(&w.she(account)).await;
        assert_eq!(
            told.iter()
                .filter(|n| n.kind() == api::notification::Kind::Linked)
                .count(),
            2
        );
        assert_eq!(w.count("identity.linked").await, 2);
    });
}

#[test]
fn tries_are_counted_whatever_comes_of_them() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        assert_eq!(reason(w.link_token("asha.rao@sbx", 1987).await), Reason::NoMatch);
        assert_eq!(reason(w.link_token("asha.rao@sbx", 1986).await), Reason::NoMatch);
        assert!(w.link_token("asha.rao@sbx", 1990).await.is_ok());
        let blocked = refused(w.link_token("asha.rao@sbx", 1990).await);
        assert_eq!(blocked.reason, Reason::LinkTokenLimit);
        assert!(blocked.retry_after.unwrap().as_secs() >= 86_000);
        w.advance(DAY + 1);
        assert!(w.link_token("asha.rao@sbx", 1990).await.is_ok());
        assert_eq!(
            (w.count("link.token_issued").await, w.count("link.token_refused").await),
            (2, 3)
        );
        // An address that is nobody's is refused in the same words.
        assert_eq!(
            refused(w.link_token("nobody.here@sbx", 1990).await).message,
            refused(w.link_token("nobody.here@sbx", 1990).await).message
        );
    });
}

#[test]
fn a_token_that_is_not_ours_or_too_old_links_nothing() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        assert_eq!(reason(w.link("a.b.c", &["visit-1"]).await), Reason::LinkTokenInvalid);
        let token = w.link_token("asha.rao@sbx", 1990).await.unwrap().link_token;
        w.advance(183 * DAY);
        assert_eq!(reason(w.link(&token, &["visit-1"]).await), Reason::LinkTokenExpired);
        assert_eq!(w.count("identity.linked").await, 0);
    });
}
