//! A stolen controller: with the keys of the real one and every set that people signed, it speaks to real agents. What
//! people did not sign for this host, this plan and this moment has no effect, and the agent says why.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "evil/controller.rs"]
mod controller;
#[path = "evil/limits.rs"]
mod limits;
#[path = "evil/orders.rs"]
mod orders;
#[path = "evil/probes.rs"]
mod probes;

use std::{fs, path::Path, time::Duration};

use controller::Evil;
use orders::{Order, Signed};
use probes::{Probes, only_error};
use quell_model::{
    manifest::{self, File},
    trust::LabelChange,
};
use quell_tests::fleet::{Fleet, Host};
use quell_wire::v1::{self, OutcomeKind};

/// How long anything may take.
const PATIENT: Duration = Duration::from_secs(120);

/// The shop's policies; `name` is one that the second set does not have any more.
fn manifests(marks: &Path, name: &str) -> String {
    include_str!("evil/policies.yaml").replace("MARKS", &marks.display().to_string()).replace("NAME", name)
}

/// The installation before it was stolen: its fleet, and what people signed, the older first.
struct Shop {
    scratch: tempfile::TempDir,
    fleet: Fleet,
    sets: Vec<Signed>,
    /// A join string that nobody has used.
    token: String,
}

impl Shop {
    fn open() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
        fleet.enrol(&Host::running("web1", "web", "/bin/sh")).unwrap();
        fleet.enrol(&Host::running("db1", "db", "/bin/sh")).unwrap();
        let sets = ["deleted", "kept"].map(|name| {
            let text = manifests(&scratch.path().join("marks"), name);
            let file = scratch.path().join("policies.yaml");
            fs::write(&file, &text).unwrap();
            let file = file.to_str().unwrap();
            fleet.quell(&["apply", "-f", file, "--prune"]).unwrap();
            let parsed = manifest::parse(&[File { name: file.to_owned(), text }]).unwrap();
            Signed::of(fleet.profile(), parsed)
        });
        let token = fleet.quell(&["token", "create", "--ttl", "10m", "--uses", "1"]).unwrap();
        fleet.stop_controller().unwrap();
        Self { scratch, fleet, sets: sets.into(), token: token.trim().to_owned() }
    }

    fn marks(&self) -> usize {
        fs::read_to_string(self.scratch.path().join("marks")).unwrap_or_default().lines().count()
    }
}

#[test]
fn a_stolen_controller_has_no_effect_outside_what_people_signed() {
    let mut shop = Shop::open();
    let evil = Evil::start(&shop.fleet.controller_data());
    evil.wait_for("web1");
    evil.wait_for("db1");
    let (old, new) = (shop.sets[0].clone(), shop.sets[1].clone());
    let refused = |shop: &Shop, host: &str, what: &str, command: v1::Command, reason: &str| {
        let before = shop.marks();
        let outcome = evil.order(host, command);
        assert_eq!(outcome.kind(), OutcomeKind::Refused, "{what}: {}", outcome.summary);
        assert!(outcome.summary.contains(reason), "{what}: {:?} lacks {reason:?}", outcome.summary);
        assert_eq!(shop.marks(), before, "{what} had an effect");
    };

    // What people signed is done, so that the rest is refused for its own reason.
    let good = Order::new(&new, "kept", "plain", "web1").key("good").seal();
    let outcome = evil.order("web1", good.clone());
    assert_eq!((outcome.kind(), shop.marks()), (OutcomeKind::Succeeded, 1), "{}", outcome.summary);

    let unsigned = v1::Command { authority: None, ..Order::new(&new, "kept", "plain", "web1").key("unsigned").seal() };
    refused(&shop, "web1", "no signature", unsigned, "nobody signed it");
    let own = Order::new(&new, "kept", "plain", "web1").key("own").signed_by_itself(&evil).seal();
    refused(&shop, "web1", "its own signature", own, "not in allowed_signers");
    let deleted = Order::new(&new, "deleted", "plain", "web1").key("deleted").with(&old).seal();
    refused(&shop, "web1", "a deleted policy", deleted, "is not in version");
    let replaced = Order::new(&old, "deleted", "plain", "web1").key("old").seal();
    refused(&shop, "web1", "an old set", replaced, "has been replaced");
    let mut mixed = Order::new(&new, "kept", "plain", "web1").key("mixed").seal();
    if let Some(authority) = &mut mixed.authority {
        authority.signatures.clone_from(&old.signatures);
    }
    refused(&shop, "web1", "a mixed set", mixed, "have been changed");
    let changed = Order::new(&new, "kept", "plain", "web1").key("changed").does("rm -rf /").seal();
    refused(&shop, "web1", "another parameter", changed, "parameters");
    let missing = Order::new(&new, "kept", "careful", "web1").key("missing").seal();
    refused(&shop, "web1", "no approval", missing, "is not approved");
    let forged = Order::new(&new, "kept", "careful", "web1").key("forged").approved_by(&evil).seal();
    refused(&shop, "web1", "a forged approval", forged, "not in allowed_signers");

    let end = Order::new(&new, "kept", "careful", "web1").key("end").finally().seal();
    refused(&shop, "web1", "the end of what was never begun", end, "is not approved");

    // Another host's command, as it was and made out to the other.
    let captured = v1::Command { idempotency_key: "other".to_owned(), ..good.clone() };
    refused(&shop, "db1", "another host's command", captured, "no such step");
    let made_out = Order::new(&new, "kept", "plain", "db1").key("made-out").seal();
    refused(&shop, "db1", "a host that is not meant", made_out.clone(), "its own labels");

    // Relabelled, it would be.
    let change = LabelChange {
        installation: evil.installation().to_owned(),
        host: "db1".parse().unwrap(),
        version: 1,
        labels: [("role".to_owned(), "web".to_owned())].into(),
    };
    let document = change.canonical().into_bytes();
    let signatures = vec![evil.sign("quell-trust", &document)];
    evil.say("db1", v1::controller_message::Body::Change(v1::SignedChange { document, signatures }));
    let relabelled = v1::Command { idempotency_key: "relabelled".to_owned(), ..made_out };
    refused(&shop, "db1", "relabelling", relabelled, "its own labels");

    measures_nothing(&shop, &evil, &new);
    replays(&mut shop, &evil, &good);
    planted_at_join(&shop, &evil);
}

