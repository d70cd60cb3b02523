//! fsck makes the log again from its leaves, and finds what was changed beside the service.

use diesel::connection::SimpleConnection;
use sammati_audit::fsck;
use sammati_audit::rows::{
    CosignatureRow, Done, ErasureRow, HoldRow, KEY_MIGRATIONS, LeafRow, MIGRATIONS, PostingRow, SLOT, SubjectRow,
    key_tables, log_tables,
};
use sammati_kernel::{Refusal, Slot};
use sammati_log::cosignature::Witness;
use sammati_log::subject::verify_since;
use sammati_store::verbs::{self, Disagreement, Known, More};
use sammati_store::{AnyConn, Command, EmbeddedMigrations, Keys, Location, Record, View, on_conn};

use crate::fixture::{Audit, everywhere, some_event};
use crate::flipping::eventful;
use crate::subject::{judged, proved, whole};

pub(crate) fn check(location: &Location) -> Vec<String> {
    check_with(location, &[])
}

/// The same, of a log with these witnesses.
pub(crate) fn check_with(location: &Location, witnesses: &[Witness]) -> Vec<String> {
    let more = fsck::log(witnesses.to_vec());
    checked(location, &MIGRATIONS, &log_tables(), Some(&more))
}

/// Of a database of keys.
pub(crate) fn check_keys(location: &Location) -> Vec<String> {
    checked(location, &KEY_MIGRATIONS, &key_tables(), None)
}

fn checked(location: &Location, migrations: &EmbeddedMigrations, tables: &[Known], more: Option<&More>) -> Vec<String> {
    let mut found = Vec::new();
    let tell = &mut |one: &Disagreement| found.push(one.to_string());
    let summary = verbs::fsck(location, migrations, tables, more, tell).unwrap();
    assert_eq!(summary.disagreements, found.len() as u64);
    found
}

pub(crate) fn execute(location: &Location, sql: &str) {
    let mut conn = location.connect().unwrap();
    let literal = if matches!(conn, AnyConn::Pg(_)) { r"'\x" } else { "X'" };
    let sql = sql.replace('{', literal).replace('}', "'");
    on_conn!(&mut conn, |c| c.batch_execute(&sql)).unwrap();
}

/// More than a full tile, signed at several sizes.
#[tokio::test(flavor = "multi_thread")]
async fn a2_fsck_finds_a_leaf_a_tile_or_a_checkpoint_that_was_changed() {
    for audit in everywhere().await {
        for _ in 0..3 {
            audit
                .append((0..100).map(|n| some_event(n % 7)).collect())
                .await
                .unwrap();
            audit.log.newest().await.unwrap();
        }
        let location = audit.location();
        let damages = [
            // Two rows change places: each is well in itself.
            (
                "leaf",
                "00000000000000ff",
                "00000000000000fe",
                vec![
                    "its body says that its key is",
                    "tile 0 of level 0: its hashes",
                    "checkpoint 300: SIGNED",
                ],
            ),
            (
                "checkpoint",
                "0000000000000064",
                "00000000000000c8",
                vec!["checkpoint 0000000000000064: its body says that its key is"],
            ),
        ];
        let swap = |table: &str, a: &str, b: &str| {
            let steps = [(a, "ee"), (b, a), ("ee", b)];
            let step = |(from, to)| format!("UPDATE {table} SET id={{{to}}} WHERE id={{{from}}};");
            steps.map(step).concat()
        };
        std::thread::scope(|scope| {
            let all = || {
                assert_eq!(check(&location), Vec::<String>::new());
                for (table, a, b, said) in damages {
                    execute(&location, &swap(table, a, b));
                    let found = check(&location).join("\n");
                    for said in said {
                        assert!(found.contains(said), "{table}: {found}");
                    }
                    execute(&location, &swap(table, a, b));
                    assert_eq!(check(&location), Vec::<String>::new(), "put back");
                }
                execute(
                    &location,
                    "UPDATE leaf SET id={ffffffffffffffff} WHERE id={000000000000000a}",
                );
                let found = check(&location).join("\n");
                assert!(found.contains("leaf 10: missing"), "{found}");
                execute(
                    &location,
                    "UPDATE leaf SET id={000000000000000a} WHERE id={ffffffffffffffff}",
                );
                execute(&location, "DELETE FROM tile");
                let found = check(&location);
                assert_eq!(found, ["partition 0, tile 0 of level 0: missing"]);
            };
            scope.spawn(all).join().unwrap();
        });
    }
}

