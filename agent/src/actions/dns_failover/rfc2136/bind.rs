//! The real thing: BIND, which `tests/host/dns.sh` starts for these tests. Anywhere else each one says why it skips.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hickory_proto::{
    op::{Message, Query},
    rr::{RData, RecordType},
};
use quell_model::action::Parameters;
use quell_wire::v1::{self, OutcomeKind};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    actions::{self, Action, Change, Failure, Host, Work},
    config::Config,
    execute::tests::{Agent, command},
    legal_hold::LegalHoldFile,
    managers::Managers,
};

/// As the script has it.
const ZONE: &str = "exoticplant.plant";

struct Bind {
    server: SocketAddr,
    /// One file for each key: `failover.secret`.
    keys: PathBuf,
    pid: Pid,
}

impl Bind {
    fn of_this_run(test: &str) -> Option<Self> {
        let (Some(server), Some(keys), Some(pid)) =
            (said("QUELL_NAME_SERVER"), said("QUELL_NAME_SERVER_KEYS"), said("QUELL_NAME_SERVER_PID"))
        else {
            println!("skipped {test}: no name server was started for it; tests/host/dns.sh does");
            return None;
        };
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        Some(Self { server: server.parse().unwrap(), keys: keys.into(), pid })
    }

    /// What anybody is told, without a key.
    async fn ask(&self, name: &str, kind: RecordType) -> Vec<RData> {
        let mut message = Message::query();
        message.add_query(Query::query(crate::dns::name(name).unwrap(), kind));
        let mut stream = tokio::net::TcpStream::connect(self.server).await.unwrap();
        let answer = crate::dns::exchange(&mut stream, &message.to_vec().unwrap()).await.unwrap();
        Message::from_vec(&answer).unwrap().answers.into_iter().map(|record| record.data).collect()
    }

    async fn standing(&self, order: &Json) -> Vec<String> {
        let kind = order["type"].as_str().unwrap().parse().unwrap();
        let found = self.ask(&format!("{}.{ZONE}", order["record"].as_str().unwrap()), kind).await;
        found.iter().map(ToString::to_string).collect()
    }

    /// Of the zone: it grows with every change.
    async fn serial(&self) -> u32 {
        match self.ask(ZONE, RecordType::SOA).await.as_slice() {
            [RData::SOA(soa)] => soa.serial,
            other => panic!("{other:?}"),
        }
    }

    fn order(&self, record: &str, kind: &str, key: &str, values: [&str; 2]) -> Json {
        json!({
            "provider": "rfc2136", "server": self.server.to_string(), "zone": ZONE, "record": record, "type": kind,
            "from": "dns1", "to": "dns2", "values": {"dns1": values[0], "dns2": values[1]}, "key": key,
        })
    }

    /// An `agent.toml` that allows an order.
    fn toml(&self, order: &Json, algorithm: &str, secret_of: &str) -> String {
        format!(
            "[allow]\nactions = [\"dns.failover\"]\n[[dns]]\nserver = {}\nzone = {}\nrecord = {}\nkey = {}\n\
             algorithm = \"{algorithm}\"\nsecret_file = \"{}/{secret_of}.secret\"\n",
            order["server"],
            order["zone"],
            order["record"],
            order["key"],
            self.keys.display()
        )
    }
}

fn said(variable: &str) -> Option<String> {
    std::env::var(variable).ok()
}

/// Carries an order out on a host of its own.
async fn run(toml: &str, order: &Json) -> v1::Outcome {
    let directory = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(directory.path(), toml).await;
    agent.run(command("a", "dns.failover", order)).await
}

/// Sends the update alone, as an agent does whose check was a moment ago.
async fn send(toml: &str, order: &Json, limit: Duration) -> Result<Change, Failure> {
    let directory = tempfile::tempdir().unwrap();
    let config = Arc::new(Config::parse(toml, Path::new("agent.toml")).unwrap());
    let managers = Arc::new(Managers::open(&config, directory.path()).await.unwrap());
    let host = Host { config, managers, legal_holds: LegalHoldFile::new(directory.path()) };
    let parameters = Parameters::parse("dns.failover", order.as_object().unwrap()).unwrap();
    let action: Box<dyn Action> = actions::of(parameters);
    let (deadline, cancel) = (Instant::now() + limit, CancellationToken::new());
    action.apply(&Work { host: &host, deadline, cancel, resumed: false }, &Json::Null).await
}

