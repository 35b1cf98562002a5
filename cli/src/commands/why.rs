//! `quell why`: why a policy did, or did not, act.

use clap::Args;
use jiff::Timestamp;
use quell_wire::v1::WhyRequest;

use crate::{connect::Context, error::Error, exit::Exit, output, render, settings};

/// What is explained.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The policy: dns-failover, or plants/dns-failover.
    #[arg(value_name = "POLICY")]
    pub policy: String,
    /// The target: a host, fleet, or host:/mount. Without it: every target of the policy.
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// What was known at that time, from the records: 2026-11-22T03:10:00Z, or "10m ago".
    #[arg(long, value_name = "TIME", value_parser = settings::moment)]
    pub at: Option<Timestamp>,
}

/// Explains. With `-o json` a target's verdict is the document itself, several are its `items`.
///
/// # Errors
/// There is no such policy or target; the controller's refusal, or the connection's.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let target = arguments.target.clone().unwrap_or_default();
    let at = arguments.at.map(|at| at.to_string()).unwrap_or_default();
    let request = WhyRequest { policy: arguments.policy.clone(), target, at };
    let verdicts = context.client().await?.why(request).await?.into_inner().verdicts;
    if verdicts.is_empty() {
        let policy = &arguments.policy;
        return Err(match &arguments.target {
            _ if arguments.at.is_some() => {
                Error::NotFound(format!("{policy} judges nothing now: name the target that it judged then"))
            }
            Some(target) => Error::NotFound(format!("{policy} does not judge {target}; see `quell why {policy}`")),
            None => Error::NotFound(format!(
                "{policy} judges nothing: no host has its labels; see `quell describe policy {policy}`"
            )),
        });
    }
    match (verdicts.as_slice(), &arguments.target) {
        ([only], Some(_)) if context.format.is_data() => output::data(context.format, only)?,
        (several, _) if context.format.is_data() => {
            output::data(context.format, &serde_json::json!({ "items": several }))?;
        }
        (several, _) => output::text(&render::why::draw(several, Timestamp::now()))?,
    }
    Ok(Exit::Done)
}
