//! Probes that a stolen controller would like: each reads the host, and none stands in what people signed for it.

use std::{collections::BTreeMap, path::Path};

use jiff::{SignedDuration, Timestamp};
use quell_model::{
    digest::Digest,
    manifest::{self, File},
    policy::Manifest,
    trust::{NAMESPACE_POLICY, PolicySet},
};
use quell_wire::v1::{self, Sample, controller_message::Body, field::Value};

use super::{controller::Evil, orders::Signed};

/// What the thief writes: a policy with one probe of each kind that reads the host.
const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: watch }
spec:
  description: What the thief would like to read.
  hosts: all
  probes:
    runs: { command: { argv: [/bin/sh, '-c', 'echo measured >> MARKS'] }, every: 60s, timeout: 2s }
    file: { file: { path: SECRET }, every: 60s, timeout: 2s }
    log: { logMatch: { path: SECRET, pattern: '.' }, every: 60s }
  trigger: { when: '!probe.runs.ok' }
";

/// A list of probes, with whatever stands behind it.
pub(crate) struct Probes {
    policy: String,
    specs: BTreeMap<String, String>,
}

impl Probes {
    /// Those of the thief: one runs a program that leaves a mark, the others read a file.
    pub(crate) fn of_the_thief(marks: &Path, secret: &Path) -> Self {
        let text = POLICY.replace("MARKS", &marks.display().to_string());
        let text = text.replace("SECRET", &secret.display().to_string());
        let parsed = manifest::parse(&[File { name: "watch.yaml".to_owned(), text }]).unwrap().remove(0);
        Self::of(&parsed.manifest, parsed.canonical)
    }

    /// Those of a policy that people signed.
    pub(crate) fn signed(set: &Signed, name: &str) -> Self {
        let canonical = set.manifest(&format!("Policy/{name}"));
        Self::of(&manifest::from_canonical(&canonical).unwrap(), canonical)
    }

    fn of(manifest: &Manifest, canonical: String) -> Self {
        let Manifest::Policy(policy) = manifest else { panic!("a policy") };
        let specs = policy.probes.iter().map(|(name, probe)| (name.to_string(), probe.canonical.clone())).collect();
        Self { policy: canonical, specs }
    }

    /// The policy behind a set that people signed, in which it does not stand or does.
    pub(crate) fn behind(&self, set: &Signed) -> v1::SignedPolicies {
        v1::SignedPolicies {
            policy_set: set.bytes.clone(),
            signatures: set.signatures.clone(),
            policies: vec![self.policy.clone().into_bytes()],
        }
    }

    /// The policy behind a set that the controller signed itself.
    pub(crate) fn forged(&self, evil: &Evil) -> v1::SignedPolicies {
        let now = Timestamp::now();
        let set = PolicySet {
            installation: evil.installation().to_owned(),
            namespace: "plants".parse().unwrap(),
            version: 1_000,
            issued: now,
            expires: now + SignedDuration::from_hours(24),
            manifests: [("Policy/watch".to_owned(), Digest::of(self.policy.as_bytes()))].into(),
            one_shot: None,
            limits: false,
        };
        let policy_set = set.canonical().into_bytes();
        let signatures = vec![evil.sign(NAMESPACE_POLICY, &policy_set)];
        v1::SignedPolicies { policy_set, signatures, policies: vec![self.policy.clone().into_bytes()] }
    }

    /// Assigns them, and answers the first sample of each.
    pub(crate) fn assign(&self, evil: &Evil, host: &str, what: &str, signed: Vec<v1::SignedPolicies>) -> Vec<Sample> {
        let key = |name: &String| format!("{what} {name}");
        let probes = self.specs.iter().map(|(name, spec)| v1::ProbeAssignment {
            key: key(name),
            spec: spec.clone().into_bytes(),
            authorities: Vec::new(),
        });
        let assign = v1::AssignProbes { generation: evil.next_generation(), probes: probes.collect(), signed };
        evil.say(host, Body::Assign(assign));
        self.specs.keys().map(|name| evil.sample(host, &key(name))).collect()
    }
}

/// What a sample says of its own failure; absent when it measured anything at all.
pub(crate) fn only_error(sample: &Sample) -> Option<&str> {
    match &sample.fields[..] {
        [v1::Field { name, value: Some(Value::Text(text)) }] if name == "error" => Some(text),
        _ => None,
    }
}
