//! A1 and A2 against a model: random commands, some of them at once and on any replica, repeats and reused ids, erasures, an
//! end and restarts among them; what the log says is held against a plain list of leaves and RFC 6962 as it is written
//! (`naive`). What once failed is tried first, ever after.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, FileFailurePersistence, TestRunner};
use prost::Message;
use sammati_api::audit::v1 as audit;
use sammati_api::audit::v1::get_tile_request::Tile;
use sammati_api::audit::v1::proof_service_server::ProofService;
use sammati_api::types::v1::RetentionClass::{Consent, General};
use sammati_kernel::{Caller, Reason, Refusal};
use sammati_log::bundle::Bundle;
use sammati_testkit::Database;

use crate::erasing::{YEAR, classed};
use crate::fixture::{Audit, account, of, said};
use crate::fsck::check;
use crate::naive::{self, Hash};
use crate::subject::{judged, whole};
use crate::succession::seal;

/// The seeds of lists that failed once.
const FAILED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audit/failed.txt");

/// People of a case.
const PEOPLE: u8 = 4;

/// One call of a producer.
#[derive(Debug, Clone)]
struct Call {
    /// An event that was sent before comes first.
    again: Option<Index>,
    /// About whom, and whether the law lets it go after a year.
    new: Vec<(u8, bool)>,
}

#[derive(Debug, Clone)]
enum Op {
    /// Calls that are made at once.
    Append(Vec<Call>),
    /// Many events in one call, so that tiles get full.
    Many(u8),
    /// Another body under an id that was used, behind a new event.
    Other(Index, u8),
    Erase(u8),
    Seal,
    Restart,
    /// Proofs of a leaf and of a smaller tree at a size that was signed, and at one that was perhaps not.
    Prove {
        leaf: Index,
        first: Index,
        size: Index,
        any: Index,
    },
    /// A tile of this level and the leaves under one of level 0, as far as there are any.
    Tile {
        level: u8,
        index: Index,
        width: Index,
    },
    /// All about one person.
    Chain(u8),
}

fn call() -> impl Strategy<Value = Call> {
    let new = prop::collection::vec((0..PEOPLE, any::<bool>()), 0..6);
    (prop::option::weighted(0.3, any::<Index>()), new).prop_map(|(again, new)| Call { again, new })
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..PEOPLE;
    let index = any::<Index>;
    prop_oneof![
        8 => prop::collection::vec(call(), 1..4).prop_map(Op::Append),
        2 => (100_u8..=200).prop_map(Op::Many),
        2 => (index(), who.clone()).prop_map(|(of, who)| Op::Other(of, who)),
        2 => who.clone().prop_map(Op::Erase),
        1 => Just(Op::Seal),
        1 => Just(Op::Restart),
        4 => (index(), index(), index(), index()).prop_map(|(leaf, first, size, any)| Op::Prove { leaf, first, size, any }),
        3 => (0_u8..2, index(), index()).prop_map(|(level, index, width)| Op::Tile { level, index, width }),
        2 => who.prop_map(Op::Chain),
    ]
}

/// An event that is in the log.
#[derive(Debug, Clone)]
struct Known {
    event: audit::Event,
    index: u64,
    who: u8,
    erased: bool,
}

/// The log as a list.
#[derive(Default)]
struct Model {
    /// Each as it was first seen.
    leaves: Vec<Vec<u8>>,
    known: Vec<Known>,
    /// The leaves of each subject.
    chains: BTreeMap<Vec<u8>, Vec<u64>>,
    /// What was signed.
    signed: BTreeMap<u64, Hash>,
    sealed: bool,
}

fn pick<'a, T>(all: &'a [T], at: &Index) -> Option<&'a T> {
    (!all.is_empty()).then(|| at.get(all))
}

