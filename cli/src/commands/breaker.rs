//! `quell breaker`: a policy that tripped acts again only when a person says so.

use clap::Subcommand;
use quell_wire::v1::ResetBreakerRequest;

use crate::{connect::Context, error::Error, exit::Exit, output, render::escape};

/// What is done with breakers.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Close a policy's breaker: it may act again.
    Reset {
        /// The policy: dns-failover, or plants/dns-failover.
        #[arg(value_name = "POLICY")]
        policy: String,
        /// Why it is safe now.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

/// Resets.
///
/// # Errors
/// There is no such policy, or its breaker is closed; the controller's refusal, or the connection's.
pub async fn run(command: &Command, context: &Context) -> Result<Exit, Error> {
    let Command::Reset { policy, reason } = command;
    let request = ResetBreakerRequest { policy: policy.clone(), reason: reason.clone() };
    context.client().await?.reset_breaker(request).await?;
    output::line(&escape::line(&format!("the breaker of {policy} is closed")))?;
    Ok(Exit::Done)
}
