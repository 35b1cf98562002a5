//! A fail-over by an update, at a stand-in for a name server that keeps the rules, and at one that does not.

use std::os::unix::fs::PermissionsExt as _;

use hickory_proto::op::ResponseCode;
use quell_wire::v1::{self, OutcomeKind};
use serde_json::{Value as Json, json};

use super::stand_in::{KEY, Mood, StandIn, ZONE, write_secret};
use crate::execute::tests::{Agent, command};

struct Shop {
    root: tempfile::TempDir,
    server: StandIn,
    agent: Agent,
}

impl Shop {
    async fn new() -> Self {
        Self::allowing(|lines| lines).await
    }

    /// With something else in `agent.toml`.
    async fn allowing(change: impl FnOnce(String) -> String) -> Self {
        let root = tempfile::tempdir().unwrap();
        let server = StandIn::start(root.path());
        let lines = change(server.lines(root.path()));
        let toml = format!("[allow]\nactions = [\"dns.failover\"]\n{lines}\n");
        let agent = Agent::start(root.path(), &toml).await;
        Self { root, server, agent }
    }

    fn order(&self, key: &str, change: impl FnOnce(&mut Json)) -> v1::Command {
        let mut with = json!({
            "provider": "rfc2136", "server": self.server.address.to_string(), "zone": ZONE, "record": "www", "key": KEY,
            "from": "dns1", "to": "dns2", "values": {"dns1": "192.0.2.53", "dns2": "192.0.2.54", "dns3": "192.0.2.55"},
        });
        change(&mut with);
        command(key, "dns.failover", &with)
    }

    async fn failover(&mut self, key: &str) -> v1::Outcome {
        let order = self.order(key, |_| {});
        self.agent.run(order).await
    }

    fn secret_file(&self) -> std::path::PathBuf {
        self.root.path().join("failover.secret")
    }
}

/// What came of it and what was said, in one place for messages.
fn told(outcome: &v1::Outcome) -> (OutcomeKind, &str) {
    (outcome.kind(), outcome.summary.as_str())
}

#[tokio::test]
async fn one_update_compares_and_sets() {
    let mut shop = Shop::new().await;
    let outcome = shop.failover("a").await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    assert_eq!(shop.server.updates(), ["if 192.0.2.53 without 192.0.2.53 with 192.0.2.54 for 30 s"]);
    assert_eq!(shop.server.addresses(), ["192.0.2.54"]);
    let again = shop.failover("b").await;
    assert_eq!(again.kind(), OutcomeKind::NoChange, "{}", again.summary);
    let back = shop.order("c", |with| (with["from"], with["to"]) = (json!("dns2"), json!("dns1")));
    assert_eq!(shop.agent.run(back).await.kind(), OutcomeKind::Succeeded, "switching back is an order of its own");
    assert_eq!(shop.server.updates().len(), 2);
}

#[tokio::test]
async fn a_stale_order_is_refused_before_anything_is_sent() {
    let mut shop = Shop::new().await;
    for standing in [&["192.0.2.99"][..], &["192.0.2.55"], &["192.0.2.53", "192.0.2.54"], &[]] {
        shop.server.set(standing);
        let outcome = shop.failover(&format!("{standing:?}")).await;
        assert!(outcome.kind() == OutcomeKind::Refused && outcome.summary.contains("stale"), "{:?}", told(&outcome));
        assert_eq!(shop.server.addresses(), standing);
    }
    assert!(shop.server.updates().is_empty());
}

#[tokio::test]
async fn a_plan_that_somebody_overtook_is_refused_by_the_server() {
    let mut shop = Shop::new().await;
    shop.server.is(Mood::Honest, Mood::SomebodyElseFirst);
    let outcome = shop.failover("a").await;
    assert_eq!(outcome.kind(), OutcomeKind::Failed, "{}", outcome.summary);
    for words in ["stale", "refused the update", "NXRRSET", "nothing was changed"] {
        assert!(outcome.summary.contains(words), "{}", outcome.summary);
    }
    assert_eq!((shop.server.addresses(), shop.server.updates().len()), (vec!["192.0.2.99".to_owned()], 0));
}

