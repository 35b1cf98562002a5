use std::os::unix::fs::FileExt as _;

use super::{FILE_NAME, Intent, Journal, Line, REMEMBERED, line};
use crate::execute::outcome::{Kind, Stored};

fn intent(key: &str) -> Line {
    Line::Intent(Intent {
        key: key.to_owned(),
        command_id: format!("cmd-{key}"),
        action: "exec".to_owned(),
        parameters: serde_json::json!({"argv": ["/bin/true"]}),
        fence: 3,
        plan: None,
        step: 0,
        timeout_ms: 1000,
        begun_unix_ms: 0,
        resources: vec![],
        prepared: serde_json::Value::Null,
        undoes: None,
    })
}

fn outcome(key: &str) -> Line {
    Line::Outcome(Stored {
        key: key.to_owned(),
        command_id: format!("cmd-{key}"),
        fence: 3,
        kind: Kind::Succeeded,
        summary: "done".to_owned(),
        duration_ms: 1,
        ended_unix_ms: 0,
        values: [].into(),
        output: String::new(),
        remedy: String::new(),
        moved: false,
        dry_run: false,
    })
}

fn contents(directory: &std::path::Path) -> Vec<u8> {
    std::fs::read(directory.join(FILE_NAME)).unwrap()
}

#[tokio::test]
async fn what_was_appended_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    journal.append(vec![intent("a")], true).await.unwrap();
    journal.append(vec![outcome("a"), intent("b")], true).await.unwrap();
    drop(journal);
    let journal = Journal::open(directory.path()).unwrap();
    let open = journal.open_records();
    assert_eq!(open.len(), 2);
    assert!(open[0].outcome.is_some() && open[1].outcome.is_none());
    assert_eq!(journal.fence(), 3);
    journal.append(vec![Line::Acknowledged("a".to_owned()), Line::Acknowledged("b".to_owned())], false).await.unwrap();
    assert_eq!(journal.open_records().len(), 1, "only what has an outcome can be acknowledged");
    assert!(journal.find("a").is_some(), "an acknowledged key is still known");
}

#[tokio::test]
async fn a_torn_tail_loses_only_what_was_not_promised() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    journal.append(vec![intent("a"), intent("b")], true).await.unwrap();
    drop(journal);
    let whole = contents(directory.path());
    let end = whole.iter().position(|byte| *byte == 0).unwrap();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    line::write(&intent("a"), &mut first);
    line::write(&intent("b"), &mut second);
    let before = end - first.len() - second.len();
    for cut in before..end {
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        std::fs::write(directory.path().join(FILE_NAME), &torn).unwrap();
        let journal = Journal::open(directory.path()).unwrap();
        // A line whose line feed alone is missing is whole.
        let expected = usize::from(cut + 1 >= before + first.len()) + usize::from(cut + 1 >= end);
        assert_eq!(journal.open_records().len(), expected, "cut at {cut} of {end}");
        journal.append(vec![intent("c")], true).await.unwrap();
        drop(journal);
        assert_eq!(Journal::open(directory.path()).unwrap().open_records().len(), expected + 1);
        assert!(!directory.path().join("journal.damaged").exists());
    }
}

#[tokio::test]
async fn a_damaged_line_is_kept_aside_and_the_others_count() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    journal.append(vec![intent("a"), intent("b"), outcome("b")], true).await.unwrap();
    drop(journal);
    let bytes = contents(directory.path());
    let at = bytes.windows(5).position(|window| window == b"cmd-a").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(directory.path().join(FILE_NAME)).unwrap();
    file.write_all_at(b"X", at as u64).unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    assert!(journal.find("a").is_none() && journal.find("b").unwrap().outcome.is_some());
    assert!(directory.path().join("journal.damaged").exists());
}

#[tokio::test]
async fn it_stays_small_and_remembers_the_newest_keys() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    journal.append(vec![intent("never-ended"), outcome("never-acknowledged")], false).await.unwrap();
    let count = 4 * REMEMBERED;
    for index in 0..count {
        let key = format!("key-{index}");
        journal.append(vec![intent(&key), outcome(&key), Line::Acknowledged(key)], false).await.unwrap();
    }
    assert!(contents(directory.path()).len() < 4 << 20, "{} bytes", contents(directory.path()).len());
    drop(journal);
    let journal = Journal::open(directory.path()).unwrap();
    assert_eq!(journal.open_records().len(), 2);
    assert!(journal.find("key-0").is_none());
    let newest = format!("key-{}", count - 1);
    assert!(journal.find(&newest).is_some_and(|record| record.acknowledged));
}

#[tokio::test]
async fn one_agent_for_each_data_directory_and_nothing_after_a_failed_sync() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path()).unwrap();
    let error = Journal::open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("another agent"), "{error}");
    journal.break_for_test();
    assert!(journal.append(vec![intent("a")], true).await.unwrap_err().to_string().contains("nothing is done"));
    assert!(journal.append(vec![intent("a")], false).await.is_err() && journal.find("a").is_none());
}
