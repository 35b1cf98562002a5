//! `log.rotate`: sets a log aside, compresses it, and removes archives that are over their retention.
//!
//! Nothing is truncated or removed before its copy is complete, read back and durable. A log that a program still
//! writes to is not compressed before it is closed; without `keep` and `maxAge` nothing is ever removed.

mod archives;
mod copy;
mod retention;
mod rotate;

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value as Json};
use tokio_util::sync::CancellationToken;

use super::{Action, Change, Failure, Host, Kind, Preview, Refusal, Standing, Work, parameters};
use crate::{
    config::Config,
    files::{self, Directory},
    managers::Promise,
    process::{self, run},
    units,
};
use archives::Compression;
use rotate::{Freed, Prepared};

/// The longest wait for a program to close the log that was renamed, after it was told to.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked.
const CLOSE_EVERY: Duration = Duration::from_millis(100);

/// The action.
pub(super) struct LogRotate;

impl Kind for LogRotate {
    fn name(&self) -> &'static str {
        "log.rotate"
    }

    fn read(&self, with: &Map<String, Json>) -> Result<Box<dyn Action>, Refusal> {
        let raw: Raw = parameters::read(self.name(), with)?;
        let path = parameters::path(&raw.path)?;
        let after = raw.after.map(After::read).transpose()?;
        let keep = raw.keep.map(whole).transpose()?;
        let max_age = raw.max_age.as_deref().map(units::duration).transpose().map_err(Refusal::because)?;
        let min_size = raw.min_size.as_deref().map(units::size).transpose().map_err(Refusal::because)?;
        let rule = Rule { method: raw.method, compress: raw.compress, keep, max_age, min_size: min_size.unwrap_or(1) };
        Ok(Box::new(Rotation { path, rule, after }))
    }
}

