//! `quell audit verify` against a controller whose files somebody changes under its hands.

use std::{fs, path::PathBuf};

use quell_cli::{
    commands::audit::{self, Command},
    connect::Context,
    error,
    exit::Exit,
    output::Format,
};
use quell_controller::serve::{Controller, Error, Parts};
use quell_link::{profile::Profile, rpc::operator_service_client::OperatorServiceClient};
use quell_wire::v1::CreateTokenRequest;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::harness::{made, until};

/// Where frames begin in a segment, and the length of their header.
const FRAMES: usize = 4096;
const HEADER: usize = 20;

/// A controller on disk, and the command line of its first operator.
struct OnDisk {
    data: PathBuf,
    context: Context,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
    _directory: tempfile::TempDir,
}

impl OnDisk {
    async fn start() -> Self {
        let (directory, profile) = made();
        let data = directory.path().join("controller");
        let parts = Parts::open(&data).unwrap();
        let controller = tokio::task::spawn_blocking(|| Controller::build(parts)).await.unwrap().unwrap();
        let (decider, stop) = (controller.decider(), CancellationToken::new());
        let task = tokio::spawn(controller.run(stop.clone()));
        until("the first operator is admitted", || decider.state().operators.contains_key("admin")).await;
        let mut operator = OperatorServiceClient::new(Profile::load(&profile).unwrap().connect().await.unwrap());
        for _ in 0..20 {
            let token = CreateTokenRequest { ttl_ms: 60_000, uses: 1, ..CreateTokenRequest::default() };
            operator.create_token(token).await.unwrap();
        }
        let context = Context { profile: Some(profile), format: Format::Json };
        Self { data, context, stop, task, _directory: directory }
    }

    fn segment(&self) -> PathBuf {
        self.data.join("log/00000000000000000001.log")
    }

    async fn verify(&self, since: Option<PathBuf>) -> Result<Exit, error::Error> {
        audit::run(&Command::Verify { since }, &self.context).await
    }

    /// Verification says no, with exit code 1, in words that hold these.
    async fn is_refused(&self, words: &str) {
        let error = self.verify(None).await.expect_err(words);
        assert_eq!(error::exit(&error), Exit::Failed, "{error}");
        assert!(error.to_string().contains(words), "{words:?} is not in {error}");
    }
}

/// The payloads of the frames of a segment.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut at = FRAMES;
    loop {
        let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            return found;
        }
        found.push(bytes[at + HEADER..at + HEADER + length].to_vec());
        at += HEADER + length;
    }
}

/// The segment with other payloads, all numbers and checksums as they should be.
fn with_frames(bytes: &[u8], payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut made = bytes[..FRAMES].to_vec();
    let mut first = 1_u64;
    for payload in payloads {
        let count = payload.iter().filter(|byte| **byte == b'\n').count();
        let mut header = u32::try_from(payload.len()).unwrap().to_le_bytes().to_vec();
        header.extend(u32::try_from(count).unwrap().to_le_bytes());
        header.extend(first.to_le_bytes());
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&header);
        checksum.update(payload);
        header.extend(checksum.finalize().to_le_bytes());
        made.extend(header);
        made.extend(payload);
        first += count as u64;
    }
    made.resize(bytes.len(), 0);
    made
}

#[tokio::test]
async fn the_command_line_finds_what_was_done_to_the_log_and_to_its_heads() {
    let controller = OnDisk::start().await;
    let heads = controller.data.join("heads");
    let signed = fs::read_to_string(&heads).unwrap();
    let kept = controller.data.with_file_name("kept");
    fs::write(&kept, &signed).unwrap();
    assert_eq!(controller.verify(None).await.unwrap(), Exit::Done);
    assert_eq!(controller.verify(Some(kept.clone())).await.unwrap(), Exit::Done);
    assert_eq!(audit::run(&Command::Head, &controller.context).await.unwrap(), Exit::Done);
    let export = Command::Export { from: 3, to: 5, since: None };
    assert_eq!(audit::run(&export, &controller.context).await.unwrap(), Exit::Done);

    let segment = controller.segment();
    let whole = fs::read(&segment).unwrap();
    let payloads = frames(&whole);
    assert_eq!(with_frames(&whole, &payloads), whole, "the forger's tools are at fault, not the damage");
    assert!(payloads.len() > 20);

    let mut careless = whole.clone();
    careless[FRAMES + HEADER + 200] ^= 1;
    fs::write(&segment, careless).unwrap();
    controller.is_refused("damaged").await;

    let forged = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut payloads = payloads.clone();
        change(&mut payloads);
        fs::write(&segment, with_frames(&whole, &payloads)).unwrap();
    };
    let edit = |payload: &mut Vec<u8>| {
        let at = payload.windows(4).position(|word| word == b"uses").unwrap();
        payload[at] = b'U';
    };
    for place in (5..payloads.len() - 1).step_by(4) {
        if payloads[place].windows(4).any(|word| word == b"uses") {
            forged(&|payloads| edit(&mut payloads[place]));
            controller.is_refused("one of the two was changed").await;
        }
        forged(&|payloads| payloads.swap(place, place - 1));
        controller.is_refused("removed, repeated or reordered").await;
        forged(&|payloads| drop(payloads.remove(place)));
        controller.is_refused("record").await;
        forged(&|payloads| payloads.truncate(place));
        controller.is_refused("record").await;
    }
    fs::write(&segment, &whole).unwrap();
    controller.verify(None).await.unwrap();

    fs::write(&heads, signed.replace("quell-head-1", "quell-head-2")).unwrap();
    controller.is_refused("is not a signed head").await;
    let last = signed.trim_end().chars().last().unwrap();
    let other = if last == '0' { '1' } else { '0' };
    fs::write(&heads, format!("{}{other}\n", &signed.trim_end()[..signed.trim_end().len() - 1])).unwrap();
    controller.is_refused("forged").await;
    fs::remove_file(&heads).unwrap();
    controller.is_refused("no signed head").await;
    // The one that was kept still proves what it can.
    assert_eq!(controller.verify(Some(kept)).await.unwrap(), Exit::Done);
    fs::write(&heads, &signed).unwrap();

    controller.stop.cancel();
    controller.task.await.unwrap().unwrap();
    let lines = fs::read_to_string(&heads).unwrap().lines().count();
    assert_eq!(lines, signed.lines().count() + 1, "a clean stop signs the newest head");
}
