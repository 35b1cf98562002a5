//! The whole way of a fail-over by RFC 2136, with real processes: a record's server is down, the controller plans by what the
//! name server says, the agent has BIND compare and set, and new samples say that it helped. `tests/host/dns.sh` starts BIND
//! for it; anywhere else it says why it skips.

use std::{fs, path::Path, time::Duration};

use quell_tests::fleet::{Fleet, Host, wait_for};
use serde_json::Value;

const PATIENT: Duration = Duration::from_secs(60);

const POLICY: &str = r#"apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: shop-down }
spec:
  description: The server that shop names is down.
  mode: enforce
  hosts: { matchLabels: { role: ops } }
  probes:
    record: { dns: { server: ADDRESS, port: PORT, name: shop.exoticplant.plant }, every: 1s, timeout: 1s }
    down: { file: { path: DOWN }, every: 1s, timeout: 1s }
  values:
    active: { is: 'probe.record.answer == "192.0.2.53" ? "dns1" : "dns2"', oneOf: [dns1, dns2] }
    standby: { is: 'value.active == "dns1" ? "dns2" : "dns1"', oneOf: [dns1, dns2] }
  trigger: { when: probe.down.value == value.active, clear: probe.down.value != value.active }
  ladder:
    - name: failover
      do:
        - action: dns.failover
          with:
            provider: rfc2136
            server: 'ADDRESS:PORT'
            zone: exoticplant.plant
            record: shop
            values: { dns1: 192.0.2.53, dns2: 192.0.2.54 }
            key: failover
            from: $(active)
            to: $(standby)
          timeout: 30s
          once: incident
      verify: { that: value.active == plan.standby, within: 30s }
  guards: { disturb: { hosts: 1, percent: 100, over: 1h } }
  escalate: { to: on-call, after: 15m }
"#;

fn ops(server: &str, keys: &Path) -> Host {
    let agent_toml = format!(
        "[allow]\nactions = [\"dns.failover\"]\naddresses = [\"127.0.0.0/8\"]\n[[dns]]\nserver = \"{server}\"\nzone = \
         \"exoticplant.plant\"\nrecord = \"shop\"\nkey = \"failover\"\nsecret_file = \"{}\"\n",
        keys.join("failover.secret").display()
    );
    Host { name: "ops1".to_owned(), labels: vec![("role".to_owned(), "ops".to_owned())], agent_toml }
}

#[test]
fn a_record_whose_server_is_down_is_failed_over_at_a_real_name_server() {
    let said = |name: &str| std::env::var(name).ok();
    let (Some(server), Some(keys)) = (said("QUELL_NAME_SERVER"), said("QUELL_NAME_SERVER_KEYS")) else {
        eprintln!("skipped: no name server was started for it; tests/host/dns.sh does");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let (file, down) = (scratch.path().join("shop.yaml"), scratch.path().join("down"));
    fs::write(&down, "nobody").unwrap();
    let (address, port) = server.split_once(':').unwrap();
    let policy = POLICY.replace("ADDRESS", address).replace("PORT", port).replace("DOWN", down.to_str().unwrap());
    fs::write(&file, policy).unwrap();
    let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
    fleet.enrol(&ops(&server, Path::new(&keys))).unwrap();
    fleet.quell(&["apply", "-f", file.to_str().unwrap()]).unwrap();

    fs::write(&down, "dns1").unwrap();
    let plan =
        || -> Value { fleet.items("plans", &["--all"]).unwrap_or_default().into_iter().next().unwrap_or_default() };
    let succeeded = || (plan()["state"] == "succeeded").then_some(());
    wait_for(PATIENT, || format!("dns1 is down: {:#}", plan()), succeeded).unwrap();
    let step = &plan()["steps"][0];
    assert_eq!(step["outcome"], "succeeded", "{step:#}");
    let open = || fleet.items("incidents", &[]).unwrap();
    wait_for(PATIENT, || format!("not over: {:#?}", open()), || open().is_empty().then_some(())).unwrap();
    let why = fleet.quell(&["why", "shop-down", "ops1"]).unwrap();
    assert!(why.contains("probe.record.answer = \"192.0.2.54\""), "the record names the other server now: {why}");
}
