//! The archive of a log that has ended: parts that verify by themselves, the same whenever they are asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sammati_api::audit::v1::retention_service_server::RetentionService;
use sammati_api::audit::v1::{ArchivePart, ExportArchiveRequest};
use sammati_audit::Rpc;
use sammati_audit::archive::archive;
use sammati_kernel::{Reason, Refusal};
use sammati_server::error::refusal_of;
use sha2::{Digest, Sha256};
use tokio_stream::StreamExt;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::fixture::{Audit, everywhere, of, operator, said, some_event};
use crate::succession::seal;
use crate::verifying::verifier;

/// The parts of an archive that came whole, by the names of their files.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Taken {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pieces: usize,
    parts: Vec<ArchivePart>,
}

/// Takes an archive, or as much of it as comes; and why no more did.
async fn taken(rpc: &Rpc, request: ExportArchiveRequest) -> (Taken, Option<Refusal>) {
    let mut stream = match said(rpc.export_archive(of(operator(), request)).await) {
        Ok(stream) => stream,
        Err(refusal) => return (Taken::default(), Some(refusal)),
    };
    let (mut taken, mut file) = (Taken::default(), Vec::new());
    while let Some(piece) = stream.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(status) => return (taken, refusal_of(&status)),
        };
        assert_eq!(piece.offset, file.len() as i64, "pieces come in order");
        assert!((1..=192 * 1024).contains(&piece.content.len()), "no piece is too large");
        file.extend(piece.content);
        taken.pieces += 1;
        if let Some(whole) = piece.whole {
            let sha256 = Sha256::digest(&file);
            let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(whole.sha256, sha256);
            assert_eq!(whole.byte_size, file.len() as i64);
            taken.parts.push(whole);
            taken.files.insert(piece.file_name, std::mem::take(&mut file));
        }
    }
    assert!(file.is_empty(), "no part is left unfinished");
    (taken, None)
}

pub(crate) async fn take(rpc: &Rpc, request: ExportArchiveRequest) -> Taken {
    let (taken, refusal) = taken(rpc, request).await;
    assert_eq!(refusal, None);
    taken
}

pub(crate) fn whole(audit: &Audit) -> ExportArchiveRequest {
    ExportArchiveRequest {
        log: audit.log.name(),
        ..Default::default()
    }
}

async fn fill(audit: &Audit, events: usize) {
    for from in (0..events).step_by(250) {
        let some = (from..events.min(from + 250)).map(|n| some_event((n % 200) as u8));
        audit.append_unsigned(some.collect()).await.unwrap();
    }
}

/// What is in a part.
pub(crate) fn unpack(part: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut zip = ZipArchive::new(Cursor::new(part)).unwrap();
    let mut files = BTreeMap::new();
    for at in 0..zip.len() {
        let mut file = zip.by_index(at).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert_eq!(files.insert(file.name().to_owned(), bytes), None, "each file once");
    }
    files
}

