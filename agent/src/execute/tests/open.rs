//! There is no switch that turns verification off: a host whose `agent.toml` says everything that it can say, as far open as
//! it goes, carries out nothing that people did not sign.

use super::{Agent, office, shell};
use crate::config::{Allow, Config, Service};

/// Every setting there is.
const OPEN: &str = r#"
    [allow]
    actions = ["exec", "service.restart", "service.reload", "log.rotate", "disk.reclaim", "dns.failover"]
    services = ["orders", "sshd"]
    paths = ["/srv", "/var", "/tmp", "/home"]
    reclaim = ["/srv", "/var", "/tmp", "/home"]
    programs = ["/bin/sh"]
    addresses = ["0.0.0.0/0", "::/0"]
    environment = ["PATH", "LD_PRELOAD"]
    [[service]]
    name = "orders"
    manager = "command"
    start = ["/bin/sleep", "300"]
    stop = ["/bin/true"]
    status = ["/bin/true"]
    pid_file = "/run/orders.pid"
    directory = "/"
    user = "root"
    log = "/tmp/orders.log"
    environment = { PATH = "/bin" }
    stop_timeout = "1s"
    [[service]]
    name = "sshd"
    manager = "systemd"
    unit = "ssh.service"
    [[mount]]
    path = "/srv"
    capacity = "1GiB"
    [[dns]]
    server = "192.0.2.53"
    zone = "exoticplant.plant"
    record = "www"
    key = "failover"
    secret_file = "/etc/quell/tsig"
"#;

/// Whether every setting is there and open. A new one does not compile until somebody has opened it above.
fn is_open(config: &Config) -> bool {
    let Config { allow, services, mounts, records } = config;
    let Allow { actions, services: named, paths, reclaim, programs, addresses, environment } = allow;
    let lists = [actions.len(), named.len(), paths.len(), reclaim.len(), programs.len(), addresses.len()];
    let others = [environment.len(), mounts.len(), records.len()];
    let said: Vec<_> = services.iter().map(said).collect();
    lists.iter().chain(&others).all(|length| *length > 0) && (0..9).all(|setting| said.iter().any(|said| said[setting]))
}

/// Which of its settings a service says, of those that may be left out.
fn said(service: &Service) -> [bool; 9] {
    let Service {
        name: _,
        manager: _,
        unit,
        start,
        stop,
        status,
        pid_file,
        directory,
        user,
        log,
        environment,
        stop_timeout: _,
    } = service;
    [
        unit.is_some(),
        !start.is_empty(),
        !stop.is_empty(),
        !status.is_empty(),
        pid_file.is_some(),
        directory.is_some(),
        user.is_some(),
        log.is_some(),
        !environment.is_empty(),
    ]
}

#[tokio::test]
async fn a_host_that_allows_everything_does_nothing_that_nobody_signed() {
    let data = tempfile::tempdir().unwrap();
    assert!(is_open(&Config::parse(OPEN, std::path::Path::new("agent.toml")).unwrap()));
    let mut agent = Agent::start(data.path(), OPEN).await;
    let mark = data.path().join("mark");
    let touch = |key: &str| shell(key, &format!("touch {}", mark.display()));
    let by_nobody = super::v1::Command { authority: None, ..office::signed(touch("nobody")) };
    let mut by_a_stranger = office::signed(touch("stranger"));
    if let Some(authority) = &mut by_a_stranger.authority {
        authority.signatures = vec![office::OFFICE.eve.sign("quell-policy", &authority.policy_set)];
    }
    for (command, reason) in [(by_nobody, "nobody signed it"), (by_a_stranger, "not in allowed_signers")] {
        let outcome = agent.give(command).await;
        assert_eq!(outcome.kind(), super::OutcomeKind::Refused, "{outcome:?}");
        assert!(outcome.summary.contains(reason), "{}", outcome.summary);
        assert!(!mark.exists());
    }
    agent.run(touch("signed")).await;
    assert!(mark.exists(), "it allows what was signed");
}
