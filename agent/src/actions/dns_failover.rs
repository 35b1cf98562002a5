//! `dns.failover`: makes the other server the active one, by the tool that the shop has for it.
//!
//! The order says which server it believes to be active, and is refused as stale when the tool says another: a plan
//! that comes late changes nothing. The old server is shut down first; only when that fails, and its process is
//! confirmed dead, is the other one forced. A fail-over never goes back by itself, not even when it failed.

use std::time::Duration;

use quell_model::{action::DnsProcess, name};
use serde_json::{Value as Json, json};

use super::{Action, Change, Failure, Host, Item, Preview, Refusal, Standing, Work, permission};
use crate::{
    config::Config,
    managers::{Promise, State},
    process::{
        Process,
        run::{self, Output, Program},
    },
};

/// How long one question to the tool may take.
const QUERY_LIMIT: Duration = Duration::from_secs(10);

/// How often it is asked whether the change has come through,
const VERIFY_EVERY: Duration = Duration::from_millis(250);

/// and for how long at most.
const VERIFY_LIMIT: Duration = Duration::from_secs(15);

/// An order to fail over.
#[derive(Debug)]
pub(super) struct Failover(pub(super) quell_model::action::DnsFailover);

/// Says why a process is not known to be dead.
async fn confirm_dead(process: &DnsProcess, work: &Work<'_>) -> Result<(), String> {
    match process {
        DnsProcess::Service(service) => {
            let manager = work.host.managers.find(service).map_err(|error| error.to_string())?;
            let status = manager.state().await.map_err(|error| error.to_string())?;
            let down = matches!(status.state, State::Failed | State::Stopped | State::Disabled | State::Masked);
            if down && status.process.is_none() { Ok(()) } else { Err(format!("{service} is {}", status.state)) }
        }
        DnsProcess::PidFile(file) => {
            let file = file.clone();
            super::blocking(move || gone(&file)).await?
        }
        DnsProcess::Run(argv) => {
            let output = run_tool(argv, work, QUERY_LIMIT).await?;
            if output.end.is_success() { Ok(()) } else { Err(format!("{} {}", super::shown_argv(argv), output.end)) }
        }
    }
}

fn gone(file: &std::path::Path) -> Result<(), String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let pid: u32 = text.trim().parse().map_err(|_| format!("{} names no process", file.display()))?;
    match Process::of(pid) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("process {pid}: {error}")),
        Ok(_) => Err(format!("process {pid} runs")),
    }
}

async fn run_tool(argv: &[String], work: &Work<'_>, limit: Duration) -> Result<Output, String> {
    let program = Program { argv: argv.to_vec(), output_limit: 4096, ..Program::default() };
    // A switch that has begun is not broken off half way by a person's cancel: both servers would be down.
    let never = tokio_util::sync::CancellationToken::new();
    let limit = limit.min(work.left());
    run::run(&program, limit, &never).await.map_err(|error| format!("{} cannot be run: {error}", argv[0]))
}

impl Failover {
    fn argv(&self, arguments: &[&str]) -> Vec<String> {
        self.0.tool.iter().cloned().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
    }

    /// The server that is active, by the tool; absent when it names none.
    async fn active(&self, host: &Host) -> Result<Option<String>, String> {
        let argv = self.argv(&["-q", "active_server"]);
        let work = Work {
            host,
            deadline: tokio::time::Instant::now() + QUERY_LIMIT,
            cancel: tokio_util::sync::CancellationToken::new(),
            resumed: false,
        };
        let output = run_tool(&argv, &work, QUERY_LIMIT).await?;
        if !output.end.is_success() {
            return Err(format!("{} {}: {}", super::shown_argv(&argv), output.end, output.complaint()));
        }
        let answer = output.stdout.trim();
        if answer.is_empty() || answer == "none" {
            return Ok(None);
        }
        let server = name::server(answer).map_err(|_| format!("{} answered {answer:?}", super::shown_argv(&argv)))?;
        Ok(Some(server))
    }

    /// Compare-and-set: the order holds only while the server that it believes to be active is.
    fn still_holds(&self, active: Option<&str>, resumed: bool) -> Result<(), String> {
        match active {
            Some(active) if active == self.0.from => Ok(()),
            // The shutdown that the journal tells of has left nobody active.
            None if resumed => Ok(()),
            other => Err(format!(
                "the order is stale: it switches from {} to {}, and {} is active; nothing was changed",
                self.0.from,
                self.0.to,
                other.unwrap_or("no server")
            )),
        }
    }

    async fn tool(&self, work: &Work<'_>, arguments: &[&str]) -> Result<(), String> {
        let argv = self.argv(arguments);
        let output = run_tool(&argv, work, work.left()).await?;
        if output.end.is_success() {
            return Ok(());
        }
        Err(format!("{} {}: {}", super::shown_argv(&argv), output.end, output.complaint()))
    }

