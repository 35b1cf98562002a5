//! Changes of trust.

use jiff::{Timestamp, tz::TimeZone};
use quell_model::trust::{Denied, NAMESPACE_POLICY, NAMESPACE_TRUST, TrustRoot};

use super::{
    commands::denied as denied_command,
    world::{Person, ann, believed, bob, cat, eve, name, root},
};

macro_rules! denied {
    ($result:expr, $pattern:pat) => {{
        let result = $result;
        assert!(matches!(result, Err($pattern)), "{result:?}");
    }};
}

fn now() -> Timestamp {
    super::world::NOW.parse().unwrap()
}

fn next() -> TrustRoot {
    TrustRoot { version: 4, ..root() }
}

fn succeed(current: &TrustRoot, next: &TrustRoot, by: &[Person]) -> Result<TrustRoot, Denied> {
    let bytes = next.canonical();
    let signatures: Vec<_> = by.iter().map(|person| person.sign(NAMESPACE_TRUST, bytes.as_bytes())).collect();
    TrustRoot::succeeds(&believed(current), bytes.as_bytes(), &signatures, now(), &TimeZone::UTC)
}

#[test]
fn a_change_is_signed_by_those_who_are_trusted_now() {
    assert_eq!(succeed(&root(), &next(), &[ann()]), Ok(next()));
    denied!(succeed(&root(), &next(), &[]), Denied::Signatures(_));
    denied!(succeed(&root(), &next(), &[bob()]), Denied::Signatures(_));
    denied!(succeed(&root(), &next(), &[eve()]), Denied::Signatures(_));
    // A signer who would be trusted only afterwards: planting one.
    let planted = TrustRoot { allowed_signers: root().allowed_signers + &eve().line(""), ..next() };
    denied!(succeed(&root(), &planted, &[eve()]), Denied::Signatures(_));
    succeed(&root(), &planted, &[ann()]).unwrap();
    let bytes = next().canonical();
    let for_policy = [ann().sign(NAMESPACE_POLICY, bytes.as_bytes())];
    let result = TrustRoot::succeeds(&believed(&root()), bytes.as_bytes(), &for_policy, now(), &TimeZone::UTC);
    denied!(result, Denied::Signatures(_));
}

#[test]
fn the_current_root_says_how_many_it_takes() {
    let two = [(name("trust"), 2)].into();
    let strict = TrustRoot { required: two, allowed_signers: root().allowed_signers + &eve().line(""), ..root() };
    denied!(succeed(&strict, &next(), &[ann()]), Denied::Signatures(_));
    denied!(succeed(&strict, &next(), &[ann(), ann()]), Denied::Signatures(_));
    succeed(&strict, &next(), &[ann(), eve()]).unwrap();
}

#[test]
fn versions_follow_each_other_and_installations_do_not_mix() {
    for version in [2, 3, 5] {
        let other = TrustRoot { version, ..next() };
        denied!(succeed(&root(), &other, &[ann()]), Denied::RootVersion { current: 3, .. });
    }
    let other = TrustRoot { installation: "other".to_owned(), ..next() };
    denied!(succeed(&root(), &other, &[ann()]), Denied::Installation { what: "trust root", .. });
}

#[test]
fn the_last_key_is_not_thrown_away() {
    let without_ann = TrustRoot { allowed_signers: bob().line("namespaces=\"quell-policy\""), ..next() };
    denied!(succeed(&root(), &without_ann, &[ann()]), Denied::Unchangeable { able: 0, needed: 1 });
    let expired = TrustRoot { allowed_signers: ann().line("valid-before=\"20260101Z\""), ..next() };
    denied!(succeed(&root(), &expired, &[ann()]), Denied::Unchangeable { .. });
    let pattern = TrustRoot { allowed_signers: ann().line("").replacen("ann", "*", 1), ..next() };
    denied!(succeed(&root(), &pattern, &[ann()]), Denied::Unchangeable { .. });
    let two = TrustRoot { required: [(name("trust"), 2)].into(), ..next() };
    denied!(succeed(&root(), &two, &[ann()]), Denied::Unchangeable { able: 1, needed: 2 });
}

#[test]
fn a_root_is_read_strictly() {
    let bytes = next().canonical();
    assert_eq!(TrustRoot::parse(bytes.as_bytes()), Ok(next()));
    let long = format!("{bytes} ");
    let unknown = bytes.replacen('{', "{\"a\":1,", 1);
    let zero = bytes.replace("\"required\":{}", "\"required\":{\"plants\":0}");
    let twice = bytes.replace("\"version\":4", "\"version\":3,\"version\":4");
    for wrong in
        [long, unknown, zero, twice, bytes.replace("4}", "4.0}"), bytes.replace("\"version\":4", "\"version\":0")]
    {
        assert!(TrustRoot::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let faulty = TrustRoot { allowed_signers: "ann nonsense\n".to_owned(), ..next() };
    denied!(succeed(&root(), &faulty, &[ann()]), Denied::Malformed(_));
}

#[test]
fn too_many_signatures_are_not_looked_at() {
    let many = vec![cat(); 65];
    denied!(succeed(&root(), &next(), &many), Denied::TooMany { what: "signatures", .. });
    let mut case = super::world::Case::new();
    case.signed_by = vec![(ann(), NAMESPACE_POLICY); 65];
    denied_command!(case.authorize(), Denied::TooMany { what: "signatures", .. });
}
