//! Several keyrings over one key database, as several replicas have them.

use diesel::connection::SimpleConnection;
use sammati_api::types::v1::RetentionClass;
use sammati_store::{Location, on_conn};

use super::*;
use crate::rows::KEY_MIGRATIONS;
use crate::testing::stores;

fn about(tag: u8) -> Leaf {
    Leaf {
        event_id: "019ab0c2-0000-7000-8000-000000000001".to_owned(),
        class: RetentionClass::Consent.into(),
        subject_tag: vec![tag; 32],
        ..Leaf::default()
    }
}

async fn sealed(keyring: &Keyring, now: Micros) -> (Leaf, Vec<u8>) {
    let payload = Payload::default();
    let mut events = [(about(1), &payload)];
    let bytes = keyring.seal(now, &mut events).await.unwrap().remove(0);
    let [(leaf, _)] = events;
    (leaf, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_a_key_that_another_replica_destroyed_seals_and_opens_nothing_more() {
    for (_database, store) in stores(|| KEY_MIGRATIONS) {
        let kek = Key::from_bytes([7; 32]);
        let [one, other] = [(); 2].map(|()| Keyring::new(store.clone(), &kek));
        let now = store.clock().now();
        let [subject, of_month] = key_ids(&sealed(&other, now).await.0);
        let before = sealed(&other, now).await;
        let gone = |generation| Gone {
            generation,
            at: now,
            basis: "her letter",
        };
        assert!(one.destroy(&subject, gone(0)).await.unwrap());
        assert_eq!(
            other.open(std::slice::from_ref(&before)).await.unwrap(),
            [Opened::Erased]
        );
        let after = sealed(&other, now).await;
        assert_eq!((generation(&before.0), generation(&after.0)), (0, 1));
        // Whoever begins anew reads what was told of her since.
        let fresh = Keyring::new(store.clone(), &kek);
        let opened = fresh.open(std::slice::from_ref(&after)).await.unwrap();
        assert!(matches!(opened[..], [Opened::Readable(_)]));
        assert!(one.destroy(&of_month, gone(0)).await.unwrap());
        assert_eq!(other.open(&[after]).await.unwrap(), [Opened::Erased]);
    }
}

/// Several of one name live until each is destroyed; the newest alone seals.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_retired_key_opens_and_seals_no_more() {
    for (_database, store) in stores(|| KEY_MIGRATIONS) {
        let kek = Key::from_bytes([7; 32]);
        let [one, other] = [(); 2].map(|()| Keyring::new(store.clone(), &kek));
        let now = store.clock().now();
        let mut told = vec![sealed(&one, now).await];
        let [subject, _] = key_ids(&told[0].0);
        assert_eq!(one.retire(&[9; 34]).await.unwrap(), -1, "there is none");
        for line in 0..3 {
            assert_eq!(one.retire(&subject).await.unwrap(), line);
            assert_eq!(one.retire(&subject).await.unwrap(), line, "nothing was sealed since");
            told.push(sealed(&other, now).await);
        }
        assert!(other.gone(None, 9).await.unwrap().is_empty(), "none is destroyed");
        let generations: Vec<_> = told.iter().map(|(leaf, _)| generation(leaf)).collect();
        assert_eq!(generations, [0, 1, 2, 3]);
        let readable = async |keyring: &Keyring| {
            let opened = keyring.open(&told).await.unwrap();
            opened
                .iter()
                .map(|opened| matches!(opened, Opened::Readable(_)))
                .collect::<Vec<_>>()
        };
        assert_eq!(readable(&one).await, [true; 4]);
        let gone = |generation| Gone {
            generation,
            at: now,
            basis: "her letter",
        };
        for (through, left) in [(1, [false, false, true, true]), (2, [false, false, false, true])] {
            assert!(other.destroy(&subject, gone(through)).await.unwrap());
            assert!(!one.destroy(&subject, gone(through)).await.unwrap(), "once");
            for keyring in [&one, &other, &Keyring::new(store.clone(), &kek)] {
                assert_eq!(readable(keyring).await, left);
            }
            assert_eq!(one.gone(None, 9).await.unwrap()[0].gone(), through + 1);
        }
        assert_eq!(generation(&sealed(&one, now).await.0), 3);
        assert!(one.destroy(&subject, gone(3)).await.unwrap());
        assert_eq!(readable(&other).await, [false; 4]);
    }
}

/// What a restore lost of several is not taken for destroyed, and not for there.
#[tokio::test(flavor = "multi_thread")]
async fn a3_keys_that_a_restore_lost_are_retired_with_those_that_it_left() {
    for (_database, store) in stores(|| KEY_MIGRATIONS) {
        let kek = Key::from_bytes([7; 32]);
        let keyring = Keyring::new(store, &kek);
        let now = keyring.store.clock().now();
        let first = sealed(&keyring, now).await;
        let [subject, _] = key_ids(&first.0);
        assert!(keyring.retire_through(&subject, 2).await.unwrap());
        assert!(!keyring.retire_through(&subject, 2).await.unwrap(), "once");
        assert!(keyring.gone(None, 9).await.unwrap().is_empty(), "none is destroyed");
        let after = sealed(&keyring, now).await;
        assert_eq!(generation(&after.0), 3);
        let mut lost = first.clone();
        lost.0.key_id = format!("{}/1", lost.0.key_id);
        let opened = keyring.open(&[first, lost, after]).await.unwrap();
        assert!(matches!(
            opened[..],
            [Opened::Readable(_), Opened::Erased, Opened::Readable(_)]
        ));
        let gone = Gone {
            generation: 1,
            at: now,
            basis: "her letter",
        };
        assert!(keyring.destroy(&subject, gone).await.unwrap());
        assert_eq!(keyring.gone(None, 9).await.unwrap()[0].gone(), 2);
    }
}

/// An embedded database is not asked for what is known, until it changes.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_an_embedded_database_is_not_read_again() {
    let (_database, store) = stores(|| KEY_MIGRATIONS).remove(0);
    let path = store.path().expect("the first is embedded").to_owned();
    let keyring = Keyring::new(store, &Key::from_bytes([7; 32]));
    let now = keyring.store.clock().now();
    let before = sealed(&keyring, now).await;
    let mut conn = Location::Sqlite(path).connect().unwrap();
    on_conn!(&mut conn, |c| c.batch_execute("DELETE FROM payload_key")).unwrap();
    let after = sealed(&keyring, now).await;
    let opened = keyring.open(&[before, after]).await.unwrap();
    assert!(matches!(opened[..], [Opened::Readable(_), Opened::Readable(_)]));
}

