//! Limits against a stolen controller: it leaves them out, shows older, forged and mixed ones, and hides them from a host
//! that has just joined.

use std::{fs, path::Path};

use jiff::SignedDuration;
use quell_link::signing::{NewKey, SigningKey};
use quell_model::manifest::{self, File, Parsed};
use quell_tests::fleet::{Fleet, Host, wait_for};
use quell_wire::v1::{self, OutcomeKind};

use super::{
    PATIENT,
    controller::Evil,
    manifests,
    orders::{Order, Signed},
};

/// Somebody's key, of whom the trust root says what it may sign.
struct Key {
    private: String,
    path: String,
}

impl Key {
    fn make(fleet: &Fleet, directory: &Path, name: &str, namespace: &str) -> Self {
        let key = NewKey::make(name).unwrap();
        let (path, public) = (directory.join(name), directory.join(format!("{name}.pub")));
        quell_link::files::write(&path, key.private.as_bytes()).unwrap();
        fs::write(&public, &key.public).unwrap();
        fleet.quell(&["trust", "add", name, public.to_str().unwrap(), "--namespaces", namespace]).unwrap();
        Self { private: key.private.to_string(), path: path.to_str().unwrap().to_owned() }
    }

    fn sign(&self, namespace: &str, bytes: &[u8]) -> String {
        SigningKey::from_text(&self.private).unwrap().sign(namespace, bytes).unwrap()
    }
}

fn parsed(text: &str) -> Vec<Parsed> {
    manifest::parse(&[File { name: "a.yaml".to_owned(), text: text.to_owned() }]).unwrap()
}

/// An installation in which others than the writers of policies set limits, before it was stolen.
struct Shop {
    scratch: tempfile::TempDir,
    fleet: Fleet,
    policies: Signed,
    /// The older and the newer ones.
    limits: [Signed; 2],
    /// May sign policies.
    pat: Key,
    /// May sign limits.
    lena: Key,
}

impl Shop {
    fn open() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
        fleet.enrol(&Host::running("web1", "web", "/bin/sh")).unwrap();
        let [pat, lena] = [("pat", "quell-policy"), ("lena", "quell-limits")]
            .map(|(name, namespace)| Key::make(&fleet, scratch.path(), name, namespace));
        let file = scratch.path().join("manifests.yaml");
        let apply = |text: &str, key: &Key| {
            fs::write(&file, text).unwrap();
            fleet.quell(&["apply", "-f", file.to_str().unwrap(), "--key", &key.path]).unwrap();
        };
        let text = manifests(&scratch.path().join("marks"), "kept").replace("cooldown: 1s", "cooldown: 0s");
        apply(&text, &pat);
        let policies = Signed::of(fleet.profile(), parsed(&text));
        let limits = ["mode: enforce", "mode: enforce, budget: { perHost: 1 }"].map(|spec| {
            let text = format!(
                "apiVersion: quell/v1\nkind: Limits\nmetadata: {{ namespace: plants, name: ceiling }}\nspec: {{ \
                 description: What security allows., {spec} }}\n"
            );
            apply(&text, &lena);
            Signed::limits(fleet.profile(), parsed(&text))
        });
        fleet.quell(&["trust", "require", "limits", "1"]).unwrap();
        // It joins with the trust root that demands limits, and never hears of any.
        fleet.enrol(&Host::running("web2", "web", "/bin/sh")).unwrap();
        for name in ["web1", "web2"] {
            let knows = || {
                let root = fs::read(fleet.agent_data(name).join("belief").join("trust-root")).ok()?;
                String::from_utf8_lossy(&root).contains("\"limits\":1").then_some(())
            };
            wait_for(PATIENT, || format!("{name} does not demand limits"), knows).unwrap();
        }
        fleet.stop_controller().unwrap();
        Self { scratch, fleet, policies, limits, pat, lena }
    }

    fn marks(&self) -> usize {
        fs::read_to_string(self.scratch.path().join("marks")).unwrap_or_default().lines().count()
    }

    fn order(&self, key: &str, host: &str) -> v1::Command {
        Order::new(&self.policies, "kept", "plain", host).key(key).seal()
    }

    fn refused(&self, evil: &Evil, host: &str, command: v1::Command, reason: &str) {
        let (before, what) = (self.marks(), command.command_id.clone());
        let outcome = evil.order(host, command);
        assert_eq!(outcome.kind(), OutcomeKind::Refused, "{what}: {}", outcome.summary);
        assert!(outcome.summary.contains(reason), "{what}: {:?} lacks {reason:?}", outcome.summary);
        assert_eq!(self.marks(), before, "{what} had an effect");
    }
}

#[test]
fn a_stolen_controller_cannot_drop_roll_back_forge_or_hide_limits() {
    let mut shop = Shop::open();
    let evil = Evil::start(&shop.fleet.controller_data());
    evil.wait_for("web1");
    evil.wait_for("web2");
    let [old, new] = shop.limits.clone();

    // What keeps to the limits is done, so that the rest is refused for its own reason.
    let good = evil.order("web1", new.behind(shop.order("good", "web1")));
    assert_eq!((good.kind(), shop.marks()), (OutcomeKind::Succeeded, 1), "{}", good.summary);
    let fork = old.changed(|set| {
        set.version += 1;
        set.expires += SignedDuration::from_secs(1);
    });
    let fork = fork.signed_by(&|bytes| shop.lena.sign("quell-limits", bytes));
    for round in ["at once", "after a restart"] {
        let order = |what: &str| shop.order(&format!("{what} {round}"), "web1");
        let refused = |command: v1::Command, reason: &str| shop.refused(&evil, "web1", command, reason);
        refused(new.behind(order("spent")), "Limits plants/ceiling: 1 acts on this host within 1d are spent");
        refused(order("dropped"), "hosts do nothing in plants without its limits");
        refused(old.behind(order("older")), "version 1 of set plants/limits has been replaced by version 2");
        refused(fork.behind(order("forked")), "two different sets were signed with one version");
        refused(new.with_manifests_of(&old).behind(order("mixed")), "is not among the evidence");
        shop.fleet.kill_agent("web1");
        evil.forget("web1");
        shop.fleet.run_agent("web1").unwrap();
        evil.wait_for("web1");
    }

    // To a host that has just joined it shows none, and its own.
    let next = old.changed(|set| set.version = 9);
    let refused = |key: &str, limits: &Signed, reason: &str| {
        shop.refused(&evil, "web2", limits.behind(shop.order(key, "web2")), reason);
    };
    shop.refused(&evil, "web2", shop.order("hidden", "web2"), "hosts do nothing in plants without its limits");
    refused("unsigned", &next, "not signed: 0 of the 1 people");
    refused("own", &next.signed_by(&|bytes| evil.sign("quell-limits", bytes)), "not in allowed_signers");
    let by_policy_key = next.signed_by(&|bytes| shop.pat.sign("quell-limits", bytes));
    refused("by a policy key", &by_policy_key, "may not sign in namespace \"quell-limits\"");
    let as_policies = next.signed_by(&|bytes| shop.pat.sign("quell-policy", bytes));
    refused("as policies", &as_policies, "not signed: 0 of the 1 people");
    let empty = old.changed(|set| set.manifests.clear()).signed_by(&|bytes| shop.pat.sign("quell-limits", bytes));
    refused("empty", &empty, "may not sign");
    let taken = evil.order("web2", new.behind(shop.order("at last", "web2")));
    assert_eq!((taken.kind(), shop.marks()), (OutcomeKind::Succeeded, 2), "{}", taken.summary);
}
