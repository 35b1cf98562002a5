//! The arithmetic under an SSH signature: whether it fits a message and a key. What it means stands in `signature`.
//!
//! The formats are those of RFC 5656 (ECDSA), RFC 8332 (RSA), RFC 8709 (Ed25519) and OpenSSH's `PROTOCOL.u2f` (hardware
//! keys). The curves are those of the library that TLS is made with: a host carries one such library, not two.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use sha2::{Digest as _, Sha256};
use ssh_key::{
    Algorithm, EcdsaCurve, HashAlg, Signature,
    public::{EcdsaPublicKey, KeyData, RsaPublicKey},
};

/// Bytes that a hardware key puts behind its signature: one of flags, four of a counter.
const HARDWARE_TRAILER: usize = 5;

/// Whether a signature is this key's over these bytes. A key signs by its own kind only; RSA with SHA-2 only.
pub(super) fn fits(key: &KeyData, message: &[u8], signature: &Signature) -> bool {
    let bytes = signature.as_bytes();
    match (key, signature.algorithm()) {
        (KeyData::Ed25519(key), Algorithm::Ed25519) => verify(&ED25519, &key.0, message, bytes),
        (KeyData::Ecdsa(key), Algorithm::Ecdsa { curve }) if key.curve() == curve => ecdsa(key, message, bytes),
        (KeyData::Rsa(key), Algorithm::Rsa { hash: Some(hash) }) => rsa(key, hash, message, bytes).is_some(),
        (KeyData::SkEd25519(key), Algorithm::SkEd25519) => hardware(key.application(), message, bytes)
            .is_some_and(|(signed, bytes)| verify(&ED25519, &key.public_key().0, &signed, bytes)),
        (KeyData::SkEcdsaSha2NistP256(key), Algorithm::SkEcdsaSha2NistP256) => {
            hardware(key.application(), message, bytes)
                .is_some_and(|(signed, bytes)| ecdsa(&EcdsaPublicKey::NistP256(*key.ec_point()), &signed, bytes))
        }
        _ => false,
    }
}

fn verify(algorithm: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
}

fn ecdsa(key: &EcdsaPublicKey, message: &[u8], signature: &[u8]) -> bool {
    let (algorithm, bytes): (&'static dyn VerificationAlgorithm, usize) = match key.curve() {
        EcdsaCurve::NistP256 => (&ECDSA_P256_SHA256_FIXED, 32),
        EcdsaCurve::NistP384 => (&ECDSA_P384_SHA384_FIXED, 48),
        EcdsaCurve::NistP521 => (&ECDSA_P521_SHA512_FIXED, 66),
    };
    two_numbers(signature, bytes).is_some_and(|signature| verify(algorithm, key.as_sec1_bytes(), message, &signature))
}

fn rsa(key: &RsaPublicKey, hash: HashAlg, message: &[u8], signature: &[u8]) -> Option<()> {
    let algorithm: &'static RsaParameters = match hash {
        HashAlg::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        HashAlg::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        _ => return None,
    };
    let (n, e) = (key.n.as_positive_bytes()?, key.e.as_positive_bytes()?);
    // Some write no leading zeros; OpenSSH reads that as well.
    let signature = filled_up(signature, n.len())?;
    RsaPublicKeyComponents { n, e }.verify(algorithm, message, &signature).ok()
}

/// What a hardware key signs for a message, and the signature without what is behind it.
fn hardware<'a>(application: &str, message: &[u8], signature: &'a [u8]) -> Option<(Vec<u8>, &'a [u8])> {
    let (signature, flags_and_counter) = signature.split_at_checked(signature.len().checked_sub(HARDWARE_TRAILER)?)?;
    let signed = [&Sha256::digest(application)[..], flags_and_counter, &Sha256::digest(message)[..]].concat();
    Some((signed, signature))
}

/// Two positive numbers of RFC 4251's kind `mpint`, each filled up to a number of bytes.
fn two_numbers(bytes: &[u8], length: usize) -> Option<Vec<u8>> {
    let (first, rest) = number(bytes)?;
    let (second, rest) = number(rest)?;
    rest.is_empty().then_some(())?;
    Some([filled_up(first, length)?, filled_up(second, length)?].concat())
}

/// A positive `mpint` without its leading zero, and what follows it.
fn number(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    match number {
        // A leading zero is there when, and only when, the next bit would make the number negative.
        [0, next, ..] if *next >= 0x80 => Some((&number[1..], rest)),
        [first, ..] if *first != 0 && *first < 0x80 => Some((number, rest)),
        _ => None,
    }
}

/// A number with zeros before it; nothing when it is too long.
fn filled_up(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let zeros = length.checked_sub(number.len())?;
    Some([&vec![0; zeros], number].concat())
}
