//! What the lists of `agent.toml` say to the programs and services of an order.

use std::path::Path;

use super::Refusal;
use crate::{config::Config, units};

/// Whether the host allows a program.
pub(super) fn program(config: &Config, argv: &[String]) -> Result<(), Refusal> {
    let program = argv.first().map(String::as_str).unwrap_or_default();
    if config.allow.programs.contains(Path::new(program)) {
        Ok(())
    } else {
        Err(Refusal::not_listed("programs", program))
    }
}

/// Whether the host allows a service to be touched.
pub(super) fn service(config: &Config, service: &str) -> Result<(), Refusal> {
    let listed = config.allow.services.contains(service)
        || (config.service(service).is_none() && config.allow.services.contains(&units::unit_name(service)));
    if listed { Ok(()) } else { Err(Refusal::not_listed("services", service)) }
}
