//! A writer that is killed, over and over, has lost nothing that it acknowledged.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use quell_controller::store::{DiskStore, Store as _};

use super::support::{at, check_whole, fill, open, small};

/// Tells the process that it is the writer, and where.
const WRITER: &str = "QUELL_TEST_WRITE_TO";

/// How often it is killed.
const KILLS: u64 = 12;

#[test]
fn a_killed_writer_has_lost_nothing() {
    if let Some(directory) = env::var_os(WRITER) {
        write_until_killed(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    drop(DiskStore::create(directory.path(), small()).unwrap());
    let mut acknowledged = 0;
    for round in 0..KILLS {
        // Kill it after ever other numbers of commits: in the middle of a segment, while rolling, right after a start.
        acknowledged = write_and_kill(directory.path(), 1 + round * 37).max(acknowledged);
        let store = open(directory.path()).unwrap();
        let head = store.reader().head().sequence;
        assert!(head >= acknowledged, "round {round}: {acknowledged} was acknowledged, {head} is there");
        check_whole(&store, 1);
    }
    assert!(acknowledged > KILLS);
}

/// Runs this test again as the writer, and kills it after so many acknowledgements. The last one that it gave is returned.
fn write_and_kill(directory: &Path, after: u64) -> u64 {
    let mut writer = Command::new(env::current_exe().unwrap())
        .args(["crash::a_killed_writer_has_lost_nothing", "--exact", "--nocapture", "--test-threads=1"])
        .env(WRITER, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut acks = lines.filter_map(|line| line.strip_prefix("ack ")?.parse::<u64>().ok());
    let last = acks.by_ref().take(usize::try_from(after).unwrap()).last();
    writer.kill().unwrap();
    writer.wait().unwrap();
    // What it had said before it died is still in the pipe.
    acks.last().or(last).expect("the writer acknowledged something before it was killed")
}

fn write_until_killed(directory: &Path) -> ! {
    let mut store = open(directory).unwrap();
    let fence = store.lease("writer", at(0)).unwrap();
    let mut out = std::io::stdout();
    writeln!(out).unwrap();
    loop {
        fill(&mut store, fence, 1, 200);
        writeln!(out, "ack {}", store.reader().head().sequence).unwrap();
        out.flush().unwrap();
    }
}
