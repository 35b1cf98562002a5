//! The shop's own policies, as `deploy/policies` has them.

use std::collections::BTreeMap;

use quell_model::manifest::{self, File};

/// The zone that the shop's stories are told in.
pub const SHOP_ZONE: &str = "Europe/Berlin";

const FILES: [(&str, &str); 7] = [
    ("calendars.yaml", include_str!("../../../../deploy/policies/calendars.yaml")),
    ("contacts.yaml", include_str!("../../../../deploy/policies/contacts.yaml")),
    ("services.yaml", include_str!("../../../../deploy/policies/services.yaml")),
    ("monitoring.yaml", include_str!("../../../../deploy/policies/monitoring.yaml")),
    ("storage.yaml", include_str!("../../../../deploy/policies/storage.yaml")),
    ("orders.yaml", include_str!("../../../../deploy/policies/orders.yaml")),
    ("dns.yaml", include_str!("../../../../deploy/policies/dns.yaml")),
];

/// The canonical manifests of a text.
pub fn canonical(name: &str, text: &str, set: &BTreeMap<String, String>) -> Vec<String> {
    let text = manifest::fill(name, text, set).unwrap_or_else(|errors| panic!("{errors:#?}"));
    parse(&[File { name: name.to_owned(), text }])
}

/// The canonical manifests of some of the shop's files.
pub fn files(names: &[&str], set: &[(&str, &str)]) -> Vec<String> {
    let set = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let read = |name: &&str| {
        let name = format!("{name}.yaml");
        let text = FILES.iter().find(|file| file.0 == name).unwrap_or_else(|| panic!("there is no {name}")).1;
        let text = manifest::fill(&name, text, &set).unwrap_or_else(|errors| panic!("{errors:#?}"));
        File { name, text }
    };
    parse(&names.iter().map(read).collect::<Vec<_>>())
}

fn parse(files: &[File]) -> Vec<String> {
    let parsed = manifest::parse(files).unwrap_or_else(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    });
    parsed.into_iter().map(|parsed| parsed.canonical).collect()
}
