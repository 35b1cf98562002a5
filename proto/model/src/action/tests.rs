use serde_json::json;

use super::*;

fn parse(action: &str, with: &Value) -> Result<Parameters, String> {
    Parameters::parse(action, with.as_object().unwrap())
}

#[test]
fn what_is_left_out_has_its_default() {
    let rotate = parse("log.rotate", &json!({"path": "/var/log/app.log"})).unwrap();
    assert_eq!(rotate.resources(), ["path:/var/log/app.log"]);
    let Parameters::LogRotate(rotate) = rotate else { panic!("{rotate:?}") };
    assert_eq!((rotate.method, rotate.compress, rotate.keep), (Method::Rename, Compression::Gzip, None));
    assert_eq!((rotate.min_size, rotate.max_age, rotate.after), (1, None, None));
}

#[test]
fn everything_can_be_said() {
    let rotate = json!({"path": "/var/log/app.log", "method": "copy", "compress": "zstd", "keep": 3, "maxAge": "30d",
        "minSize": "1MiB", "after": {"signal": "HUP", "service": "app.service"}});
    let Ok(Parameters::LogRotate(rotate)) = parse("log.rotate", &rotate) else { panic!() };
    assert_eq!(rotate.max_age, Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(rotate.after, Some(After::Signal { signal: Signal::Hup, service: "app.service".to_owned() }));
    let failover = json!({"tool": ["/bin/dnsTool"], "from": "dns1", "to": "dns2", "servers": ["dns1", "dns2"],
        "process": {"argv": ["/bin/dead", "named"]}});
    let Ok(Parameters::DnsFailover(failover)) = parse("dns.failover", &failover) else { panic!() };
    assert_eq!(failover.process, Some(DnsProcess::Run(vec!["/bin/dead".to_owned(), "named".to_owned()])));
    let exec = json!({"argv": ["/bin/true", "-q"], "user": "sre", "directory": "/tmp", "environment": {"LANG": "C"},
        "outputLimit": "1KiB"});
    let Ok(Parameters::Exec(exec)) = parse("exec", &exec) else { panic!() };
    assert_eq!((exec.output_limit, exec.environment["LANG"].as_str()), (1024, "C"));
    let reclaim = json!({"directory": "/var/log/app", "names": ["*.gz", "app.log.?"], "olderThan": "30d",
        "keepNewest": 7, "maxTotal": "10GiB"});
    let reclaim = parse("disk.reclaim", &reclaim).unwrap();
    assert_eq!(reclaim.resources(), ["path:/var/log/app"]);
    let Parameters::DiskReclaim(reclaim) = reclaim else { panic!("{reclaim:?}") };
    assert_eq!((reclaim.older_than, reclaim.keep_newest), (Duration::from_secs(30 * 86_400), 7));
    assert_eq!(reclaim.max_total, Some(10 << 30));
    assert!(reclaim.means("app.log.1") && reclaim.means("x.gz") && !reclaim.means("app.log"));
    let restart = parse("service.restart", &json!({"service": "orders", "manager": "command"})).unwrap();
    assert_eq!(restart.resources(), ["unit:orders"]);
}

#[test]
fn what_is_wrong_is_said() {
    for (action, with, message) in [
        ("service.restrat", json!({}), "unknown action `service.restrat`: did you mean `service.restart`?"),
        ("service.restart", json!({}), "`with` lacks `service`"),
        ("service.restart", json!({"service": "a; rm"}), "\"a; rm\" is not a name of a service or unit"),
        ("service.restart", json!({"service": "--all"}), "\"--all\" is not a name"),
        ("log.rotate", json!({"path": "var/log/x"}), "\"var/log/x\" is not a path of a file: it begins with /"),
        ("log.rotate", json!({"path": "/var/../etc"}), "no '..'"),
        ("log.rotate", json!({"path": "/x", "keep": 1.5}), "1.5 is not a whole number from 0 to 1000"),
        ("log.rotate", json!({"path": "/x", "minSize": 5}), "it has no unit"),
        (
            "log.rotate",
            json!({"path": "/x", "after": {"signal": "KILL", "service": "a"}}),
            "`signal` is HUP, USR1 or USR2, not \"KILL\"",
        ),
        ("log.rotate", json!({"path": "/x", "after": {"signal": "HUP"}}), "`after` is { signal: HUP, service: NAME }"),
        ("dns.failover", json!({"tool": ["/t"], "from": "dns1", "to": "dns1"}), "nothing to fail over to"),
        ("dns.failover", json!({"tool": ["/t"], "to": "dns1"}), "lacks `from`"),
        ("dns.failover", json!({"tool": ["/t"], "from": "-f", "to": "dns1"}), "\"-f\" is not a server name"),
        ("dns.failover", json!({"tool": [], "from": "dns2", "to": "dns1"}), "`tool` is empty"),
        (
            "dns.failover",
            json!({"tool": ["dnsTool"], "from": "dns2", "to": "dns1"}),
            "by its absolute path: \"dnsTool\"",
        ),
        (
            "dns.failover",
            json!({"tool": ["/t"], "from": "dns2", "to": "dns3", "servers": ["dns1", "dns2"]}),
            "`to` is \"dns3\", which is not one of the servers dns1, dns2",
        ),
        (
            "dns.failover",
            json!({"tool": ["/t"], "from": "dns2", "to": "dns1", "process": {"service": "named", "pidFile": "/run/x"}}),
            "takes only one of service, pidFile",
        ),
        ("disk.reclaim", json!({"directory": "/a", "olderThan": "30d"}), "lacks `names`"),
        ("disk.reclaim", json!({"directory": "/a", "names": ["*"]}), "lacks `olderThan`"),
        ("disk.reclaim", json!({"directory": "/a", "names": [], "olderThan": "30d"}), "that means no file"),
        ("disk.reclaim", json!({"directory": "/a", "names": ["../*"], "olderThan": "30d"}), "not a pattern for names"),
        ("disk.reclaim", json!({"directory": "/", "names": ["*"], "olderThan": "30d"}), "not a path of a file"),
        ("disk.reclaim", json!({"directory": "/a", "names": ["*"], "olderThan": "0s"}), "at least 60s"),
        ("disk.reclaim", json!({"directory": "/a", "names": ["*"], "olderThan": 30}), "has no unit"),
        ("disk.reclaim", json!({"directory": "/a", "names": ["*"], "olderThan": "1d", "maxTotal": "0B"}), "is 0"),
        ("disk.reclaim", json!({"directory": "/a", "names": vec!["*"; 33], "olderThan": "1d"}), "has 33 patterns"),
        (
            "disk.reclaim",
            json!({"directory": "/a", "names": ["*"], "olderThan": "1d", "recursive": true}),
            "unknown field",
        ),
        ("log.rotate", json!({"path": "/"}), "\"/\" is not a path of a file"),
        ("exec", json!({"argv": ["/bin/echo", "x".repeat(70_000)]}), "`argv` is longer than 64 KiB"),
        ("exec", json!({"argv": ["/a\u{0}b"]}), "zero byte"),
        ("exec", json!({"argv": "ls -l"}), "`argv` is text, not a list"),
        ("exec", json!({"argv": ["/bin/ls"], "environment": {"A=B": "x"}}), "not the name of an environment variable"),
        ("exec", json!({"argv": ["/bin/ls"], "outputLimit": "2MiB"}), "at most 8KiB"),
        ("exec", json!({"argv": ["/bin/ls"], "shell": true}), "unknown field `shell`"),
    ] {
        let error = parse(action, &with).unwrap_err();
        assert!(error.contains(message), "{action} {with}: {error}");
    }
}

#[test]
fn deleting_files_needs_an_exact_list_and_nothing_else_does() {
    let listing: Vec<&str> = ACTIONS.iter().filter(|action| lists_objects(action.name)).map(|it| it.name).collect();
    assert_eq!(listing, ["disk.reclaim"]);
    assert!(!lists_objects("disk.format"));
}
