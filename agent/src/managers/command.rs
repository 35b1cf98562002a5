//! Services that the agent runs by commands of `agent.toml`.
//!
//! The service outlives the agent: it leads a process group of its own, reads from nothing and writes to a file or to
//! nothing, and what identifies its process is recorded. An agent that starts finds it again, by that record or, when
//! the last agent died between starting it and recording it, by a mark in its environment; from then on its end is
//! told by its pidfd.

mod launch;
mod record;

use std::{
    io,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use jiff::Timestamp;
use rustix::process::Signal;
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Error, Manager, Promise, State, Status};
use crate::{
    config::Service,
    process::{
        Exit, Watched,
        run::{self, Program},
    },
};
use record::{Record, Records};

/// How long a killed process may take to disappear; only one in an uninterruptible sleep takes longer.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How often `status` is asked while a service comes up.
const STATUS_EVERY: Duration = Duration::from_millis(100);

/// How long `status` may take when the state is asked for.
const STATUS_LIMIT: Duration = Duration::from_secs(10);

/// How often the pid file is looked at while a service comes up.
const PID_FILE_EVERY: Duration = Duration::from_millis(5);

/// A service run by commands.
pub struct Command {
    definition: Service,
    mark: String,
    records: Records,
    status: watch::Sender<Status>,
    /// Acts on the service happen one after the other.
    current: Mutex<Current>,
    itself: Weak<Self>,
}

/// What is known between two acts.
#[derive(Default)]
struct Current {
    watched: Option<Arc<Watched>>,
    record: Record,
}

impl Command {
    /// Takes the service up: finds its process, if it has one, and watches it.
    ///
    /// # Errors
    /// When its record cannot be read.
    pub async fn open(definition: Service, data_directory: &Path) -> io::Result<Arc<Self>> {
        let records = Records::new(data_directory, &definition.name);
        let mark = launch::mark(data_directory, &definition.name);
        let (finder, reader, sought) = (definition.clone(), records.clone(), mark.clone());
        let (record, process) = tokio::task::spawn_blocking(move || {
            let record = reader.read()?;
            let process = launch::find(&finder, &sought, &record);
            io::Result::Ok((record, process))
        })
        .await
        .map_err(io::Error::other)??;
        let command = Arc::new_cyclic(|itself: &Weak<Self>| Self {
            definition,
            mark,
            records,
            status: watch::Sender::new(Status::default()),
            current: Mutex::new(Current { watched: None, record }),
            itself: Weak::clone(itself),
        });
        let mut current = command.current.lock().await;
        match process.and_then(|process| Watched::open(process).ok()) {
            Some(watched) => command.adopt(&mut current, Arc::new(watched)),
            None => command.publish_down(&current, String::new()),
        }
        drop(current);
        Ok(command)
    }

    fn name(&self) -> String {
        self.definition.name.clone()
    }

    fn failed(&self, what: &'static str, reason: &impl ToString) -> Error {
        Error::Failed { service: self.name(), what, reason: reason.to_string() }
    }

    /// From now on this process is the service.
    fn adopt(&self, current: &mut Current, watched: Arc<Watched>) {
        current.watched = Some(Arc::clone(&watched));
        current.record.process = Some(watched.process.clone());
        current.record.stopped_by_person = false;
        let restarts = current.record.starts.saturating_sub(1);
        self.status.send_replace(Status {
            state: State::Active,
            process: Some(watched.process.clone()),
            since: Some(Timestamp::now()),
            restarts,
            stopped_by_person: false,
            detail: String::new(),
        });
        let itself = Weak::clone(&self.itself);
        tokio::spawn(async move {
            if watched.ended().await.is_ok() {
                let exit = watched.reap();
                if let Some(command) = itself.upgrade() {
                    command.ended(&watched, exit);
                }
            }
        });
    }

    /// Its process has ended: by itself, unless it is being stopped.
    fn ended(&self, watched: &Watched, exit: Exit) {
        self.status.send_if_modified(|status| {
            if status.process.as_ref() != Some(&watched.process) {
                return false;
            }
            let asked = status.state == State::Stopping;
            status.state = if asked { State::Stopped } else { State::Failed };
            status.process = None;
            status.since = Some(Timestamp::now());
            status.detail = exit.to_string();
            if !asked {
                let service = &self.definition.name;
                tracing::warn!(service, pid = watched.process.pid, %exit, "a service ended by itself");
            }
            true
        });
    }