/// All numbers of manifests are doubles.
fn whole(number: f64) -> Result<usize, Refusal> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked first")]
    if number.fract() == 0.0 && (0.0..=100_000.0).contains(&number) {
        Ok(number as usize)
    } else {
        Err(Refusal::because(format!("keep: {number} is not a number of archives")))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Raw {
    path: String,
    #[serde(default)]
    method: Method,
    #[serde(default)]
    compress: Compression,
    #[serde(default)]
    keep: Option<f64>,
    #[serde(default)]
    max_age: Option<String>,
    #[serde(default)]
    min_size: Option<String>,
    #[serde(default)]
    after: Option<RawAfter>,
}

/// How a log is set aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Method {
    /// It is renamed and a new one made; the program that writes must be told to open it again.
    #[default]
    Rename,
    /// It is copied and then emptied; for programs that cannot be told.
    Copy,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawAfter {
    #[serde(default)]
    signal: Option<String>,
    #[serde(default)]
    service: Option<String>,
    #[serde(default)]
    argv: Option<Vec<String>>,
}

/// How the program that writes is told.
#[derive(Debug)]
enum After {
    Signal { service: String, signal: rustix::process::Signal },
    Run(Vec<String>),
}

impl After {
    fn read(raw: RawAfter) -> Result<Self, Refusal> {
        use rustix::process::Signal;
        match (raw.signal, raw.service, raw.argv) {
            (Some(signal), Some(service), None) => {
                parameters::service_name(&service)?;
                let signal = match signal.as_str() {
                    "HUP" => Signal::HUP,
                    "USR1" => Signal::USR1,
                    "USR2" => Signal::USR2,
                    other => {
                        let text = format!("after.signal {other:?} is none of HUP, USR1 and USR2");
                        return Err(Refusal::because(text));
                    }
                };
                Ok(Self::Signal { service, signal })
            }
            (None, None, Some(argv)) => {
                parameters::argv("after.argv", &argv)?;
                Ok(Self::Run(argv))
            }
            _ => Err(Refusal::because("after is either {signal, service} or {argv}")),
        }
    }

    /// Tells it.
    async fn tell(&self, work: &Work<'_>) -> Result<(), String> {
        match self {
            Self::Signal { service, signal } => {
                let manager = work.host.managers.find(service).map_err(|error| error.to_string())?;
                let status = manager.state().await.map_err(|error| error.to_string())?;
                // A service that is down opens its log when it comes up.
                let Some(process) = status.process else { return Ok(()) };
                process::signal(&process, *signal).map_err(|error| format!("{service} could not be told: {error}"))
            }
            Self::Run(argv) => {
                let program = run::Program { argv: argv.clone(), output_limit: 1024, ..run::Program::default() };
                let output = run::run(&program, work.left(), &work.cancel).await;
                match output {
                    Ok(output) if output.end.is_success() => Ok(()),
                    Ok(output) => Err(format!("{} {}: {}", argv[0], output.end, output.complaint())),
                    Err(error) => Err(format!("{}: {error}", argv[0])),
                }
            }
        }
    }
}

/// What the parameters say about archives.
#[derive(Debug, Clone)]
struct Rule {
    method: Method,
    compress: Compression,
    keep: Option<usize>,
    max_age: Option<Duration>,
    min_size: u64,
}

#[derive(Debug)]
struct Rotation {
    path: PathBuf,
    rule: Rule,
    after: Option<After>,
}

/// A log, with the directory that it lies in.
#[derive(Debug)]
struct Log {
    directory: Directory,
    name: std::ffi::OsString,
    rule: Rule,
}

impl Rotation {
    /// Does file work on a thread of its own, with the rights that the directory asks for.
    async fn with_log<T: Send + 'static>(
        &self,
        host: &Host,
        work: impl FnOnce(&Log) -> Result<T, files::Error> + Send + 'static,
    ) -> Result<T, files::Error> {
        let root = host.config.allow.root_of(&self.path).map(Path::to_owned);
        let (path, rule) = (self.path.clone(), self.rule.clone());
        let missing = path.clone();
        let done = super::blocking(move || {
            let root = root.ok_or_else(|| files::Error::Missing(path.clone()))?;
            let parent = path.parent().filter(|parent| parent.starts_with(&root));
            let (Some(parent), Some(name)) = (parent, path.file_name()) else {
                return Err(files::Error::Missing(path));
            };
            let directory = Directory::open(&root, parent)?;
            let log = Log { name: OsStr::from_bytes(name.as_bytes()).to_owned(), directory, rule };
            let handler = log.directory.handler();
            handler.run(|| work(&log)).map_err(files::Error::system("take the rights to handle", &path))?
        });
        let broken = |error: String| files::Error::system("handle", missing)(std::io::Error::other(error));
        done.await.map_err(broken).and_then(|done| done)
    }

    async fn set_aside(&self, work: &Work<'_>, prepared: &Prepared) -> Result<Freed, files::Error> {
        let (prepared, cancel, resumed) = (prepared.clone(), work.cancel.clone(), work.resumed);
        self.with_log(work.host, move |log| rotate::set_aside(log, &prepared, resumed, &cancel)).await
    }

    /// Waits until nobody has a renamed log open, for a while.
    async fn closed(&self, work: &Work<'_>) -> Result<(), files::Error> {
        let limit = tokio::time::Instant::now() + CLOSE_LIMIT.min(work.left() / 2);
        loop {
            let open = self.with_log(work.host, retention::holder).await?;
            if open.is_none() || tokio::time::Instant::now() >= limit || work.cancel.is_cancelled() {
                return Ok(());
            }
            tokio::time::sleep(CLOSE_EVERY).await;
        }
    }

    async fn finish(&self, work: &Work<'_>, freed: Freed) -> Result<Freed, files::Error> {
        let cancel: CancellationToken = work.cancel.clone();
        self.with_log(work.host, move |log| retention::finish(log, freed, &cancel)).await
    }
}

fn prepared_from(prepared: &Json) -> Result<Prepared, Failure> {
    serde_json::from_value(prepared.clone()).map_err(|error| Failure::new(format!("the journal is strange: {error}")))
}

