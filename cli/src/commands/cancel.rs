//! `quell cancel`: a plan is called off, whether it waits or runs. Like all that stops something, it never asks back.

use clap::Args;
use quell_wire::v1::CancelPlanRequest;

use super::decide;
use crate::{connect::Context, error::Error, exit::Exit};

/// What is called off.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// The plan: plan-7, or the beginning of its hash.
    #[arg(value_name = "PLAN")]
    pub plan: String,
    /// Why: it stands in the log, and whoever is called reads it.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
}

/// Calls it off; the plan is printed as it is then.
///
/// # Errors
/// There is no such plan, or it is over; the controller's refusal, or the connection's.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let request = CancelPlanRequest { plan: arguments.plan.clone(), reason: arguments.reason.clone() };
    let plan = context.client().await?.cancel_plan(request).await?.into_inner().plan.unwrap_or_default();
    decide::show(&plan, context)?;
    Ok(Exit::Done)
}
