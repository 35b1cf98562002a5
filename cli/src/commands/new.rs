//! `quell new`: a commented manifest to start from. The templates are the policies that are ready to use, so they are
//! applied, run and tested like any other.

use clap::{Args, ValueEnum};

use crate::{error::Error, exit::Exit, output};

/// A template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Processors, memory, disks and lost hosts are watched.
    Monitoring,
    /// A log mount fills: logs are rotated before it is full.
    Storage,
    /// An order processor hangs: it is restarted, developers are told.
    Orders,
    /// A DNS server dies: restarted, or failed over.
    Dns,
    /// Who is told, and who is next.
    Contacts,
    /// Who owns what, and what it stands on.
    Services,
    /// Business hours and other times.
    Calendars,
}

/// Which template.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// What for.
    #[arg(value_enum, value_name = "SCENARIO")]
    pub scenario: Scenario,
}

impl Scenario {
    fn template(self) -> &'static str {
        match self {
            Self::Monitoring => include_str!("../../../deploy/policies/monitoring.yaml"),
            Self::Storage => include_str!("../../../deploy/policies/storage.yaml"),
            Self::Orders => include_str!("../../../deploy/policies/orders.yaml"),
            Self::Dns => include_str!("../../../deploy/policies/dns.yaml"),
            Self::Contacts => include_str!("../../../deploy/policies/contacts.yaml"),
            Self::Services => include_str!("../../../deploy/policies/services.yaml"),
            Self::Calendars => include_str!("../../../deploy/policies/calendars.yaml"),
        }
    }
}

/// Prints the template.
///
/// # Errors
/// Standard output is closed.
pub fn run(arguments: &Arguments) -> Result<Exit, Error> {
    output::text(arguments.scenario.template())?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quell_model::manifest::{self, File};

    use super::*;

    #[test]
    fn every_template_is_commented_and_valid() {
        for scenario in Scenario::value_variants() {
            let template = scenario.template();
            assert!(template.lines().any(|line| line.trim_start().starts_with('#')), "{scenario:?} has no comment");
            let text = manifest::fill("template", template, &BTreeMap::new())
                .unwrap_or_else(|errors| panic!("{scenario:?}: {errors:?}"));
            let file = File { name: "template".to_owned(), text };
            if let Err(errors) = manifest::parse(&[file]) {
                panic!("{scenario:?}: {errors:?}");
            }
        }
    }
}