impl Model {
    /// Signs what there is, and takes in the leaves since: as many as were expected, of which those that the log recorded of
    /// itself are of the types `own`.
    async fn grow(&mut self, audit: &Audit, sent: usize, own: &[&str]) {
        let signed = audit.log.newest().await.unwrap();
        let expected = self.leaves.len() + sent + own.len();
        assert_eq!(
            signed.size, expected as u64,
            "no more leaves than were told, and no fewer"
        );
        let mut recorded = Vec::new();
        for index in self.leaves.len()..expected {
            let leaf = audit.log.leaf(index as u64).await.unwrap().expect("no hole").leaf;
            let header = audit::Leaf::decode(leaf.as_slice()).unwrap();
            if !header.subject_tag.is_empty() {
                let chain = self.chains.entry(header.subject_tag.clone()).or_default();
                let place = (chain.len() as i64 + 1, chain.last().map(|last| *last as i64));
                assert_eq!((header.subject_seq, header.subject_prev), place, "leaf {index}");
                chain.push(index as u64);
            }
            if header.event_type.starts_with("audit.") {
                recorded.push(header.event_type);
            }
            self.leaves.push(leaf);
        }
        assert_eq!(recorded, own);
        assert_eq!(audit.log.leaf(expected as u64).await.unwrap(), None);
        assert_eq!(signed.root, naive::root(&self.leaves));
        self.signed.insert(signed.size, naive::root(&self.leaves));
    }

    fn event(&self, audit: &Audit, who: u8, may_go: bool) -> audit::Event {
        classed(who, if may_go { General } else { Consent }, audit)
    }

    /// What a call sends: of each event, who it is about and where it is, if it is there.
    fn sends(&self, audit: &Audit, call: &Call) -> Vec<(audit::Event, u8, Option<u64>)> {
        let again = call.again.as_ref().and_then(|again| pick(&self.known, again));
        let known = again.map(|known| (known.event.clone(), known.who, Some(known.index)));
        let new = call
            .new
            .iter()
            .map(|(who, may_go)| (self.event(audit, *who, *may_go), *who, None));
        let mut all: Vec<_> = known.into_iter().chain(new).collect();
        if all.is_empty() {
            all.push((self.event(audit, 0, true), 0, None));
        }
        all
    }

    /// Calls at once, on all replicas: each has its events in a row or none of them.
    async fn append(&mut self, audit: &Audit, calls: &[Call]) {
        let sends: Vec<_> = calls.iter().map(|call| self.sends(audit, call)).collect();
        let other = audit.replica().await.map(|(rpc, _)| rpc);
        let runs = sends.iter().enumerate().map(|(n, send)| {
            let rpc = other.as_ref().filter(|_| n % 2 == 1).unwrap_or(&audit.rpc);
            crate::fixture::send(rpc, send.iter().map(|(event, ..)| event.clone()).collect(), false)
        });
        let answers = futures::future::join_all(runs).await;
        let (first, mut taken) = (self.leaves.len() as u64, BTreeMap::new());
        for (send, answer) in sends.into_iter().zip(answers) {
            let is_new = send.iter().any(|(.., known)| known.is_none());
            let placed = match answer {
                Err(refusal) => {
                    assert!(self.sealed && is_new, "{refusal:?}");
                    assert_eq!(refusal.reason, Reason::LogSealed);
                    continue;
                }
                Ok(answer) => answer.events,
            };
            assert!(!(self.sealed && is_new), "a sealed log took an event");
            assert_eq!(placed.len(), send.len());
            let mut next = None;
            for (placed, (event, who, known)) in placed.into_iter().zip(send) {
                let index = placed.index as u64;
                assert_eq!(placed.event_id, event.event_id);
                match known {
                    Some(known) => assert_eq!(index, known, "the same id has the same place"),
                    None => {
                        assert_eq!(index, next.unwrap_or(index), "those of one call are in a row");
                        next = Some(index + 1);
                        let known = Known {
                            event,
                            index,
                            who,
                            erased: false,
                        };
                        assert!(
                            taken.insert(index, (known, placed.leaf_hash)).is_none(),
                            "an index was given twice"
                        );
                    }
                }
            }
        }
        let indexes: Vec<_> = taken.keys().copied().collect();
        assert_eq!(
            indexes,
            (first..first + taken.len() as u64).collect::<Vec<_>>(),
            "no holes"
        );
        self.grow(audit, taken.len(), &[]).await;
        for (index, (known, hash)) in taken {
            let leaf = &self.leaves[index as usize];
            assert_eq!(naive::root(std::slice::from_ref(leaf)).as_slice(), hash);
            let header = audit::Leaf::decode(leaf.as_slice()).unwrap();
            assert_eq!(header.event_id, known.event.event_id);
            self.known.push(known);
        }
    }

