//! Manifests that are wrong: every error at once, with its place, and nothing applied.

use std::{fs, path::Path, time::Duration};

use quell_link::{profile::Profile, rpc::operator_service_client::OperatorServiceClient};
use quell_tests::fleet::Fleet;
use quell_wire::v1::{ApplyRequest, ManifestFile};

use crate::call::{CHANGES, Ended, INVALID, NOT_FOUND, logs_are_calm, quell, standing, text};

const WRONG: &str = include_str!("wrong.yaml");

/// The places of `wrong.yaml` at which something is wrong, with what must be said there.
const FAULTS: [(&str, &[&str]); 10] = [
    ("5:3", &["descripton", "did you mean `description`"]),
    ("9:57", &["regular expression", "smaller repetitions"]),
    ("10:48", &["not a regular expression", "unclosed group"]),
    ("10:67", &["5 is not a duration", "no unit", "write 5s"]),
    ("12:25", &["logMatch", "no field matchs", "did you mean matches"]),
    ("13:39", &["not a CEL expression"]),
    ("14:23", &["must be true or false", "compare it"]),
    ("15:19", &["nobody"]),
    ("16:27", &["no signal is called nope"]),
    ("21:7", &["not YAML", "unclosed bracket"]),
];

/// Nothing is wrong with it: the pattern that explodes elsewhere is linear here.
const GOOD: &str = "\
apiVersion: quell/v1
kind: Policy
metadata: { namespace: plants, name: fine }
spec:
  description: A pattern that would take for ever where expressions backtrack.
  hosts: { matchLabels: { role: orders } }
  probes:
    log: { logMatch: { path: /var/log/app.log, pattern: '(a+)+$' }, every: 5s }
  trigger: { when: probe.log.matches > 0 }
";

#[track_caller]
fn names_every_fault(ended: &Ended, file: &Path) {
    ended.ends(INVALID, &[]);
    let lines: Vec<&str> = ended.err.lines().collect();
    assert_eq!(lines.len(), FAULTS.len(), "not {} errors: {ended:#?}", FAULTS.len());
    for (line, (place, words)) in lines.iter().zip(FAULTS) {
        let rest = line.strip_prefix(&format!("{}:{place}", file.display()));
        let rest = rest.unwrap_or_else(|| panic!("{line:?} is not at {place}"));
        for word in words {
            assert!(rest.contains(word), "nothing of {word:?} in {line:?}");
        }
        let column = line[file.to_str().unwrap().len()..].split(':').nth(2).unwrap();
        assert!(column.parse::<u32>().is_ok(), "no file:line:column: {line:?}");
    }
}

