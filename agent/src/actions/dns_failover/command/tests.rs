//! The runbook, against a tool that speaks its words and writes down what it was told.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use quell_wire::v1::{self, OutcomeKind};
use serde_json::{Value as Json, json};

use crate::execute::tests::{Agent, command};

/// Keeps the active server in `active` and what it was told in `calls`; `broken` makes the shutdown fail.
const TOOL: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
case "$*" in
"-q active_server") cat active ;;
"-a shutdown -s "*) echo "$*" >>calls; [ ! -e broken ] || { echo "cannot reach $4" >&2; exit 1; }; echo none >active ;;
"-a failover -s "*" -f") echo "$*" >>calls; echo "$4" >active ;;
"-a failover -s "*) echo "$*" >>calls; [ "$(cat active)" = none ] || exit 2; [ ! -e dead ] || exit 3; echo "$4" >active ;;
*) exit 64 ;;
esac
"#;

struct Shop {
    root: tempfile::TempDir,
    agent: Agent,
}

pub(crate) fn toml(root: &Path) -> String {
    format!("[allow]\nactions = [\"dns.failover\"]\nprograms = [{:?}]\n", root.join("dnsTool").display().to_string())
}

/// Puts the tool there, with dns1 active.
pub(crate) fn tool(root: &Path) -> PathBuf {
    let tool = root.join("dnsTool");
    std::fs::write(&tool, TOOL).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(root.join("active"), "dns1\n").unwrap();
    tool
}

impl Shop {
    async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        tool(root.path());
        let agent = Agent::start(root.path(), &toml(root.path())).await;
        Self { root, agent }
    }

    fn set(&self, name: &str, text: &str) {
        std::fs::write(self.root.path().join(name), text).unwrap();
    }

    fn calls(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.root.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn order(&self, key: &str, change: impl FnOnce(&mut Json)) -> v1::Command {
        let mut with = json!({
            "provider": "command", "tool": [self.root.path().join("dnsTool").display().to_string()],
            "from": "dns1", "to": "dns2", "servers": ["dns1", "dns2"],
        });
        change(&mut with);
        command(key, "dns.failover", &with)
    }

    async fn failover(&mut self, key: &str, change: impl FnOnce(&mut Json)) -> v1::Outcome {
        let order = self.order(key, change);
        self.agent.run(order).await
    }
}

#[tokio::test]
async fn the_runbook_is_followed_to_the_letter() {
    let mut shop = Shop::new().await;
    let outcome = shop.failover("a", |_| {}).await;
    assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
    assert_eq!(shop.calls(), ["-a shutdown -s dns1", "-a failover -s dns2"]);
    let again = shop.failover("b", |_| {}).await;
    assert_eq!(again.kind(), OutcomeKind::NoChange, "{}", again.summary);
    let stale = shop.failover("c", |with| (with["from"], with["to"]) = (json!("dns1"), json!("dns3"))).await;
    assert_eq!(stale.kind(), OutcomeKind::Refused, "a name outside the pair");
    assert_eq!(shop.calls().len(), 2);
}

#[tokio::test]
async fn a_stale_order_and_the_runbooks_own_slip_are_refused() {
    let mut shop = Shop::new().await;
    shop.set("active", "dns2\n");
    let stale = shop.failover("a", |with| (with["from"], with["to"]) = (json!("dns1"), json!("dns3"))).await;
    assert_eq!(stale.kind(), OutcomeKind::Refused);
    let stale = shop.failover("b", |with| {
        with.as_object_mut().unwrap().remove("servers");
        (with["from"], with["to"]) = (json!("dns1"), json!("dns3"));
    });
    assert!(stale.await.summary.contains("stale"));
    shop.set("active", "dns1\n");
    for (from, to) in [("dns1", "dns"), ("dns", "dns2"), ("dns1", "dns1"), ("dns1", "-f"), ("dns1", "dns2; reboot")] {
        let key = format!("{from} {to}");
        let outcome = shop.failover(&key, |with| (with["from"], with["to"]) = (json!(from), json!(to))).await;
        assert_eq!(outcome.kind(), OutcomeKind::Refused, "{from} → {to}");
    }
    shop.set("active", "rm -rf /; dns1\n");
    assert_eq!(shop.failover("c", |_| {}).await.kind(), OutcomeKind::Refused, "an answer that is no name");
    assert!(shop.calls().is_empty());
}

#[tokio::test]
async fn force_only_after_a_failed_shutdown_and_a_confirmed_death() {
    let mut shop = Shop::new().await;
    shop.set("broken", "");
    let outcome = shop.failover("a", |_| {}).await;
    assert_eq!(outcome.kind(), OutcomeKind::Failed);
    assert!(
        outcome.summary.contains("cannot reach dns1") && outcome.summary.contains("not forced"),
        "{}",
        outcome.summary
    );

    let pid_file = shop.root.path().join("dns1.pid");
    let with_file = |with: &mut Json| with["process"] = json!({"pidFile": pid_file.display().to_string()});
    assert_eq!(shop.failover("b", with_file).await.kind(), OutcomeKind::Failed, "a missing file confirms nothing");
    std::fs::write(&pid_file, std::process::id().to_string()).unwrap();
    let alive = shop.failover("c", with_file).await;
    assert!(alive.kind() == OutcomeKind::Failed && alive.summary.contains("runs"), "{}", alive.summary);
    assert!(shop.calls().iter().all(|call| call == "-a shutdown -s dns1"), "{:?}", shop.calls());

    let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
    std::fs::write(&pid_file, child.id().to_string()).unwrap();
    child.wait().unwrap();
    let dead = shop.failover("d", with_file).await;
    assert_eq!(dead.kind(), OutcomeKind::Succeeded, "{}", dead.summary);
    assert_eq!(shop.calls().last().unwrap(), "-a failover -s dns2 -f");
}

#[tokio::test]
async fn a_failover_that_fails_is_not_taken_back() {
    let mut shop = Shop::new().await;
    shop.set("dead", "");
    let outcome = shop.failover("a", |_| {}).await;
    assert_eq!(outcome.kind(), OutcomeKind::Failed);
    let undo = v1::Command { undo: true, command_id: "cmd-undo".to_owned(), ..shop.order("a", |_| {}) };
    let undone = shop.agent.run(undo).await;
    assert_eq!(undone.kind(), OutcomeKind::Failed);
    assert!(undone.summary.contains("not taken back"), "{}", undone.summary);
    assert_eq!(shop.calls(), ["-a shutdown -s dns1", "-a failover -s dns2"]);
}
