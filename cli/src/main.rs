//! The weft command: admin commands, flows, the lab. One file a subcommand; no work here.

mod commands;
mod grid;
mod lab;
mod output;
mod target;

use clap::Parser;
use std::{process::ExitCode, sync::LazyLock};

/// Inspect and operate a Weft fabric, and run one on this machine.
#[derive(Parser)]
#[command(name = "weft", version = VERSION.as_str(), propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Compute, explain, check and await policies.
    #[command(subcommand)]
    Policy(commands::policy::Command),
    /// The pods that are plugged.
    #[command(subcommand)]
    Endpoint(commands::endpoint::Command),
    /// The numbers that label sets have.
    #[command(subcommand)]
    Identity(commands::identity::Command),
    /// The nodes of the cluster.
    #[command(subcommand)]
    Node(commands::node::Command),
    /// The eBPF maps of the nodes.
    #[command(subcommand)]
    Map(commands::map::Command),
    /// What goes through the fabric and what is dropped, by whom and which rule.
    Flows(commands::flows::Arguments),
    /// Health and revisions of agents and operators; exit 1 when something is wrong.
    Status(commands::status::Arguments),
    /// A whole cluster on this machine, without Kubernetes, Docker or images.
    #[command(subcommand)]
    Lab(lab::Command),
}

/// `0.1.0 (commit 0123456789ab, ABI 1, wire 1, local API 1)`.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{} (commit {}, ABI {}, wire {}, local API {})",
        env!("CARGO_PKG_VERSION"),
        env!("WEFT_COMMIT"),
        weft_abi::ABI_VERSION,
        weft_wire::WIRE_VERSION,
        weft_api::API_VERSION,
    )
});

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Policy(command) => commands::policy::run(command),
        Command::Endpoint(command) => commands::endpoint::run(command),
        Command::Identity(command) => commands::identity::run(command),
        Command::Node(command) => commands::node::run(command),
        Command::Map(command) => commands::map::run(command),
        Command::Flows(arguments) => commands::flows::run(&arguments),
        Command::Status(arguments) => commands::status::run(&arguments),
        Command::Lab(command) => lab::run(command),
    };
    output::exit_code(result)
}
