//! `quell`: what needs you.

use jiff::Timestamp;
use quell_wire::v1::StatusRequest;

use crate::{connect::Context, error::Error, exit::Exit, output, render};

/// Shows approvals, incidents, holds, windows and the fleet.
///
/// # Errors
/// The controller's refusal, or the connection's.
pub async fn run(context: &Context) -> Result<Exit, Error> {
    let status = context.client().await?.status(StatusRequest {}).await?.into_inner();
    if context.format.is_data() {
        output::data(context.format, &status)?;
    } else {
        output::text(&render::status::draw(&status, Timestamp::now()))?;
    }
    Ok(Exit::Done)
}
