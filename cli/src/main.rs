//! The weft command: admin commands, flows, the lab. One file a subcommand; no work here.

mod commands;
mod grid;
mod lab;
mod manifests;
mod output;
mod port;
mod report;
mod target;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use std::process::ExitCode;
use weft_process::{
    logs::{self, Format},
    otlp::{self, Service},
    trace,
    version::version,
};

/// Where somebody begins who has the command and nothing else.
const BEGIN: &str = "\
Begin, as root, with a cluster on this machine:
  weft lab up -f docs/examples/shop.yaml
  weft lab probe
  weft policy explain --lab lab --from shop/frontend-0 --to shop/db-0 --port TCP/5432
  weft flows --last 5
  weft lab down

Or, with nothing but manifests and no root:
  weft policy matrix -f docs/examples/shop.yaml";

/// Inspect and operate a Weft fabric, and run one on this machine.
#[derive(Parser)]
#[command(name = "weft", version = version(), propagate_version = true, max_term_width = 100, after_help = BEGIN)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say on standard error what is done, with the trace that other processes' logs carry; twice: in detail.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Logs")]
    verbose: u8,
    /// How logs are written: those of -v, and of the processes of a lab that is brought up.
    #[arg(long, global = true, value_enum, default_value_t = Format::Text, help_heading = "Logs")]
    log_format: Format,
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
    Flows(commands::flows::Arguments),
    /// Health and revisions of agents and operators; exit 1 when something is wrong.
    ///
    /// Example: weft status -o json
    Status(commands::status::Arguments),
    /// A whole cluster on this machine, without Kubernetes, Docker or images.
    #[command(subcommand)]
    Lab(lab::Command),
    /// The operators' group: who leads it, who is of it.
    #[command(subcommand)]
    Cluster(commands::cluster::Command),
    Completion(commands::completion::Arguments),
}

fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let log_level = std::env::var("RUST_LOG").unwrap_or_else(|_| level(cli.verbose).to_owned());
    let config = logs::Config { log_format: cli.log_format, log_level, otlp_netns: None };
    logs::start(&config, Service { name: "weft", instance: None });
    // The whole command is one span: what others do for it has it as its parent.
    let span = tracing::info_span!("weft", command = name(&matches));
    let span = trace::adopt(span, trace::from_environment());
    let outcome = span.in_scope(|| run(cli));
    drop(span);
    otlp::farewell();
    if let Some(problem) = otlp::problem() {
        output::note!("weft: warning: {problem}");
    }
    output::exit_code(outcome)
}

fn level(verbose: u8) -> &'static str {
    match verbose {
        0 => "off",
        1 => "info",
        _ => "debug",
    }
}

/// The subcommands, as `lab apply`.
fn name(matches: &ArgMatches) -> String {
    let mut names = Vec::new();
    let mut matches = matches;
    while let Some((name, inner)) = matches.subcommand() {
        names.push(name);
        matches = inner;
    }
    names.join(" ")
}

fn run(cli: Cli) -> anyhow::Result<output::Outcome> {
    match cli.command {
        Command::Policy(command) => commands::policy::run(command),
        Command::Endpoint(command) => commands::endpoint::run(command),
        Command::Identity(command) => commands::identity::run(command),
        Command::Node(command) => commands::node::run(command),
        Command::Map(command) => commands::map::run(command),
        Command::Flows(arguments) => commands::flows::run(&arguments),
        Command::Status(arguments) => commands::status::run(&arguments),
        Command::Lab(command) => lab::run(command, cli.log_format),
        Command::Cluster(command) => commands::cluster::run(command),
        Command::Completion(arguments) => commands::completion::run(&arguments, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    /// Every command that people see and that has no subcommands.
    fn leaves(command: &clap::Command, path: &str, into: &mut Vec<(String, clap::Command)>) {
        let seen = command.get_subcommands().filter(|inner| !inner.is_hide_set());
        let mut inner = seen.filter(|inner| inner.get_name() != "help").peekable();
        if inner.peek().is_none() {
            into.push((path.to_owned(), command.clone()));
        }
        inner.for_each(|command| leaves(command, &format!("{path} {}", command.get_name()), into));
    }

    #[test]
    fn every_command_teaches_by_an_example_of_itself_that_parses() {
        Cli::command().debug_assert();
        let mut all = Vec::new();
        leaves(&Cli::command(), "weft", &mut all);
        assert!(all.len() > 20, "{}", all.len());
        for (path, command) in &mut all {
            let help = command.render_long_help().to_string();
            let example = help.split("Example").nth(1).unwrap_or_else(|| panic!("{path}: {help}"));
            let line = example.trim_start_matches(['s', ':', ' ', '\n']);
            // Long examples are wrapped; the paragraph ends with an empty line.
            let line = line.split("\n\n").next().unwrap().lines().next().unwrap();
            assert!(line.starts_with(&*path), "{path}: its example is {line:?}");
        }
    }
}