    async fn other(&mut self, audit: &Audit, of: &Index, who: u8) {
        let Some(known) = pick(&self.known, of) else { return };
        let mut other = self.event(audit, who, true);
        other.event_id.clone_from(&known.event.event_id);
        other.payload.get_or_insert_default().legal_basis = "another body".to_owned();
        let refused = audit
            .append_unsigned(vec![self.event(audit, who, true), other])
            .await
            .unwrap_err();
        assert_eq!(refused.reason, Reason::EventConflict, "{refused:?}");
        self.grow(audit, 0, &[]).await;
    }

    async fn erase(&mut self, audit: &Audit, who: u8) {
        audit.clock.advance(YEAR);
        audit.erase(who, &[General]).await.unwrap();
        let mut any = false;
        for known in self.known.iter_mut().filter(|known| known.who == who) {
            if known.event.class == i32::from(General) && !known.erased {
                (known.erased, any) = (true, true);
            }
        }
        self.grow(audit, 0, if any { &["audit.erasure_executed"] } else { &[] })
            .await;
    }

    async fn prove(&self, audit: &Audit, [leaf, first, size, any]: [&Index; 4]) {
        let sizes: Vec<_> = self.signed.keys().copied().filter(|size| *size > 0).collect();
        let Some(size) = pick(&sizes, size).copied() else {
            return;
        };
        let tree = &self.leaves[..size as usize];
        let at = leaf.index(tree.len());
        let proved = audit.prove(at as i64, size as i64).await.unwrap();
        let bundle: Bundle = proved.proof.parse().unwrap();
        assert_eq!((proved.tree_size as u64, bundle.index), (size, at as u64));
        let hashes: Vec<Hash> = bundle.path.iter().map(|hash| hash.0).collect();
        assert_eq!(hashes, naive::path(at, tree));

        let first = 1 + first.index(tree.len());
        let proved = audit.consistency(first as i64, size as i64).await.unwrap();
        assert_eq!(proved.path, naive::consistency(first, tree), "{first} of {size}");

        let any = 1 + any.index(self.leaves.len() + 2) as u64;
        let answer = audit.consistency(1, any as i64).await;
        match self.signed.get(&any) {
            Some(_) => assert_eq!(answer.unwrap().second as u64, any),
            None => assert_eq!(answer.unwrap_err().reason, Reason::CheckpointUnknown),
        }
    }

    async fn tile(&self, audit: &Audit, level: u8, index: &Index, width: &Index) {
        let whole = self.leaves.len() / 256_usize.pow(level.into());
        let at = index.index(whole / 256 + 1);
        let there = (whole - at * 256).min(256);
        let width = 1 + width.index(256);
        let asked = Tile::HashTile(audit::HashTile {
            level: level.into(),
            index: at as i64,
            width: width as i32,
        });
        let expected = naive::tile(level.into(), at, width, &self.leaves);
        is_tile(ask(audit, asked).await, expected, width <= there);
        if level == 0 {
            let asked = Tile::EntryBundle(audit::EntryBundle {
                index: at as i64,
                width: width as i32,
            });
            is_tile(
                ask(audit, asked).await,
                naive::bundle(at, width, &self.leaves),
                width <= there,
            );
        }
    }

    /// What she lists is her chain, proved; that she read it is in the log after it.
    async fn chain(&mut self, audit: &Audit, who: u8) {
        let tag = audit.log.tags().subject(&account(who).name());
        let hers = self.chains.get(&tag).cloned().unwrap_or_default();
        let (list, head) = whole(audit, who, 1000).await.unwrap();
        judged(audit, &list, &head).unwrap();
        let listed: Vec<_> = list
            .iter()
            .map(|event| event.event.as_ref().unwrap().index as u64)
            .collect();
        assert_eq!(listed, hers.into_iter().rev().collect::<Vec<_>>());
        self.grow(audit, 0, &["audit.queried"]).await;
    }