#[tokio::test]
async fn each_no_of_the_server_is_told_and_changes_nothing() {
    let mut shop = Shop::new().await;
    for (code, words) in [
        (ResponseCode::Refused, "does not let the key failover update www.exoticplant.plant A (REFUSED)"),
        (ResponseCode::NotAuth, "is not the primary of the zone exoticplant.plant (NOTAUTH)"),
        (ResponseCode::NotZone, "NOTZONE"),
        (ResponseCode::ServFail, "SERVFAIL"),
        (ResponseCode::FormErr, "FORMERR"),
    ] {
        shop.server.is(Mood::Honest, Mood::Says(code));
        let outcome = shop.failover(&format!("{code:?}")).await;
        assert!(outcome.kind() == OutcomeKind::Failed && outcome.summary.contains(words), "{:?}", told(&outcome));
        assert!(outcome.summary.contains("nothing was changed"), "{}", outcome.summary);
    }
    for (code, words) in [(ResponseCode::Refused, "(REFUSED)"), (ResponseCode::ServFail, "(SERVFAIL)")] {
        shop.server.is(Mood::Says(code), Mood::Honest);
        let outcome = shop.failover(&format!("asked {code:?}")).await;
        assert!(outcome.kind() == OutcomeKind::Refused && outcome.summary.contains(words), "{:?}", told(&outcome));
    }
    shop.server.is(Mood::NotAuthoritative, Mood::Honest);
    let outcome = shop.failover("cached").await;
    assert!(
        outcome.kind() == OutcomeKind::Refused && outcome.summary.contains("not its primary"),
        "{:?}",
        told(&outcome)
    );
    assert!(shop.server.updates().is_empty());
}

