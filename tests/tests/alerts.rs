//! Alerts of another system, with real processes: they start what people signed and nothing else, and a freeze and the
//! policy's cool-down hold them as they hold any symptom. Told once by this test itself, and once by a real Alertmanager
//! (`tests/host/alertmanager.sh`).
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    future::poll_fn,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use quell_link::{access::ALERTMANAGER, profile::Profile};
use quell_tests::fleet::{Fleet, Host, free_port, wait_for};
use serde_json::{Value, json};
use tonic::{
    body::Body,
    codegen::{Service as _, http::Request},
    transport::Channel,
};

const PATIENT: Duration = Duration::from_secs(60);

const POLICY: &str = "apiVersion: quell/v1
kind: Contact
metadata: { namespace: plants, name: on-call }
spec: { via: [log] }
---
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: lag }
spec:
  description: the web server lags behind
  mode: enforce
  hosts: { matchLabels: { role: web } }
  trigger: { alert: { source: prometheus, match: { alertname: HighLag }, target: labels.instance } }
  ladder:
    - name: catch-up
      do: [{ action: exec, with: { argv: [/bin/sh, -c, 'echo caught up >>MARKS'] } }]
      verify: { that: host.uptime > 0, within: 30s }
    - name: again
      do: [{ action: exec, with: { argv: [/bin/sh, -c, 'echo once more >>MARKS'] } }]
      verify: { that: host.uptime > 0, within: 30s }
  guards: { disturb: { hosts: 1, percent: 100, over: 1h } }
  escalate: { to: on-call, after: 15m }
";

/// A host whose policy waits for alerts, and whoever tells of them.
struct Shop {
    scratch: tempfile::TempDir,
    fleet: Fleet,
}

impl Shop {
    fn open() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
        fleet.enrol(&Host::running("web1", "web", "/bin/sh")).unwrap();
        let (file, marks) = (scratch.path().join("lag.yaml"), scratch.path().join("marks"));
        fs::write(&file, POLICY.replace("MARKS", marks.to_str().unwrap())).unwrap();
        fleet.quell(&["apply", "-f", file.to_str().unwrap()]).unwrap();
        Self { scratch, fleet }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// How often it was done.
    fn acts(&self) -> usize {
        fs::read_to_string(self.path("marks")).map_or(0, |marks| marks.lines().count())
    }

    /// The open incident.
    fn incident(&self) -> Value {
        self.fleet.items("incidents", &[]).unwrap().into_iter().next().unwrap_or_default()
    }

    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) {
        let describe = || format!("not so: {what}; {:#}", self.incident());
        wait_for(PATIENT, describe, || is_so(&self.incident()).then_some(())).unwrap();
    }

    /// The story: a freeze holds it, the thaw lets it go, its end ends it, and the cool-down holds the next.
    fn is_told(&self, mut tell: impl FnMut(bool)) {
        self.fleet.quell(&["freeze", "--all", "--for", "10m", "--reason", "look first"]).unwrap();
        tell(true);
        self.until("a freeze holds what an alert starts", |incident| held_by(incident, "freeze"));
        assert_eq!(self.acts(), 0);
        self.fleet.quell(&["thaw", "--all", "--reason", "looked"]).unwrap();
        self.until("it was done", |_| self.acts() == 1);
        tell(false);
        self.until("it is over", Value::is_null);
        tell(true);
        self.until("the cool-down holds the next", |incident| held_by(incident, "cooldown"));
        let why = self.fleet.quell(&["why", "lag", "web1"]).unwrap();
        assert!(why.contains("alert.firing") && why.contains("cool-down"), "{why}");
        assert_eq!(self.acts(), 1);
    }
}

/// Whether a guard holds the incident's newest plan.
fn held_by(incident: &Value, guard: &str) -> bool {
    let plan = incident["plans"].as_array().and_then(|plans| plans.last());
    plan.is_some_and(|plan| plan["hold"]["guard"] == guard)
}

/// Another system that this test plays.
struct Played {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Played {
    fn new(shop: &Shop) -> Self {
        let file = shop.path("prometheus.toml");
        let create = ["operator", "create", "prometheus", "--role", "alert-source", "--to", file.to_str().unwrap()];
        shop.fleet.quell(&create).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let channel = runtime.block_on(Profile::load(&file).unwrap().connect()).unwrap();
        Self { runtime, channel }
    }