/// A1: a log that took an event twice is sound in all else, so nothing else tells of it. Both leaves in one page of those that
/// are read at a time, and each in another.
#[tokio::test(flavor = "multi_thread")]
async fn a1_fsck_finds_an_event_that_has_two_leaves() {
    for between in [3, 600] {
        for audit in everywhere().await {
            let twice = some_event(1);
            audit.append(vec![twice.clone()]).await.unwrap();
            let others = (0..between).map(|n| some_event((n % 7) as u8));
            audit.append(others.collect()).await.unwrap();
            let location = audit.location();
            let aside = |sql: &'static str| {
                std::thread::scope(|scope| {
                    scope
                        .spawn(|| (execute(&location, sql), check(&location)).1)
                        .join()
                        .unwrap()
                })
            };
            let found = aside("UPDATE leaf SET event_id=NULL WHERE id={0000000000000000}");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(
                found[0].contains("leaf 0: the id of its event does not find it"),
                "{found:?}"
            );
            audit.append(vec![twice.clone()]).await.unwrap();
            let found = aside(
                "UPDATE leaf SET event_id=(SELECT event_id FROM leaf ORDER BY id DESC LIMIT 1) WHERE id={0000000000000000}",
            );
            let said = format!(
                "partition 0, leaf {}: has the event that leaf 0 has already",
                between + 1
            );
            assert_eq!(found, [said]);
        }
    }
}

/// Writes a row as the service would, check value and all.
struct Put<R>(R);

impl<R: Record + Send + Sync> Command for Put<R> {
    type Answer = ();
    const NAME: &'static str = "test.put";

    fn slot(&self) -> Slot {
        SLOT
    }

    fn reads(&self, keys: &mut Keys) {
        keys.row::<R>(self.0.key());
    }

    fn decide(&self, view: &mut View<'_>) -> Result<(), Refusal> {
        view.put(&self.0);
        Ok(())
    }
}

/// The records of a table of the log.
async fn all<R: Record + Send>(audit: &Audit) -> Vec<R> {
    let rows = audit.store.read(|r| r.scan::<R>((0, &[]), 1000)).await;
    rows.unwrap().into_iter().map(|row| row.record).collect()
}

/// Puts each record as it is changed, and the one that was there back.
async fn contradicts<R: Record + Send + Sync>(
    audit: &Audit,
    witnesses: &[Witness],
    change: impl Fn(&mut R),
    said: &str,
) {
    let rows = all::<R>(audit).await;
    assert!(!rows.is_empty());
    for row in rows {
        let mut changed = row.clone();
        change(&mut changed);
        audit.store.apply(Put(changed)).await.unwrap();
        let (location, keys) = (audit.location(), witnesses.to_vec());
        let found = std::thread::spawn(move || check_with(&location, &keys).join("\n"));
        let found = found.join().unwrap();
        assert!(found.contains(said), "{}: {found}", R::TABLE.name);
        audit.store.apply(Put(row)).await.unwrap();
    }
}

/// Whoever changes a row and its check value does not change what the log tells.
#[tokio::test(flavor = "multi_thread")]
async fn a2_fsck_finds_a_row_that_the_log_contradicts() {
    for audit in everywhere().await {
        let (audit, witness) = eventful(audit).await;
        let key = [witness.key()];
        // Nobody was erased who is only emptied.
        let mut kept = all::<LeafRow>(&audit)
            .await
            .into_iter()
            .filter(|leaf| !leaf.payload.is_empty());
        let kept = kept.next().unwrap();
        let mut emptied = kept.clone();
        (emptied.payload, emptied.names) = (Vec::new(), Vec::new());
        audit.store.apply(Put(emptied)).await.unwrap();
        let location = audit.location();
        let found = std::thread::spawn(move || check(&location).join("\n")).join().unwrap();
        let gone = format!(
            "leaf {}: its payload is gone, and no row says that its key ended",
            kept.index
        );
        assert!(found.contains(&gone), "{found}");
        audit.store.apply(Put(kept)).await.unwrap();
        let signed = "it is not the witness's, of this checkpoint and at its time";
        contradicts::<CosignatureRow>(&audit, &key, |row| row.time += 1, signed).await;
        let ended = "does not record the end of the key that it says";
        contradicts::<ErasureRow>(&audit, &key, |row| row.done.push(Done::default()), ended).await;
        let other = |row: &mut ErasureRow| row.done.iter_mut().for_each(|done| done.at += 1);
        let done = all::<ErasureRow>(&audit)
            .await
            .into_iter()
            .find(|row| !row.done.is_empty());
        let mut done = done.expect("one is done");
        other(&mut done);
        audit.store.apply(Put(done.clone())).await.unwrap();
        let (location, holds) = (audit.location(), "legal holds: are not as many");
        contradicts::<HoldRow>(&audit, &key, |row| row.lifted = i64::from(row.lifted == 0), holds).await;
        let gone = move || {
            assert!(check(&location).join("\n").contains(ended));
            for (table, said) in [
                ("erasure", "records the end of a key that no row knows of"),
                ("legal_hold", holds),
                ("succession", "seal: kept as None, but the leaves say Some"),
            ] {
                execute(&location, &format!("DELETE FROM {table}"));
                let found = check(&location).join("\n");
                assert!(found.contains(said), "{table}: {found}");
            }
        };
        std::thread::spawn(gone).join().unwrap();
    }
}