impl Action for Rotation {
    fn resources(&self) -> Vec<String> {
        vec![format!("path:{}", super::shown(&self.path))]
    }

    fn permitted(&self, config: &Config) -> Result<(), Refusal> {
        if config.allow.root_of(&self.path).is_none_or(|root| root == self.path) {
            let parent = self.path.parent().unwrap_or(&self.path);
            return Err(Refusal::not_listed("paths", &super::shown(parent)));
        }
        match &self.after {
            None => Ok(()),
            Some(After::Signal { service, .. }) => parameters::service_allowed(config, service),
            Some(After::Run(argv)) => parameters::program_allowed(config, argv),
        }
    }

    fn check<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Preview, Refusal>> {
        Box::pin(async move {
            let checked = self.with_log(host, rotate::check).await;
            checked.map_err(|error| Refusal::because(error.to_string()))
        })
    }

    fn prepare<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Json, Refusal>> {
        Box::pin(async move {
            let now = jiff::Timestamp::now();
            let prepared = self.with_log(host, move |log| rotate::prepare(log, now)).await;
            let prepared = prepared.map_err(|error| Refusal::because(error.to_string()))?;
            serde_json::to_value(prepared).map_err(|error| Refusal::because(error.to_string()))
        })
    }

    fn apply<'a>(&'a self, work: &'a Work<'a>, prepared: &'a Json) -> Promise<'a, Result<Change, Failure>> {
        Box::pin(async move {
            let prepared = prepared_from(prepared)?;
            let failed = |error: files::Error| Failure::new(error.to_string());
            let mut freed = self.set_aside(work, &prepared).await.map_err(failed)?;
            let mut told = Ok(());
            if let (Some(after), false) = (&self.after, freed.nothing_set_aside) {
                told = after.tell(work).await;
            }
            if self.rule.method == Method::Rename && self.after.is_some() && !freed.nothing_set_aside {
                self.closed(work).await.map_err(failed)?;
            }
            freed = self.finish(work, freed).await.map_err(failed)?;
            let change = freed.change(&self.path);
            match told {
                Ok(()) => Ok(change),
                Err(reason) => Err(Failure {
                    reason: format!("{}, but the program that writes was not told: {reason}", change.summary),
                    change,
                    in_doubt: false,
                }),
            }
        })
    }

    fn verify<'a>(&'a self, work: &'a Work<'a>, prepared: &'a Json) -> Promise<'a, Result<(), Failure>> {
        Box::pin(async move {
            let prepared = prepared_from(prepared)?;
            let verified = self.with_log(work.host, move |log| rotate::verify(log, &prepared)).await;
            verified.map_err(|error| Failure::new(format!("the rotation does not hold: {error}")))
        })
    }

    fn undo<'a>(&'a self, work: &'a Work<'a>, prepared: &'a Json) -> Promise<'a, Result<Option<Change>, Failure>> {
        Box::pin(async move {
            let prepared = prepared_from(prepared)?;
            let undone = self.with_log(work.host, move |log| rotate::undo(log, &prepared)).await;
            undone
                .map(|undone| undone.then(|| Change::new(format!("{} is as it was", self.path.display()))))
                .map_err(|error| Failure::new(error.to_string()))
        })
    }

    fn look<'a>(&'a self, host: &'a Host, prepared: &'a Json) -> Promise<'a, Standing> {
        Box::pin(async move {
            let Ok(prepared) = prepared_from(prepared) else {
                return Standing::Doubtful("what the journal says of the rotation is not understood".to_owned());
            };
            // Each of its steps is safe to repeat, so whatever is left is done.
            match self.with_log(host, move |log| rotate::is_done(log, &prepared)).await {
                Ok(true) => Standing::Done(Change::new(format!("{} was rotated", self.path.display()))),
                Ok(false) => Standing::Open,
                Err(error) => Standing::Doubtful(error.to_string()),
            }
        })
    }

    fn undoes_failures(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
