//! `quell hold`, `quell freeze` and `quell thaw`. Stopping things never prompts.

use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use jiff::Timestamp;
use quell_wire::v1::{HoldRequest, ReleaseRequest, WindowView};

use crate::{
    connect::{self, Client, Context},
    error::Error,
    exit::Exit,
    kind::Kind,
    output,
    render::{escape, time::full},
    settings,
};

/// What can be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// A host.
    Host,
    /// A policy.
    Policy,
    /// An incident.
    Incident,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Policy => "policy",
            Self::Incident => "incident",
        }
    }
}

/// What is held.
#[derive(Debug, Clone, Args)]
pub struct Hold {
    /// A host, a policy or an incident by its name.
    #[arg(value_name = "HOST|POLICY|INCIDENT")]
    pub name: String,
    /// For how long.
    #[arg(long = "for", value_name = "TIME", value_parser = settings::span)]
    pub span: Duration,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Which of them it is, where a host and a policy share the name.
    #[arg(long, value_enum, value_name = "KIND")]
    pub kind: Option<What>,
}

/// What is frozen.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("hosts").required(true).args(["selector", "all"]))]
pub struct Freeze {
    /// The hosts with all of these labels.
    #[arg(short = 'l', long, value_name = "KEY=VALUE,…")]
    pub selector: Option<String>,
    /// Every host.
    #[arg(long)]
    pub all: bool,
    /// For how long.
    #[arg(long = "for", value_name = "TIME", value_parser = settings::span)]
    pub span: Duration,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// What ends.
#[derive(Debug, Clone, Args)]
#[command(group = ArgGroup::new("which").required(true).args(["windows", "all"]))]
pub struct Thaw {
    /// Holds and freezes by number: win-3; see `quell get windows`.
    #[arg(value_name = "WINDOW")]
    pub windows: Vec<String>,
    /// All of them.
    #[arg(long)]
    pub all: bool,
    /// Why.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
}

/// Holds.
///
/// # Errors
/// Nothing, or more than one thing, has the name; the controller's refusal, or the connection's.
pub async fn hold(arguments: &Hold, context: &Context) -> Result<Exit, Error> {
    let mut client = context.client().await?;
    let kind = match arguments.kind {
        Some(kind) => kind,
        None => kind_of(&mut client, &arguments.name).await?,
    };
    let request = HoldRequest {
        kind: kind.as_str().to_owned(),
        name: arguments.name.clone(),
        for_ms: settings::milliseconds(arguments.span),
        reason: arguments.reason.clone(),
    };
    show(client.hold(request).await?.into_inner().window, context)
}

/// What a name stands for: `inc-3` is an incident, `plants/x` a policy; any other is looked up.
async fn kind_of(client: &mut Client, name: &str) -> Result<What, Error> {
    if name
        .strip_prefix("inc-")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return Ok(What::Incident);
    }
    if name.contains('/') {
        return Ok(What::Policy);
    }
    let is_host = !connect::get(client, Kind::Hosts, name).await?.hosts.is_empty();
    let is_policy = !connect::get(client, Kind::Policies, name).await?.policies.is_empty();
    match (is_host, is_policy) {
        (true, false) => Ok(What::Host),
        (false, true) => Ok(What::Policy),
        (true, true) => Err(Error::Usage(format!("a host and a policy are called {name}: say which with --kind"))),
        (false, false) => Err(Error::NotFound(format!("no host, policy or incident is called {name}"))),
    }
}

/// Freezes.
///
/// # Errors
/// The controller's refusal, or the connection's.
pub async fn freeze(arguments: &Freeze, context: &Context) -> Result<Exit, Error> {
    let name = arguments.selector.clone().unwrap_or_else(|| "all".to_owned());
    let request = HoldRequest {
        kind: "hosts".to_owned(),
        name,
        for_ms: settings::milliseconds(arguments.span),
        reason: arguments.reason.clone(),
    };
    show(context.client().await?.hold(request).await?.into_inner().window, context)
}

fn show(window: Option<WindowView>, context: &Context) -> Result<Exit, Error> {
    match window {
        Some(window) if context.format.is_data() => output::data(context.format, &window)?,
        Some(window) => {
            let until = full(&window.until, Timestamp::now());
            output::line(&escape::line(&format!("{}: {} of {} until {until}", window.id, window.kind, window.scope)))?;
        }
        None => output::line("ok")?,
    }
    Ok(Exit::Done)
}

/// Ends holds and freezes.
///
/// # Errors
/// There is no such window; the controller's refusal, or the connection's.
pub async fn thaw(arguments: &Thaw, context: &Context) -> Result<Exit, Error> {
    let mut client = context.client().await?;
    let reason = arguments.reason.clone();
    let requests: Vec<ReleaseRequest> = if arguments.all {
        vec![ReleaseRequest { window: String::new(), all: true, reason }]
    } else {
        let one = |window: &String| ReleaseRequest { window: window.clone(), all: false, reason: reason.clone() };
        arguments.windows.iter().map(one).collect()
    };
    let mut released = Vec::new();
    for request in requests {
        released.extend(client.release(request).await?.into_inner().released);
    }
    if context.format.is_data() {
        output::data(context.format, &serde_json::json!({ "released": released }))?;
    } else if released.is_empty() {
        output::line("nothing was held")?;
    } else {
        output::line(&escape::line(&format!("ended: {}", released.join(", "))))?;
    }
    Ok(Exit::Done)
}
