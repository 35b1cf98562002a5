//! The shop's stand-ins, one subcommand each.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use quell_tests::shop;

#[derive(Parser)]
#[command(name = "quell-shop", about = "Stand-ins for a shop's services, each of which can be made to fail")]
struct Cli {
    #[command(subcommand)]
    service: Service,
}

#[derive(Subcommand)]
enum Service {
    /// The order processor.
    Orders(shop::orders::Options),
    /// A DNS server.
    Dns(shop::dns::Options),
    /// The runbook's tool for the DNS servers.
    DnsTool(shop::dns_tool::Options),
    /// A machine that can become unreachable.
    Machine(shop::machine::Options),
    /// The web application.
    Web(shop::web::Options),
    /// The application whose log grows.
    AppLog(shop::app_log::Options),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let result = match Cli::parse().service {
        Service::Orders(options) => shop::orders::run(options).await,
        Service::Dns(options) => shop::dns::run(options).await,
        Service::DnsTool(options) => shop::dns_tool::run(&options).map(|line| say(&line)),
        Service::Machine(options) => shop::machine::run(options).await,
        Service::Web(options) => shop::web::run(options).await,
        Service::AppLog(options) => shop::app_log::run(options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "stopped");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "dnsTool answers on standard output")]
fn say(line: &str) {
    println!("{line}");
}
