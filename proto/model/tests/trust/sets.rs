//! Sets: their rules, and what they may do by who signed them.

use jiff::{SignedDuration, tz::TimeZone};
use quell_model::trust::{Authority, Denied, NAMESPACE_OBSERVE, NAMESPACE_POLICY, PolicySet};

use super::world::{Case, ann, believed, bob, cat, name};

#[test]
fn who_signs_decides_what_a_set_may_do() {
    let by = |signed_by| Case { signed_by, ..Case::new() }.authority();
    assert_eq!(by(vec![(ann(), NAMESPACE_POLICY)]), Ok(Authority::Full));
    assert_eq!(by(vec![(cat(), NAMESPACE_OBSERVE)]), Ok(Authority::Observe));
    assert_eq!(by(vec![(cat(), NAMESPACE_OBSERVE), (ann(), NAMESPACE_POLICY)]), Ok(Authority::Full));
    let two = |signed_by| {
        let mut case = Case { signed_by, ..Case::new() };
        case.root.required = [(name("plants"), 2)].into();
        case.authority()
    };
    assert!(matches!(two(vec![(cat(), NAMESPACE_OBSERVE)]), Err(Denied::Signatures(_))));
    assert_eq!(two(vec![(cat(), NAMESPACE_OBSERVE), (bob(), NAMESPACE_POLICY)]), Ok(Authority::Observe));
    assert_eq!(two(vec![(ann(), NAMESPACE_POLICY), (bob(), NAMESPACE_POLICY)]), Ok(Authority::Full));
}

#[test]
fn a_denial_says_who_signed_and_why_others_do_not_count() {
    let mut case = Case::new();
    case.root.required = [(name("plants"), 3)].into();
    case.signed_by = vec![(ann(), NAMESPACE_POLICY), (cat(), NAMESPACE_POLICY)];
    let denied = case.authority().unwrap_err().to_string();
    assert!(
        denied.starts_with("not signed: 1 of the 3 people that it takes signed in quell-policy (ann); key "),
        "{denied}"
    );
    assert!(denied.contains("may not sign in namespace \"quell-policy\": line 3 of allowed_signers"), "{denied}");
}

#[test]
fn verify_looks_at_installation_and_time() {
    let case = Case::new();
    let verify = |case: &Case| case.evidence().set.verify(&believed(&case.root), case.now, &TimeZone::UTC);
    let verified = verify(&case).unwrap();
    assert_eq!((&verified.set, verified.digest), (&case.set, case.set.digest()));
    let mut other = case.clone();
    other.set.installation = "other".to_owned();
    assert!(matches!(verify(&other), Err(Denied::Installation { .. })));
    let late = Case { now: case.set.expires, ..case };
    assert!(matches!(verify(&late), Err(Denied::Expired { .. })));
}

#[test]
fn the_rules_of_a_set_hold() {
    let good = Case::new().set;
    let days = |days: i64| SignedDuration::from_hours(24 * days);
    let lasting = PolicySet { expires: good.issued + days(400), ..good.clone() };
    let once = Case::order(|_| {}).set;
    let day = PolicySet { expires: once.issued + days(1), ..once.clone() };
    for set in [&good, &lasting, &once, &day] {
        assert_eq!(PolicySet::parse(set.canonical().as_bytes()).as_ref(), Ok(set));
    }
    let second = SignedDuration::from_secs(1);
    let digest = *once.manifests.values().next().unwrap();
    let two = [("Run/a".to_owned(), digest), ("Run/b".to_owned(), digest)].into();
    for wrong in [
        PolicySet { installation: String::new(), ..good.clone() },
        PolicySet { version: 0, ..good.clone() },
        PolicySet { version: 1 << 53, ..good.clone() },
        PolicySet { expires: good.issued, ..good.clone() },
        PolicySet { expires: lasting.expires + second, ..good.clone() },
        PolicySet { manifests: [("web".to_owned(), digest)].into(), ..good.clone() },
        PolicySet { manifests: [("Policy/../x".to_owned(), digest)].into(), ..good.clone() },
        PolicySet { version: 1, ..once.clone() },
        PolicySet { expires: day.expires + second, ..once.clone() },
        PolicySet { manifests: two, ..once.clone() },
        PolicySet { manifests: [].into(), ..once.clone() },
        PolicySet { one_shot: Some(String::new()), ..once.clone() },
        PolicySet { one_shot: Some("a b".to_owned()), ..once.clone() },
        PolicySet { one_shot: Some("a".repeat(65)), ..once.clone() },
    ] {
        assert!(PolicySet::parse(wrong.canonical().as_bytes()).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_set_is_written_in_one_way_only() {
    let bytes = Case::new().set.canonical();
    let upper = bytes.replacen("\"Policy/web\":\"", "\"Policy/web\":\"A", 1);
    for wrong in [
        format!("{bytes}\n"),
        bytes.replacen('{', "{ ", 1),
        bytes.replace("00:00Z", "00:00.0Z"),
        bytes.replace("T00:00:00Z", "T01:00:00+01:00"),
        bytes.replace("\"oneShot\":null,", ""),
        bytes.replacen('{', "{\"a\":1,", 1),
        bytes.to_uppercase(),
        upper,
    ] {
        assert_ne!(wrong, bytes);
        assert!(PolicySet::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
}