    fn post(&mut self, labels: &Value, fires: bool) -> u16 {
        let status = if fires { "firing" } else { "resolved" };
        let message = json!({ "version": "4", "alerts": [{ "status": status, "labels": labels }] });
        let request = Request::post(ALERTMANAGER).body(Body::new(message.to_string())).unwrap();
        let channel = &mut self.channel;
        let answer = self.runtime.block_on(async {
            poll_fn(|context| channel.poll_ready(context)).await.unwrap();
            channel.call(request).await.unwrap()
        });
        answer.status().as_u16()
    }
}

#[test]
fn what_a_program_needs_that_knows_no_profile_is_for_its_owner_only() {
    let scratch = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
    let pem = scratch.path().join("grafana");
    let create = ["operator", "create", "grafana", "--role", "alert-source", "--pem", pem.to_str().unwrap()];
    fleet.quell(&create).unwrap();
    assert_eq!(fs::metadata(&pem).unwrap().permissions().mode() & 0o777, 0o700);
    for (name, begins) in [
        ("ca.pem", "-----BEGIN CERTIFICATE-----"),
        ("certificate.pem", "-----BEGIN CERTIFICATE-----"),
        ("key.pem", "-----BEGIN PRIVATE KEY-----"),
    ] {
        let file = pem.join(name);
        assert!(fs::read_to_string(&file).unwrap().starts_with(begins), "{name}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
    let again = fleet.quell(&create).unwrap_err().to_string();
    assert!(again.contains("exists: name another directory with --pem"), "{again}");
    assert_eq!(fleet.items("operators", &[]).unwrap().len(), 2, "the first one, and this one once");
}

#[test]
fn an_alert_starts_what_was_signed_and_is_held_as_any_symptom_is() {
    let shop = Shop::open();
    let mut played = Played::new(&shop);
    for elsewhere in [json!({ "alertname": "HighLag", "instance": "web2" }), json!({ "instance": "web1" })] {
        assert_eq!(played.post(&elsewhere, true), 200);
    }
    assert!(shop.fleet.items("incidents", &[]).unwrap().is_empty(), "no host of the policy, and no alert of it");
    shop.is_told(|fires| {
        assert_eq!(played.post(&json!({ "alertname": "HighLag", "instance": "web1:9100" }), fires), 200);
    });
}

/// A real Alertmanager, ended with this.
struct Alertmanager {
    process: Child,
    url: String,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Alertmanager {
    fn start(shop: &Shop) -> Self {
        let (pem, config) = (shop.path("prometheus"), shop.path("alertmanager.yml"));
        let create = ["operator", "create", "prometheus", "--role", "alert-source", "--pem", pem.to_str().unwrap()];
        shop.fleet.quell(&create).unwrap();
        let address = Profile::load(shop.fleet.profile()).unwrap().addresses.remove(0);
        fs::write(&config, Self::config(&address, &pem)).unwrap();
        let (port, gossip) = (free_port().unwrap(), free_port().unwrap());
        let log = fs::File::create(shop.path("alertmanager.log")).unwrap();
        let process = Command::new("prometheus-alertmanager")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.path={}", shop.path("alertmanager").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg(format!("--cluster.listen-address=127.0.0.1:{gossip}"))
            .arg("--cluster.advertise-address=127.0.0.1:9")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let url = format!("http://127.0.0.1:{port}");
        let manager = Self { process, url };
        let log = || fs::read_to_string(shop.path("alertmanager.log")).unwrap_or_default();
        wait_for(PATIENT, log, || manager.amtool(&["cluster", "show"]).then_some(())).unwrap();
        manager
    }

    /// As docs/alerts.md has it, but quicker.
    fn config(address: &str, pem: &Path) -> String {
        let pem = pem.display();
        format!(
            "route: {{ receiver: quell, group_by: ['...'], group_wait: 0s, group_interval: 1s, repeat_interval: 5m }}
receivers:
  - name: quell
    webhook_configs:
      - url: https://{address}{ALERTMANAGER}
        send_resolved: true
        http_config:
          tls_config: {{ ca_file: {pem}/ca.pem, cert_file: {pem}/certificate.pem, key_file: {pem}/key.pem }}
"
        )
    }

    fn amtool(&self, arguments: &[&str]) -> bool {
        let command = Command::new("amtool").arg(format!("--alertmanager.url={}", self.url)).args(arguments).output();
        command.unwrap().status.success()
    }
}

#[test]
fn alertmanager_tells_of_its_alerts() {
    if std::env::var_os("QUELL_HOST_TESTS").is_none() {
        eprintln!("skipped: it needs Alertmanager; run it through tests/host/run.sh");
        return;
    }
    let shop = Shop::open();
    let manager = Alertmanager::start(&shop);
    shop.is_told(|fires| {
        let now = jiff::Timestamp::now();
        let end = if fires { now + Duration::from_secs(3_600) } else { now };
        let end = format!("--end={end:.0}");
        assert!(manager.amtool(&["alert", "add", &end, "alertname=HighLag", "instance=web1:9100"]));
    });
}
