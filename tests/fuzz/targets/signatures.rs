//! Signatures and what is signed: any bytes. Documents have one way of being written, and what nobody signed verifies
//! for nobody.

#![no_main]

use std::sync::LazyLock;

use jiff::{Timestamp, tz::TimeZone};
use libfuzzer_sys::fuzz_target;
use quell_model::{
    audit::SignedHead,
    plan::ExactPlan,
    trust::{
        AllowedSigners, Believed, LabelChange, NAMESPACE_POLICY, NAMESPACE_TRUST, PolicySet, SignedSet, TrustRoot,
        run::Run, set::LONGEST_ONE_SHOT, signature::Signature,
    },
};

/// The people whose signatures count here. Nobody has their private keys: each signed [`SIGNED`] once.
const SIGNERS: &str = include_str!("allowed_signers");
const SIGNED: &[u8] = b"signed once, for the fuzz targets";
/// What none of them signed.
const UNSIGNED: &[u8] = b"never signed";
/// A real signature of one of them over [`SIGNED`], in `quell-policy`.
const REAL: &str = include_str!("../seeds/signatures/ed25519.sig");

const INSTALLATION: &str = "shop";

static ROOT: LazyLock<Believed> = LazyLock::new(|| {
    let root = TrustRoot {
        installation: INSTALLATION.to_owned(),
        version: 1,
        allowed_signers: SIGNERS.to_owned(),
        required: [].into(),
    };
    let root = Believed::new(root).expect("the root is right");
    let signer = root.signers().verify(NAMESPACE_POLICY, SIGNED, REAL, now(), &TimeZone::UTC);
    assert_eq!(signer.expect("the real signature counts").principal, "ann@example.com");
    root
});

/// A fixed moment: what a target finds can be repeated.
fn now() -> Timestamp {
    Timestamp::constant(1_800_000_000, 0)
}

fuzz_target!(|bytes: &[u8]| {
    documents(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    signature(text);
    signers(text);
    if let Ok(head) = text.parse::<SignedHead>() {
        assert_eq!(head.to_string(), text, "a head with two spellings");
    }
});

fn signature(text: &str) {
    let Ok(signature) = Signature::parse(text) else { return };
    let namespace = signature.namespace().to_owned();
    signature.fingerprint();
    let other = signature.verify("another", SIGNED);
    assert!(namespace == "another" || other.is_err(), "a signature for {namespace:?} counts in another namespace");
    for namespace in [&namespace, NAMESPACE_POLICY, NAMESPACE_TRUST] {
        let signer = ROOT.signers().verify(namespace, UNSIGNED, text, now(), &TimeZone::UTC);
        assert!(signer.is_err(), "{signer:?} signed nothing: {text}");
    }
    if ROOT.signers().verify(&namespace, SIGNED, text, now(), &TimeZone::UTC).is_ok() {
        assert_eq!(namespace, NAMESPACE_POLICY, "nobody signed in this namespace: {text}");
    }
}

fn signers(text: &str) {
    let (signers, errors) = AllowedSigners::read(text);
    assert_eq!(AllowedSigners::parse(text).is_ok(), errors.is_empty());
    let lines = text.split('\n').count();
    assert!(signers.lines().len() + errors.len() <= lines, "more lines than there are");
    for error in &errors {
        assert!((1..=lines).contains(&(error.line as usize)) && error.column > 0, "no such place: {error:?}");
    }
    for line in signers.lines() {
        line.valid_before(&TimeZone::UTC);
        line.is_valid(now(), &TimeZone::UTC);
        let person = line.principal().unwrap_or("ann@example.com");
        signers.is_key_of(line.fingerprint(), person);
    }
    signers.people(NAMESPACE_POLICY, now(), &TimeZone::UTC);
    // The real signature counts here only if its key stands on a line, and never for other bytes.
    let _ = signers.verify(NAMESPACE_POLICY, SIGNED, REAL, now(), &TimeZone::UTC);
    assert!(signers.verify(NAMESPACE_POLICY, UNSIGNED, REAL, now(), &TimeZone::UTC).is_err());
}

fn documents(bytes: &[u8]) {
    if let Ok(root) = TrustRoot::parse(bytes) {
        is_canonical(&root.canonical(), bytes);
        let _ = Believed::new(root);
        unsigned(bytes);
    }
    if let Ok(set) = PolicySet::parse(bytes) {
        is_canonical(&set.canonical(), bytes);
        unsigned(bytes);
    }
    if let Ok(run) = Run::parse(bytes) {
        is_canonical(&run.canonical(), bytes);
        let set = PolicySet::of_run(&run, INSTALLATION, now()).expect("a good order makes a good set");
        assert!(set.check().is_ok() && set.expires.duration_since(set.issued) <= LONGEST_ONE_SHOT);
        unsigned(bytes);
    }
    if let Ok(change) = LabelChange::parse(bytes) {
        is_canonical(&change.canonical(), bytes);
        unsigned(bytes);
    }
    if let Ok(plan) = ExactPlan::parse(bytes) {
        is_canonical(&plan.canonical(), bytes);
        plan.steps.iter().for_each(|step| assert!(step.has_parameters(&step.with)));
    }
}

fn is_canonical(canonical: &str, bytes: &[u8]) {
    assert!(canonical.as_bytes() == bytes, "{} was read, which is {canonical}", String::from_utf8_lossy(bytes));
}

/// Whatever a document says, the real signature over something else lets it be nothing.
fn unsigned(bytes: &[u8]) {
    let signatures = vec![REAL.to_owned()];
    for signatures in [Vec::new(), signatures] {
        assert!(TrustRoot::succeeds(&ROOT, bytes, &signatures, now(), &TimeZone::UTC).is_err());
        assert!(LabelChange::verify(&ROOT, bytes, &signatures, now(), &TimeZone::UTC).is_err());
        let set = SignedSet { bytes: bytes.to_vec(), signatures };
        assert!(set.verify(&ROOT, now(), &TimeZone::UTC).is_err());
    }
}
