//! What the lists of `agent.toml` say to the programs and services of an order.

use std::path::Path;

use quell_model::action::DnsUpdate;

use super::Refusal;
use crate::{
    config::{Config, DnsRecord},
    units,
};

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

/// What the host says of a record that an order wants to update, when it allows that.
pub(super) fn record<'a>(config: &'a Config, update: &DnsUpdate) -> Result<&'a DnsRecord, Refusal> {
    config.records.iter().find(|record| record.allows(update)).ok_or_else(|| {
        let remedy = DnsRecord::lines_for(update);
        let reason = format!(
            "this host's agent.toml does not allow it: no [[dns]] names {} at {} with the key {}; put the key's secret into \
             a file that only the agent's user can read, add these lines and restart the agent: {}",
            update.owner(),
            update.server,
            update.key,
            remedy.replace('\n', ", ")
        );
        Refusal { reason, remedy }
    })
}