/// Probes that read the host and that nobody signed for it: a program, a file and a log.
fn measures_nothing(shop: &Shop, evil: &Evil, new: &Signed) {
    let secret = shop.scratch.path().join("secret");
    fs::write(&secret, "THE SECRET\n").unwrap();
    let (thief, before) = (Probes::of_the_thief(&shop.scratch.path().join("marks"), &secret), shop.marks());
    let attempts = [
        ("unsigned", vec![]),
        ("signed by itself", vec![thief.forged(evil)]),
        ("slipped into a set", vec![thief.behind(new)]),
        ("another's list", vec![Probes::signed(new, "kept").behind(new)]),
    ];
    for (what, signed) in attempts {
        let samples = thief.assign(evil, "web1", what, signed);
        for sample in &samples {
            let error = only_error(sample).unwrap_or_else(|| panic!("{what} was measured: {sample:?}"));
            assert!(error.contains("nobody signed this probe"), "{what}: {error}");
        }
        let tail = evil.tail("web1", &format!("{what} log"));
        assert!(tail.lines.is_empty() && !tail.error.is_empty(), "{what}: {tail:?}");
        assert_eq!(shop.marks(), before, "{what} ran a program");
    }
    // What people signed is measured, on the host that they meant.
    let kept = Probes::signed(new, "kept");
    let measured = kept.assign(evil, "web1", "kept", vec![kept.behind(new)]);
    assert!(only_error(&measured[0]).is_none(), "{measured:?}");
    let elsewhere = kept.assign(evil, "db1", "kept", vec![kept.behind(new)]);
    assert!(only_error(&elsewhere[0]).is_some_and(|error| error.contains("nobody signed")), "{elsewhere:?}");
}

/// A captured command again: at once, under another key, later, after a restart of the agent.
fn replays(shop: &mut Shop, evil: &Evil, good: &v1::Command) {
    for round in ["at once", "after a restart"] {
        let again = evil.order("web1", good.clone());
        assert_eq!((again.kind(), shop.marks()), (OutcomeKind::Succeeded, 1), "{round}: answered, not done");
        let key = v1::Command {
            idempotency_key: format!("again {round}"),
            command_id: format!("cmd-again-{round}"),
            ..good.clone()
        };
        let outcome = evil.order("web1", key);
        assert_eq!((outcome.kind(), shop.marks()), (OutcomeKind::Refused, 1), "{round}: {}", outcome.summary);
        assert!(outcome.summary.contains("was begun here already"), "{round}: {}", outcome.summary);
        shop.fleet.kill_agent("web1");
        evil.forget("web1");
        shop.fleet.run_agent("web1").unwrap();
        evil.wait_for("web1");
    }
}

/// A machine that joins now is told of signers that the join string does not lead to.
fn planted_at_join(shop: &Shop, evil: &Evil) {
    let data = shop.fleet.agent_data("new1");
    let error = shop.fleet.join("new1", &shop.token).unwrap_err().to_string();
    assert!(error.contains("trust root"), "{error}");
    assert_eq!(evil.joins(), 1, "it was the evil one that answered");
    assert!(!data.join("belief").exists(), "nobody is believed");
    assert!(!data.join("identity").join("identity.toml").exists());
}
