//! A host with a policy that people signed, and orders of which a test breaks one thing.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use quell_model::{
    digest::Digest,
    manifest::{self, File},
    plan::{ExactPlan, PlannedStep},
    trust::{PolicySet, approvals::Ballot},
};
use quell_wire::v1::{self, OutcomeKind};
use serde_json::json;

use super::{
    Agent, TOML,
    office::{self, OFFICE, Person},
};
use crate::belief::{Beliefs, Ledger};

const MANIFESTS: &str = r#"
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: web }
spec:
  description: The web server hangs.
  mode: enforce
  hosts: { matchLabels: { role: ROLE } }
  probes:
    web: { http: { url: 'http://127.0.0.1:8080/health' }, every: 5s, timeout: 2s }
  signals:
    dead: { that: 'probe.web.failures >= 3' }
    fine: { that: 'probe.web.successes >= 3' }
  trigger: { when: signal.dead, clear: signal.fine }
  ladder:
    - name: plain
      do: [{ action: exec, with: { argv: [/bin/sh, '-c', 'echo done >> MARKS'] }, timeout: 15s }]
      finally: [{ action: exec, with: { argv: [/bin/sh, '-c', 'echo finally >> MARKS'] }, timeout: 15s }]
      verify: { that: signal.fine }
    - name: careful
      do: [{ action: exec, with: { argv: [/bin/sh, '-c', 'echo done >> MARKS'] }, timeout: 15s }]
      finally: [{ action: exec, with: { argv: [/bin/sh, '-c', 'echo finally >> MARKS'] }, timeout: 15s }]
      approval: { role: compliance }
      verify: { that: signal.fine }
    - name: twice
      do: [{ action: exec, with: { argv: [/bin/sh, '-c', 'echo done >> MARKS'] }, timeout: 15s }]
      approval: { if: ledger.acted("1h") >= 1, role: compliance }
      verify: { that: signal.fine }
  guards: { cooldown: COOLDOWN, calendar: hours }
  escalate: { to: on-call }
---
apiVersion: quell/v1
kind: Calendar
metadata: { namespace: plants, name: hours }
spec: { timeZone: UTC, open: [{ days: OPEN }] }
"#;

/// What a test can break.
pub(super) struct Order {
    pub(super) set: PolicySet,
    pub(super) namespace: &'static str,
    pub(super) signers: Vec<&'static Person>,
    pub(super) manifests: Vec<String>,
    pub(super) plan: ExactPlan,
    /// Who approves, in which namespace.
    pub(super) votes: Vec<(&'static Person, &'static str)>,
    pub(super) choice: &'static str,
    /// Until when the votes are good.
    pub(super) votes_end: Timestamp,
    pub(super) command: v1::Command,
}

/// A host, its agent and a policy that people signed.
pub(super) struct Shop {
    pub(super) data: tempfile::TempDir,
    pub(super) agent: Agent,
    pub(super) manifests: BTreeMap<String, String>,
    /// When its set expires: the same set has one digest.
    pub(super) expires: Timestamp,
}

impl Shop {
    /// All is well: the host is meant, the calendar open, the cool-down long.
    pub(super) async fn new() -> Self {
        Self::with("web", "1h", "daily").await
    }

    pub(super) async fn with(role: &str, cooldown: &str, open: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let marks = data.path().join("marks").display().to_string();
        let text = MANIFESTS.replace("MARKS", &marks).replace("ROLE", role);
        let text = text.replace("COOLDOWN", cooldown).replace("OPEN", open);
        let parsed = manifest::parse(&[File { name: "web.yaml".to_owned(), text }]).unwrap();
        let key =
            |manifest: &manifest::Parsed| format!("{}/{}", manifest.manifest.kind(), manifest.manifest.name().name);
        let manifests = parsed.into_iter().map(|one| (key(&one), one.canonical)).collect();
        let agent = Agent::start(data.path(), TOML).await;
        Self { data, agent, manifests, expires: Timestamp::now() + SignedDuration::from_hours(24) }
    }

    pub(super) fn marks(&self) -> usize {
        super::lines(&self.data.path().join("marks"))
    }

    pub(super) fn step(&self, step: usize, finally: bool, word: &str) -> PlannedStep {
        let script = format!("echo {word} >> {}", self.data.path().join("marks").display());
        PlannedStep {
            step,
            waves: vec![vec![office::host()]],
            finally,
            action: "exec".to_owned(),
            with: json!({"argv": ["/bin/sh", "-c", script]}).as_object().unwrap().clone(),
            timeout_ms: 15_000,
        }
    }

