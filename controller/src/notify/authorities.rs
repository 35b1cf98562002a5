//! Whose certificates webhooks believe: the public authorities that the program brings along, and the shop's own where
//! `notify.ca_file` names them.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

/// Why the shop's own authorities cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("notify.ca_file in controller.toml, {}, cannot be used: {reason}; it holds certificates of authorities in PEM", path.display())]
pub struct Error {
    path: PathBuf,
    reason: String,
}

/// The public authorities, and those of a PEM file.
///
/// # Errors
/// The file cannot be read, holds no certificate, or one that is damaged.
pub fn authorities(file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = file {
        add(&mut roots, path).map_err(|reason| Error { path: path.to_owned(), reason })?;
    }
    Ok(roots)
}

fn add(roots: &mut RootCertStore, path: &Path) -> Result<(), String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let known = roots.len();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.len() == known { Err("there is no certificate in it".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_refused_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let why = |content: &[u8]| {
            std::fs::write(&file, content).unwrap();
            authorities(Some(&file)).unwrap_err().to_string()
        };
        assert!(why(b"").contains("no certificate"), "{}", why(b""));
        let damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(why(damaged).contains(file.to_str().unwrap()), "{}", why(damaged));
        let missing = authorities(Some(Path::new("/nonexistent/ca.pem"))).unwrap_err().to_string();
        assert!(missing.contains("notify.ca_file") && missing.contains("/nonexistent/ca.pem"), "{missing}");
    }
}
