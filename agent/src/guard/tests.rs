use std::{path::Path, time::Duration};

use quell_wire::v1;

use super::{Surroundings, check_order, permitted};
use crate::{actions::Refusal, config::Config};

fn config(allow: &str) -> Config {
    Config::parse(&format!("[allow]\n{allow}"), Path::new("agent.toml")).unwrap()
}

fn command(action: &str, parameters: &str) -> v1::Command {
    v1::Command {
        command_id: "cmd-1".to_owned(),
        idempotency_key: "key".to_owned(),
        fence: 5,
        start_within_ms: 10_000,
        timeout_ms: 10_000,
        action: action.to_owned(),
        parameters: parameters.as_bytes().to_vec(),
        ..v1::Command::default()
    }
}

fn restart() -> v1::Command {
    command("service.restart", r#"{"service":"orders"}"#)
}

/// The host's own rules, signatures aside: those stand in a suite of their own.
fn admit(command: &v1::Command, config: &Config, fence: u64) -> Result<(), Refusal> {
    check_order(command, fence)?;
    permitted(command, config).map(drop)
}

#[test]
fn the_first_no_is_the_answer_and_names_the_line_to_add() {
    let everything = "actions = [\"service.restart\", \"exec\"]\nservices = [\"orders\"]\nprograms = [\"/bin/true\"]";
    assert!(admit(&restart(), &config(everything), 5).is_ok());
    let cases: [(&str, v1::Command, u64, &str, &str); 9] = [
        ("", restart(), 5, "does not allow", "actions = [\"service.restart\"]"),
        ("actions = [\"service.restart\"]", restart(), 5, "does not allow", "services = [\"orders\"]"),
        (everything, restart(), 6, "superseded", ""),
        (everything, v1::Command { idempotency_key: String::new(), ..restart() }, 0, "idempotency", ""),
        (everything, v1::Command { timeout_ms: 0, ..restart() }, 0, "how long", ""),
        (everything, command("service.explode", "{}"), 0, "knows no action", ""),
        (
            everything,
            command("service.restart", r#"{"service":"orders","force":true}"#),
            0,
            "unknown field `force`",
            "",
        ),
        (everything, command("exec", r#"{"argv":["/bin/false"]}"#), 0, "does not allow", "programs = [\"/bin/false\"]"),
        (everything, v1::Command { yield_to: vec!["the-moon".to_owned()], ..restart() }, 0, "the-moon", ""),
    ];
    for (allow, command, fence, reason, remedy) in cases {
        let refusal = admit(&command, &config(allow), fence).expect_err(reason);
        assert!(refusal.reason.contains(reason), "{:?} lacks {reason:?}", refusal.reason);
        assert_eq!(refusal.remedy, remedy);
    }
}

#[test]
fn parameters_that_are_not_an_object_are_refused_and_nothing_panics() {
    let config = config("actions = [\"exec\", \"service.restart\", \"log.rotate\", \"dns.failover\"]");
    let wrong = ["", "null", "[]", "{", "{\"argv\":\"ls\"}", "{\"service\":7}", "\u{0}", "{\"service\":\"../x\"}"];
    for parameters in wrong {
        for action in crate::actions::names() {
            assert!(admit(&command(action, parameters), &config, 0).is_err(), "{action} {parameters}");
        }
    }
}

#[test]
fn orders_give_way_to_package_managers_boots_and_people() {
    let directory = tempfile::tempdir().unwrap();
    let lock = directory.path().join("lock");
    let uptime = directory.path().join("uptime");
    let terminals = directory.path().join("pts");
    std::fs::create_dir(&terminals).unwrap();
    std::fs::write(&lock, "").unwrap();
    std::fs::write(&uptime, "299.5 100.0\n").unwrap();
    std::fs::write(terminals.join("ptmx"), "").unwrap();
    let signs =
        Surroundings { package_locks: vec![lock.clone()], uptime: uptime.clone(), terminals: terminals.clone() };
    let gives_way = |word: &str| signs.gives_way(&[word.to_owned()]);

    assert!(gives_way("boot 5m").unwrap().contains("299 s"));
    std::fs::write(&uptime, "300.0 100.0\n").unwrap();
    assert_eq!(gives_way("boot 5m"), None);

    assert_eq!(gives_way("human-session"), None, "ptmx is nobody's terminal");
    std::fs::write(terminals.join("0"), "").unwrap();
    assert!(gives_way("human-session").unwrap().contains("terminal"));
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    let file = std::fs::File::options().write(true).open(terminals.join("0")).unwrap();
    file.set_times(std::fs::FileTimes::new().set_accessed(long_ago)).unwrap();
    assert_eq!(gives_way("human-session"), None, "he has gone for lunch");

    assert_eq!(gives_way("package-lock"), None);
    let script = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f,fcntl.LOCK_EX); print('locked',flush=True); sys.stdin.read()";
    let Ok(mut holder) = std::process::Command::new("python3")
        .args(["-c", script, lock.to_str().unwrap()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
    else {
        println!("without python3 nobody can hold a lock for this test");
        return;
    };
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.take().unwrap()), &mut line).unwrap();
    assert!(gives_way("package-lock").unwrap().contains("package manager"));
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(gives_way("package-lock"), None);
}
