use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Authority, Error, new_key, request_for};
use crate::identity::{Certificate, Role, Subject};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn authority(scratch: &tempfile::TempDir) -> Authority {
    Authority::create(&scratch.path().join("ca"), "installation-1", now()).unwrap()
}

#[test]
fn an_authority_is_read_back_and_never_made_twice() {
    let scratch = tempfile::tempdir().unwrap();
    let made = authority(&scratch);
    let read = Authority::load(&scratch.path().join("ca")).unwrap();
    assert_eq!(made.fingerprint(), read.fingerprint());
    assert_eq!(read.installation(), "installation-1");
    assert!(matches!(Authority::create(&scratch.path().join("ca"), "x", now()), Err(Error::Exists(_))));
}

#[test]
fn two_installations_share_nothing() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    assert_ne!(authority(&one).fingerprint(), authority(&two).fingerprint());
}

#[test]
fn a_key_that_others_can_read_and_a_key_of_another_ca_are_refused() {
    let (scratch, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    authority(&scratch);
    authority(&other);
    let key = scratch.path().join("ca/ca.key.pem");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = Authority::load(&scratch.path().join("ca")).unwrap_err();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    std::fs::copy(other.path().join("ca/ca.key.pem"), &key).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let error = Authority::load(&scratch.path().join("ca")).unwrap_err();
    assert!(error.to_string().contains("it is not the key of"), "{error}");
}

#[test]
fn what_a_request_asks_for_is_not_what_it_gets() {
    let scratch = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut greedy = rcgen::CertificateParams::new(vec!["controller.example".to_owned()]).unwrap();
    greedy.subject_alt_names.push(rcgen::SanType::URI("quell:operator:root".try_into().unwrap()));
    greedy.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    greedy.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    greedy.distinguished_name.push(rcgen::DnType::CommonName, "root");
    let csr = greedy.serialize_request(&key).unwrap();
    let name = "planthost1".parse().unwrap();
    let issued = authority(&scratch).issue_agent(csr.der(), &name, "id-1", now(), DAY).unwrap();

    let (_, certificate) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert!(!certificate.is_ca());
    assert_eq!(certificate.subject().to_string(), "CN=Quell agent");
    assert_eq!(certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 1);
    let usage = certificate.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && !usage.key_cert_sign());
    let extended = certificate.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.client_auth && !extended.server_auth && !extended.any);

    let read = Certificate::read(&issued.chain[0]).unwrap();
    assert_eq!(read.subject, Subject::Role(Role::Agent { name, host_id: "id-1".into() }));
    assert_eq!(read.key, issued.key);
    assert_eq!(read.key, Authority::requested_key(&request_for(&key).unwrap()).unwrap());
    assert_eq!((read.not_before, read.not_after), (now() - Duration::from_secs(3600), now() + DAY));
    assert_eq!(issued.not_after, read.not_after);
}

#[test]
fn serial_numbers_are_random_and_positive() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = authority(&scratch);
    let (_, csr) = new_key().unwrap();
    let serials: std::collections::BTreeSet<Vec<u8>> = (0..8)
        .map(|_| {
            let issued = authority.issue_operator(&csr, "ada", now(), DAY).unwrap();
            let (_, certificate) = X509Certificate::from_der(&issued.chain[0]).unwrap();
            certificate.raw_serial().to_vec()
        })
        .collect();
    assert_eq!(serials.len(), 8);
    assert!(serials.iter().all(|serial| serial.len() == 16 && serial[0] < 0x80));
}

#[test]
fn a_request_that_its_asker_cannot_have_signed_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = authority(&scratch);
    let (_, mut csr) = new_key().unwrap();
    let last = csr.len() - 1;
    csr[last] ^= 1;
    let name = "planthost1".parse().unwrap();
    for bad in [&csr[..], b"", b"garbage", &vec![0; 20_000]] {
        let issued = authority.issue_agent(bad, &name, "id-1", now(), DAY);
        assert!(matches!(issued, Err(Error::Request(_))), "{issued:?}");
    }
}

#[test]
fn names_that_cannot_stand_in_a_certificate_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = authority(&scratch);
    let (_, csr) = new_key().unwrap();
    assert!(authority.issue_operator(&csr, "a:b", now(), DAY).is_err());
    assert!(authority.issue_agent(&csr, &"planthost1".parse().unwrap(), "a:b", now(), DAY).is_err());
    assert!(matches!(authority.issue_server(&["not a name".into()], now(), DAY), Err(Error::Address(_))));
    assert!(Authority::create(&scratch.path().join("other"), "a b", now()).is_err());
}

#[test]
fn the_controllers_chain_holds_the_ca() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = authority(&scratch);
    let addresses = ["127.0.0.1".to_owned(), "::1".to_owned(), "quell.example".to_owned()];
    let (issued, _) = authority.issue_server(&addresses, now(), DAY).unwrap();
    assert_eq!(issued.chain[1], authority.roots()[0]);
    let (_, certificate) = X509Certificate::from_der(&issued.chain[0]).unwrap();
    assert_eq!(certificate.subject_alternative_name().unwrap().unwrap().value.general_names.len(), 4);
}

#[test]
fn no_damaged_certificate_or_request_is_read_as_something_else() {
    let scratch = tempfile::tempdir().unwrap();
    let authority = authority(&scratch);
    let (_, csr) = new_key().unwrap();
    let issued = authority.issue_operator(&csr, "ada", now(), DAY).unwrap();
    let good = &issued.chain[0];
    for end in 0..good.len() {
        assert!(Certificate::read(&good[..end]).is_err(), "cut at {end}");
    }
    // A changed byte may leave a certificate whose signature is wrong, which TLS finds; it must not panic.
    for at in 0..good.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = good.to_vec();
            damaged[at] ^= change;
            let _ = Certificate::read(&damaged);
        }
    }
    // What the signature does not cover may change; the key may not.
    let key = Authority::requested_key(&csr).unwrap();
    let mut accepted = 0;
    for at in 0..csr.len() {
        let mut damaged = csr.clone();
        damaged[at] ^= 0x01;
        if let Ok(read) = Authority::requested_key(&damaged) {
            assert_eq!(read, key, "changed at {at}");
            accepted += 1;
        }
    }
    assert!(accepted < 5, "{accepted} changes went unnoticed");
}
