//! `service.restart`: stops a service if it runs, starts it, and sees that it stays up.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::{Action, Change, Failure, Host, Item, Preview, Refusal, Standing, Work, permission};
use crate::{
    config::{Config, ManagerKind},
    managers::{Promise, State, Status},
    process::Process,
};

/// How long the new process must stay: one that cannot read its configuration is gone by then.
const SETTLE: Duration = Duration::from_millis(500);

/// An order to restart a service.
#[derive(Debug)]
pub(super) struct Restart(pub(super) quell_model::action::ServiceRestart);

/// What ran before.
#[derive(Debug, Serialize, Deserialize)]
struct Before {
    process: Option<Process>,
    since: Option<jiff::Timestamp>,
}

impl Restart {
    async fn status(&self, host: &Host) -> Result<Status, Refusal> {
        let refuse = |error: crate::managers::Error| Refusal::because(error.to_string());
        host.managers.find(&self.0.service).map_err(refuse)?.state().await.map_err(refuse)
    }

    /// Its process now, unless it is not up or still the one from before.
    fn renewed(&self, status: &Status, before: &Before) -> Result<(), String> {
        if status.state != State::Active {
            return Err(format!("{} is {} ({})", self.0.service, status.state, status.detail));
        }
        if status.process.is_some() && status.process == before.process {
            return Err(format!("{} still runs as the process from before", self.0.service));
        }
        Ok(())
    }
}

fn change(service: &str, status: &Status) -> Change {
    let pid = status.process.as_ref().map(|process| process.pid);
    let told = pid.map(|pid| format!(" as process {pid}")).unwrap_or_default();
    let change = Change::new(format!("{service} was restarted and runs{told}"));
    match pid {
        Some(pid) => change.with("pid", pid.into()),
        None => change,
    }
}

fn before(prepared: &Json) -> Before {
    serde_json::from_value(prepared.clone()).unwrap_or(Before { process: None, since: None })
}

impl Action for Restart {
    fn resources(&self) -> Vec<String> {
        vec![format!("unit:{}", self.0.service)]
    }

    fn permitted(&self, config: &Config) -> Result<(), Refusal> {
        permission::service(config, &self.0.service)?;
        let actual = config.service(&self.0.service).map_or(ManagerKind::Systemd, |service| service.manager);
        match self.0.manager {
            Some(expected) if expected != actual => Err(Refusal::because(format!(
                "{} is run by {actual:?} on this host, and the order is for {expected:?}",
                self.0.service
            ))),
            _ => Ok(()),
        }
    }

    fn check<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Preview, Refusal>> {
        Box::pin(async move {
            let status = self.status(host).await?;
            if status.state == State::Missing {
                let error = crate::managers::Error::NotFound(self.0.service.clone());
                return Err(Refusal::because(error.to_string()));
            }
            if status.stopped_by_person {
                return Err(Refusal::because(format!(
                    "{} is {}: somebody wants it to be down, so it is not restarted; start it by hand first",
                    self.0.service, status.state
                )));
            }
            let detail = match &status.process {
                Some(process) => format!("{}, process {}", status.state, process.pid),
                None => status.state.to_string(),
            };
            let item = Item { verb: "restart", object: self.0.service.clone(), size: 0, detail, moving: true };
            Ok(Preview { items: vec![item], note: String::new() })
        })
    }

    fn prepare<'a>(&'a self, host: &'a Host, _checked: &'a Preview) -> Promise<'a, Result<Json, Refusal>> {
        Box::pin(async move {
            let status = self.status(host).await?;
            let before = Before { process: status.process, since: status.since };
            serde_json::to_value(before).map_err(|error| Refusal::because(error.to_string()))
        })
    }

    fn apply<'a>(&'a self, work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Change, Failure>> {
        Box::pin(async move {
            let failed = |error: crate::managers::Error| Failure::new(error.to_string());
            let manager = work.host.managers.find(&self.0.service).map_err(failed)?;
            // A restart is not broken off half way: that would leave the service down.
            let status = manager.restart(work.left()).await.map_err(failed)?;
            Ok(change(&self.0.service, &status))
        })
    }

    fn verify<'a>(&'a self, work: &'a Work<'a>, prepared: &'a Json) -> Promise<'a, Result<(), Failure>> {
        Box::pin(async move {
            let failed = |error: crate::managers::Error| Failure::new(error.to_string());
            let manager = work.host.managers.find(&self.0.service).map_err(failed)?;
            let before = before(prepared);
            let mut changes = manager.watch();
            let first = manager.state().await.map_err(failed)?;
            self.renewed(&first, &before).map_err(Failure::new)?;
            let settle = tokio::time::Instant::now() + SETTLE;
            loop {
                let changed = tokio::time::timeout_at(settle, changes.changed()).await;
                let status = manager.state().await.map_err(failed)?;
                self.renewed(&status, &before).map_err(Failure::new)?;
                if status.process != first.process {
                    return Err(Failure::new(format!("{} came up and ended again", self.0.service)));
                }
                if !matches!(changed, Ok(Ok(()))) {
                    tokio::time::sleep_until(settle).await;
                    return Ok(());
                }
            }
        })
    }

    fn undo<'a>(&'a self, _work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Option<Change>, Failure>> {
        Box::pin(async { Ok(None) })
    }

    fn look<'a>(&'a self, host: &'a Host, prepared: &'a Json) -> Promise<'a, Standing> {
        Box::pin(async move {
            let status = match self.status(host).await {
                Ok(status) => status,
                Err(refusal) => return Standing::Doubtful(refusal.reason),
            };
            match self.renewed(&status, &before(prepared)) {
                Ok(()) => Standing::Done(change(&self.0.service, &status)),
                Err(_) => Standing::Open,
            }
        })
    }
}
