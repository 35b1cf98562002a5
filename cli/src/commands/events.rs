//! `quell events`: the records of the log, gap-free by sequence number.

use std::time::Duration;

use clap::Args;
use quell_wire::v1::{EventsRequest, RecordView};

use crate::{
    connect::Context,
    error::Error,
    exit::Exit,
    output::{self, Format},
    render::{escape, time::clock},
};

/// Pauses between attempts to reach the controller again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which records.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Stay and print what comes; a controller that goes away is waited for, and no record is lost or printed twice.
    #[arg(short, long)]
    pub follow: bool,
    /// The first sequence number wanted; without it the oldest that is kept.
    #[arg(long, value_name = "NUMBER", default_value = "0", conflicts_with = "tail")]
    pub from: u64,
    /// Begin with the newest.
    #[arg(long, requires = "follow")]
    pub tail: bool,
}

/// Prints records, with `-o json` one a line.
///
/// # Errors
/// The controller's refusal, or, unless it follows, the connection's.
pub async fn run(arguments: &Arguments, context: &Context) -> Result<Exit, Error> {
    let mut place = Place { from: arguments.from, tail: arguments.tail };
    let mut pause = FIRST_PAUSE;
    loop {
        let before = place.from;
        match print(&mut place, arguments.follow, context).await {
            Ok(()) if !arguments.follow => return Ok(Exit::Done),
            Ok(()) | Err(Error::Unreachable(_) | Error::Broken(_)) if arguments.follow => {}
            Ok(()) => return Ok(Exit::Done),
            Err(error) => return Err(error),
        }
        if place.from > before {
            pause = FIRST_PAUSE;
        }
        if pause == FIRST_PAUSE {
            tracing::warn!(from = place.from, "lost the controller; will ask until it is back");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Where the next attempt begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    from: u64,
    tail: bool,
}

impl Place {
    /// Whether a record is new; the place moves behind it.
    fn admits(&mut self, sequence: u64) -> bool {
        if sequence < self.from {
            return false;
        }
        *self = Self { from: sequence + 1, tail: false };
        true
    }
}

async fn print(place: &mut Place, follow: bool, context: &Context) -> Result<(), Error> {
    let request = EventsRequest { from: place.from, follow, tail: place.tail };
    let mut records = context.client().await?.events(request).await?.into_inner();
    while let Some(record) = records.message().await? {
        if place.admits(record.sequence) {
            output::text(&draw(&record, context.format)?)?;
        }
    }
    Ok(())
}

fn draw(record: &RecordView, format: Format) -> Result<String, Error> {
    Ok(match format {
        Format::Json => format!("{}\n", output::json(&output::to_value(record)?, false)),
        Format::Yaml => format!("---\n{}", crate::render::yaml::write(&output::to_value(record)?)),
        Format::Name => format!("{}\n", record.sequence),
        Format::Table | Format::Wide => {
            let line = format!("{:>6}  {}  {}  {}", record.sequence, clock(&record.time), record.actor, record.text);
            format!("{}\n", escape::line(&line))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_record_is_printed_twice() {
        let mut place = Place { from: 0, tail: true };
        let admitted: Vec<_> = [7, 8, 8, 7, 9].into_iter().filter(|sequence| place.admits(*sequence)).collect();
        assert_eq!(admitted, [7, 8, 9]);
        assert_eq!(place, Place { from: 10, tail: false });
    }

    #[test]
    fn a_record_is_one_line() {
        let record = RecordView {
            sequence: 12,
            time: "2026-11-22T10:00:00.5Z".to_owned(),
            actor: "agent:planthost1".to_owned(),
            text: "said \u{1b}[2J\nand more".to_owned(),
            ..RecordView::default()
        };
        let line = draw(&record, Format::Table).unwrap();
        assert_eq!(line, "    12  11-22 10:00:00.500  agent:planthost1  said \\u{1b}[2J\\nand more\n");
        let json = draw(&record, Format::Json).unwrap();
        assert_eq!(json.lines().count(), 1);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["sequence"], 12);
    }
}
