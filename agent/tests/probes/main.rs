//! Probes against real things on loopback: servers, processes, files, programs.
//!
//! `conformance` holds every kind of the list to what all must keep; the other files test what one kind promises.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

mod conformance;
mod dns;
mod hostile;
mod pushed;
mod running;
mod tls;
mod world;