#[test]
fn every_error_at_once_with_its_place_and_nothing_applied() {
    let scratch = tempfile::tempdir().unwrap();
    let fleet = Fleet::start(&scratch.path().join("quell")).unwrap();
    let before = (standing(&fleet), fleet.quell(&["events", "-o", "json"]).unwrap());
    let folder = scratch.path().join("manifests");
    fs::create_dir(&folder).unwrap();
    let (wrong, good) = (folder.join("wrong.yaml"), folder.join("good.yaml"));
    fs::write(&wrong, WRONG).unwrap();
    fs::write(&good, GOOD).unwrap();
    let call = |arguments: &[&str]| quell(fleet.profile(), arguments);

    for verb in [&["check"][..], &["apply"], &["apply", "--dry-run"], &["diff"]] {
        names_every_fault(&call(&[verb, &["-f", text(&folder)]].concat()), &wrong);
    }
    fs::remove_file(&wrong).unwrap();
    one_by_one(scratch.path(), &call);
    call(&["apply", "-f", text(&good), "--set", "ulr=x"]).says_no(INVALID, &["ulr"]);
    let missing = folder.join("missing.yaml");
    call(&["apply", "-f", text(&missing)]).says_no(NOT_FOUND, &[text(&missing), "No such file"]);
    let empty = scratch.path().join("empty");
    fs::create_dir(&empty).unwrap();
    call(&["apply", "-f", text(&empty)]).says_no(INVALID, &[text(&empty), "no *.yaml"]);
    let large = scratch.path().join("large.yaml");
    fs::write(&large, "#".repeat(2 << 20)).unwrap();
    call(&["apply", "-f", text(&large)]).says_no(INVALID, &[text(&large), "1 MiB"]);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(the_controller_checks_by_itself(fleet.profile()));
    assert_eq!((standing(&fleet), fleet.quell(&["events", "-o", "json"]).unwrap()), before);

    assert_eq!(call(&["diff", "-f", text(&good), "--exit-code"]).code, Some(CHANGES));
    let begun = std::time::Instant::now();
    let said = call(&["apply", "-f", text(&good)]).done();
    assert!(said.lines().last() == Some("ok"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(5), "the pattern took {:?}", begun.elapsed());
    assert_eq!(call(&["diff", "-f", text(&good), "--exit-code"]).code, Some(0));
    assert_eq!(fleet.quell(&["get", "policies", "-o", "name"]).unwrap(), "plants/fine\n");
    logs_are_calm(&scratch.path().join("quell"));
}

/// What YAML would let pass, each alone in a file.
fn one_by_one(scratch: &Path, call: &dyn Fn(&[&str]) -> Ended) {
    let file = scratch.join("one.yaml");
    let deep = format!("spec: {}", "[".repeat(20_000));
    let nested = "probe.log.matches > 0 || ".repeat(20_000) + "true";
    let cases: [(&str, &str, &str, &[&str]); 9] = [
        ("description: A pattern", "description: &a A pattern", ":5:", &["anchor"]),
        ("hosts: { matchLabels: { role: orders } }", "hosts: *a", ":6:", &["alias"]),
        ("hosts: { matchLabels: { role: orders } }", "hosts: {}", ":6:", &[]),
        ("every: 5s", "every: 5s, every: 6s", ":8:", &["every"]),
        ("trigger: {", "mode: yes\n  trigger: {", ":9:", &["mode"]),
        ("kind: Policy", "kind: Polcy", ":2:", &["Polcy", "Policy"]),
        ("quell/v1", "quell/v9", ":1:", &["quell/v9", "quell/v1"]),
        ("spec:", &deep, ":", &[]),
        ("probe.log.matches > 0 }", &nested, ":9:", &[]),
    ];
    for (old, new, place, words) in cases {
        let text_of_it = GOOD.replacen(old, new, 1);
        assert_ne!(text_of_it, GOOD, "{old:?} is not in the manifest");
        fs::write(&file, text_of_it).unwrap();
        let ended = call(&["apply", "-f", text(&file)]);
        ended.ends(INVALID, words);
        let name = format!("{}{place}", file.display());
        assert!(ended.err.starts_with(&name), "not at {place} for {:.80}: {:.500}", new, ended.err);
    }
}

/// A program that does not check first gets the same answer, and as little is applied.
async fn the_controller_checks_by_itself(profile: &Path) {
    let channel = Profile::load(profile).unwrap().connect().await.unwrap();
    let files = [("good.yaml", GOOD), ("wrong.yaml", WRONG)]
        .map(|(name, text)| ManifestFile { name: name.to_owned(), text: text.to_owned() })
        .to_vec();
    let request = ApplyRequest { files, ..ApplyRequest::default() };
    let answer = OperatorServiceClient::new(channel).apply(request).await.unwrap().into_inner();
    assert!(answer.changes.is_empty(), "something was applied: {answer:?}");
    let places: Vec<String> =
        answer.errors.iter().map(|error| format!("{}:{}:{}", error.file, error.line, error.column)).collect();
    for (place, _) in FAULTS {
        let place = format!("wrong.yaml:{place}");
        assert!(places.iter().any(|found| found.starts_with(&place)), "nothing at {place}: {answer:?}");
    }
}
