use std::path::Path;

use jiff::Timestamp;
use quell_model::{
    selector::Labels,
    trust::{Denied, LabelChange, TrustRoot},
};

use super::{Beliefs, Error, Refused, Taken};
use crate::execute::tests::office::{self, OFFICE, Person};

const TRUST: &str = "quell-trust";

fn joined() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    Beliefs::establish(data.path(), &OFFICE.root(), &office::labels()).unwrap();
    data
}

fn open(data: &Path) -> Result<Beliefs, Error> {
    Beliefs::open(data, office::host())
}

fn next_root() -> TrustRoot {
    let root = OFFICE.root();
    TrustRoot { version: 2, allowed_signers: root.allowed_signers + &OFFICE.eve.line("quell-policy"), ..root }
}

fn change(version: u64) -> LabelChange {
    LabelChange {
        installation: office::INSTALLATION.to_owned(),
        host: office::host(),
        version,
        labels: Labels::from([("role".to_owned(), "db".to_owned())]),
    }
}

fn take(beliefs: &Beliefs, document: &str, person: &Person, namespace: &str) -> Result<Taken, Refused> {
    let signatures = [person.sign(namespace, document.as_bytes())];
    beliefs.take(document.as_bytes(), &signatures, Timestamp::now())
}

#[test]
fn a_signed_root_is_taken_and_stays_and_a_planted_one_is_not() {
    let data = joined();
    let beliefs = open(data.path()).unwrap();
    let next = next_root();
    let text = next.canonical();
    for (person, namespace) in [(&OFFICE.eve, TRUST), (&OFFICE.noor, TRUST), (&OFFICE.mira, "quell-policy")] {
        let refused = take(&beliefs, &text, person, namespace);
        assert!(matches!(refused, Err(Refused::Denied(Denied::Signatures(_)))), "{refused:?}");
    }
    let skipped = TrustRoot { version: 3, ..next.clone() }.canonical();
    let refused = take(&beliefs, &skipped, &OFFICE.mira, TRUST);
    assert!(matches!(refused, Err(Refused::Denied(Denied::RootVersion { .. }))), "{refused:?}");
    assert_eq!(open(data.path()).unwrap().told().trust_version, 1);

    let before = beliefs.generation();
    assert_eq!(take(&beliefs, &text, &OFFICE.mira, TRUST).unwrap(), Taken::Root(2));
    assert!(beliefs.generation() > before, "what was judged before is judged again");
    assert_eq!(beliefs.view().unwrap().root.root(), &next);
    assert_eq!(open(data.path()).unwrap().view().unwrap().root.root(), &next, "it is durable");
    assert!(take(&beliefs, &text, &OFFICE.mira, TRUST).is_err(), "once");
}

#[test]
fn signed_labels_are_taken_one_after_the_other_by_their_host_alone() {
    let data = joined();
    let beliefs = open(data.path()).unwrap();
    let sign = |change: &LabelChange| take(&beliefs, &change.canonical(), &OFFICE.mira, TRUST);
    let other = LabelChange { host: "web2".parse().unwrap(), ..change(1) };
    assert!(matches!(sign(&other), Err(Refused::OtherHost { .. })));
    assert!(matches!(sign(&change(2)), Err(Refused::LabelVersion { found: 2, current: 0 })));
    let forged = take(&beliefs, &change(1).canonical(), &OFFICE.eve, TRUST);
    assert!(matches!(forged, Err(Refused::Denied(Denied::Signatures(_)))));
    assert_eq!(beliefs.told().labels, office::labels());

    assert_eq!(sign(&change(1)).unwrap(), Taken::Labels(1));
    assert!(matches!(sign(&change(1)), Err(Refused::LabelVersion { found: 1, current: 1 })), "a replay");
    let again = open(data.path()).unwrap();
    assert_eq!((again.told().label_version, again.told().labels), (1, change(1).labels));
    assert!(!again.labelled_by_host());
    again.relabel(office::labels()).unwrap();
    let again = open(data.path()).unwrap();
    assert_eq!((again.told().label_version, again.told().labels), (1, office::labels()));
    assert!(again.labelled_by_host());
}

#[test]
fn a_file_that_is_damaged_or_gone_is_never_a_fresh_beginning() {
    for name in ["trust-root", "labels", "ledger"] {
        let data = joined();
        let path = data.path().join("belief").join(name);
        let whole = std::fs::read(&path).unwrap();
        let flipped: Vec<u8> = whole.iter().map(|byte| if *byte == b'1' { b'2' } else { *byte }).collect();
        for damaged in [&b""[..], &whole[..whole.len() - 1], &whole[1..], &flipped] {
            std::fs::write(&path, damaged).unwrap();
            let error = open(data.path()).unwrap_err().to_string();
            assert!(error.contains(name) && error.contains("join it again"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        if name == "trust-root" {
            let error = open(data.path()).unwrap().view().unwrap_err();
            assert!(matches!(error, Error::Nobody(_)) && error.to_string().contains("join"), "{error}");
        } else {
            assert!(matches!(open(data.path()), Err(Error::Damaged { .. })), "{name}");
        }
    }
}

#[test]
fn what_cannot_be_kept_is_not_believed() {
    let data = joined();
    let beliefs = open(data.path()).unwrap();
    let (place, away) = (data.path().join("belief"), data.path().join("away"));
    std::fs::rename(&place, &away).unwrap();
    let text = next_root().canonical();
    let refused = take(&beliefs, &text, &OFFICE.mira, TRUST);
    assert!(matches!(refused, Err(Refused::Belief(Error::File(_)))), "{refused:?}");
    assert_eq!(beliefs.view().unwrap().root.root().version, 1);
    std::fs::rename(&away, &place).unwrap();
    assert_eq!(open(data.path()).unwrap().told().trust_version, 1);
    assert_eq!(take(&beliefs, &text, &OFFICE.mira, TRUST).unwrap(), Taken::Root(2), "the disk is well again");
}

#[test]
fn joining_again_forgets_nothing_of_the_same_installation() {
    let data = joined();
    let seen = |data: &Path| open(data).unwrap().told().set_versions;
    let beliefs = open(data.path()).unwrap();
    let ledger =
        r#"{"latest":"2026-01-01T00:00:00Z","sets":{"shop":{"version":7,"digest":"DIGEST"}},"oneShots":{},"acts":[]}"#;
    let ledger = ledger.replace("DIGEST", &"ab".repeat(32));
    beliefs
        .note(|held| {
            *held = serde_json::from_str(&ledger).unwrap();
            Ok(true)
        })
        .unwrap()
        .unwrap();
    Beliefs::establish(data.path(), &OFFICE.root(), &office::labels()).unwrap();
    assert_eq!(seen(data.path()).len(), 1);
    let elsewhere = TrustRoot { installation: "other".to_owned(), ..OFFICE.root() };
    Beliefs::establish(data.path(), &elsewhere, &office::labels()).unwrap();
    assert!(seen(data.path()).is_empty(), "another installation counts by itself");
}
