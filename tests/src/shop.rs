//! Stand-ins for the services of a small shop, each a real process that can be made to fail.
//!
//! They write the logs and counters that the shop's real services write and speak its runbook's words, so that
//! policies, probes and actions meet the same things as in production: real files, sockets, signals and processes.
//! A fault is a file in the service's directory; removing it ends the fault.

pub mod app_log;
pub mod dns;
pub mod dns_tool;
pub mod files;
pub mod floor;
pub mod machine;
pub mod orders;
pub mod web;