/// The page without the last leaf that a tag is found at: five bytes of it, how many bytes follow, and those, here one a leaf.
fn without_the_last(page: &mut PostingRow, tag: &[u8]) {
    let at = page.postings.windows(5).position(|part| part == &tag[..5]).unwrap() + 5;
    let spelled = page.postings[at];
    page.postings.remove(at + usize::from(spelled));
    page.postings[at] = spelled - 1;
}

/// I12: a hand in the database sets her chain back by one and takes the leaf out of the look-up too, check values and all: the
/// service has nothing to see it by. Whoever kept a head sees it, and fsck, then and after her next event.
#[tokio::test(flavor = "multi_thread")]
async fn i12_a_subject_and_its_look_up_that_are_set_back_together_are_found() {
    for audit in everywhere().await {
        audit.append((0..9).map(|n| some_event(n % 3)).collect()).await.unwrap();
        // That she asks is told behind the list of which the head is kept: twice, so that it has the first telling.
        whole(&audit, 1, 50).await.unwrap();
        let (list, head) = whole(&audit, 1, 50).await.unwrap();
        let before = judged(&audit, &list, &head).unwrap();
        assert_eq!((head.seq, head.index), (4, Some(9)));
        // So many that all hers are found by postings alone.
        audit.append((0..600).map(|_| some_event(4)).collect()).await.unwrap();
        audit.log.post().await.unwrap();
        let tag = audit.log.leaf(9).await.unwrap().unwrap().header().subject_tag;
        let mut pages = all::<PostingRow>(&audit).await;
        let page = pages.iter_mut().find(|page| (page.level, page.run) == (0, 0)).unwrap();
        let mut subject = SubjectRow {
            tag: tag.clone(),
            seq: 5,
            last: 10,
        };
        assert!(all::<SubjectRow>(&audit).await.contains(&subject));
        let fsck = || {
            let location = audit.location();
            std::thread::spawn(move || check(&location)).join().unwrap()
        };
        assert_eq!(fsck(), Vec::<String>::new());
        let steps = [
            (4, 9, "kept as Some((4, 9)), but the leaves make Some((5, 10))"),
            (3, 7, "kept as Some((3, 7)), but the leaves make Some((5, 10))"),
        ];
        for (seq, last, said) in steps {
            (subject.seq, subject.last) = (seq, last);
            without_the_last(page, &tag);
            audit.store.apply(Put(subject.clone())).await.unwrap();
            audit.store.apply(Put(page.clone())).await.unwrap();
            let found = fsck().join("\n");
            assert!(found.contains(said), "{found}");
            assert!(found.contains("postings: are not those"), "{found}");
        }
        // The log states a list that is whole in itself, and it is not the one of which she kept the head.
        let (list, head) = whole(&audit, 1, 50).await.unwrap();
        let now = judged(&audit, &list, &head).unwrap();
        assert_eq!((head.seq, head.index), (3, Some(7)));
        verify_since(&before, &now, &proved(&list)).unwrap_err();
        // That she asked is told as her fourth event, which there was already.
        let found = fsck().join("\n");
        let again = "says that it is event 4 of its subject after leaf Some(7); it is event 6 after Some(10)";
        assert!(found.contains(again), "{found}");
    }
}