#[tokio::test]
async fn bind_fails_over_once_and_refuses_the_same_plan_when_it_is_stale() {
    let Some(bind) = Bind::of_this_run("bind_fails_over_once_and_refuses_the_same_plan_when_it_is_stale") else {
        return;
    };
    for (order, algorithm) in [
        (bind.order("www", "A", "failover", ["192.0.2.53", "192.0.2.54"]), "hmac-sha256"),
        (bind.order("six", "AAAA", "failover", ["2001:db8::53", "2001:db8::54"]), "hmac-sha256"),
        (bind.order("alias", "CNAME", "strong", ["dns1.exoticplant.plant", "DNS2.exoticplant.plant."]), "hmac-sha512"),
    ] {
        let toml = bind.toml(&order, algorithm, order["key"].as_str().unwrap());
        let before = bind.serial().await;
        let outcome = run(&toml, &order).await;
        assert_eq!(outcome.kind(), OutcomeKind::Succeeded, "{}", outcome.summary);
        let standing = bind.standing(&order).await;
        let wanted = order["values"]["dns2"].as_str().unwrap().to_lowercase();
        assert_eq!(standing.len(), 1);
        assert_eq!(standing[0].trim_end_matches('.'), wanted.trim_end_matches('.'));
        let after = bind.serial().await;
        assert!(after > before);

        let stale = send(&toml, &order, Duration::from_secs(10)).await.unwrap_err();
        assert!(stale.reason.contains("(NXRRSET); nothing was changed") && !stale.in_doubt, "{stale}");
        assert_eq!((bind.serial().await, bind.standing(&order).await), (after, standing.clone()));
        println!("{stale}");
        assert_eq!(run(&toml, &order).await.kind(), OutcomeKind::NoChange);

        let mut other = order.clone();
        other["values"]["dns2"] = other["values"]["dns1"].take();
        other["values"]["dns1"] = json!(match order["type"].as_str() {
            Some("A") => "192.0.2.99",
            Some("AAAA") => "2001:db8::99",
            _ => "dns99.exoticplant.plant",
        });
        let outcome = run(&toml, &other).await;
        assert!(outcome.kind() == OutcomeKind::Refused && outcome.summary.contains("stale"), "{}", outcome.summary);
        assert_eq!((bind.serial().await, bind.standing(&order).await), (after, standing));
    }
}

#[tokio::test]
async fn bind_refuses_a_record_that_says_more_than_the_order_believes() {
    let Some(bind) = Bind::of_this_run("bind_refuses_a_record_that_says_more_than_the_order_believes") else { return };
    let order = bind.order("two", "A", "failover", ["192.0.2.53", "192.0.2.55"]);
    let (before, standing) = (bind.serial().await, bind.standing(&order).await);
    assert_eq!(standing.len(), 2, "{standing:?}");
    let toml = bind.toml(&order, "hmac-sha256", "failover");
    let refused = send(&toml, &order, Duration::from_secs(10)).await.unwrap_err();
    assert!(refused.reason.contains("(NXRRSET)"), "{refused}");
    assert_eq!(bind.serial().await, before);
}

#[tokio::test]
async fn bind_refuses_keys_that_are_wrong_or_have_no_right() {
    let Some(bind) = Bind::of_this_run("bind_refuses_keys_that_are_wrong_or_have_no_right") else { return };
    let values = ["192.0.2.53", "192.0.2.54"];
    let (failover, reader, nobody) = (
        bind.order("kept", "A", "failover", values),
        bind.order("kept", "A", "reader", values),
        bind.order("kept", "A", "nobody", values),
    );
    let before = bind.serial().await;
    for (order, algorithm, secret_of, kind, words) in [
        (&failover, "hmac-sha256", "reader", OutcomeKind::Refused, "BADSIG"),
        (&nobody, "hmac-sha256", "reader", OutcomeKind::Refused, "BADKEY"),
        (&failover, "hmac-sha512", "failover", OutcomeKind::Refused, "BADKEY"),
        (&reader, "hmac-sha256", "reader", OutcomeKind::Failed, "does not let the key reader update"),
    ] {
        let outcome = run(&bind.toml(order, algorithm, secret_of), order).await;
        assert!(outcome.kind() == kind && outcome.summary.contains(words), "{words}: {}", outcome.summary);
        println!("{}", outcome.summary);
    }
    let zone = json!("elsewhere.plant");
    let mut elsewhere = failover.clone();
    elsewhere["zone"] = zone;
    let toml = bind.toml(&elsewhere, "hmac-sha256", "failover");
    let refused = send(&toml, &elsewhere, Duration::from_secs(10)).await.unwrap_err();
    assert!(refused.reason.contains("is not the primary of the zone elsewhere.plant"), "{refused}");
    assert_eq!((bind.serial().await, bind.standing(&failover).await), (before, vec!["192.0.2.53".to_owned()]));
}

#[tokio::test]
async fn a_bind_that_hangs_leaves_a_doubt_and_the_order_can_be_given_again() {
    let Some(bind) = Bind::of_this_run("a_bind_that_hangs_leaves_a_doubt_and_the_order_can_be_given_again") else {
        return;
    };
    let order = bind.order("hung", "A", "failover", ["192.0.2.53", "192.0.2.54"]);
    let toml = bind.toml(&order, "hmac-sha256", "failover");
    kill_process(bind.pid, Signal::STOP).unwrap();
    let asked = run(&toml, &order).await;
    let sent = send(&toml, &order, Duration::from_secs(2)).await;
    kill_process(bind.pid, Signal::CONT).unwrap();
    assert!(asked.kind() == OutcomeKind::Refused && asked.summary.contains("does not answer"), "{}", asked.summary);
    let sent = sent.unwrap_err();
    assert!(sent.in_doubt && sent.reason.contains("is not known"), "{sent}");
    let again = run(&toml, &order).await;
    println!("{sent}; then {:?}: {}", again.kind(), again.summary);
    assert!(matches!(again.kind(), OutcomeKind::Succeeded | OutcomeKind::NoChange), "{}", again.summary);
    assert_eq!(bind.standing(&order).await, ["192.0.2.54"]);
}
