//! `weft lab`: a whole cluster on this machine.

mod certificates;
mod down;
mod exec;
mod link;
mod netns;
mod pods;
mod probe;
mod process;
pub(crate) mod record;
mod serve;
mod up;

use crate::output::Outcome;
use std::path::PathBuf;

/// Subcommands of `weft lab`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Bring a lab up: nodes, operators, agents and the pods of the manifests.
    ///
    /// Example: weft lab up -f docs/examples/shop.yaml --nodes 2
    Up(up::Arguments),
    /// Add or change objects of a running lab; returns when they are enforced.
    Apply {
        /// Manifests: files, folders, or - for standard input.
        #[arg(short, required = true)]
        file: Vec<PathBuf>,
        /// Which lab; the only one by default.
        #[arg(long, visible_alias = "lab")]
        name: Option<String>,
    },
    /// Try every ordered pair of pods for real and print who reaches whom.
    Probe(probe::Arguments),
    /// Run a command in a pod's network namespace.
    Exec {
        /// namespace/name.
        pod: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
        /// Which lab; the only one by default.
        #[arg(long, visible_alias = "lab")]
        name: Option<String>,
    },
    /// Name the labs that are up.
    List,
    /// Take a lab down; nothing of it is left.
    Down {
        /// Which lab; the only one by default.
        #[arg(long, visible_alias = "lab")]
        name: Option<String>,
    },
    /// Answer on the ports of a lab's pods.
    #[command(hide = true)]
    Serve {
        /// Which lab.
        #[arg(long)]
        name: String,
    },
}

/// Runs one.
pub(crate) fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Up(arguments) => up::run(&arguments),
        Command::Apply { file, name } => up::apply(&file, name.as_deref()),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Exec { pod, command, name } => exec::run(&pod, &command, name.as_deref()),
        Command::List => {
            record::names()?.iter().for_each(|name| println!("{name}"));
            Ok(Outcome::Done)
        }
        Command::Down { name } => down::run(name.as_deref()),
        Command::Serve { name } => serve::run(&name),
    }
}
