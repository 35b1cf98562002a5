//! `log.rotate`: sets a log aside, compresses it, and removes archives that are over their retention.
//!
//! Nothing is truncated or removed before its copy is complete, read back and durable. A log that a program still
//! writes to is not compressed before it is closed; without `keep` and `maxAge` nothing is ever removed.

mod archives;
mod copy;
mod retention;
mod rotate;

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::Path, time::Duration};

use quell_model::action::{After, LogRotate, Method, Signal};
use serde_json::Value as Json;
use tokio_util::sync::CancellationToken;

use super::{Action, Change, Failure, Host, Preview, Refusal, Standing, Work, permission};
use crate::{
    config::Config,
    files::{self, Directory},
    legal_hold::LegalHolds,
    managers::Promise,
    process::{self, run},
};
use rotate::{Freed, Prepared};

/// The longest wait for a program to close the log that was renamed, after it was told to.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// How often it is looked.
const CLOSE_EVERY: Duration = Duration::from_millis(100);

/// An order to rotate a log.
#[derive(Debug)]
pub(super) struct Rotation(pub(super) LogRotate);

/// Tells the program that writes.
async fn tell(after: &After, work: &Work<'_>) -> Result<(), String> {
    match after {
        After::Signal { service, signal } => {
            let manager = work.host.managers.find(service).map_err(|error| error.to_string())?;
            let status = manager.state().await.map_err(|error| error.to_string())?;
            // A service that is down opens its log when it comes up.
            let Some(process) = status.process else { return Ok(()) };
            process::signal(&process, native(*signal)).map_err(|error| format!("{service} could not be told: {error}"))
        }
        After::Run { argv } => {
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

fn native(signal: Signal) -> rustix::process::Signal {
    match signal {
        Signal::Hup => rustix::process::Signal::HUP,
        Signal::Usr1 => rustix::process::Signal::USR1,
        Signal::Usr2 => rustix::process::Signal::USR2,
    }
}

/// A log, with the directory that it lies in.
#[derive(Debug)]
struct Log {
    directory: Directory,
    name: std::ffi::OsString,
    rule: LogRotate,
    /// What a legal hold keeps, or why nobody knows.
    holds: Result<LegalHolds, String>,
}

impl Log {
    /// Why a file of the directory stays as it is, whatever its age.
    fn held(&self, name: &OsStr) -> Option<String> {
        match &self.holds {
            Ok(holds) => holds.of(&self.directory.path_of(name)).map(super::held),
            Err(unknown) => Some(unknown.clone()),
        }
    }
}

impl Rotation {
    /// Does file work on a thread of its own, with the rights that the directory asks for.
    async fn with_log<T: Send + 'static>(
        &self,
        host: &Host,
        work: impl FnOnce(&Log) -> Result<T, files::Error> + Send + 'static,
    ) -> Result<T, files::Error> {
        let root = host.config.allow.root_of(&self.0.path).map(Path::to_owned);
        let (path, rule) = (self.0.path.clone(), self.0.clone());
        let (missing, holds) = (path.clone(), host.legal_holds.clone());
        let done = super::blocking(move || {
            let root = root.ok_or_else(|| files::Error::Missing(path.clone()))?;
            let parent = path.parent().filter(|parent| parent.starts_with(&root));
            let (Some(parent), Some(name)) = (parent, path.file_name()) else {
                return Err(files::Error::Missing(path));
            };
            let directory = Directory::open(&root, parent)?;
            // Read with the agent's own rights; the directory's owner may have no others than his.
            let holds = holds.read().map_err(|error| error.to_string());
            let log = Log { name: OsStr::from_bytes(name.as_bytes()).to_owned(), directory, rule, holds };
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
        vec![format!("path:{}", super::shown(&self.0.path))]
    }

    fn permitted(&self, config: &Config) -> Result<(), Refusal> {
        if config.allow.root_of(&self.0.path).is_none_or(|root| root == self.0.path) {
            let parent = self.0.path.parent().unwrap_or(&self.0.path);
            return Err(Refusal::not_listed("paths", &super::shown(parent)));
        }
        match &self.0.after {
            None => Ok(()),
            Some(After::Signal { service, .. }) => permission::service(config, service),
            Some(After::Run { argv }) => permission::program(config, argv),
        }
    }

    fn check<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Preview, Refusal>> {
        Box::pin(async move {
            let checked = self.with_log(host, rotate::check).await;
            checked.map_err(|error| Refusal::because(error.to_string()))
        })
    }

    fn prepare<'a>(&'a self, host: &'a Host, _checked: &'a Preview) -> Promise<'a, Result<Json, Refusal>> {
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
            if let (Some(after), false) = (&self.0.after, freed.nothing_set_aside) {
                told = tell(after, work).await;
            }
            if self.0.method == Method::Rename && self.0.after.is_some() && !freed.nothing_set_aside {
                self.closed(work).await.map_err(failed)?;
            }
            freed = self.finish(work, freed).await.map_err(failed)?;
            let change = freed.change(&self.0.path);
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
                .map(|undone| undone.then(|| Change::new(format!("{} is as it was", self.0.path.display()))))
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
                Ok(true) => Standing::Done(Change::new(format!("{} was rotated", self.0.path.display()))),
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