    fn publish_down(&self, current: &Current, detail: String) {
        // A record of a process that is gone: it ended while no agent watched.
        let fell = current.record.process.is_some() && !current.record.stopped_by_person;
        self.status.send_replace(Status {
            state: if fell { State::Failed } else { State::Stopped },
            process: None,
            since: None,
            restarts: current.record.starts.saturating_sub(1),
            stopped_by_person: current.record.stopped_by_person,
            detail: if fell && detail.is_empty() { "ended while no agent watched it".to_owned() } else { detail },
        });
    }

    /// Forgets a process that has ended, and finds one that somebody else has started behind the pid file.
    async fn look(&self, current: &mut Current) {
        if current.watched.as_ref().is_some_and(|watched| !watched.process.runs()) {
            current.watched = None;
        }
        if current.watched.is_some() {
            return;
        }
        let Some(file) = self.definition.pid_file.clone() else { return };
        let found = tokio::task::spawn_blocking(move || launch::read_pid_file(&file)).await;
        if let Ok(Ok(process)) = found
            && let Ok(watched) = Watched::open(process)
        {
            self.adopt(current, Arc::new(watched));
        }
    }

    fn program(&self, argv: &[String]) -> Program {
        Program {
            argv: argv.to_vec(),
            directory: self.definition.directory.clone(),
            user: self.definition.user.clone(),
            environment: self.definition.environment.clone(),
            output_limit: 4096,
        }
    }

    /// Runs one of the service's commands; its complaint becomes the error.
    async fn command(&self, argv: &[String], what: &'static str, limit: Duration) -> Result<(), Error> {
        let output = run::run(&self.program(argv), limit, &CancellationToken::new())
            .await
            .map_err(|error| self.failed(what, &format!("{:?} cannot be run: {error}", argv[0])))?;
        if output.end.is_success() {
            return Ok(());
        }
        Err(self.failed(what, &format!("{:?} {}: {}", argv[0], output.end, output.complaint())))
    }

    async fn halt(&self, current: &mut Current, deadline: Instant) -> Result<(), Error> {
        self.look(current).await;
        let Some(watched) = current.watched.clone() else { return Ok(()) };
        self.status.send_modify(|status| status.state = State::Stopping);
        let patience = self.definition.stop_timeout.min(deadline.saturating_duration_since(Instant::now()));
        let begun = Instant::now();
        if self.definition.stop.is_empty() {
            watched.signal(Signal::TERM).map_err(|error| self.failed("stopped", &error))?;
        } else if let Err(error) = self.command(&self.definition.stop, "stopped", patience).await {
            tracing::warn!(service = self.definition.name, %error, "the stop command failed; the process is killed");
        }
        let left = patience.saturating_sub(begun.elapsed());
        if !self.is_down_within(left).await {
            tracing::warn!(service = self.definition.name, "the service did not stop in time and is killed");
            watched.signal_group(Signal::KILL);
            watched.signal(Signal::KILL).map_err(|error| self.failed("stopped", &error))?;
            if !self.is_down_within(KILL_LIMIT).await {
                return Err(self.failed("stopped", &format!("process {} survived KILL", watched.process.pid)));
            }
        }
        current.watched = None;
        Ok(())
    }

    /// Waits until the watching task has seen, and reaped, the end of the process.
    async fn is_down_within(&self, limit: Duration) -> bool {
        let mut status = self.status.subscribe();
        tokio::time::timeout(limit, status.wait_for(|status| status.process.is_none())).await.is_ok()
    }

    async fn bring_up(&self, current: &mut Current, deadline: Instant) -> Result<Status, Error> {
        self.look(current).await;
        if current.watched.is_none() {
            let watched = match self.definition.pid_file.as_deref() {
                None => Arc::new(self.launch().await?),
                Some(file) => self.start_behind(file, deadline).await?,
            };
            current.record.starts += 1;
            self.adopt(current, watched);
            self.save(current).await;
        }
        self.answers(deadline).await?;
        Ok(self.status.borrow().clone())
    }

    /// Starts the program; it is a child of this process.
    async fn launch(&self) -> Result<Watched, Error> {
        let (definition, mark) = (self.definition.clone(), self.mark.clone());
        tokio::task::spawn_blocking(move || launch::launch(&definition, &mark))
            .await
            .map_err(io::Error::other)
            .and_then(|pid| pid)
            .and_then(Watched::open_child)
            .map_err(|error| self.failed("started", &format!("{:?}: {error}", self.definition.start[0])))
    }