    /// A good order for a rung; the key names the plan as well.
    pub(super) fn order(&self, key: &str, rung: &str) -> Order {
        let digests = self.manifests.iter().map(|(key, text)| (key.clone(), Digest::of(text.as_bytes())));
        let step = self.step(0, false, "done");
        let command = super::command(key, "exec", &serde_json::Value::Object(step.with.clone()));
        Order {
            set: PolicySet {
                installation: office::INSTALLATION.to_owned(),
                namespace: "plants".parse().unwrap(),
                version: 3,
                issued: "2026-01-01T00:00:00Z".parse().unwrap(),
                expires: self.expires,
                manifests: digests.collect(),
                one_shot: None,
                limits: false,
            },
            namespace: "quell-policy",
            signers: vec![&OFFICE.mira],
            manifests: ["Policy/web", "Calendar/hours"].map(|key| self.manifests[key].clone()).into(),
            plan: ExactPlan {
                plan: key.to_owned(),
                policy: Some("plants/web".parse().unwrap()),
                policy_digest: Some(Digest::of(self.manifests["Policy/web"].as_bytes())),
                rung: rung.to_owned(),
                requester: None,
                steps: vec![step, self.step(1, true, "finally")],
                ..office::plan(&command)
            },
            votes: Vec::new(),
            choice: "",
            votes_end: Timestamp::now() + SignedDuration::from_hours(1),
            command,
        }
    }

    /// The order of a rung's `finally`.
    pub(super) fn finally(&self, key: &str, rung: &str) -> Order {
        let mut order = self.order(key, rung);
        order.command.step = 1;
        order.command.parameters = serde_json::to_vec(&order.plan.steps[1].with).unwrap();
        order
    }

    pub(super) async fn give(&mut self, order: Order) -> v1::Outcome {
        self.agent.give(order.seal()).await
    }

    pub(super) async fn succeeds(&mut self, order: Order) {
        let outcome = self.give(order).await;
        assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    }

    /// It is refused for this reason, and nothing is done.
    pub(super) async fn refuses(&mut self, order: Order, reason: &str) {
        let command = order.seal();
        self.refuses_as_it_is(command, reason).await;
    }

    pub(super) async fn refuses_as_it_is(&mut self, command: v1::Command, reason: &str) {
        let before = self.marks();
        let outcome = self.agent.give(command).await;
        assert_eq!(outcome.kind(), OutcomeKind::Refused, "wanted {reason:?}: {}", outcome.summary);
        assert!(outcome.summary.contains(reason), "{:?} lacks {reason:?}", outcome.summary);
        assert_eq!(self.marks(), before, "{reason}");
    }

    pub(super) async fn restart(self) -> Self {
        let Self { data, agent, manifests, expires } = self;
        agent.crash().await;
        let agent = Agent::of_strangers(data.path(), TOML).await;
        Self { data, agent, manifests, expires }
    }

    /// Lets the host remember that it began another step of the order's plan.
    pub(super) fn begun(&self, order: Order) -> Order {
        let plan = Digest::of(order.plan.canonical().as_bytes());
        let (now, target) = (Timestamp::now(), office::host());
        let act = json!({"policy": "plants/web", "target": target, "rung": order.plan.rung, "plan": plan, "step": 0,
            "at": now, "recovery": true, "until": now});
        let begin = |held: &mut Ledger| {
            let mut ledger = serde_json::to_value(&*held).unwrap();
            ledger["acts"].as_array_mut().unwrap().push(act);
            *held = serde_json::from_value(ledger).unwrap();
            Ok(true)
        };
        self.beliefs().note(begin).unwrap().unwrap();
        order
    }

    pub(super) fn beliefs(&self) -> &Beliefs {
        &self.agent.handle.shared.beliefs
    }
}

impl Order {
    pub(super) fn edit(mut self, edit: impl FnOnce(&mut Self)) -> Self {
        edit(&mut self);
        self
    }

    pub(super) fn approved(self, person: &'static Person, namespace: &'static str) -> Self {
        self.edit(|order| {
            order.votes.push((person, namespace));
            order.choice = "approve";
        })
    }

    /// As it goes over the wire.
    pub(super) fn seal(self) -> v1::Command {
        let manifests: Vec<&str> = self.manifests.iter().map(String::as_str).collect();
        let authority = office::authority(&self.set, self.namespace, &self.signers, &manifests);
        let plan = Digest::of(self.plan.canonical().as_bytes());
        let ballot = Ballot { choice: self.choice.to_owned(), expires: self.votes_end, plan }.canonical();
        let mut command = office::planned(self.command, &self.plan);
        let sign = |(person, namespace): &(&Person, &str)| v1::SignedVote {
            signature: person.sign(namespace, ballot.as_bytes()),
            expires: self.votes_end.to_string(),
        };
        command.votes = self.votes.iter().map(sign).collect();
        command.choice = self.choice.to_owned();
        command.authority = Some(authority);
        command
    }
}
