//! Services that the host's systemd runs, asked over D-Bus: `org.freedesktop.systemd1` as its manual page describes it.
//!
//! A restart is a job, and ends with the signal that names the job's result. A unit that is masked, disabled or was
//! stopped in good order is not "down": starting it again is refused with what a person would do. systemd does not say
//! who stopped a unit; inactive with result `success` therefore counts as wanted.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Weak},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Mutex, OnceCell, watch};
use tokio_stream::StreamExt as _;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath, OwnedVariant, message::Type};

use super::{Error, Manager, Promise, State, Status};
use crate::process::Process;

const DESTINATION: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Signals that may wait before the oldest is dropped; a dropped one costs a later look, not a wrong answer.
const SIGNAL_CAPACITY: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");

/// How long one call may take: systemd answers within milliseconds or is in trouble.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// Pause before a lost bus is tried again by a watcher.
const RECONNECT: Duration = Duration::from_secs(5);

/// The connection to the bus, made when first needed and again when it was lost.
pub struct Bus {
    connection: Mutex<Option<Connection>>,
}

impl Bus {
    /// The system's bus; nothing is connected yet.
    pub fn system() -> Self {
        Self { connection: Mutex::new(None) }
    }

    async fn connection(&self) -> zbus::Result<Connection> {
        let mut held = self.connection.lock().await;
        if let Some(connection) = held.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        let connection = Connection::system().await?;
        // Without a subscription systemd sends no signals about jobs and units.
        let body = &();
        connection.call_method(Some(DESTINATION), MANAGER_PATH, Some(MANAGER), "Subscribe", body).await?;
        *held = Some(connection.clone());
        Ok(connection)
    }
}

type Properties = HashMap<String, OwnedVariant>;

/// A unit of systemd.
pub struct Unit {
    service: String,
    unit: String,
    bus: Arc<Bus>,
    status: watch::Sender<Status>,
    watcher: OnceCell<()>,
    /// Acts on the unit happen one after the other.
    acting: Mutex<()>,
    itself: Weak<Self>,
}

impl Unit {
    /// Speaks for a unit; whether there is one is seen when it is asked for.
    pub fn new(service: &str, unit: String, bus: Arc<Bus>) -> Arc<Self> {
        Arc::new_cyclic(|itself| Self {
            service: service.to_owned(),
            unit,
            bus,
            status: watch::Sender::new(Status::default()),
            watcher: OnceCell::new(),
            acting: Mutex::new(()),
            itself: Weak::clone(itself),
        })
    }

    fn unreachable(&self, error: &impl ToString) -> Error {
        Error::Unreachable { service: self.service.clone(), reason: error.to_string() }
    }

    fn failed(&self, what: &'static str, reason: &impl ToString) -> Error {
        Error::Failed { service: self.service.clone(), what, reason: reason.to_string() }
    }

    async fn path(&self, connection: &Connection) -> zbus::Result<OwnedObjectPath> {
        let body = &(self.unit.as_str(),);
        let reply = connection.call_method(Some(DESTINATION), MANAGER_PATH, Some(MANAGER), "LoadUnit", body).await?;
        reply.body().deserialize()
    }

    async fn properties(connection: &Connection, path: &OwnedObjectPath, interface: &str) -> zbus::Result<Properties> {
        let body = &(interface,);
        let reply = connection.call_method(Some(DESTINATION), path.clone(), Some(PROPERTIES), "GetAll", body).await?;
        reply.body().deserialize()
    }

    async fn read(&self) -> zbus::Result<Status> {
        let connection = self.bus.connection().await?;
        let path = self.path(&connection).await?;
        let unit = Self::properties(&connection, &path, UNIT).await?;
        // Only units of kind service have these.
        let service = Self::properties(&connection, &path, SERVICE).await.unwrap_or_default();
        Ok(status_of(&unit, &service))
    }

    /// Asks afresh, and lets the watchers know.
    async fn refresh(&self) -> Result<Status, Error> {
        let status = match tokio::time::timeout(CALL_LIMIT, self.read()).await {
            Ok(Ok(status)) => status,
            Ok(Err(error)) => return Err(self.unreachable(&error)),
            Err(_) => return Err(self.unreachable(&format!("no answer within {CALL_LIMIT:?}"))),
        };
        self.status.send_if_modified(|last| {
            let differs = *last != status;
            last.clone_from(&status);
            differs
        });
        Ok(status)
    }

    /// Refuses what a person wants to be down.
    fn wanted(&self, status: &Status) -> Result<(), Error> {
        let reason = match status.state {
            State::Missing => return Err(Error::NotFound(self.service.clone())),
            State::Masked => format!("its administrator forbids it; run: systemctl unmask {}", self.unit),
            State::Disabled => format!("it is not meant to run; run: systemctl enable --now {}", self.unit),
            State::Stopped => format!("it was stopped in good order; run: systemctl start {}", self.unit),
            _ => return Ok(()),
        };
        Err(Error::Unwanted { service: self.service.clone(), state: status.state, reason })
    }

