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

/// All of the shop's manifests, for one host that plays every part: it bears a label for each part, is the only observer,
/// and has nobody beside it who could stay healthy.
pub fn on_one_host() -> Vec<String> {
    let files: Vec<File> = FILES
        .iter()
        .map(|(name, text)| {
            let text = manifest::fill(name, text, &BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors:#?}"));
            let text = ["orders", "app", "ops"]
                .iter()
                .fold(text, |text, part| text.replace(&format!("role: {part}"), &format!("{part}: here")))
                .replace("quorum: 2 of 3", "quorum: 1 of 1")
                .replace(
                    "members: { matchLabels: { serves: dns } }",
                    "members: { matchLabels: { serves: dns } }\n  keepHealthy: 0",
                );
            File { name: (*name).to_owned(), text }
        })
        .collect();
    parse(&files)
}

fn parse(files: &[File]) -> Vec<String> {
    let parsed = manifest::parse(files).unwrap_or_else(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{}", lines.join("\n"))
    });
    parsed.into_iter().map(|parsed| parsed.canonical).collect()
}
