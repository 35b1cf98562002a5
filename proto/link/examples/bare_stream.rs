//! What an agent costs before it does anything: one idle stream over mutual TLS, and nothing else.
//!
//! `cargo run --release -p quell-link --example bare_stream -- [SECONDS]` starts a controller that only echoes in a
//! process of its own, joins it, opens an agent's stream, idles, and prints the memory and CPU time of the idle process
//! as one JSON object: `rss_kib`, `anonymous_kib`, `cpu_ms` (over the idle time), `seconds`.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measuring program, run by hand")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use common::{Controller, Session};
use quell_link::client;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next();
    if first.as_deref() == Some("serve") {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(serve());
    } else {
        let seconds = first.map_or(60, |text| text.parse().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(idle(Duration::from_secs(seconds)));
    }
}

/// The other end: says how to join, and serves until its standard input ends.
async fn serve() {
    let controller = Controller::start().await;
    println!("{}", controller.token(1));
    std::io::stdout().flush().unwrap();
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await.unwrap().unwrap();
    controller.stop().await;
}

async fn idle(span: Duration) {
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let joined = client::join(&line.parse().unwrap(), "planthost1".parse().unwrap(), &scratch.path().join("agent"))
        .await
        .unwrap();
    let identity = Arc::new(joined.identity);
    let channel = client::connect_agent(&identity.addresses, &identity).await.unwrap();
    let mut session = Session::open(channel).await.unwrap();
    session.echo(1).await.unwrap();

    let before = cpu_ms();
    // The stream is read all the while, as an agent reads its own.
    let ended = tokio::time::timeout(span, session.down.message()).await;
    assert!(ended.is_err(), "the stream ended: {ended:?}");
    println!(
        "{{\"rss_kib\": {}, \"anonymous_kib\": {}, \"cpu_ms\": {}, \"seconds\": {}}}",
        status_kib("VmRSS:"),
        status_kib("RssAnon:"),
        cpu_ms() - before,
        span.as_secs()
    );
    drop(server.stdin.take());
    server.wait().unwrap();
}

/// A line of `/proc/self/status` in KiB.
fn status_kib(name: &str) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// User and system time of this process, milliseconds, from its scheduler statistics: nanoseconds, where `stat` counts
/// ticks of 10 ms.
fn cpu_ms() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads
        .map(|thread| std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap_or_default())
        .map(|text| text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0))
        .sum::<u64>()
        / 1_000_000
}
