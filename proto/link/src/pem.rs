//! PEM, the textual form of keys and certificates (RFC 7468): written and read in one place.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// One block, lines of 64 characters.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// Certificates, one block each.
pub(crate) fn encode_certificates(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|certificate| encode("CERTIFICATE", certificate)).collect()
}

/// Every certificate in the text, at least one; the error says what is wrong.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found =
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
    if found.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(found) }
}

/// The private key in the text; the error says what is wrong.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::{certificates, encode, encode_certificates};

    #[test]
    fn what_is_written_is_read_back() {
        let one = rustls_pki_types::CertificateDer::from(vec![7; 100]);
        let two = rustls_pki_types::CertificateDer::from(vec![8; 48]);
        let text = encode_certificates(&[one.clone(), two.clone()]);
        assert_eq!(certificates(text.as_bytes()).unwrap(), [one, two]);
        assert!(text.lines().all(|line| line.len() <= 64));
    }

    #[test]
    fn a_text_without_a_certificate_is_an_error() {
        assert!(certificates(b"").is_err());
        assert!(certificates(encode("PRIVATE KEY", &[1, 2, 3]).as_bytes()).is_err());
    }
}