fn pack(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(name.as_str(), SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// The verdict on files or folders.
fn judge(audit: &Audit, partial: bool, files: &[&Path]) -> (Option<i32>, String) {
    let mut command = Command::new(verifier());
    command.args(["archive", "--vkey", &audit.log.vkey()]);
    command
        .args(partial.then_some("--partial"))
        .args(files)
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

fn put(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// Every file below a folder, by its path.
fn below(folder: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = format!("{prefix}{}", entry.file_name().unwrap().to_str().unwrap());
        match entry.is_dir() {
            true => below(&entry, &format!("{name}/"), found),
            false => drop(found.insert(name, fs::read(&entry).unwrap())),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_each_part_of_an_archive_verifies_alone() {
    for audit in everywhere().await {
        fill(&audit, 600).await;
        seal(&audit, "logs/next").await.unwrap();
        let rpc = audit.rpc.clone().in_parts_of(256);
        let all = take(&rpc, whole(&audit)).await;
        let log = audit.log.name().replace("logs/", "");
        let names: Vec<_> = (0..3).map(|n| format!("{log}-601-0000{n}.zip")).collect();
        assert_eq!(all.files.keys().cloned().collect::<Vec<_>>(), names);
        let ranges = all.parts.iter().map(|part| (part.first_index, part.end_index));
        assert_eq!(ranges.collect::<Vec<_>>(), [(0, 256), (256, 512), (512, 601)]);
        assert!(
            all.parts
                .iter()
                .all(|part| (part.part_count, part.tree_size) == (3, 601))
        );

        let work = tempfile::tempdir().unwrap();
        let parts: Vec<_> = all
            .files
            .iter()
            .map(|(name, part)| put(work.path(), name, part))
            .collect();
        let parts: Vec<_> = parts.iter().map(PathBuf::as_path).collect();
        for (part, leaves) in parts.iter().zip(["0 to 255", "256 to 511", "512 to 600"]) {
            let (code, said) = judge(&audit, true, &[part]);
            assert_eq!(code, Some(0), "{said}");
            let verdict = format!(
                "verified: leaves {leaves} lead to log {} at 601 leaves",
                audit.log.origin()
            );
            assert!(said.starts_with(&verdict), "{said}");
            assert_eq!(judge(&audit, false, &[part]).0, Some(3));
        }
        let (code, said) = judge(&audit, false, &parts);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.starts_with("verified: all leaves and 4 tiles make log "), "{said}");
        let (code, said) = judge(&audit, false, &[parts[0], parts[2]]);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("leaves 256 to 511 are not here"), "{said}");

        // Unpacked into one folder they are what the verb writes, and the text.
        let verb = work.path().join("verb");
        let (location, into) = (audit.location(), verb.clone());
        audit.log.newest().await.unwrap();
        let written = tokio::task::spawn_blocking(move || archive(&location, &into).map_err(|error| error.to_string()));
        written.await.unwrap().unwrap();
        let size = audit.log.newest().await.unwrap().size as i64;
        let request = ExportArchiveRequest { size, ..whole(&audit) };
        let mut files = BTreeMap::new();
        for part in take(&rpc, request).await.files.values() {
            for (name, bytes) in unpack(part) {
                let before = files.insert(name, bytes.clone());
                assert!(before.is_none_or(|before| before == bytes), "the same in all parts");
            }
        }
        let text = String::from_utf8(files.remove("README.txt").unwrap()).unwrap();
        assert!(
            text.contains(audit.log.origin()) && text.contains("--partial"),
            "{text}"
        );
        let mut expected = BTreeMap::new();
        below(&verb, "", &mut expected);
        assert_eq!(files, expected);
    }
}

/// A byte of each kind of file is another one, or the file is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a2_the_verifier_finds_every_change_of_a_part() {
    for audit in everywhere().await {
        fill(&audit, 600).await;
        seal(&audit, "logs/next").await.unwrap();
        let all = take(&audit.rpc.clone().in_parts_of(256), whole(&audit)).await;
        let part = all.files.values().nth(1).unwrap();
        let work = tempfile::tempdir().unwrap();
        let good = unpack(part);
        let kinds: Vec<_> = good.keys().map(String::as_str).collect();
        let expected = [
            "README.txt",
            "checkpoint",
            "tile/0/001",
            "tile/0/002.p/89",
            "tile/1/000.p/2",
            "tile/entries/001",
            "vkeys",
        ];
        assert_eq!(kinds, expected);
        for kind in expected.into_iter().filter(|kind| *kind != "README.txt") {
            for at in [0, good[kind].len() / 2, good[kind].len() - 2] {
                let mut bad = good.clone();
                bad.get_mut(kind).unwrap()[at] ^= 1;
                let (code, said) = judge(&audit, true, &[&put(work.path(), "bad.zip", &pack(&bad))]);
                let is_note = kind == "checkpoint" && code == Some(3);
                assert!(code == Some(1) || is_note, "{kind} {at}: {code:?} {said}");
            }
            let mut bad = good.clone();
            bad.remove(kind);
            let (code, said) = judge(&audit, true, &[&put(work.path(), "bad.zip", &pack(&bad))]);
            assert_eq!(
                code,
                Some(if kind == "vkeys" { 0 } else { 3 }),
                "without {kind}: {said}"
            );
        }
        // In the file as it was sent, the text too.
        for at in (0..part.len()).step_by(part.len() / 40) {
            let mut bad = part.clone();
            bad[at] ^= 4;
            let bad = put(work.path(), "bad.zip", &bad);
            let (code, said) = judge(&audit, true, &[&bad]);
            // As the time of a file, which nothing depends on; or a bundle has another name, and then it is not here.
            let found = code != Some(0) || !said.contains("leaves 256 to 511 lead");
            assert!(found || unpack(&fs::read(&bad).unwrap()) == good, "byte {at}: {said}");
        }
    }
}

/// Whenever it is asked for, whatever the log has recorded meanwhile, and over a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_stream_that_broke_goes_on_with_the_same_bytes() {
    for audit in everywhere().await {
        fill(&audit, 1100).await;
        seal(&audit, "logs/next").await.unwrap();
        let rpc = audit.rpc.clone().in_parts_of(256);
        // It breaks while nobody waits for it.
        let mut broken = said(rpc.export_archive(of(operator(), whole(&audit))).await).unwrap();
        let first = broken.next().await.unwrap().unwrap();
        drop(broken);
        let all = take(
            &rpc,
            ExportArchiveRequest {
                size: 1101,
                ..whole(&audit)
            },
        )
        .await;
        assert_eq!((all.files.len(), all.parts[0].tree_size), (5, 1101));
        let checkpoint = String::from_utf8(unpack(&all.files[&first.file_name])["checkpoint"].clone()).unwrap();
        drop(rpc);
        let audit = audit.restart().await;
        fill_with_readings(&audit).await;
        let rpc = audit.rpc.clone().in_parts_of(256);
        for first_part in 0..5 {
            let request = ExportArchiveRequest {
                checkpoint: checkpoint.clone(),
                first_part,
                ..whole(&audit)
            };
            let rest = take(&rpc, request).await;
            let expected = all.files.iter().skip(first_part as usize);
            assert!(rest.files.iter().eq(expected), "from part {first_part} on");
        }
        let newest = take(&rpc, whole(&audit)).await;
        assert!(
            newest.parts[0].tree_size > 1101,
            "what was recorded since is in a later one"
        );
    }
}

async fn fill_with_readings(audit: &Audit) {
    for _ in 0..3 {
        audit
            .list(crate::fixture::person(crate::fixture::account(1)), Default::default())
            .await
            .unwrap();
        audit.log.newest().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_of_a_log_that_has_ended() {
    for audit in everywhere().await {
        fill(&audit, 300).await;
        audit.log.newest().await.unwrap();
        let refused = async |request: ExportArchiveRequest| taken(&audit.rpc, request).await.1.unwrap();
        let active = refused(whole(&audit)).await;
        assert_eq!(active.reason, Reason::LogActive);
        assert!(active.message.contains("SealLog"), "{}", active.message);
        seal(&audit, "logs/next").await.unwrap();
        let size = take(&audit.rpc, whole(&audit)).await.parts[0].tree_size;
        assert_eq!(size, 301);

        let note = audit.log.checkpoint(301).await.unwrap().unwrap().note;
        let like = |checkpoint: String| ExportArchiveRequest {
            checkpoint,
            ..whole(&audit)
        };
        let at = |size| ExportArchiveRequest { size, ..whole(&audit) };
        let from = |first_part| ExportArchiveRequest {
            first_part,
            ..whole(&audit)
        };
        for (request, reason) in [
            (at(299), Reason::CheckpointUnknown),
            (at(9999), Reason::CheckpointUnknown),
            // Another log's, a line that is no cosignature, and one byte less.
            (
                like(note.replace("sammati.test", "other.test")),
                Reason::CheckpointUnknown,
            ),
            (
                like(format!("{note}\u{2014} w.example/1 AAAA\n")),
                Reason::CheckpointUnknown,
            ),
            (like(note[..note.len() - 1].to_owned()), Reason::CheckpointUnknown),
            (like("no note".to_owned()), Reason::FieldInvalid),
            (from(1), Reason::IndexBeyondTree),
            (from(-1), Reason::FieldInvalid),
            (
                ExportArchiveRequest {
                    size: 301,
                    ..like(note.clone())
                },
                Reason::FieldInvalid,
            ),
            (
                ExportArchiveRequest {
                    log: "logs/other".to_owned(),
                    ..at(0)
                },
                Reason::NotFound,
            ),
        ] {
            assert_eq!(refused(request.clone()).await.reason, reason, "{request:?}");
        }
        assert_eq!(
            take(&audit.rpc, at(300)).await.parts[0].end_index,
            300,
            "an earlier size"
        );
        take(&audit.rpc, like(note)).await;
    }
}

/// Who took what is in the log before anybody has a byte of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_recorded_before_it_is_sent() {
    for audit in everywhere().await {
        fill(&audit, 300).await;
        seal(&audit, "logs/next").await.unwrap();
        let stream = said(audit.rpc.export_archive(of(operator(), whole(&audit))).await).unwrap();
        let leaf = audit.log.leaf(301).await.unwrap().unwrap();
        assert_eq!(leaf.header().event_type, "audit.exported");
        let (_, payload) = audit.log.payloads(&[leaf]).await.unwrap().pop().unwrap();
        let text = format!("{payload:?}");
        for told in [
            format!("{}/checkpoints/301", audit.log.name()),
            "records: 301".to_owned(),
            "kind: 9".to_owned(),
        ] {
            assert!(text.contains(&told), "{told} in {text}");
        }
        // The log takes what it takes while nobody takes the archive.
        fill_with_readings(&audit).await;
        let pieces: Vec<_> = stream.collect().await;
        assert!(pieces.last().unwrap().as_ref().unwrap().whole.is_some());

        // A frozen log gives it too, and takes no record.
        let head = audit.log.newest().await.unwrap();
        audit.log.freeze("for the test".to_owned()).await;
        let all = take(&audit.rpc, whole(&audit)).await;
        assert_eq!(all.parts[0].tree_size, head.size as i64);
        assert!(audit.log.leaf(head.size).await.unwrap().is_none());
        let work = tempfile::tempdir().unwrap();
        let (name, part) = all.files.iter().next().unwrap();
        let (code, said) = judge(&audit, false, &[&put(work.path(), name, part)]);
        assert_eq!(code, Some(0), "{said}");
    }
}

/// Nothing is sent as whole that is not what was signed; the other parts are.
#[tokio::test(flavor = "multi_thread")]
async fn a2_a_part_with_a_damaged_leaf_is_not_sent() {
    for audit in everywhere().await {
        fill(&audit, 600).await;
        seal(&audit, "logs/next").await.unwrap();
        audit.log.newest().await.unwrap();
        let location = audit.location();
        std::thread::spawn(move || crate::fsck::execute(&location, "DELETE FROM leaf WHERE id={0000000000000105}"))
            .join()
            .unwrap();
        let rpc = audit.rpc.clone().in_parts_of(256);
        let (some, refusal) = taken(&rpc, whole(&audit)).await;
        assert_eq!(refusal.unwrap().reason, Reason::LogFrozen);
        assert_eq!(some.files.len(), 1);
        let request = ExportArchiveRequest {
            size: 601,
            first_part: 2,
            ..whole(&audit)
        };
        assert_eq!(take(&rpc, request).await.parts[0].first_index, 512);
    }
}

/// What an event takes in an archive beside its leaf: less than a hundred bytes. Prints the figures.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_has_little_beside_its_leaves() {
    const EVENTS: usize = 5000;
    for audit in everywhere().await {
        fill(&audit, EVENTS).await;
        seal(&audit, "logs/next").await.unwrap();
        let all = take(&audit.rpc, whole(&audit)).await;
        assert_eq!(all.files.len(), 1);
        assert!(all.pieces > 1, "it does not fit into one piece");
        let part = all.files.values().next().unwrap();
        let files = unpack(part);
        let of = |prefix: &str| -> usize {
            let files = files.iter().filter(|(name, _)| name.starts_with(prefix));
            files.map(|(_, bytes)| bytes.len()).sum()
        };
        let count = EVENTS + 1;
        let leaves = of("tile/entries/") - 2 * count;
        let (unpacked, packed) = (of("") - leaves, part.len());
        println!(
            "{count} leaves of {} B each: beside them {:.1} B unpacked; {:.1} B packed, leaf and all",
            leaves / count,
            unpacked as f64 / count as f64,
            packed as f64 / count as f64
        );
        assert!(unpacked <= 100 * count, "{unpacked} B beside {count} leaves");
        assert!(packed <= leaves + 100 * count, "{packed} B for {leaves} B of leaves");
    }
}
