//! `weft lab`: a whole cluster on this machine.

mod answer;
mod certificates;
mod change;
mod contain;
pub(crate) mod desired;
mod down;
mod echo;
mod exec;
pub(crate) mod group;
mod link;
mod list;
mod netns;
mod node;
mod pods;
mod probe;
pub(crate) mod process;
pub(crate) mod record;
mod report;
mod serve;
mod start;
mod status;
mod stream;
mod up;

use crate::output::Outcome;
use weft_process::{interrupt, logs::Format};

/// Subcommands of `weft lab`.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Bring a lab up: nodes, operators, agents and the pods of the manifests.
    ///
    /// Example: weft lab up -f docs/examples/shop.yaml --nodes 2
    Up(up::Arguments),
    /// Add or change objects of a running lab; returns when they are enforced.
    ///
    /// Example: weft lab apply -f docs/examples/deny.yaml
    Apply(change::Apply),
    /// Take objects out of a running lab; returns when that is enforced.
    ///
    /// Example: weft lab delete deployment shop/cart
    Delete(change::Delete),
    /// Try every ordered pair of pods for real and print who reaches whom.
    ///
    /// Example: weft lab probe --port TCP/8080,UDP/53,ICMP/8 -o json
    Probe(probe::Arguments),
    Stream(stream::Arguments),
    Report(report::Arguments),
    /// Run a command in a pod's network namespace.
    ///
    /// Example: weft lab exec shop/frontend-0 -- ip route
    Exec {
        /// namespace/name.
        pod: String,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
        #[command(flatten)]
        lab: node::Which,
    },
    /// What a lab is made of, and whether all of it lives; exit 1 when not.
    ///
    /// Example: weft lab status -o json
    Status(status::Arguments),
    /// Kill and start the agents of nodes.
    #[command(subcommand)]
    Agent(node::Agent),
    /// Kill and start the operator.
    #[command(subcommand)]
    Operator(node::Operator),
    /// Work on a node.
    #[command(subcommand)]
    Node(node::Node),
    /// The labs that are there.
    ///
    /// Example: weft lab list -o json
    List(list::Arguments),
    /// Take a lab down; nothing of it is left.
    ///
    /// Example: weft lab down --name demo
    Down(down::Arguments),
    /// Answer on the ports of a lab's pods.
    #[command(hide = true)]
    Serve {
        /// Which lab.
        #[arg(long)]
        name: String,
    },
    /// Run a command of a manifest.
    #[command(hide = true)]
    Contain(contain::Arguments),
}

/// Runs one; `log_format` is that of processes that are started.
pub(crate) fn run(command: Command, log_format: Format) -> anyhow::Result<Outcome> {
    match command {
        Command::Up(arguments) => up::run(&arguments, log_format),
        Command::Apply(arguments) => change::apply(&arguments),
        Command::Delete(arguments) => change::delete(&arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Stream(arguments) => stream::run(&arguments),
        Command::Report(arguments) => report::run(&arguments),
        Command::Exec { pod, command, lab } => exec::run(&pod, &command, lab.name.as_deref()),
        Command::Status(arguments) => status::run(&arguments),
        Command::Agent(command) => node::agent(&command),
        Command::Operator(command) => node::operator(&command),
        Command::Node(command) => node::node(&command),
        Command::List(arguments) => list::run(&arguments),
        Command::Down(arguments) => down::run(&arguments),
        Command::Serve { name } => serve::run(&name),
        Command::Contain(arguments) => contain::run(&arguments),
    }
}
