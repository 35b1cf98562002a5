//! The whole controller over real TLS on loopback, with fake agents: sessions, operators, and the end.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod alerts;
mod audit;
mod audited;
mod freeze;
mod harness;
mod installation;
mod operators;
mod process;
mod session;
mod votes;
mod web;
mod why;
