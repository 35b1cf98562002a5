//! `dns.failover`: makes the other server the active one, by the tool that the shop has for it.
//!
//! The order says which server it believes to be active, and is refused as stale when the tool says another: a plan
//! that comes late changes nothing. The old server is shut down first; only when that fails, and its process is
//! confirmed dead, is the other one forced. A fail-over never goes back by itself, not even when it failed.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::{Action, Change, Failure, Host, Item, Kind, Preview, Refusal, Standing, Work, parameters};
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

/// The action.
pub(super) struct DnsFailover;

impl Kind for DnsFailover {
    fn name(&self) -> &'static str {
        "dns.failover"
    }

    fn read(&self, with: &Map<String, Json>) -> Result<Box<dyn Action>, Refusal> {
        let failover: Failover = parameters::read(self.name(), with)?;
        parameters::argv("tool", &failover.tool)?;
        for server in [&failover.from, &failover.to] {
            server_name(server)?;
        }
        if failover.from == failover.to {
            return Err(Refusal::because(format!("from and to are both {:?}", failover.from)));
        }
        if let Some(pair) = &failover.servers {
            for server in [&failover.from, &failover.to] {
                if !pair.contains(server) {
                    let text = format!("{server:?} is not one of the servers {}", pair.join(" and "));
                    return Err(Refusal::because(text));
                }
            }
        }
        if let Some(process) = &failover.process {
            process.check()?;
        }
        Ok(Box::new(failover))
    }
}

