//! Probes that read the host: run only when people signed the policy that asks for them.
//!
//! A probe that runs a program, or reads a file or a log, does so with the agent's rights; whoever could assign one could
//! read whatever the agent can. So its specification must stand, to the letter, in a policy of a signed set that means
//! this host. A set that may only observe is enough, and one that has expired still is: it lets nothing act, and what it
//! watches should not go dark on that day. Probes that only reach out (`http`, `tcp`, `tls`, `dns`) are held by the
//! allowed addresses, those that count processes and services show nothing that others may not see.

use std::collections::BTreeSet;

use jiff::Timestamp;
use quell_model::{
    digest::Digest,
    manifest,
    policy::{Manifest, Policy},
    probe::{Probe, ProbeSpec},
    selector::Labels,
    trust::{Denied, PolicySet, SignedSet},
};
use quell_wire::v1;

use crate::belief::{self, Beliefs, View};

/// Whether a probe needs a signature behind it.
pub fn needs_signature(spec: &ProbeSpec) -> bool {
    matches!(spec, ProbeSpec::Command { .. } | ProbeSpec::File { .. } | ProbeSpec::LogMatch { .. })
}

/// The specifications, as canonical JSON, of all probes that people signed for this host.
pub(crate) fn vouched(beliefs: &Beliefs, signed: &[v1::SignedPolicies], now: Timestamp) -> BTreeSet<String> {
    match beliefs.view() {
        Ok(view) => signed.iter().flat_map(|one| of_set(&view, one, now)).collect(),
        Err(error) => {
            tracing::warn!(%error, "nobody is believed, so no probe that reads the host is run");
            BTreeSet::new()
        }
    }
}

/// Those of one namespace.
fn of_set(view: &View, signed: &v1::SignedPolicies, now: Timestamp) -> Vec<String> {
    let set = SignedSet { bytes: signed.policy_set.clone(), signatures: signed.signatures.clone() };
    let set = match set.verify(&view.root, now, &belief::ZONE) {
        Ok(verified) => verified.set,
        // Signatures are verified before time is looked at.
        Err(Denied::Expired { .. }) => match PolicySet::parse(&signed.policy_set) {
            Ok(set) => set,
            Err(_) => return Vec::new(),
        },
        Err(denied) => {
            tracing::warn!(%denied, "a set that came with the list of probes was not signed by those who are believed");
            return Vec::new();
        }
    };
    let policies = signed.policies.iter().filter_map(|bytes| policy_of(&set, bytes));
    policies.flat_map(|policy| probes_for(&policy, &view.labels)).collect()
}

/// A policy that stands in a verified set.
fn policy_of(set: &PolicySet, bytes: &[u8]) -> Option<std::sync::Arc<Policy>> {
    let digest = Digest::of(bytes);
    if !set.manifests.values().any(|signed| *signed == digest) {
        return None;
    }
    match manifest::from_signed(std::str::from_utf8(bytes).ok()?) {
        Ok(Manifest::Policy(policy)) => Some(policy),
        Ok(_) | Err(_) => None,
    }
}

/// The probes of a policy that are for a host with these labels.
fn probes_for(policy: &Policy, labels: &Labels) -> Vec<String> {
    let is_here = |probe: &&Probe| match &probe.on {
        Some(placement) => placement.selector.matches(labels),
        None => policy.hosts.matches(labels),
    };
    policy.probes.values().filter(is_here).map(|probe| probe.canonical.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;
    use quell_link::signing::{NewKey, SigningKey};
    use quell_model::{
        manifest::File,
        trust::{NAMESPACE_OBSERVE, NAMESPACE_POLICY, TrustRoot},
    };

    use super::*;

    const POLICY: &str = "
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: watch }
spec:
  description: The log is watched.
  hosts: { matchLabels: { role: web } }
  probes:
    log: { file: { path: /var/log/app.log }, every: 60s }
    there: { file: { path: /var/log/ops.log }, on: { matchLabels: { role: ops } }, every: 60s }
  trigger: { when: '!probe.log.ok' }
";

    struct Shop {
        _directory: tempfile::TempDir,
        beliefs: Beliefs,
        key: SigningKey,
        policy: String,
        now: Timestamp,
    }

    fn shop(role: &str) -> Shop {
        let directory = tempfile::tempdir().unwrap();
        let key = NewKey::make("").unwrap();
        let root = TrustRoot {
            installation: "shop".to_owned(),
            version: 1,
            allowed_signers: format!("ada {}\n", key.public),
            required: BTreeMap::new(),
        };
        let labels = [("role".to_owned(), role.to_owned())].into();
        Beliefs::establish(directory.path(), &root, &labels).unwrap();
        let beliefs = Beliefs::open(directory.path(), "web1".parse().unwrap()).unwrap();
        let file = File { name: "watch.yaml".to_owned(), text: POLICY.to_owned() };
        let policy = manifest::parse(&[file]).unwrap().remove(0).canonical;
        let key = SigningKey::from_text(&key.private).unwrap();
        Shop { _directory: directory, beliefs, key, policy, now: Timestamp::now() }
    }

    impl Shop {
        fn signed(&self, namespace: &str, names: &str) -> v1::SignedPolicies {
            let set = PolicySet {
                installation: "shop".to_owned(),
                namespace: "plants".parse().unwrap(),
                version: 1,
                issued: self.now,
                expires: self.now + SignedDuration::from_hours(1),
                manifests: BTreeMap::from([("Policy/watch".to_owned(), Digest::of(names.as_bytes()))]),
                one_shot: None,
                limits: false,
            };
            let policy_set = set.canonical().into_bytes();
            let signatures = vec![self.key.sign(namespace, &policy_set).unwrap()];
            v1::SignedPolicies { policy_set, signatures, policies: vec![self.policy.clone().into_bytes()] }
        }

        fn vouched(&self, signed: v1::SignedPolicies, now: Timestamp) -> Vec<String> {
            vouched(&self.beliefs, &[signed], now).into_iter().collect()
        }
    }

    #[test]
    fn what_people_signed_for_this_host_is_run_and_nothing_else() {
        let web = shop("web");
        let good = || web.signed(NAMESPACE_POLICY, &web.policy);
        let [probe] = &web.vouched(good(), web.now)[..] else { panic!("one probe is for this host") };
        assert!(probe.contains("/var/log/app.log"), "{probe}");
        let watching = web.signed(NAMESPACE_OBSERVE, &web.policy);
        assert_eq!(web.vouched(watching, web.now).len(), 1, "a key that may only observe is enough");
        let late = web.now + SignedDuration::from_hours(2);
        assert_eq!(web.vouched(good(), late).len(), 1, "what is watched does not go dark when a set expires");

        let unsigned = v1::SignedPolicies { signatures: Vec::new(), ..good() };
        let elsewhere = web.signed("quell-trust", &web.policy);
        let other = web.signed(NAMESPACE_POLICY, "another policy");
        let stranger = shop("web").signed(NAMESPACE_POLICY, &web.policy);
        for signed in [unsigned, elsewhere, other, stranger, v1::SignedPolicies::default()] {
            assert!(web.vouched(signed, web.now).is_empty());
        }
        let database = shop("db");
        assert!(database.vouched(database.signed(NAMESPACE_POLICY, &database.policy), database.now).is_empty());
    }
}
