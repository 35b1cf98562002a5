//! Properties: a byte that is changed anywhere in the evidence, and nothing is let through.

use proptest::prelude::*;

use quell_model::trust::signature::Signature;

use super::world::{Case, Evidence, ann};

fn careful() -> Case {
    let votes = vec![(ann(), "compliance", "now"), (super::world::bob(), "compliance", "now")];
    Case { votes, ..Case::new() }.rung("careful")
}

/// Changes a bit of a text, and leaves it a text.
fn flip(text: &mut String, at: usize, bit: u8) -> bool {
    let at = at % text.len();
    let mut bytes = std::mem::take(text).into_bytes();
    let before = bytes[at];
    // White space means nothing in armour.
    if before.is_ascii_whitespace() {
        *text = String::from_utf8(bytes).unwrap();
        return false;
    }
    bytes[at] ^= 1 << (bit % 7);
    match String::from_utf8(bytes) {
        Ok(changed) => {
            *text = changed;
            true
        }
        Err(error) => {
            let mut bytes = error.into_bytes();
            bytes[at] = before;
            *text = String::from_utf8(bytes).unwrap();
            false
        }
    }
}

fn changed(change: impl FnOnce(&mut Evidence) -> bool) -> Result<(), TestCaseError> {
    let case = careful();
    let mut evidence = case.evidence();
    let hash = evidence.plan_hash;
    let votes: Vec<_> = case.votes.iter().map(|(who, role, choice)| who.vote(role, choice, hash)).collect();
    prop_assert!(case.authorize_with(&evidence, &votes).is_ok());
    if change(&mut evidence) {
        prop_assert!(case.authorize_with(&evidence, &votes).is_err());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bit_of_a_set_changes_unnoticed(at in any::<usize>(), bit in 0_u8..8) {
        changed(|evidence| {
            let at = at % evidence.set.bytes.len();
            evidence.set.bytes[at] ^= 1 << bit;
            true
        })?;
    }

    #[test]
    fn no_bit_of_a_signature_changes_unnoticed(at in any::<usize>(), bit in 0_u8..7) {
        changed(|evidence| flip(&mut evidence.set.signatures[0], at, bit))?;
    }

    #[test]
    fn no_bit_of_a_plan_changes_unnoticed(at in any::<usize>(), bit in 0_u8..8, rehash in any::<bool>()) {
        changed(|evidence| {
            let at = at % evidence.plan.len();
            evidence.plan[at] ^= 1 << bit;
            if rehash {
                evidence.plan_hash = quell_model::digest::Digest::of(&evidence.plan);
            }
            true
        })?;
    }

    #[test]
    fn no_bit_of_a_manifest_changes_unnoticed(which in 0_usize..4, at in any::<usize>(), bit in 0_u8..7) {
        changed(|evidence| flip(&mut evidence.manifests[which], at, bit))?;
    }

    #[test]
    fn no_bit_of_a_vote_changes_unnoticed(which in 0_usize..2, at in any::<usize>(), bit in 0_u8..7) {
        let case = careful();
        let evidence = case.evidence();
        let mut votes: Vec<_> =
            case.votes.iter().map(|(who, role, choice)| who.vote(role, choice, evidence.plan_hash)).collect();
        if flip(&mut votes[which].signed.signature, at, bit) {
            prop_assert!(case.authorize_with(&evidence, &votes).is_err());
        }
    }
}
#[test]
fn no_character_of_a_signature_changes_unnoticed() {
    let armoured = ann().sign("x", b"message");
    let good = Signature::parse(&armoured).unwrap();
    assert_eq!(good.verify("x", b"message"), Ok(()));
    let key = good.fingerprint();
    for at in 0..armoured.len() {
        for bit in 0..7 {
            let mut changed = armoured.clone();
            if !flip(&mut changed, at, bit) {
                continue;
            }
            if let Ok(signature) = Signature::parse(&changed) {
                let fits = signature.fingerprint() == key && signature.verify("x", b"message").is_ok();
                assert!(!fits, "character {at}, bit {bit}");
            }
        }
    }
}