fn server_name(text: &str) -> Result<(), Refusal> {
    let good = (1..=253).contains(&text.len())
        && !text.starts_with(['-', '.'])
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if good {
        return Ok(());
    }
    Err(Refusal::because(format!("{text:?} is not the name of a server: letters, digits and any of - . _")))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Provider {
    /// A tool of the shop.
    #[default]
    Command,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Failover {
    /// Only one so far.
    #[serde(default)]
    #[expect(dead_code, reason = "reading it is the check; further providers will be told apart by it")]
    provider: Provider,
    /// The tool, and arguments that come before its own.
    tool: Vec<String>,
    from: String,
    to: String,
    /// All servers that there are; when given, no other name is accepted.
    #[serde(default)]
    servers: Option<Vec<String>>,
    /// How it is confirmed that the process of the old server is dead.
    #[serde(default)]
    process: Option<DeadWhen>,
}

/// How a process is known to be dead; exactly one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct DeadWhen {
    /// A service of this host: it has no process.
    #[serde(default)]
    service: Option<String>,
    /// A file that holds the number of a process: that process is gone. A missing file confirms nothing.
    #[serde(default)]
    pid_file: Option<String>,
    /// A program that exits 0 only when it is dead.
    #[serde(default)]
    argv: Option<Vec<String>>,
}

impl DeadWhen {
    fn check(&self) -> Result<(), Refusal> {
        match (&self.service, &self.pid_file, &self.argv) {
            (Some(service), None, None) => parameters::service_name(service),
            (None, Some(file), None) => parameters::path(file).map(|_| ()),
            (None, None, Some(argv)) => parameters::argv("process.argv", argv),
            _ => Err(Refusal::because("process is exactly one of service, pidFile and argv")),
        }
    }

    /// Says why it is not confirmed.
    async fn confirmed(&self, work: &Work<'_>) -> Result<(), String> {
        if let Some(service) = &self.service {
            let manager = work.host.managers.find(service).map_err(|error| error.to_string())?;
            let status = manager.state().await.map_err(|error| error.to_string())?;
            let down = matches!(status.state, State::Failed | State::Stopped | State::Disabled | State::Masked);
            return if down && status.process.is_none() {
                Ok(())
            } else {
                Err(format!("{service} is {}", status.state))
            };
        }
        if let Some(file) = &self.pid_file {
            let file = PathBuf::from(file);
            return super::blocking(move || gone(&file)).await?;
        }
        let argv = self.argv.clone().unwrap_or_default();
        let output = run_tool(&argv, work, QUERY_LIMIT).await?;
        if output.end.is_success() { Ok(()) } else { Err(format!("{} {}", parameters::shown(&argv), output.end)) }
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
        self.tool.iter().cloned().chain(arguments.iter().map(|argument| (*argument).to_owned())).collect()
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
            return Err(format!("{} {}: {}", parameters::shown(&argv), output.end, output.complaint()));
        }
        let answer = output.stdout.trim();
        if answer.is_empty() || answer == "none" {
            return Ok(None);
        }
        server_name(answer).map_err(|_| format!("{} answered {answer:?}", parameters::shown(&argv)))?;
        Ok(Some(answer.to_owned()))
    }

    /// Compare-and-set: the order holds only while the server that it believes to be active is.
    fn still_holds(&self, active: Option<&str>, resumed: bool) -> Result<(), String> {
        match active {
            Some(active) if active == self.from => Ok(()),
            // The shutdown that the journal tells of has left nobody active.
            None if resumed => Ok(()),
            other => Err(format!(
                "the order is stale: it switches from {} to {}, and {} is active; nothing was changed",
                self.from,
                self.to,
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
        Err(format!("{} {}: {}", parameters::shown(&argv), output.end, output.complaint()))
    }

    async fn switch(&self, work: &Work<'_>) -> Result<bool, String> {
        let Err(refused) = self.tool(work, &["-a", "shutdown", "-s", &self.from]).await else {
            self.tool(work, &["-a", "failover", "-s", &self.to]).await?;
            return Ok(false);
        };
        let Some(process) = &self.process else {
            return Err(format!(
                "{refused}; the fail-over is not forced, for nothing in the order says how the process of {} is known to be dead",
                self.from
            ));
        };
        process.confirmed(work).await.map_err(|reason| {
            format!(
                "{refused}; the fail-over is not forced, for the process of {} is not known to be dead: {reason}",
                self.from
            )
        })?;
        self.tool(work, &["-a", "failover", "-s", &self.to, "-f"]).await?;
        Ok(true)
    }
}

impl Action for Failover {
    fn resources(&self) -> Vec<String> {
        vec![format!("dns:{}", self.tool[0])]
    }

    fn permitted(&self, config: &Config) -> Result<(), Refusal> {
        parameters::program_allowed(config, &self.tool)?;
        let Some(process) = &self.process else { return Ok(()) };
        if let Some(service) = &process.service {
            parameters::service_allowed(config, service)?;
        }
        process.argv.as_ref().map_or(Ok(()), |argv| parameters::program_allowed(config, argv))
    }

    fn check<'a>(&'a self, host: &'a Host) -> Promise<'a, Result<Preview, Refusal>> {
        Box::pin(async move {
            let active = self.active(host).await.map_err(Refusal::because)?;
            if active.as_deref() == Some(&self.to) {
                return Ok(Preview { items: vec![], note: format!("{} is active already", self.to) });
            }
            self.still_holds(active.as_deref(), false).map_err(Refusal::because)?;
            let detail = format!("from {}", self.from);
            Ok(Preview {
                items: vec![Item { verb: "switch", object: self.to.clone(), size: 0, detail }],
                note: String::new(),
            })
        })
    }

    fn prepare<'a>(&'a self, _host: &'a Host) -> Promise<'a, Result<Json, Refusal>> {
        Box::pin(async { Ok(json!({"from": self.from, "to": self.to})) })
    }

    fn apply<'a>(&'a self, work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Change, Failure>> {
        Box::pin(async move {
            // Asked again: since the check the intent was made durable, and somebody else may have been at it.
            let active = self.active(work.host).await.map_err(Failure::new)?;
            self.still_holds(active.as_deref(), work.resumed).map_err(Failure::new)?;
            let forced = self.switch(work).await.map_err(Failure::new)?;
            let how = if forced { " by force, its process being dead" } else { "" };
            let mut change = Change::new(format!("{} was switched off{how} and {} is active", self.from, self.to));
            change.values.insert("forced".to_owned(), forced.into());
            change.values.insert("active".to_owned(), self.to.as_str().into());
            Ok(change)
        })
    }

    fn verify<'a>(&'a self, work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<(), Failure>> {
        Box::pin(async move {
            let end = tokio::time::Instant::now() + VERIFY_LIMIT.min(work.left().max(QUERY_LIMIT));
            loop {
                let seen = match self.active(work.host).await {
                    Ok(Some(active)) if active == self.to => return Ok(()),
                    Ok(active) => format!("{} is active", active.as_deref().unwrap_or("no server")),
                    Err(reason) => reason,
                };
                if tokio::time::Instant::now() >= end {
                    let text = format!("{} was told to take over, but {seen}; it is not switched back", self.to);
                    return Err(Failure::new(text));
                }
                tokio::time::sleep(VERIFY_EVERY).await;
            }
        })
    }

    fn undo<'a>(&'a self, _work: &'a Work<'a>, _prepared: &'a Json) -> Promise<'a, Result<Option<Change>, Failure>> {
        let text = format!(
            "a fail-over is not taken back; switching from {} to {} is an order of its own",
            self.to, self.from
        );
        Box::pin(async move { Err(Failure::new(text)) })
    }

    fn look<'a>(&'a self, host: &'a Host, _prepared: &'a Json) -> Promise<'a, Standing> {
        Box::pin(async move {
            match self.active(host).await {
                Ok(Some(active)) if active == self.to => Standing::Done(Change::new(format!("{} is active", self.to))),
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
