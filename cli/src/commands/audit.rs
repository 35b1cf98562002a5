//! `quell audit`: proves that the log is whole, prints its newest signed head, exports it.
//!
//! Nothing that the controller says of the log is believed: every hash is computed here, and every head is checked with
//! the certificate of the authority in the profile.

use std::{
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use clap::Subcommand;
use jiff::Timestamp;
use quell_link::audit::Keys;
use quell_model::audit::{Fault, Head, Summary, Verifier};
use quell_wire::v1::{AuditPart, AuditRequest};
use serde_json::json;
use tonic::Streaming;

use crate::{connect::Context, error::Error, exit::Exit, output};

/// A part of the log is longer than other answers where one record is.
const PART_BYTES: usize = 256 << 20;

/// Which question.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Find an edit, a removal, a reordering or a cut end of the log; exit code 0 only when it is whole.
    Verify {
        /// A file with a head that was kept elsewhere: only what came since is read, and it must continue that head.
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
    },
    /// Print the newest signed head as one line: keep it where nobody of the controller can change it.
    Head,
    /// Print records as JSON lines: the exact bytes that are hashed, and the hash.
    Export {
        /// The first sequence number wanted; without it the oldest that is kept.
        #[arg(long, value_name = "NUMBER", default_value = "0")]
        from: u64,
        /// The last sequence number wanted; without it the newest.
        #[arg(long, value_name = "NUMBER", default_value = "0")]
        to: u64,
        /// Nothing older than this: 2026-11-22T10:00:00Z.
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
    },
}

/// Does what was asked.
///
/// # Errors
/// The log is not whole; the controller's refusal, or the connection's.
pub async fn run(command: &Command, context: &Context) -> Result<Exit, Error> {
    match command {
        Command::Verify { since } => verify(since.as_deref(), context).await,
        Command::Head => head(context).await,
        Command::Export { from, to, since } => export(*from, *to, *since, context).await,
    }
}

async fn verify(since: Option<&Path>, context: &Context) -> Result<Exit, Error> {
    let keys = keys(context)?;
    let kept = since.map(|path| kept(path, &keys)).transpose()?.unwrap_or_default();
    let from = kept.iter().map(|head| head.sequence).min().unwrap_or(1);
    let mut parts = ask(AuditRequest { from, ..AuditRequest::default() }, context).await?;
    let mut progress = Progress::new();
    let walked = walk(&mut parts, &keys, from, &kept, &mut progress).await;
    progress.clear();
    let summary = walked?;
    if context.format.is_data() {
        output::data(context.format, &view(&summary))?;
    } else {
        output::line(&summary.to_string())?;
    }
    Ok(Exit::Done)
}

/// Takes in the whole answer.
async fn walk(
    parts: &mut Streaming<AuditPart>,
    keys: &Keys,
    from: u64,
    kept: &[Head],
    progress: &mut Progress,
) -> Result<Summary, Error> {
    let mut heads = Vec::new();
    let mut verifier = None;
    while let Some(part) = parts.message().await? {
        for line in &part.heads {
            heads.push(keys.check(line).map_err(|error| not_whole(&error))?);
        }
        if part.records.is_empty() {
            continue;
        }
        let verifier = match &mut verifier {
            Some(verifier) => verifier,
            none => none.insert(begin(from, std::mem::take(&mut heads), kept)?),
        };
        for line in &part.records {
            let taken = verifier.take(line).map_err(|fault| not_whole(&fault))?;
            progress.at(taken.sequence, part.newest);
        }
    }
    let verifier = match verifier {
        Some(verifier) => verifier,
        None => begin(from, heads, kept)?,
    };
    verifier.finish().map_err(|fault| not_whole(&fault))
}

fn begin(from: u64, heads: Vec<Head>, kept: &[Head]) -> Result<Verifier, Error> {
    let begin = || {
        let mut verifier = Verifier::new(from, heads)?;
        kept.iter().try_for_each(|head| verifier.must_continue(head))?;
        Ok(verifier)
    };
    begin().map_err(|fault: Fault| not_whole(&fault))
}

fn not_whole(reason: &dyn std::fmt::Display) -> Error {
    Error::Failed(format!("the audit log is not whole: {reason}"))
}

