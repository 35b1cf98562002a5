//! The shop's policies, as they are in `deploy/policies`, say what the shop's week says.
#![expect(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic, and reads the repository")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use quell_model::{
    manifest::{self, File, Parsed, placeholders},
    policy::{Manifest, Mode, Policy, TargetRule, Trigger},
};

fn files() -> Vec<File> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policies");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| File {
            name: path.file_name().unwrap().to_string_lossy().into_owned(),
            text: std::fs::read_to_string(&path).unwrap(),
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

fn parse(values: &[(&str, &str)]) -> Vec<Parsed> {
    let values: BTreeMap<_, _> = values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let filled: Vec<File> = files()
        .into_iter()
        .map(|file| File { text: manifest::fill(&file.name, &file.text, &values).unwrap(), ..file })
        .collect();
    manifest::parse(&filled).unwrap_or_else(|errors| {
        panic!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    })
}

fn policy(parsed: &[Parsed], name: &str) -> Policy {
    let found = parsed.iter().find_map(|one| match &one.manifest {
        Manifest::Policy(policy) if policy.name.name.as_str() == name => Some((**policy).clone()),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no policy {name}"))
}

fn when(policy: &Policy) -> (&str, Option<&str>) {
    let Trigger::When { when, clear, .. } = &policy.trigger else { panic!("{} has a timetable", policy.name) };
    (when.text(), clear.as_ref().map(|clear| clear.text()))
}

#[test]
fn they_are_whole() {
    let parsed = parse(&[]);
    let manifests: Vec<_> = parsed.iter().map(|one| &one.manifest).collect();
    assert_eq!(manifest::check_references(&manifests), []);
    for one in &parsed {
        assert_eq!(manifest::from_canonical(&one.canonical).unwrap().digest(), one.manifest.digest());
    }
}

#[test]
fn their_numbers_are_the_shops() {
    let parsed = parse(&[]);
    let of = |name| policy(&parsed, name);
    assert_eq!(when(&of("high-cpu")), ("host.cpu.used_percent > 90", Some("host.cpu.used_percent <= 85")));
    assert_eq!(when(&of("high-memory")), ("host.memory.used_percent > 80", Some("host.memory.used_percent <= 75")));
    assert_eq!(when(&of("high-disk")), ("disk.used_percent > 80", Some("disk.used_percent <= 75")));
    assert_eq!(when(&of("low-storage")), ("disk.used_percent > 80", Some("disk.used_percent <= 75")));
    assert_eq!(of("high-disk").problem, of("low-storage").problem, "one incident per mount");
    let TargetRule::Each { filter, .. } = of("low-storage").target else { panic!() };
    assert_eq!(filter.unwrap().text(), r#"disk.holds("/home/sre/course4/app.log")"#);

    let orders = of("order-backlog");
    assert_eq!(orders.signals["overload"].that.text(), "probe.outstanding.value > 12");
    assert_eq!(orders.guards.calendar.as_ref().unwrap().as_str(), "business-hours");
    assert_eq!(orders.guards.cooldown, Duration::from_secs(3600));
    assert_eq!(orders.tell[0].contact.as_str(), "developers");

    let dns = of("dns-failover");
    let quorums: BTreeSet<_> =
        dns.signals.values().map(|signal| signal.quorum.map(|quorum| (quorum.of, quorum.among))).collect();
    assert_eq!(quorums, BTreeSet::from([Some((2, 3))]));
    assert_eq!(dns.ladder[1].after, Some(Duration::from_secs(300)));
    assert_eq!(dns.ladder[1].verify.as_ref().unwrap().within, Duration::from_secs(30));
    for name in ["low-storage", "order-backlog", "dns-failover", "nightly-rotation"] {
        assert_eq!(of(name).mode, Mode::Enforce, "{name}");
    }
}

#[test]
fn settings_reach_every_place() {
    let parsed = parse(&[
        ("appLog", "/tmp/shop floor/app.log"),
        ("ordersDir", "/tmp/orders"),
        ("dns1Address", "127.0.0.1"),
        ("dns1Port", "5301"),
        ("dnsFailoverAfter", "10s"),
        ("businessDays", "daily"),
        ("opens", "00:00"),
        ("closes", "24:00"),
        ("disks", "disk.holds(\"/tmp/data\")"),
    ]);
    assert!(policy(&parsed, "dns-failover").probes["dns1"].canonical.contains(r#""port":5301"#));
    assert_eq!(policy(&parsed, "low-storage").ladder[0].steps[0].with["path"], "/tmp/shop floor/app.log");
    let Some(Manifest::Calendar(calendar)) =
        parsed.iter().map(|one| &one.manifest).find(|one| one.kind() == "Calendar")
    else {
        panic!()
    };
    assert_eq!(calendar.next_change("2026-11-22T12:00:00Z".parse().unwrap()), None, "always open");
}

#[test]
fn the_table_of_settings_is_true() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/policies.md");
    let guide = std::fs::read_to_string(guide).unwrap();
    let settings: BTreeSet<_> = files().iter().flat_map(|file| placeholders(&file.text)).collect();
    let names: BTreeSet<_> = settings.iter().map(|setting| &setting.name).collect();
    assert_eq!(names.len(), settings.len(), "a setting has two defaults: {settings:#?}");
    for setting in &settings {
        let row = format!("| `{}` | `{}` |", setting.name, setting.default.as_deref().unwrap());
        assert!(guide.contains(&row), "docs/policies.md lacks the row {row}");
    }
    let table = guide.split("## Settings").nth(1).unwrap();
    assert_eq!(table.matches("\n| `").count(), settings.len(), "docs/policies.md has settings that are no more");
}

#[test]
fn the_failover_by_an_update_in_the_comments_is_a_policy() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/policies/dns.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    // As a person edits it: what the other lines stand for goes, and they lose their mark.
    let (mut kept, mut goes) = (Vec::new(), false);
    for line in text.lines() {
        goes = match line.trim() {
            "tool:" | "with:" => true,
            marked if marked.starts_with("#| ") => false,
            _ => goes,
        };
        if !goes && !line.contains("active: { is: probe.tool.active") {
            kept.push(line.replacen("#| ", "", 1));
        }
    }
    let edited = kept.join("\n");
    assert!(!edited.contains("${dnsTool:") && edited.contains("provider: rfc2136"), "{edited}");
    let fill = |file: File| {
        let text = if file.name == "dns.yaml" { &edited } else { &file.text };
        File { text: manifest::fill(&file.name, text, &BTreeMap::new()).unwrap(), name: file.name }
    };
    let files: Vec<File> = files().into_iter().map(fill).collect();
    let parsed = manifest::parse(&files).unwrap_or_else(|errors| panic!("{errors:#?}"));
    let step = &policy(&parsed, "dns-failover").ladder[1].steps[0];
    assert_eq!((&step.with["provider"], &step.with["key"]), (&"rfc2136".into(), &"failover".into()));
}
