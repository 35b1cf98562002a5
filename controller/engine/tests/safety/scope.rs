//! Who is meant: nothing said means nobody, and never more than was said.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use quell_engine::input::{Refusal, Reply};
use quell_model::{name::HostName, selector::Selector, trust::run::Hosts};

use super::farm::over;
use crate::world::World;

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let value = prop_oneof![Just("a"), Just("b")];
    prop::collection::btree_map(
        prop_oneof![Just("x"), Just("y"), Just("z")].prop_map(str::to_owned),
        value.prop_map(str::to_owned),
        0..3,
    )
}

fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        1 => Just(Selector::Nobody),
        1 => Just(Selector::All),
        // Not by way of `Selector::labels`: a selector over no labels may come from anywhere.
        6 => labels().prop_map(Selector::Labels),
    ]
}

/// Whom the words mean, by the words.
fn meant(selector: &Selector, hosts: &BTreeMap<HostName, BTreeMap<String, String>>) -> BTreeSet<HostName> {
    let wanted = match selector {
        Selector::Nobody => return BTreeSet::new(),
        Selector::All => return hosts.keys().cloned().collect(),
        Selector::Labels(labels) if labels.is_empty() => return BTreeSet::new(),
        Selector::Labels(labels) => labels,
    };
    let has_all = |labels: &BTreeMap<String, String>| wanted.iter().all(|pair| labels.iter().any(|own| own == pair));
    hosts.iter().filter(|(_, labels)| has_all(labels)).map(|(host, _)| host.clone()).collect()
}

/// Names, of hosts that there are and of others; absent: a run names nobody.
fn names() -> impl Strategy<Value = Option<BTreeSet<HostName>>> {
    let name = (0..8_u8).prop_map(|number| format!("host{number}").parse().unwrap());
    prop::option::of(prop::collection::btree_set(name, 0..5))
}

#[test]
fn a_run_covers_whom_it_means_and_nobody_else() {
    over(60, &(prop::collection::vec(labels(), 1..6), selector(), names()), |(fleet, selector, names)| {
        let mut world = World::begin("2026-11-23T10:00:00+01:00");
        let mut hosts = BTreeMap::new();
        for (number, labels) in fleet.iter().enumerate() {
            let name = format!("host{number}");
            let pairs: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            world.join(&name, &pairs);
            hosts.insert(name.parse().unwrap(), labels.clone());
        }
        let mut meant = meant(&selector, &hosts);
        let mut left_out = BTreeSet::new();
        let chosen = match names {
            None => selector.into(),
            Some(names) => {
                left_out = names.difference(&meant).cloned().collect();
                meant.retain(|host| names.contains(host));
                Hosts::named(selector, names)
            }
        };
        let records = world.records.len();
        let run = world.a_run("exec", chosen, serde_json::json!({ "argv": ["/bin/true"] }));
        match world.run_by("ann", run) {
            Ok(Reply::Plan { targets, missing, .. }) => {
                assert_eq!(targets as usize, meant.len());
                assert_eq!(missing.into_iter().collect::<BTreeSet<_>>(), left_out, "who is left out is told");
                assert!(!meant.is_empty());
            }
            Ok(other) => panic!("{other:?} is no plan"),
            Err(refusal) => {
                assert!(matches!(refusal, Refusal::Invalid(_)), "{refusal}");
                assert!(meant.is_empty(), "{meant:?} were meant: {refusal}");
                assert_eq!(world.records.len(), records, "a refusal changes nothing");
            }
        }
        world.run("30m");
        let touched: BTreeSet<HostName> =
            world.agents.iter().filter(|(_, agent)| !agent.effects.is_empty()).map(|(host, _)| host.clone()).collect();
        assert_eq!(touched, meant, "{}", world.story());
        touched.len()
    });
}
