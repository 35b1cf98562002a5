//! A FIDO token in software: makes keys and signatures of OpenSSH's hardware kinds (`PROTOCOL.u2f`, `PROTOCOL.sshsig`),
//! which `ssh-keygen` verifies like those of a real one.

use aws_lc_rs::{
    digest::{SHA256, SHA512, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

const APPLICATION: &str = "ssh:";
/// The flags byte says that somebody touched it; the counter is that of the twenty-fifth signature.
const FLAGS_AND_COUNTER: [u8; 5] = [1, 0, 0, 0, 25];

/// One key of such a token.
pub(crate) enum Token {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
}

impl Token {
    pub(crate) fn ed25519() -> Self {
        Self::Ed25519(Ed25519KeyPair::generate().unwrap())
    }

    pub(crate) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "sk-ssh-ed25519@openssh.com",
            Self::P256(_) => "sk-ecdsa-sha2-nistp256@openssh.com",
        }
    }

    fn public_blob(&self) -> Vec<u8> {
        let kind = string(self.kind().as_bytes());
        let key = match self {
            Self::Ed25519(key) => string(key.public_key().as_ref()),
            Self::P256(key) => [string(b"nistp256"), string(key.public_key().as_ref())].concat(),
        };
        [kind, key, string(APPLICATION.as_bytes())].concat()
    }

    /// The key as it stands in `allowed_signers`.
    pub(crate) fn public(&self) -> String {
        format!("{} {}", self.kind(), STANDARD.encode(self.public_blob()))
    }

    /// An armoured signature.
    pub(crate) fn sign(&self, namespace: &str, message: &[u8]) -> String {
        let about = [string(namespace.as_bytes()), string(b""), string(b"sha512")].concat();
        let signed = [b"SSHSIG", &about[..], &string(digest(&SHA512, message).as_ref())].concat();
        let told =
            [digest(&SHA256, APPLICATION.as_bytes()).as_ref(), &FLAGS_AND_COUNTER, digest(&SHA256, &signed).as_ref()]
                .concat();
        let made = match self {
            Self::Ed25519(key) => key.sign(&told).as_ref().to_vec(),
            Self::P256(key) => {
                let both = key.sign(&SystemRandom::new(), &told).unwrap();
                let (r, s) = both.as_ref().split_at(32);
                [string(&positive(r)), string(&positive(s))].concat()
            }
        };
        let signature = [string(self.kind().as_bytes()), string(&made), FLAGS_AND_COUNTER.to_vec()].concat();
        let blob = [b"SSHSIG", &[0, 0, 0, 1][..], &string(&self.public_blob()), &about, &string(&signature)].concat();
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(blob))
    }
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A number as an `mpint` holds it: no zeros before it, but one where it would be negative.
fn positive(number: &[u8]) -> Vec<u8> {
    let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    let zero: &[u8] = if number.first().is_some_and(|first| *first >= 0x80) { &[0] } else { &[] };
    [zero, number].concat()
}