    /// Starts a service that says in its pid file which process it is: the program itself, which stays, or one that
    /// it leaves behind when it returns.
    async fn start_behind(&self, file: &Path, deadline: Instant) -> Result<Arc<Watched>, Error> {
        let program = Arc::new(self.launch().await?);
        let mut returned = false;
        loop {
            let path = file.to_owned();
            let found = tokio::task::spawn_blocking(move || launch::read_pid_file(&path)).await;
            let reason = match found.map_err(io::Error::other).and_then(|found| found) {
                Ok(process) if process == program.process => return Ok(program),
                Ok(process) => match Watched::open(process) {
                    Ok(watched) => {
                        reap_later(program, returned);
                        return Ok(Arc::new(watched));
                    }
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                reap_later(program, returned);
                return Err(self.failed("started", &format!("{}: {reason}", file.display())));
            }
            if returned {
                tokio::time::sleep(PID_FILE_EVERY).await;
            } else if tokio::time::timeout(PID_FILE_EVERY, program.ended()).await.is_ok() {
                returned = true;
                let exit = program.reap_alone();
                if exit != Exit::Status(0) {
                    return Err(self.failed("started", &format!("{:?} {exit}", self.definition.start[0])));
                }
            }
        }
    }

    /// Waits until `status` is content; without one a running process is enough.
    async fn answers(&self, deadline: Instant) -> Result<(), Error> {
        if self.definition.status.is_empty() {
            return Ok(());
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Err(error) = self.command(&self.definition.status, "started", left.max(STATUS_EVERY)).await else {
                return Ok(());
            };
            let down = self.status.borrow().process.is_none();
            if down || left <= STATUS_EVERY {
                return Err(error);
            }
            tokio::time::sleep(STATUS_EVERY).await;
        }
    }

    /// Records what a later agent needs; a record that cannot be written is made up for by the mark.
    async fn save(&self, current: &Current) {
        let (records, record) = (self.records.clone(), current.record.clone());
        let written = tokio::task::spawn_blocking(move || records.write(&record)).await.map_err(io::Error::other);
        if let Err(error) = written.and_then(|written| written) {
            tracing::error!(service = self.definition.name, %error, "the record of a service cannot be written");
        }
    }
}

/// A program that is not the service itself leaves no zombie when it returns.
fn reap_later(program: Arc<Watched>, returned: bool) {
    if !returned {
        tokio::spawn(async move {
            if program.ended().await.is_ok() {
                program.reap_alone();
            }
        });
    }
}

impl Manager for Command {
    fn service(&self) -> &str {
        &self.definition.name
    }

    fn state(&self) -> Promise<'_, Result<Status, Error>> {
        Box::pin(async move {
            // While it is being worked on, what is published is the news.
            if let Ok(mut current) = self.current.try_lock() {
                self.look(&mut current).await;
            }
            let mut status = self.status.borrow().clone();
            if status.state == State::Active
                && !self.definition.status.is_empty()
                && let Err(error) = self.command(&self.definition.status, "checked", STATUS_LIMIT).await
            {
                status.state = State::Failed;
                status.detail = error.to_string();
            }
            Ok(status)
        })
    }

    fn start(&self, limit: Duration) -> Promise<'_, Result<Status, Error>> {
        Box::pin(async move {
            let deadline = Instant::now() + limit;
            let mut current = self.current.lock().await;
            self.bring_up(&mut current, deadline).await
        })
    }

    fn stop(&self, limit: Duration) -> Promise<'_, Result<Status, Error>> {
        Box::pin(async move {
            let deadline = Instant::now() + limit;
            let mut current = self.current.lock().await;
            self.halt(&mut current, deadline).await?;
            current.record.stopped_by_person = true;
            self.save(&current).await;
            self.status.send_modify(|status| {
                status.state = State::Stopped;
                status.stopped_by_person = true;
            });
            Ok(self.status.borrow().clone())
        })
    }

    fn restart(&self, limit: Duration) -> Promise<'_, Result<Status, Error>> {
        Box::pin(async move {
            let deadline = Instant::now() + limit;
            let mut current = self.current.lock().await;
            if current.record.stopped_by_person {
                return Err(Error::Unwanted {
                    service: self.name(),
                    state: State::Stopped,
                    reason: "it was stopped on request; start it before it can be restarted".to_owned(),
                });
            }
            self.halt(&mut current, deadline).await?;
            self.bring_up(&mut current, deadline).await
        })
    }

    fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }
}

#[cfg(test)]
mod tests;
