//! The arithmetic under an SSH signature: whether it fits a message and a key. What it means stands in `signature`.
//!
//! The formats are those of RFC 5656 (ECDSA), RFC 8332 (RSA), RFC 8709 (Ed25519) and OpenSSH's `PROTOCOL.u2f` (hardware
//! keys). The curves are those of the library that TLS is made with: a host carries one such library, not two. Only its
//! verification is used here, which is a pure function.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use sha2::{Digest as _, Sha256};
use ssh_key::{
    EcdsaCurve,
    public::{EcdsaPublicKey, KeyData, RsaPublicKey},
};

use super::fields::Fields;

/// Bytes that a hardware key puts behind its signature: one of flags, four of a counter.
const HARDWARE_TRAILER: usize = 5;

/// Whether a signature, as SSH writes it (its kind, then what was made), is this key's over these bytes; nothing if not.
///
/// A key signs by its own kind only, and RSA with SHA-2 only.
pub(super) fn fits(key: &KeyData, message: &[u8], signature: &[u8]) -> Option<()> {
    let mut fields = Fields(signature);
    let (kind, made) = (fields.text()?, fields.string()?);
    match key {
        KeyData::Rsa(key) => rsa(key, rsa_parameters(kind)?, message, made)?,
        _ if key.algorithm().as_str() != kind => return None,
        KeyData::Ed25519(key) => verify(&ED25519, &key.0, message, made)?,
        KeyData::Ecdsa(key) => ecdsa(key, message, made)?,
        KeyData::SkEd25519(key) => {
            let signed = hardware_signs(key.application(), fields.bytes(HARDWARE_TRAILER)?, message);
            verify(&ED25519, &key.public_key().0, &signed, made)?;
        }
        KeyData::SkEcdsaSha2NistP256(key) => {
            let signed = hardware_signs(key.application(), fields.bytes(HARDWARE_TRAILER)?, message);
            ecdsa(&EcdsaPublicKey::NistP256(*key.ec_point()), &signed, made)?;
        }
        _ => return None,
    }
    fields.end()
}

fn verify(algorithm: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], made: &[u8]) -> Option<()> {
    UnparsedPublicKey::new(algorithm, key).verify(message, made).ok()
}

/// Two numbers, `r` and `s`.
fn ecdsa(key: &EcdsaPublicKey, message: &[u8], made: &[u8]) -> Option<()> {
    let (algorithm, bytes): (&'static dyn VerificationAlgorithm, usize) = match key.curve() {
        EcdsaCurve::NistP256 => (&ECDSA_P256_SHA256_FIXED, 32),
        EcdsaCurve::NistP384 => (&ECDSA_P384_SHA384_FIXED, 48),
        EcdsaCurve::NistP521 => (&ECDSA_P521_SHA512_FIXED, 66),
    };
    let mut numbers = Fields(made);
    let both = [filled_up(numbers.positive()?, bytes)?, filled_up(numbers.positive()?, bytes)?].concat();
    numbers.end()?;
    verify(algorithm, key.as_sec1_bytes(), message, &both)
}

fn rsa_parameters(kind: &str) -> Option<&'static RsaParameters> {
    match kind {
        "rsa-sha2-256" => Some(&RSA_PKCS1_2048_8192_SHA256),
        "rsa-sha2-512" => Some(&RSA_PKCS1_2048_8192_SHA512),
        _ => None,
    }
}

fn rsa(key: &RsaPublicKey, parameters: &'static RsaParameters, message: &[u8], made: &[u8]) -> Option<()> {
    let (n, e) = (key.n.as_positive_bytes()?, key.e.as_positive_bytes()?);
    // Some programs write no leading zeros, and OpenSSH reads that as well.
    let made = filled_up(made, n.len())?;
    RsaPublicKeyComponents { n, e }.verify(parameters, message, &made).ok()
}

/// What a hardware key signs instead of a message.
fn hardware_signs(application: &str, flags_and_counter: &[u8], message: &[u8]) -> Vec<u8> {
    [&Sha256::digest(application)[..], flags_and_counter, &Sha256::digest(message)[..]].concat()
}

/// A number with zeros before it; nothing when it is too long.
fn filled_up(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let zeros = length.checked_sub(number.len())?;
    Some([&vec![0; zeros], number].concat())
}
