//! The whole controller over real TLS on loopback, with fake agents: sessions, operators, and the end.

mod harness;
mod operators;
mod session;
mod web;
