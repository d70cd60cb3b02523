//! Link tokens and care contexts.

use sammati_api::consent::v1 as api;
use sammati_api::consent::v1::link_service_server::LinkService;
use sammati_api::types::v1 as types;
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
        // The reference of the call is that of its care contexts, said again or not.
        let mut links = w.links(&token, &["visit-3"]);
        links.care_contexts[0].patient_reference.clear();
        let more = w.link_of("hospital", links).await.unwrap();
        assert!(more.care_contexts.iter().all(|c| c.patient_reference == "MRN-17"));
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
        let asha = w.person("asha.rao@sbx");
        assert_eq!(reason(w.link_token("asha.rao@sbx", 1987).await), Reason::NoMatch);
        assert_eq!(reason(w.link_token("asha.rao@sbx", 1986).await), Reason::NoMatch);
        assert!(w.link_token("asha.rao@sbx", 1990).await.is_ok());
        let blocked = refused(w.link_token("asha.rao@sbx", 1990).await);
        assert_eq!(blocked.reason, Reason::LinkTokenLimit);
        assert!(blocked.retry_after.unwrap().as_secs() >= 86_000);
        // Another of her addresses is no other count, and what is tried during a block leaves its event.
        w.also(asha, "rao.asha@sbx");
        assert_eq!(reason(w.link_token("rao.asha@sbx", 1990).await), Reason::LinkTokenLimit);
        w.advance(DAY + 1);
        assert!(w.link_token("rao.asha@sbx", 1990).await.is_ok());
        assert_eq!(
            (w.count("link.token_issued").await, w.count("link.token_refused").await),
            (2, 4)
        );
        // An address that is nobody's is refused in the same words.
        assert_eq!(
            refused(w.link_token("nobody.here@sbx", 1990).await).message,
            refused(w.link_token("nobody.here@sbx", 1990).await).message
        );
    });
}

#[test]
fn z1_a_number_and_its_own_address_are_one_count_though_they_are_nobodys() {
    everywhere(|w| async move {
        let (digits, address) = ("91123456789015", "91123456789015@sbx");
        let number = types::identifier::Identifier::AbhaNumber(digits.into());
        for _ in 0..2 {
            let mut tries = w.tries(address, 1990);
            tries.identifier.as_mut().unwrap().identifier = Some(number.clone());
            assert_eq!(reason(w.issue("hospital", tries).await), Reason::NoMatch);
        }
        assert_eq!(reason(w.link_token(address, 1990).await), Reason::NoMatch);
        assert_eq!(reason(w.link_token(address, 1990).await), Reason::LinkTokenLimit);
    });
}

#[test]
fn a_token_that_is_not_ours_or_too_old_links_nothing() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        assert_eq!(reason(w.link("a.b.c", &["visit-1"]).await), Reason::LinkTokenInvalid);
        let token = w.link_token("asha.rao@sbx", 1990).await.unwrap().link_token;
        w.advance(182 * DAY + DAY / 2 - 10);
        let links = w.links(&token, &["visit-1"]);
        let link = w.link_of("hospital", links.clone()).await.unwrap();
        w.advance(10);
        assert_eq!(reason(w.link(&token, &["visit-2"]).await), Reason::LinkTokenExpired);
        // A repeat is told what came of it.
        assert_eq!(w.link_of("hospital", links).await.unwrap().name, link.name);
        assert_eq!(w.count("identity.linked").await, 1);
    });
}

#[test]
fn a_care_context_of_a_provider_is_linked_once_to_whomever() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        w.person("ravi.kumar@sbx");
        w.linked("asha.rao@sbx", &["visit-1"]).await;
        let token = w.link_token("ravi.kumar@sbx", 1990).await.unwrap().link_token;
        assert_eq!(
            reason(w.link(&token, &["visit-2", "visit-1"]).await),
            Reason::AlreadyLinked
        );
        assert!(w.link(&token, &["visit-2"]).await.is_ok());
        // Another provider's reference is another care context.
        let token = w.link_token_of("lab", "ravi.kumar@sbx", 1990).await.unwrap().link_token;
        assert!(w.link_of("lab", w.links(&token, &["visit-1"])).await.is_ok());
    });
}

#[test]
fn during_a_block_nobody_is_asked_and_the_future_is_no_year_of_birth() {
    everywhere(|w| async move {
        let asked = || w.people.asked.load(std::sync::atomic::Ordering::Relaxed);
        for _ in 0..3 {
            assert_eq!(reason(w.link_token("nobody.here@sbx", 1990).await), Reason::NoMatch);
        }
        assert_eq!(
            reason(w.link_token("nobody.here@sbx", 1990).await),
            Reason::LinkTokenLimit
        );
        let before = asked();
        assert_eq!(
            reason(w.link_token("nobody.here@sbx", 1990).await),
            Reason::LinkTokenLimit
        );
        assert_eq!((asked(), w.count("link.token_refused").await), (before, 5));
        // A repeat is told what came of it, though she is somebody by now; and nobody is asked for it.
        let tries = w.tries("asha.rao@sbx", 1990);
        assert_eq!(reason(w.issue("hospital", tries.clone()).await), Reason::NoMatch);
        w.person("asha.rao@sbx");
        let before = asked();
        assert_eq!(reason(w.issue("hospital", tries).await), Reason::NoMatch);
        assert_eq!((asked(), w.count("link.token_refused").await), (before, 6));
        // It is January 2027.
        let refusal = refused(w.link_token("asha.rao@sbx", 2028).await);
        let fields: Vec<_> = refusal.violations.iter().map(|v| v.field.as_ref()).collect();
        assert_eq!(fields, ["demographics.year_of_birth"]);
        assert_eq!(reason(w.link_token("asha.rao@sbx", 2027).await), Reason::NoMatch);
    });
}

#[test]
fn a_provider_links_two_thousand_care_contexts_of_one_person() {
    everywhere(|w| async move {
        w.person("asha.rao@sbx");
        let token = w.link_token("asha.rao@sbx", 1990).await.unwrap().link_token;
        let calls = (0..100).map(|call| {
            let references: Vec<_> = (0..20).map(|n| format!("visit-{call}-{n}")).collect();
            let references: Vec<_> = references.iter().map(String::as_str).collect();
            w.link_of("hospital", w.links(&token, &references))
        });
        for done in futures::future::join_all(calls).await {
            done.unwrap();
        }
        assert_eq!(reason(w.link(&token, &["visit-more"]).await), Reason::LinkLimit);
        let token = w.link_token_of("lab", "asha.rao@sbx", 1990).await.unwrap().link_token;
        assert!(w.link_of("lab", w.links(&token, &["visit-more"])).await.is_ok());
    });
}
