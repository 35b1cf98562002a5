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
    let DnsProvider::Command(tool) = failover.provider else { panic!() };
    assert_eq!(tool.process, Some(DnsProcess::Run(vec!["/bin/dead".to_owned(), "named".to_owned()])));
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

/// A fail-over by an update, with something in it changed.
fn by_update(change: impl FnOnce(&mut Map<String, Value>)) -> Value {
    let mut with = json!({"provider": "rfc2136", "server": "192.0.2.1", "zone": "Exoticplant.plant.", "record": "WWW",
        "from": "dns1", "to": "dns2", "values": {"dns1": "192.0.2.53", "dns2": "192.0.2.54"}, "key": "Failover."});
    change(with.as_object_mut().unwrap());
    with
}

#[test]
fn an_update_says_what_stands_and_what_comes() {
    let update = |change: fn(&mut Map<String, Value>)| {
        let Parameters::DnsFailover(failover) = parse("dns.failover", &by_update(change)).unwrap() else { panic!() };
        let DnsProvider::Rfc2136(update) = failover.provider else { panic!("{failover:?}") };
        update
    };
    let plain = update(|_| {});
    assert_eq!((plain.server.to_string().as_str(), plain.ttl), ("192.0.2.1:53", 30));
    assert_eq!((plain.owner().as_str(), plain.key.as_str()), ("www.exoticplant.plant", "failover"));
    assert_eq!((plain.from.to_string().as_str(), plain.to.to_string().as_str()), ("192.0.2.53", "192.0.2.54"));
    let six = update(|with| {
        with.insert("type".to_owned(), json!("AAAA"));
        with.insert("values".to_owned(), json!({"dns1": "2001:db8::1", "dns2": "2001:db8::2", "dns3": "2001:db8::3"}));
        with.insert("servers".to_owned(), json!(["dns1", "dns2", "dns3"]));
        with.insert("server".to_owned(), json!("[2001:db8::53]:5353"));
        with.insert("record".to_owned(), json!("@"));
        with.insert("ttl".to_owned(), json!("1m"));
    });
    assert_eq!((six.owner().as_str(), six.ttl, six.to.kind()), ("exoticplant.plant", 60, "AAAA"));
    let alias = update(|with| {
        with.insert("type".to_owned(), json!("CNAME"));
        with.insert("values".to_owned(), json!({"dns1": "A.example.", "dns2": "b.example"}));
    });
    assert_eq!(alias.from, DnsData::Cname("a.example".to_owned()));
}

#[test]
fn an_update_that_compares_nothing_cannot_be_written() {
    for left_out in ["from", "to", "values", "server", "zone", "record", "key"] {
        let with = by_update(|with| drop(with.remove(left_out)));
        let error = parse("dns.failover", &with).unwrap_err();
        assert!(error.contains(&format!("lacks `{left_out}`")), "{error}");
    }
    for (field, value, message) in [
        ("values", json!({"dns1": "192.0.2.53"}), "`values` says nothing of \"dns2\", which is `to`"),
        ("values", json!({"dns2": "192.0.2.53"}), "`values` says nothing of \"dns1\", which is `from`"),
        ("values", json!({}), "`values` says nothing of \"dns1\""),
        ("values", json!({"dns1": "192.0.2.53", "dns2": "192.0.2.53"}), "nobody could tell which is active"),
        ("values", json!({"dns1": "192.0.2.53", "dns2": "2001:db8::1"}), "\"2001:db8::1\" is not an IPv4 address"),
        ("values", json!({"dns1": "192.0.2.53", "dns2": ["192.0.2.54"]}), "`values` is text, not a list"),
        ("values", json!({"-f": "192.0.2.53", "dns2": "192.0.2.54"}), "\"-f\" is not a server name"),
        ("servers", json!(["dns1", "dns2", "dns3"]), "`values` says nothing of the server \"dns3\""),
        ("servers", json!(["dns1"]), "`to` is \"dns2\", which is not one of the servers dns1"),
        ("to", json!("dns1"), "nothing to fail over to"),
        ("to", json!("dns"), "`values` says nothing of \"dns\", which is `to`"),
        ("server", json!("ns1.example"), "not a name server's address"),
        ("server", json!("192.0.2.1:0"), "not a name server's address"),
        ("zone", json!("exotic plant"), "not a domain name"),
        ("record", json!("www.exoticplant.plant"), "written without its zone"),
        ("record", json!("exoticplant.plant"), "written without its zone"),
        ("record", json!("www."), "written without its zone"),
        ("record", json!("*"), "not a domain name"),
        ("record", json!(format!("{0}.{0}.{0}.{0}", "a".repeat(62))), "not a domain name"),
        ("type", json!("TXT"), "\"TXT\" is not one of A, AAAA, CNAME"),
        ("ttl", json!("0s"), "whole seconds, from 1s to 1d"),
        ("ttl", json!("1500ms"), "whole seconds, from 1s to 1d"),
        ("ttl", json!("2d"), "whole seconds, from 1s to 1d"),
        ("key", json!("c2VjcmV0+/=="), "not a domain name"),
        ("tool", json!(["/bin/dnsTool"]), "`tool` is nothing to the provider rfc2136"),
        ("provider", json!("rfc1035"), "\"rfc1035\" is not one of command, rfc2136"),
        ("provider", json!("command"), "`zone` is nothing to the provider command"),
    ] {
        let error = parse("dns.failover", &by_update(|with| drop(with.insert(field.to_owned(), value)))).unwrap_err();
        assert!(error.contains(message), "{field}: {error}");
    }
    let apex = by_update(|with| {
        with.insert("type".to_owned(), json!("CNAME"));
        with.insert("record".to_owned(), json!("@"));
        with.insert("values".to_owned(), json!({"dns1": "a.example", "dns2": "b.example"}));
    });
    assert!(parse("dns.failover", &apex).unwrap_err().contains("the zone itself cannot be a CNAME"));
    let error = parse("dns.failover", &json!({"from": "dns1", "to": "dns2"})).unwrap_err();
    assert!(error.contains("lacks `tool`, which the provider command needs"), "{error}");
}

#[test]
fn deleting_files_needs_an_exact_list_and_nothing_else_does() {
    let listing: Vec<&str> = ACTIONS.iter().filter(|action| lists_objects(action.name)).map(|it| it.name).collect();
    assert_eq!(listing, ["disk.reclaim"]);
    assert!(!lists_objects("disk.format"));
}
