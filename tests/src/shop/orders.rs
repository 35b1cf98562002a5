//! The order processor: runs on the hour, takes the orders that wait four at a time, and writes its log and counters.
//!
//! Its directory holds `order_processing.log`, `outstanding` and `processed` (a number each) and, as its fault,
//! `fault`: an error number and how often it shall strike, `12 1`. An order that meets the fault leaves the processor
//! hung, as it was in the shop; started again it picks up where it left off.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use tokio::time::{Instant, interval, sleep};

use super::files;

/// How many orders are worked on at once.
const AT_ONCE: u64 = 4;

/// The order processor's options.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Directory of the log and the counters.
    #[arg(long)]
    pub dir: PathBuf,
    /// Where to write the process number.
    #[arg(long)]
    pub pid_file: Option<PathBuf>,
    /// Milliseconds between two runs; the shop's own run hourly.
    #[arg(long, default_value_t = 3_600_000)]
    pub every_ms: u64,
    /// Milliseconds that an order takes; the shop's own take 10 to 15 s.
    #[arg(long, default_value_t = 12_000)]
    pub order_ms: u64,
    /// Orders that come in between two runs.
    #[arg(long, default_value_t = 8)]
    pub arrivals: u64,
}

/// Runs until the process is stopped.
///
/// # Errors
/// A file cannot be written.
pub async fn run(options: Options) -> io::Result<()> {
    std::fs::create_dir_all(&options.dir)?;
    files::write_pid(options.pid_file.as_deref())?;
    // What the tests count: how often it was really started.
    files::log(&options.dir.join("starts.log"), &std::process::id().to_string())?;
    let shop = Shop { dir: options.dir.clone() };
    if !shop.dir.join("processed").exists() {
        files::replace(&shop.dir.join("processed"), "0")?;
        files::replace(&shop.dir.join("outstanding"), "0")?;
    }
    let every = Duration::from_millis(options.every_ms);
    let mut arriving = interval(every / u32::try_from(options.arrivals.max(1)).unwrap_or(u32::MAX));
    arriving.tick().await;
    let mut next_run = Instant::now();
    let mut hung = false;
    loop {
        tokio::select! {
            _ = arriving.tick() => shop.order_came_in()?,
            () = tokio::time::sleep_until(next_run), if !hung => {
                next_run = Instant::now() + every;
                hung = !shop.run_once(Duration::from_millis(options.order_ms)).await?;
            }
        }
    }
}

/// The processor's files.
struct Shop {
    dir: PathBuf,
}

impl Shop {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn say(&self, line: &str) -> io::Result<()> {
        files::log(&self.path("order_processing.log"), line)
    }

    fn order_came_in(&self) -> io::Result<()> {
        let waiting = files::number(&self.path("outstanding")) + 1;
        files::replace(&self.path("outstanding"), &waiting.to_string())
    }

    /// One run over all that waits. False: an order failed, and the processor hangs from now on.
    async fn run_once(&self, order_takes: Duration) -> io::Result<bool> {
        self.say("Startup...")?;
        self.say("Starting to process orders.")?;
        loop {
            let waiting = files::number(&self.path("outstanding"));
            if waiting == 0 {
                self.say("All Orders processed.")?;
                return Ok(true);
            }
            for _ in 0..waiting.min(AT_ONCE) {
                if !self.process_one()? {
                    return Ok(false);
                }
            }
            sleep(order_takes).await;
        }
    }

    /// One order. False: it failed.
    fn process_one(&self) -> io::Result<bool> {
        let done = files::number(&self.path("processed"));
        self.say(&format!("Processing Order {}", done + 1))?;
        if let Some(error) = strike(&self.path("fault"))? {
            self.say(&format!("Error Processing Order. Error #{error}"))?;
            return Ok(false);
        }
        self.say("Order Processed")?;
        files::replace(&self.path("processed"), &(done + 1).to_string())?;
        let waiting = files::number(&self.path("outstanding")).saturating_sub(1);
        files::replace(&self.path("outstanding"), &waiting.to_string())?;
        Ok(true)
    }
}

/// The error that strikes now, if one does; it strikes once less afterwards.
fn strike(fault: &Path) -> io::Result<Option<u64>> {
    let Some(text) = files::read(fault) else { return Ok(None) };
    let mut words = text.split_whitespace().map(str::parse::<u64>);
    let (Some(Ok(error)), Some(Ok(times))) = (words.next(), words.next()) else { return Ok(None) };
    match times {
        0 => return Ok(None),
        1 => std::fs::remove_file(fault)?,
        _ => files::replace(fault, &format!("{error} {}", times - 1))?,
    }
    Ok(Some(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fault_hangs_the_run_and_the_next_start_picks_up_the_same_order() {
        let dir = tempfile::tempdir().unwrap();
        let shop = Shop { dir: dir.path().to_owned() };
        files::replace(&shop.path("processed"), "3").unwrap();
        files::replace(&shop.path("outstanding"), "2").unwrap();
        files::replace(&shop.path("fault"), "12 1").unwrap();

        assert!(!shop.run_once(Duration::ZERO).await.unwrap());
        let log = std::fs::read_to_string(shop.path("order_processing.log")).unwrap();
        assert!(log.ends_with("Processing Order 4\nError Processing Order. Error #12\n"), "{log}");
        assert_eq!(files::number(&shop.path("outstanding")), 2);

        assert!(shop.run_once(Duration::ZERO).await.unwrap());
        assert_eq!(files::number(&shop.path("processed")), 5);
        assert_eq!(files::number(&shop.path("outstanding")), 0);
    }

    #[test]
    fn a_fault_strikes_as_often_as_it_says() {
        let dir = tempfile::tempdir().unwrap();
        let fault = dir.path().join("fault");
        files::replace(&fault, "7 2").unwrap();
        let struck: Vec<_> = (0..3).map(|_| strike(&fault).unwrap()).collect();
        assert_eq!(struck, [Some(7), Some(7), None]);
    }
}
