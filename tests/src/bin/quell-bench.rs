//! Measures what `docs/performance.md` reports, each against a bare limit taken in the same run.
//!
//! ```text
//! cargo build --release --workspace --bins --examples
//! target/release/quell-bench restart --runs 50
//! target/release/quell-bench rest --seconds 120
//! ```

use clap::{Parser, Subcommand};
use quell_tests::bench;

#[derive(Parser)]
#[command(name = "quell-bench", about = "Measures Quell against bare limits, in the same run")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// From the kill of a supervised process to its running again.
    Restart {
        /// How many services are killed, one after the other.
        #[arg(long, default_value_t = 50)]
        runs: usize,
    },
    /// Memory and CPU time of an agent at rest.
    Rest {
        /// For how long, in seconds.
        #[arg(long, default_value_t = 120)]
        seconds: u64,
    },
}

#[expect(clippy::print_stdout, reason = "results go to standard output")]
fn main() -> anyhow::Result<()> {
    let report = match Cli::parse().what {
        What::Restart { runs } => bench::restart::measure(runs)?,
        What::Rest { seconds } => bench::rest::measure(seconds)?,
    };
    println!("{report}");
    Ok(())
}
