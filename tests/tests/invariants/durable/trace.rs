//! What a service did, call by call, as strace saw it; and whether an answer left before what it tells of was durable.

use std::collections::HashMap;

use sammati_tests::strace::{self, Stamp};

/// One system call. Times are microseconds since 1970.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) name: String,
    /// What its handle leads to: a path, or the two ends of a socket.
    pub(super) file: String,
    /// What was read or written.
    pub(super) data: Vec<u8>,
    pub(super) start: i64,
    pub(super) end: i64,
    /// Whether it was made and did what it should.
    pub(super) done: bool,
}

/// One request on an otherwise idle service: when its client had it under way, and the id of what it changes.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) id: Vec<u8>,
}

/// Reads what `strace -f -ttt -T -yy -xx` wrote.
pub(super) fn parse(text: &str) -> Vec<Call> {
    // What was under way when it began to look has no beginning.
    let lines = strace::calls(text, Stamp::Time).flatten();
    let mut calls: Vec<_> = lines.filter_map(|line| call(micros(line.time)?, &line.call)).collect();
    calls.sort_by_key(|call| call.start);
    calls
}

fn micros(seconds: &str) -> Option<i64> {
    let (seconds, part) = seconds.split_once('.')?;
    Some(seconds.parse::<i64>().ok()? * 1_000_000 + part.parse::<i64>().ok()?)
}

/// `name(5<file>, "\x00…", …) = 12 (INJECTED) <0.000012>`.
fn call(start: i64, line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, result) = rest.rsplit_once(" = ")?;
    let (result, took) = result.rsplit_once('<')?;
    let file = arguments.split_once('<').map_or("", |(_, file)| file);
    let file = if file.starts_with("\\x") {
        String::from_utf8_lossy(&strace::unhex(file.split('>').next()?)?).into_owned()
    } else {
        file.split(">,").next()?.to_owned()
    };
    Some(Call {
        name: name.to_owned(),
        file,
        // Every second piece is inside quotes: in hex, so that no quote is part of it.
        data: arguments
            .split('"')
            .skip(1)
            .step_by(2)
            .filter_map(strace::unhex)
            .flatten()
            .collect(),
        start,
        end: start + micros(took.strip_suffix('>')?)?,
        done: !result.starts_with('-') && !result.contains("INJECTED"),
    })
}

/// What is wrong: each request of which a byte was sent to a client of `port` before its change was durable.
pub(super) fn violations(calls: &[Call], port: u16, asked: &[Asked]) -> Vec<String> {
    let to_client = format!("127.0.0.1:{port}->");
    let wrong = asked.iter().enumerate().filter_map(|(n, asked)| {
        let within: Vec<&Call> = calls
            .iter()
            .filter(|call| (asked.from..=asked.to).contains(&call.start))
            .collect();
        let answers = |call: &&&Call| call.writes() && call.file.contains(&to_client);
        let Some(answer) = within.iter().find(answers) else {
            return Some(format!("request {n}: its answer is not in the trace"));
        };
        match synced(&within, &asked.id).or_else(|| committed(&within, &asked.id)) {
            None => Some(format!("request {n}: nothing made it durable")),
            Some(durable) if durable > answer.start => {
                let early = durable - answer.start;
                Some(format!("request {n}: its answer left {early} µs before it was durable"))
            }
            Some(_) => None,
        }
    });
    wrong.collect()
}

impl Call {
    fn writes(&self) -> bool {
        ["write", "writev", "sendto", "sendmsg"].contains(&self.name.as_str())
    }

    fn reads(&self) -> bool {
        ["read", "readv", "recvfrom", "recvmsg"].contains(&self.name.as_str())
    }

    fn has(&self, bytes: &[u8]) -> bool {
        self.data.windows(bytes.len()).any(|window| window == bytes)
    }
}

/// When a sync returned that began after `id` had been written to SQLite's log.
fn synced(calls: &[&Call], id: &[u8]) -> Option<i64> {
    let log = |call: &&&Call| call.file.ends_with("-wal") && call.done;
    let written = calls
        .iter()
        .filter(log)
        .find(|call| call.name == "pwrite64" && call.has(id))?;
    let syncs = calls
        .iter()
        .filter(log)
        .filter(|call| call.name == "fdatasync" || call.name == "fsync");
    syncs
        .filter(|sync| sync.file == written.file && sync.start >= written.end)
        .map(|sync| sync.end)
        .min()
}

/// When Postgres had answered the COMMIT of a transaction that writes and that `id` was sent in.
fn committed(calls: &[&Call], id: &[u8]) -> Option<i64> {
    let mut sessions: HashMap<&str, (bool, bool)> = HashMap::new();
    for call in calls.iter().filter(|call| call.file.starts_with("UNIX") && call.done) {
        let (reads_only, sent) = sessions.entry(&call.file).or_default();
        if call.writes() {
            *reads_only |= call.has(b"READ ONLY");
            *sent |= call.has(id);
        } else if call.reads() && call.has(b"COMMIT\0") {
            if *sent && !*reads_only {
                return Some(call.end);
            }
            sessions.remove(call.file.as_str());
        }
    }
    None
}