    /// Queues a job and waits for the signal that names its result.
    async fn job(&self, method: &'static str, what: &'static str, limit: Duration) -> Result<(), Error> {
        let run = async {
            let connection = self.bus.connection().await?;
            let rule = MatchRule::builder()
                .msg_type(Type::Signal)
                .sender(DESTINATION)
                .interface(MANAGER)
                .member("JobRemoved")
                .build()?;
            // Listening begins before the job exists: a fast one would be gone.
            let mut removed = MessageStream::for_match_rule(rule, &connection, Some(SIGNAL_CAPACITY)).await?;
            let body = &(self.unit.as_str(), "replace");
            let reply = connection.call_method(Some(DESTINATION), MANAGER_PATH, Some(MANAGER), method, body).await?;
            let job: OwnedObjectPath = reply.body().deserialize()?;
            while let Some(message) = removed.next().await {
                let message = message?;
                let body = message.body();
                let (_, path, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
                if path == job {
                    return Ok(result);
                }
            }
            zbus::Result::Err(zbus::Error::Failure("the connection to the bus was lost".to_owned()))
        };
        match tokio::time::timeout(limit, run).await {
            Err(_) => Err(Error::TimedOut { service: self.service.clone(), what, limit }),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Ok(Ok(result)) if result == "done" => Ok(()),
            Ok(Ok(result)) => {
                let detail = self.refresh().await.map(|status| status.detail).unwrap_or_default();
                Err(self.failed(what, &format!("the job of systemd ended with {result:?} ({detail})")))
            }
        }
    }

    /// Publishes what the unit's signals announce, for as long as somebody holds the unit.
    async fn keep_watching(unit: Weak<Self>) {
        loop {
            let Some(held) = unit.upgrade() else { return };
            let stream = held.changes().await;
            let read = held.refresh().await;
            drop(held);
            if let (Ok(mut stream), Ok(_)) = (stream, read) {
                while let Some(Ok(_)) = stream.next().await {
                    let Some(held) = unit.upgrade() else { return };
                    if held.refresh().await.is_err() {
                        break;
                    }
                }
            }
            if let Some(held) = unit.upgrade() {
                held.status.send_modify(|status| *status = Status::default());
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn changes(&self) -> zbus::Result<MessageStream> {
        let connection = self.bus.connection().await?;
        let path = self.path(&connection).await?;
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(DESTINATION)
            .path(path.into_inner())
            .interface(PROPERTIES)
            .member("PropertiesChanged")
            .build()?;
        MessageStream::for_match_rule(rule, &connection, Some(SIGNAL_CAPACITY)).await
    }
}

impl Manager for Unit {
    fn service(&self) -> &str {
        &self.service
    }

    fn state(&self) -> Promise<'_, Result<Status, Error>> {
        Box::pin(self.refresh())
    }

    fn start(&self, limit: Duration) -> Promise<'_, Result<Status, Error>> {
        Box::pin(async move {
            let _one_at_a_time = self.acting.lock().await;
            let status = self.refresh().await?;
            match status.state {
                State::Active => return Ok(status),
                // Somebody asks for it by name: stopped is no obstacle here, masked is.
                State::Stopped | State::Disabled => {}
                _ => self.wanted(&status)?,
            }
            self.job("StartUnit", "started", limit).await?;
            self.refresh().await
        })
    }

    fn stop(&self, limit: Duration) -> Promise<'_, Result<Status, Error>> {
        Box::pin(async move {
            let _one_at_a_time = self.acting.lock().await;
            self.job("StopUnit", "stopped", limit).await?;
            self.refresh().await
        })
    }

    fn restart(&self, limit: Duration) -> Promise<'_, Result<Status, Error>> {
        Box::pin(async move {
            let _one_at_a_time = self.acting.lock().await;
            let status = self.refresh().await?;
            self.wanted(&status)?;
            self.job("RestartUnit", "restarted", limit).await?;
            self.refresh().await
        })
    }

    fn watch(&self) -> watch::Receiver<Status> {
        if self.watcher.set(()).is_ok() {
            tokio::spawn(Self::keep_watching(Weak::clone(&self.itself)));
        }
        self.status.subscribe()
    }
}

fn text(properties: &Properties, name: &str) -> String {
    let value = properties.get(name).and_then(|value| value.try_clone().ok());
    value.and_then(|value| String::try_from(value).ok()).unwrap_or_default()
}

fn number<T: TryFrom<OwnedVariant> + Default>(properties: &Properties, name: &str) -> T {
    let value = properties.get(name).and_then(|value| value.try_clone().ok());
    value.and_then(|value| T::try_from(value).ok()).unwrap_or_default()
}

/// What systemd's properties mean.
fn status_of(unit: &Properties, service: &Properties) -> Status {
    let result = text(service, "Result");
    let file = text(unit, "UnitFileState");
    let state = match (text(unit, "LoadState").as_str(), text(unit, "ActiveState").as_str()) {
        ("masked", _) => State::Masked,
        ("not-found", _) => State::Missing,
        (_, "active" | "reloading" | "refreshing") => State::Active,
        (_, "activating") => State::Starting,
        (_, "deactivating") => State::Stopping,
        (_, "failed") => State::Failed,
        (_, "inactive") if matches!(file.as_str(), "masked" | "masked-runtime") => State::Masked,
        (_, "inactive") if file == "disabled" => State::Disabled,
        (_, "inactive") => State::Stopped,
        _ => State::Unknown,
    };
    let pid: u32 = number(service, "MainPID");
    let changed: u64 = number(unit, "StateChangeTimestamp");
    Status {
        state,
        process: (pid > 0).then(|| Process::of(pid).ok()).flatten(),
        since: i64::try_from(changed)
            .ok()
            .filter(|since| *since > 0)
            .and_then(|since| Timestamp::from_microsecond(since).ok()),
        restarts: number::<u32>(service, "NRestarts").into(),
        stopped_by_person: matches!(state, State::Masked | State::Disabled | State::Stopped),
        detail: format!("{} ({}), result {result}", text(unit, "ActiveState"), text(unit, "SubState")),
    }
}
