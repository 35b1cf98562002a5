use std::{os::unix::fs::MetadataExt as _, path::Path};

use super::*;

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().unwrap()
}

fn options(data_dir: &Path) -> Options {
    Options {
        data_dir: data_dir.to_owned(),
        listen: "127.0.0.1:7443".parse().unwrap(),
        http: "127.0.0.1:7480".parse().unwrap(),
        addresses: Vec::new(),
        operator: "ada".to_owned(),
        allowed_signers: None,
    }
}

#[test]
fn a_directory_becomes_a_controller_with_a_profile_that_fits() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("a/controller");
    let path = run(&options(&data_dir), now()).unwrap();
    assert!(path.is_absolute() && path.ends_with("profiles/ada.toml"), "{}", path.display());
    let profile = Profile::load(&path).unwrap();
    let authority = Authority::load(&data_dir.join(AUTHORITY)).unwrap();
    assert_eq!((profile.name.as_str(), profile.installation.as_str()), ("ada", authority.installation()));
    assert_eq!(profile.addresses, ["127.0.0.1:7443"]);
    assert_eq!(profile.expires().unwrap(), now() + OPERATOR_TTL);
    assert_eq!(Config::load(&data_dir).unwrap().listen, "127.0.0.1:7443".parse().unwrap());
    assert_eq!(std::fs::metadata(&data_dir).unwrap().mode() & 0o777, 0o700);
    DiskStore::open(&data_dir, store::Options::default()).unwrap();
    let [(_, pending)] = &read_pending(&data_dir).unwrap()[..] else { panic!("one operator waits") };
    assert_eq!((pending.name.as_str(), &pending.roles[..]), ("ada", &["admin".to_owned()][..]));
}

#[test]
fn two_installations_share_no_secret_and_no_identifier() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |name: &str| {
        let data_dir = scratch.path().join(name);
        let profile = Profile::load(&run(&options(&data_dir), now()).unwrap()).unwrap();
        (profile, Authority::load(&data_dir.join(AUTHORITY)).unwrap())
    };
    let ((one, ca), (other, other_ca)) = (make("one"), make("two"));
    assert_ne!(one.key, other.key);
    assert_ne!(ca.fingerprint(), other_ca.fingerprint());
    assert_ne!(one.installation, other.installation);
}

#[test]
fn a_controller_is_not_made_twice_and_nothing_is_touched() {
    let scratch = tempfile::tempdir().unwrap();
    let path = run(&options(scratch.path()), now()).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = run(&options(scratch.path()), now()).unwrap_err();
    assert!(error.to_string().contains("holds a controller already; start it with"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_directory_with_something_in_it_is_refused_and_left_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::write(scratch.path().join("notes.txt"), "mine").unwrap();
    let error = run(&options(scratch.path()), now()).unwrap_err();
    assert!(matches!(&error, Error::NotEmpty { name, .. } if name == "notes.txt"), "{error}");
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_written() {
    let scratch = tempfile::tempdir().unwrap();
    let data_dir = scratch.path().join("controller");
    let wrong: [fn(&mut Options); 3] = [
        |options| options.operator = "a:b".to_owned(),
        |options| options.addresses = vec!["no-port".to_owned()],
        |options| options.addresses = vec!["host:0".to_owned()],
    ];
    for spoil in wrong {
        let mut options = options(&data_dir);
        spoil(&mut options);
        run(&options, now()).unwrap_err();
        assert!(!data_dir.exists());
    }
}

#[test]
fn a_failure_half_way_leaves_the_directory_as_it_was() {
    let scratch = tempfile::tempdir().unwrap();
    let mut options = options(&scratch.path().join("controller"));
    // A file stands where the directory's parent should be.
    std::fs::write(scratch.path().join("file"), "").unwrap();
    options.data_dir = scratch.path().join("file/controller");
    run(&options, now()).unwrap_err();
    // The clock stands before 1970: the authority cannot be made once the directory is.
    options.data_dir = scratch.path().join("controller");
    run(&options, "1969-01-01T00:00:00Z".parse().unwrap()).unwrap_err();
    assert!(!options.data_dir.exists());
    std::fs::create_dir(&options.data_dir).unwrap();
    run(&options, "1969-01-01T00:00:00Z".parse().unwrap()).unwrap_err();
    assert_eq!(std::fs::read_dir(&options.data_dir).unwrap().count(), 0);
    run(&options, now()).unwrap();
}

#[test]
fn port_0_becomes_a_free_port_that_agents_are_told() {
    let scratch = tempfile::tempdir().unwrap();
    let mut options = options(scratch.path());
    options.listen.set_port(0);
    options.http.set_port(0);
    let profile = Profile::load(&run(&options, now()).unwrap()).unwrap();
    let config = Config::load(scratch.path()).unwrap();
    assert_ne!(config.listen.port(), 0);
    assert_ne!(config.http.unwrap().port(), 0);
    assert_eq!(profile.addresses, [config.listen.to_string()]);
}

#[test]
fn every_address_is_not_an_address_that_agents_can_reach() {
    match reachable("0.0.0.0:7443".parse().unwrap()) {
        Ok(address) => assert!(address.ends_with(":7443") && !address.starts_with("0.0.0.0"), "{address}"),
        Err(error) => assert!(error.to_string().contains("--address HOST:PORT"), "{error}"),
    }
    assert_eq!(reachable("[::1]:7443".parse().unwrap()).unwrap(), "[::1]:7443");
}

#[test]
fn an_operator_can_be_made_later_and_not_twice_before_a_start() {
    let scratch = tempfile::tempdir().unwrap();
    run(&options(scratch.path()), now()).unwrap();
    let roles = ["viewer".to_owned()];
    let path = add_operator(scratch.path(), "vera", &roles, now()).unwrap();
    assert_eq!(Profile::load(&path).unwrap().name, "vera");
    assert_eq!(read_pending(scratch.path()).unwrap().len(), 2);
    assert!(matches!(add_operator(scratch.path(), "vera", &roles, now()), Err(Error::Waits(_))));
    assert!(add_operator(&scratch.path().join("none"), "vera", &roles, now()).is_err());
    assert!(matches!(add_operator(scratch.path(), "otto", &["No role".to_owned()], now()), Err(Error::Role(_))));
    assert!(matches!(add_operator(scratch.path(), "../otto", &roles, now()), Err(Error::Authority(_))));
}