    async fn switch(&self, work: &Work<'_>) -> Result<bool, String> {
        let Err(refused) = self.tool(work, &["-a", "shutdown", "-s", &self.0.from]).await else {
            self.tool(work, &["-a", "failover", "-s", &self.0.to]).await?;
            return Ok(false);
        };
        let Some(process) = &self.0.process else {
            return Err(format!(
                "{refused}; the fail-over is not forced, for nothing in the order says how the process of {} is known to be dead",
                self.0.from
            ));
        };
        confirm_dead(process, work).await.map_err(|reason| {
            format!(
                "{refused}; the fail-over is not forced, for the process of {} is not known to be dead: {reason}",
                self.0.from
            )
        })?;
        self.tool(work, &["-a", "failover", "-s", &self.0.to, "-f"]).await?;
        Ok(true)
    }
}

impl Action for Failover {
    fn resources(&self) -> Vec<String> {
        vec![format!("dns:{}", self.0.tool[0])]
    }

    fn permitted(&self, config: &Config) -> Result<(), Refusal> {
        permission::program(config, &self.0.tool)?;
        match &self.0.process {
            None | Some(DnsProcess::PidFile(_)) => Ok(()),
            Some(DnsProcess::Service(service)) => permission::service(config, service),
            Some(DnsProcess::Run(argv)) => permission::program(config, argv),
        }
    }

    fn check<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Preview, Refusal>> {
        Box::pin(async move {
            let active = self.active(host).await.map_err(Refusal::because)?;
            if active.as_deref() == Some(&self.0.to) {
                return Ok(Preview { items: vec![], note: format!("{} is active already", self.0.to) });
            }
            self.still_holds(active.as_deref(), false).map_err(Refusal::because)?;
            let detail = format!("from {}", self.0.from);
            Ok(Preview {
                items: vec![Item { verb: "switch", object: self.0.to.clone(), size: 0, detail, moving: false }],
                note: String::new(),
            })
        })
    }

    fn prepare<'a>(&'a self, _host: &'a Host, _checked: &'a Preview) -> Promise<'a, Result<Json, Refusal>> {
        Box::pin(async { Ok(json!({"from": self.0.from, "to": self.0.to})) })
    }

    fn apply<'a>(&'a self, work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Change, Failure>> {
        Box::pin(async move {
            // Asked again: since the check the intent was made durable, and somebody else may have been at it.
            let active = self.active(work.host).await.map_err(Failure::new)?;
            self.still_holds(active.as_deref(), work.resumed).map_err(Failure::new)?;
            let forced = self.switch(work).await.map_err(Failure::new)?;
            let how = if forced { " by force, its process being dead" } else { "" };
            let mut change = Change::new(format!("{} was switched off{how} and {} is active", self.0.from, self.0.to));
            change.values.insert("forced".to_owned(), forced.into());
            change.values.insert("active".to_owned(), self.0.to.as_str().into());
            Ok(change)
        })
    }

    fn verify<'a>(&'a self, work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<(), Failure>> {
        Box::pin(async move {
            let end = tokio::time::Instant::now() + VERIFY_LIMIT.min(work.left().max(QUERY_LIMIT));
            loop {
                let seen = match self.active(work.host).await {
                    Ok(Some(active)) if active == self.0.to => return Ok(()),
                    Ok(active) => format!("{} is active", active.as_deref().unwrap_or("no server")),
                    Err(reason) => reason,
                };
                if tokio::time::Instant::now() >= end {
                    let text = format!("{} was told to take over, but {seen}; it is not switched back", self.0.to);
                    return Err(Failure::new(text));
                }
                tokio::time::sleep(VERIFY_EVERY).await;
            }
        })
    }

    fn undo<'a>(&'a self, _work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Option<Change>, Failure>> {
        let text = format!(
            "a fail-over is not taken back; switching from {} to {} is an order of its own",
            self.0.to, self.0.from
        );
        Box::pin(async move { Err(Failure::new(text)) })
    }

    fn look<'a>(&'a self, host: &'a Host, _prepared: &'a Json) -> Promise<'a, Standing> {
        Box::pin(async move {
            match self.active(host).await {
                Ok(Some(active)) if active == self.0.to => {
                    Standing::Done(Change::new(format!("{} is active", self.0.to)))
                }
                Ok(active) => match self.still_holds(active.as_deref(), true) {
                    Ok(()) => Standing::Open,
                    Err(reason) => Standing::Doubtful(reason),
                },
                Err(reason) => Standing::Doubtful(reason),
            }
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