fn view(summary: &Summary) -> serde_json::Value {
    json!({
        "whole": true,
        "first": summary.first,
        "last": summary.last,
        "hash": summary.hash,
        "time": summary.time,
        "removedThrough": summary.removed,
        "heads": summary.heads,
        "newestHead": summary.newest_head,
    })
}

async fn head(context: &Context) -> Result<Exit, Error> {
    let keys = keys(context)?;
    let mut parts = ask(AuditRequest { heads_only: true, ..AuditRequest::default() }, context).await?;
    let mut newest = None;
    while let Some(part) = parts.message().await? {
        newest = part.heads.into_iter().next_back().or(newest);
    }
    let newest = newest.ok_or_else(|| not_whole(&"the controller has no signed head"))?;
    let head = keys.check(&newest).map_err(|error| not_whole(&error))?;
    if context.format.is_data() {
        let view = json!({
            "installation": head.installation, "epoch": head.epoch, "sequence": head.sequence, "hash": head.hash,
            "time": head.time, "key": head.key, "line": newest,
        });
        output::data(context.format, &view)?;
    } else {
        output::line(&newest)?;
    }
    Ok(Exit::Done)
}

async fn export(from: u64, to: u64, since: Option<Timestamp>, context: &Context) -> Result<Exit, Error> {
    let mut parts = ask(AuditRequest { from, to, heads_only: false }, context).await?;
    let mut verifier = Verifier::new(from, []).map_err(|fault| not_whole(&fault))?;
    while let Some(part) = parts.message().await? {
        for line in &part.records {
            let taken = verifier.take(line).map_err(|fault| not_whole(&fault))?;
            if since.is_some_and(|since| taken.time < since) {
                continue;
            }
            let record = std::str::from_utf8(line).map_err(|error| not_whole(&error))?;
            let exported = json!({
                "sequence": taken.sequence, "previous": taken.previous, "hash": taken.hash, "record": record,
            });
            output::line(&output::json(&exported, false))?;
        }
    }
    Ok(Exit::Done)
}

async fn ask(request: AuditRequest, context: &Context) -> Result<Streaming<AuditPart>, Error> {
    let mut client = context.client().await?.max_decoding_message_size(PART_BYTES);
    Ok(client.audit(request).await?.into_inner())
}

/// The keys that the profile trusts.
fn keys(context: &Context) -> Result<Keys, Error> {
    let profile = context.profile()?;
    Keys::of_profile(&profile).map_err(|error| Error::Usage(format!("the profile cannot be used: {error}")))
}

/// The heads in a file of somebody's.
fn kept(path: &Path, keys: &Keys) -> Result<Vec<Head>, Error> {
    let shown = path.display().to_string();
    let text =
        std::fs::read_to_string(path).map_err(|source| Error::File { action: "read", path: shown.clone(), source })?;
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let heads: Vec<Head> = lines
        .map(|line| keys.check(line).map_err(|error| Error::Failed(format!("{shown}: {error}"))))
        .collect::<Result<_, _>>()?;
    if heads.is_empty() {
        return Err(Error::Usage(format!("{shown} holds no signed head; `quell audit head` prints one")));
    }
    Ok(heads)
}

/// How far a long walk has come, on standard error: in place on a terminal, in lines elsewhere.
struct Progress {
    told: Instant,
    is_terminal: bool,
    is_shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { told: Instant::now(), is_terminal: std::io::stderr().is_terminal(), is_shown: false }
    }

    fn at(&mut self, sequence: u64, newest: u64) {
        let pause = Duration::from_secs(if self.is_terminal { 1 } else { 10 });
        if self.told.elapsed() < pause {
            return;
        }
        self.told = Instant::now();
        self.is_shown = true;
        let (before, after) = if self.is_terminal { ("\r", "") } else { ("", "\n") };
        // Nobody may be reading any more.
        let _ = write!(anstream::stderr(), "{before}verified up to record {sequence} of {newest}{after}");
    }

    fn clear(&self) {
        if self.is_terminal && self.is_shown {
            let _ = write!(anstream::stderr(), "\r\u{1b}[K");
        }
    }
}