#[tokio::test]
async fn an_answer_that_is_not_signed_with_the_key_counts_for_nothing() {
    let mut shop = Shop::new().await;
    for (mood, words) in [
        (Mood::Unsigned, "it is not signed"),
        (Mood::Forged, "its signature does not hold"),
        (Mood::OtherRequest, "it answers something else"),
        (Mood::Garbage, "it is no DNS message"),
    ] {
        shop.server.is(mood, Mood::Honest);
        let outcome = shop.failover(&format!("query {mood:?}")).await;
        assert!(
            outcome.kind() == OutcomeKind::Refused && outcome.summary.contains(words),
            "{mood:?} {:?}",
            told(&outcome)
        );
        assert!(shop.server.updates().is_empty(), "{mood:?}");
    }
    for (mood, words) in [
        (Mood::Unsigned, "is not believed"),
        (Mood::Forged, "is not believed"),
        (Mood::OtherRequest, "is not believed"),
        (Mood::Garbage, "is not believed"),
        (Mood::BadSignature, "BADSIG"),
    ] {
        shop.server.set(&["192.0.2.53"]);
        shop.server.is(Mood::Honest, mood);
        // The update was taken, which a signed question tells.
        let outcome = shop.failover(&format!("update {mood:?}")).await;
        assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{mood:?} {}", outcome.summary);
        assert!(outcome.summary.contains(words), "{}", outcome.summary);
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_leaves_a_doubt_only_where_there_is_one() {
    let mut shop = Shop::new().await;
    shop.server.is(Mood::Silent, Mood::Honest);
    let outcome = shop.failover("asked").await;
    assert!(
        outcome.kind() == OutcomeKind::Refused && outcome.summary.contains("does not answer"),
        "{:?}",
        told(&outcome)
    );

    shop.server.is(Mood::Honest, Mood::Silent);
    let outcome = shop.failover("not taken").await;
    assert_eq!(outcome.kind(), OutcomeKind::Unknown, "{}", outcome.summary);
    assert!(outcome.summary.contains("is not known"), "{}", outcome.summary);
    assert_eq!(shop.server.addresses(), ["192.0.2.53"]);

    shop.server.is(Mood::Honest, Mood::TakesAndIsSilent);
    let outcome = shop.failover("taken").await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    assert_eq!(shop.server.addresses(), ["192.0.2.54"]);
}

#[tokio::test]
async fn a_server_that_hangs_is_waited_for_no_longer_than_the_limit() {
    // Connections are taken by the kernel, and nobody reads them.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = listener.local_addr().unwrap().to_string();
    let mut shop = Shop::allowing(|lines| {
        let server = lines.lines().find(|line| line.starts_with("server")).unwrap().to_owned();
        lines.replace(&server, &format!("server = \"{hanging}\""))
    })
    .await;
    let order = shop.order("a", |with| with["server"] = json!(hanging));
    let begun = std::time::Instant::now();
    let outcome = shop.agent.run(order).await;
    assert!(outcome.kind() == OutcomeKind::Refused && outcome.summary.contains("not within"), "{:?}", told(&outcome));
    assert!(begun.elapsed() >= super::QUERY_LIMIT, "it is given its time");
    drop(listener);
    let order = shop.order("b", |with| with["server"] = json!(hanging));
    let outcome = shop.agent.run(order).await;
    assert!(
        outcome.kind() == OutcomeKind::Refused && outcome.summary.contains("cannot be reached"),
        "{:?}",
        told(&outcome)
    );
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_named_and_its_secret_never_shown() {
    let other = b"some other secret, which is wrong";
    let encoded = {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(other)
    };
    let mut shop = Shop::new().await;
    write_secret(&shop.secret_file(), other);
    let wrong = shop.failover("secret").await;
    assert!(wrong.kind() == OutcomeKind::Refused && wrong.summary.contains("BADSIG"), "{:?}", told(&wrong));
    let mut said = vec![wrong];

    for (name, text, mode, words) in [
        ("open", encoded.clone(), 0o644, "others than its owner can read it"),
        ("written", encoded.clone(), 0o620, "can be written by others"),
        ("not base64", format!("secret \"{encoded}\";"), 0o600, "it has to be base64"),
        ("short", "c2VjcmV0".to_owned(), 0o600, "shorter than 16 bytes"),
    ] {
        std::fs::write(shop.secret_file(), &text).unwrap();
        std::fs::set_permissions(shop.secret_file(), std::fs::Permissions::from_mode(mode)).unwrap();
        let outcome = shop.failover(name).await;
        assert!(
            outcome.kind() == OutcomeKind::Refused && outcome.summary.contains(words),
            "{name} {:?}",
            told(&outcome)
        );
        said.push(outcome);
    }
    std::fs::remove_file(shop.secret_file()).unwrap();
    let missing = shop.failover("missing").await;
    assert!(missing.kind() == OutcomeKind::Refused && missing.summary.contains("cannot read"), "{:?}", told(&missing));

    let mut unknown = Shop::allowing(|lines| lines.replace("key = \"failover\"", "key = \"nobody\"")).await;
    let order = unknown.order("a", |with| with["key"] = json!("nobody"));
    let outcome = unknown.agent.run(order).await;
    assert!(outcome.kind() == OutcomeKind::Refused && outcome.summary.contains("BADKEY"), "{:?}", told(&outcome));
    let mut otherwise = Shop::allowing(|lines| format!("{lines}\nalgorithm = \"hmac-sha512\"")).await;
    let outcome = otherwise.failover("a").await;
    assert!(outcome.kind() == OutcomeKind::Refused && outcome.summary.contains("BADKEY"), "{:?}", told(&outcome));
    for outcome in said {
        let all = format!("{outcome:?}");
        assert!(!all.contains(&encoded) && !all.contains("c2VjcmV0"), "{all}");
    }
    for one in [shop, unknown, otherwise] {
        assert_eq!((one.server.addresses(), one.server.updates().len()), (vec!["192.0.2.53".to_owned()], 0));
        let journal = std::fs::read_to_string(one.root.path().join("journal")).unwrap();
        assert!(!journal.contains(&encoded), "{journal}");
    }
}

#[tokio::test]
async fn clocks_that_are_apart_are_told() {
    let mut shop = Shop::new().await;
    shop.server.is(Mood::BadTime, Mood::Honest);
    let outcome = shop.failover("a").await;
    assert!(outcome.kind() == OutcomeKind::Refused && outcome.summary.contains("BADTIME"), "{:?}", told(&outcome));
    shop.server.is(Mood::Honest, Mood::BadTime);
    let outcome = shop.failover("b").await;
    assert!(outcome.kind() == OutcomeKind::Failed && outcome.summary.contains("BADTIME"), "{:?}", told(&outcome));
}

#[tokio::test]
async fn what_agent_toml_does_not_list_to_the_letter_is_refused() {
    let mut shop = Shop::new().await;
    for (field, value) in
        [("server", "192.0.2.1"), ("zone", "plant"), ("record", "mail"), ("record", "@"), ("key", "other")]
    {
        let order = shop.order(&format!("{field} {value}"), |with| with[field] = json!(value));
        let outcome = shop.agent.run(order).await;
        assert!(outcome.kind() == OutcomeKind::Refused && outcome.remedy.starts_with("[[dns]]\n"), "{outcome:?}");
        assert!(outcome.remedy.contains(&format!("{field} = \"{value}")), "{}", outcome.remedy);
    }
    assert!(shop.server.updates().is_empty());
}

#[tokio::test]
async fn it_is_not_taken_back() {
    let mut shop = Shop::new().await;
    assert_eq!(shop.failover("a").await.kind(), OutcomeKind::Succeeded);
    let undo = v1::Command { undo: true, command_id: "cmd-undo".to_owned(), ..shop.order("a", |_| {}) };
    let undone = shop.agent.run(undo).await;
    assert!(undone.kind() == OutcomeKind::Failed && undone.summary.contains("not taken back"), "{:?}", told(&undone));
    assert_eq!(shop.server.addresses(), ["192.0.2.54"]);
}