    /// Nothing of what was ever seen is another now.
    async fn check(&self, audit: &Audit) {
        for (index, leaf) in self.leaves.iter().enumerate() {
            assert_eq!(
                audit.log.leaf(index as u64).await.unwrap().unwrap().leaf,
                *leaf,
                "leaf {index}"
            );
        }
        for (size, root) in &self.signed {
            assert_eq!(audit.log.checkpoint(*size).await.unwrap().unwrap().root, root);
        }
        for known in &self.known {
            let row = audit.log.leaf(known.index).await.unwrap().unwrap();
            assert_eq!(
                row.payload.is_empty(),
                known.erased,
                "the payload of leaf {}",
                known.index
            );
        }
        let ids: BTreeSet<_> = self.known.iter().map(|known| &known.event.event_id).collect();
        assert_eq!(ids.len(), self.known.len());
        let location = audit.location();
        let found = tokio::task::spawn_blocking(move || check(&location)).await.unwrap();
        assert_eq!(found, Vec::<String>::new());
    }
}

async fn ask(audit: &Audit, tile: Tile) -> Result<audit::Tile, Refusal> {
    let request = audit::GetTileRequest {
        log: audit.log.name(),
        tile: Some(tile),
    };
    said(audit.rpc.get_tile(of(Caller::ANYONE, request)).await)
}

fn is_tile(answer: Result<audit::Tile, Refusal>, expected: Vec<u8>, is_there: bool) {
    match is_there {
        true => assert_eq!(answer.unwrap().content, expected),
        false => assert_eq!(answer.unwrap_err().reason, Reason::TileUnknown),
    }
}

async fn run(mut audit: Audit, ops: &[Op]) {
    let mut model = Model::default();
    model.grow(&audit, 0, &[]).await;
    for op in ops {
        match op {
            Op::Append(calls) => model.append(&audit, calls).await,
            Op::Many(n) => {
                let new = (0..*n).map(|n| (n % PEOPLE, n % 2 == 0)).collect();
                model.append(&audit, &[Call { again: None, new }]).await;
            }
            Op::Other(of, who) => model.other(&audit, of, *who).await,
            Op::Erase(who) => model.erase(&audit, *who).await,
            Op::Seal => {
                seal(&audit, "logs/next").await.unwrap();
                let own: &[&str] = if model.sealed { &[] } else { &["audit.sealed"] };
                model.sealed = true;
                model.grow(&audit, 0, own).await;
            }
            Op::Restart => audit = audit.restart().await,
            Op::Prove { leaf, first, size, any } => model.prove(&audit, [leaf, first, size, any]).await,
            Op::Tile { level, index, width } => model.tile(&audit, *level, index, width).await,
            Op::Chain(who) => model.chain(&audit, *who).await,
        }
    }
    let audit = audit.restart().await;
    model.check(&audit).await;
}

/// Lists of commands, each on a log of its own.
fn on(cases: u32, database: fn() -> Option<Database>) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases,
        max_shrink_iters: 500,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(FAILED))),
        ..Config::default()
    };
    let tried = TestRunner::new(config).run(&prop::collection::vec(op(), 1..24), |ops| {
        let databases = [database(), database()];
        if let [Some(log), Some(keys)] = databases {
            runtime.block_on(async { run(Audit::on(log, keys).await, &ops).await });
        }
        Ok(())
    });
    tried.unwrap();
}

#[test]
fn a1_a2_any_list_of_commands_leaves_the_log_that_a_list_of_leaves_is() {
    on(40, || Some(Database::sqlite()));
}

/// Two replicas on one log; a database for each case costs more than what is done in it.
#[test]
fn a1_a2_any_list_of_commands_leaves_it_on_postgres() {
    on(8, Database::postgres);
}
