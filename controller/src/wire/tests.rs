use super::*;

fn field(name: &str, value: v1::field::Value) -> v1::Field {
    v1::Field { name: name.to_owned(), value: Some(value) }
}

#[test]
fn an_outcome_of_an_unknown_kind_is_refused() {
    for number in [0, 8, -1, i32::MAX] {
        let message = v1::Outcome { kind: number, ..v1::Outcome::default() };
        assert_eq!(outcome(message), Err(Invalid::UnknownValue { what: "outcome.kind", number }));
    }
    let message = v1::Outcome { kind: v1::OutcomeKind::NoChange.into(), ..v1::Outcome::default() };
    assert_eq!(outcome(message).unwrap().kind, OutcomeKind::NoChange);
}

#[test]
fn texts_are_cut_at_a_character() {
    assert_eq!(cut("añb".to_owned(), 2), "a");
    assert_eq!(cut("añb".to_owned(), 3), "añ");
    let message = v1::Outcome { kind: 1, output: "ö".repeat(OUTPUT_BYTES), ..v1::Outcome::default() };
    assert_eq!(outcome(message).unwrap().output.len(), OUTPUT_BYTES);
}

#[test]
fn a_number_that_is_none_is_missing_and_a_field_without_value_refused() {
    let list = vec![
        field("a", v1::field::Value::Number(f64::NAN)),
        field("b", v1::field::Value::Number(f64::INFINITY)),
        field("c", v1::field::Value::Number(1.5)),
    ];
    assert_eq!(fields(list).unwrap(), Fields::from([("c".to_owned(), Value::Number(1.5))]));
    let empty = vec![v1::Field { name: "x".to_owned(), value: None }];
    assert_eq!(fields(empty), Err(Invalid::Missing("the value of a field")));
    assert!(fields(vec![field("", v1::field::Value::Flag(true))]).is_err());
    assert!(fields(vec![field(&"n".repeat(NAME_BYTES + 1), v1::field::Value::Flag(true))]).is_err());
}

#[test]
fn ages_become_times_and_absurd_ones_do_not_overflow() {
    let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
    assert_eq!(time_of(now, 1_500).to_string(), "2026-11-22T11:59:58.5Z");
    assert_eq!(time_of(now, 0), now);
    let oldest = time_of(now, u64::MAX);
    assert!(oldest < now && oldest > Timestamp::from_second(0).unwrap());
}

#[test]
fn malformed_identifiers_are_refused() {
    assert!(command_id("17").is_err());
    assert!(command_id("cmd-x").is_err());
    assert_eq!(command_id("cmd-17").unwrap(), CommandId(17));
    assert!(log_tail(v1::LogTail { request_id: "cmd-1".into(), ..v1::LogTail::default() }).is_err());
    let preview_of =
        |digest: Vec<u8>| preview(v1::Preview { command_id: "cmd-1".into(), digest, ..Default::default() });
    assert!(preview_of(vec![0; 31]).is_err());
    assert!(preview_of(vec![0; 32]).is_ok());
}

#[test]
fn a_host_hold_needs_a_time_that_exists() {
    let held = |until_unix_ms| host_hold(v1::HostHold { held: true, reason: "kernel".into(), until_unix_ms });
    assert!(held(i64::MAX).is_err());
    assert_eq!(held(0).unwrap().unwrap().0, "kernel");
    assert_eq!(host_hold(v1::HostHold::default()).unwrap(), None);
}

#[test]
fn a_preview_is_taken_whole_or_not_at_all() {
    let item = |object: &str| v1::PreviewItem {
        verb: "delete".into(),
        object: object.into(),
        size_bytes: 10,
        detail: "old".into(),
        moving: true,
    };
    let message =
        |items| v1::Preview { command_id: "cmd-1".into(), items, digest: vec![7; 32], ..v1::Preview::default() };
    let (command, taken) = preview(message(vec![item("/var/log/app.log.1")])).unwrap();
    let wanted = Item {
        verb: "delete".to_owned(),
        object: "/var/log/app.log.1".to_owned(),
        size: 10,
        detail: "old".to_owned(),
        moving: true,
    };
    assert_eq!((command, taken.items, taken.digest), (CommandId(1), vec![wanted], Digest([7; 32])));
    assert!(preview(message(vec![item("/a"); quell_model::preview::MOST_ITEMS + 1])).is_err());
    assert!(preview(message(vec![item(&"a".repeat(quell_model::preview::MOST_BYTES))])).is_err());
}
