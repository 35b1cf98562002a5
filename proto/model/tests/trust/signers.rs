//! `allowed_signers`, where a test against `ssh-keygen` says too little: places of errors, and who is named.

use jiff::{Timestamp, tz::TimeZone};
use quell_model::trust::{AllowedSigners, Refused};

use super::world::{Person, ann, bob, eve};

fn verify(text: &str, by: &Person, namespace: &str, at: &str) -> Result<String, Refused> {
    let signers = AllowedSigners::parse(text).unwrap();
    let signature = by.sign(namespace, b"message");
    let at: Timestamp = at.parse().unwrap();
    signers.verify(namespace, b"message", &signature, at, &TimeZone::UTC).map(|signer| signer.principal)
}

const NOON: &str = "2026-11-27T12:00:00Z";

#[test]
fn the_first_name_of_the_first_line_that_fits_is_named() {
    let named = |principals: &str| verify(&ann().line("").replacen("ann", principals, 1), &ann(), "x", NOON);
    assert_eq!(named("ann").as_deref(), Ok("ann"));
    assert_eq!(named("*@shop,ann@shop,ann").as_deref(), Ok("ann@shop"));
    assert_eq!(named("!ann,ann,ann@shop").as_deref(), Ok("ann@shop"));
    assert_eq!(named("\"ann lee\"").as_deref(), Ok("ann lee"));
    assert!(matches!(named("*@shop,!eve"), Err(Refused::Nameless { line: 1, .. })));
    let two = ann().line("namespaces=\"y\"") + &ann().line("").replacen("ann", "annie", 1);
    assert_eq!(verify(&two, &ann(), "x", NOON).as_deref(), Ok("annie"));
    assert_eq!(verify(&two, &ann(), "y", NOON).as_deref(), Ok("ann"));
}

#[test]
fn a_refusal_names_its_reason() {
    let text = bob().line("") + &ann().line("namespaces=\"quell-*,!quell-trust\",valid-before=\"20261201Z\"");
    assert_eq!(verify(&text, &ann(), "quell-policy", NOON).as_deref(), Ok("ann"));
    assert!(matches!(verify(&text, &ann(), "quell-trust", NOON), Err(Refused::Namespace { line: 2, .. })));
    let late = verify(&text, &ann(), "quell-policy", "2026-12-01T00:00:01Z");
    assert!(matches!(late, Err(Refused::Time { line: 2, .. })));
    assert!(matches!(verify(&text, &eve(), "quell-policy", NOON), Err(Refused::UnknownKey(_))));
    let signers = AllowedSigners::parse(&text).unwrap();
    let signature = bob().sign("x", b"message");
    let at = NOON.parse().unwrap();
    assert_eq!(signers.verify_as("bob", "x", b"message", &signature, at, &TimeZone::UTC), Ok(()));
    let other = signers.verify_as("ann", "x", b"message", &signature, at, &TimeZone::UTC);
    assert!(matches!(other, Err(Refused::Principal { .. })));
    let changed = signers.verify("x", b"other", &signature, at, &TimeZone::UTC);
    assert!(matches!(changed, Err(Refused::Signature { key: Some(_), .. })));
}

#[test]
fn every_error_of_a_file_has_its_place() {
    let key = ann().line("");
    let key = key.strip_prefix("ann  ").unwrap().trim_end();
    let text = [
        "# people".to_owned(),
        format!("ann {key}"),
        "bob".to_owned(),
        format!("\"cat {key}"),
        format!("dan cert-authority {key}"),
        format!("eve namespaces=\"a\",valid-after=\"2026\" {key}"),
        format!("fay Namespaces=\"a\",bogus {key}"),
        format!("gus {}", key.replace("AAAA", "AAAB")),
        format!("hal namespaces=\"a {key}"),
        format!("ivy valid-after=\"20260202\",valid-before=\"20260201\" {key}"),
        "jon ssh-dss AAAAB3NzaC1kc3M= jon".to_owned(),
        format!("kim namespaces=\"a\",namespaces=\"b\" {key}"),
    ]
    .join("\r\n");
    let (signers, errors) = AllowedSigners::read(&text);
    assert_eq!(signers.lines().len(), 1);
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for (error, wanted) in shown.iter().zip([
        "3:5: there is no key on the line",
        "4:1: a quote of the principals is never closed",
        "5:5: `cert-authority` is not taken",
        "6:20: `valid-after` is YYYYMMDD",
        "7:20: not an option",
        "8:5: the ssh-ed25519 key cannot be read",
        "9:5: a quote of the options is never closed",
        "10:5: `valid-before` is not later",
        "11:5: keys of kind ssh-dss are not taken",
        "12:20: `namespaces` is there twice",
    ]) {
        assert!(error.starts_with(wanted), "{error}\n{wanted}");
    }
    assert_eq!(shown.len(), 10, "{shown:#?}");
    assert!(AllowedSigners::parse(&text).is_err());
}
