//! A monitor of the audit log that may be killed at any moment: it writes down each item with the token to go on from
//! before it takes the next, and begins where its file ends.
//!
//! A line is `event <index> <event id> <token>`, `checkpoint <size> <token>`, or `wrong <what>` and the end.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sammati_api::audit::v1::log_service_client::LogServiceClient;
use sammati_api::audit::v1::watch_events_response::Item;
use sammati_api::audit::v1::{ListLogsRequest, WatchEventsRequest, WatchEventsResponse};
use sammati_log::checkpoint::{Verifier, open};
use sammati_tests::caller::channel;
use sammati_tests::retry::{is_passing, until_answered};
use sammati_tests::story::Failure;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Duration, sleep};
use tonic::transport::Channel;

/// Watches a log as the operator.
#[derive(Parser)]
struct Options {
    /// Where the certificates are.
    #[arg(long)]
    folder: PathBuf,
    /// The audit service.
    #[arg(long)]
    url: String,
    /// Where it serves its tiles and its newest checkpoint, `address:port`.
    #[arg(long)]
    tiles: String,
    /// What was told.
    #[arg(long)]
    journal: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("watcher: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Result<(), Failure> {
    let mut client = LogServiceClient::new(channel(&options.folder, Some("operator"), &options.url)?);
    let list = async || client.clone().list_logs(ListLogsRequest::default()).await;
    let log = until_answered(list).await?.into_inner().logs.remove(0);
    let mut watcher = Watcher::begin(options, [Verifier::parse(&log.vkey)?])?;
    loop {
        let request = WatchEventsRequest {
            log: log.name.clone(),
            from_index: 0,
            resume_token: watcher.token.clone(),
        };
        if let Err(error) = watcher.follow(&mut client, request).await {
            watcher.note(&format!("wrong {error}"))?;
            return Err(error);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

struct Watcher {
    journal: File,
    tiles: String,
    keys: [Verifier; 1],
    token: String,
    /// The size of the newest checkpoint that is known.
    signed: u64,
}

impl Watcher {
    fn begin(options: &Options, keys: [Verifier; 1]) -> Result<Self, Failure> {
        let journal = File::options().create(true).append(true).open(&options.journal)?;
        let written = std::fs::read_to_string(&options.journal)?;
        // A line is one write: there is no half of one.
        let token = written.lines().last().and_then(|line| line.rsplit(' ').next());
        Ok(Self {
            journal,
            tiles: options.tiles.clone(),
            keys,
            token: token.unwrap_or_default().to_owned(),
            signed: 0,
        })
    }

    /// Takes what comes, until the service goes away.
    async fn follow(
        &mut self,
        client: &mut LogServiceClient<Channel>,
        from: WatchEventsRequest,
    ) -> Result<(), Failure> {
        let mut stream = match client.watch_events(from).await {
            Ok(stream) => stream.into_inner(),
            Err(status) if is_passing(&status) => return Ok(()),
            Err(status) => return Err(status.into()),
        };
        loop {
            match stream.message().await {
                Ok(Some(item)) => self.take(item).await?,
                Ok(None) => return Ok(()),
                Err(status) if is_passing(&status) => return Ok(()),
                Err(status) => return Err(status.into()),
            }
        }
    }

    async fn take(&mut self, item: WatchEventsResponse) -> Result<(), Failure> {
        let line = match item.item.ok_or("an item without anything")? {
            Item::Event(event) => {
                self.expect_signed(u64::try_from(event.index)?).await?;
                let id = event.header.ok_or("an event without its header")?.event_id;
                format!("event {} {id}", event.index)
            }
            Item::Checkpoint(checkpoint) => {
                let size = open(&checkpoint.note, &self.keys)?.size();
                self.signed = self.signed.max(size);
                format!("checkpoint {size}")
            }
        };
        self.note(&format!("{line} {}", item.resume_token))?;
        self.token = item.resume_token;
        Ok(())
    }

    fn note(&mut self, line: &str) -> Result<(), Failure> {
        Ok(self.journal.write_all(format!("{line}\n").as_bytes())?)
    }

    /// Whether what anybody can read of the log has a checkpoint that covers this index. It is asked of another port,
    /// where nothing is signed for a question.
    async fn expect_signed(&mut self, index: u64) -> Result<(), Failure> {
        // While the service is away there is nothing to hold the event against.
        while self.signed <= index {
            let Ok(note) = published(&self.tiles).await else {
                sleep(Duration::from_millis(50)).await;
                continue;
            };
            let size = open(&note, &self.keys)?.size();
            if size <= index {
                return Err(format!("event {index} was told, and {size} are signed").into());
            }
            self.signed = size;
        }
        Ok(())
    }
}

/// The newest checkpoint, as mirrors read it.
async fn published(tiles: &str) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(tiles).await?;
    let request = format!("GET /checkpoint HTTP/1.1\r\nHost: {tiles}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, note) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    if !head.starts_with("HTTP/1.1 200") {
        return Err(head.lines().next().unwrap_or_default().into());
    }
    Ok(note.to_owned())
}