/// Whoever destroys a key may go away before it is destroyed: then, too, it is not known any more.
#[tokio::test(flavor = "multi_thread")]
async fn a3_a_key_is_forgotten_though_nobody_waits_for_its_end() {
    for (_database, store) in stores(|| KEY_MIGRATIONS) {
        let keyring = Keyring::new(store, &Key::from_bytes([7; 32]));
        let now = keyring.store.clock().now();
        let told = sealed(&keyring, now).await;
        let [subject, _] = key_ids(&told.0);
        let gone = Gone {
            generation: 0,
            at: now,
            basis: "her letter",
        };
        {
            let mut destroying = std::pin::pin!(keyring.destroy(&subject, gone));
            assert!(futures::poll!(destroying.as_mut()).is_pending());
        }
        let erased = async {
            while keyring.open(std::slice::from_ref(&told)).await.unwrap() != [Opened::Erased] {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), erased)
            .await
            .expect("its key is gone");
    }
}

/// What was read before a key ended is not known after it.
#[tokio::test(flavor = "multi_thread")]
async fn a3_what_was_read_before_a_key_ended_is_not_kept() {
    let (_database, store) = stores(|| KEY_MIGRATIONS).remove(0);
    let known = Arc::new(Known::of(&store));
    let held: Arc<[Held]> = Arc::new([Held {
        key: Key::from_bytes([1; 32]),
        generation: 0,
    }]);
    let before = known.changes();
    known.keep(b"one", &held, before);
    assert!(known.get(b"one").is_some());
    known.change(&store, b"one", Retire(b"one".to_vec())).await.unwrap();
    assert!(known.get(b"one").is_none());
    known.keep(b"one", &held, before);
    assert!(known.get(b"one").is_none(), "it was read before");
    known.keep(b"one", &held, known.changes());
    assert!(known.get(b"one").is_some());
}
