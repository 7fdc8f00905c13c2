//! `weft-sim`: runs scenarios, and says what held.

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use std::{
    fs::File,
    io::{Seek, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};
use weft_sim::{Report, Sabotage, Scenario, Summary, run};

/// Weft's control plane in a world of its own: one thread, virtual time, one seed.
#[derive(Parser)]
#[command(name = "weft-sim", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a scenario; exit 1 when an invariant did not hold or the run was void.
    Run {
        /// A name of `weft-sim list`, or a .yaml file.
        scenario: String,
        /// The seed, or the first of several.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// How many seeds, one after another.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// As large and as long as the scenario is in full: 1000 agents for minutes.
        #[arg(long)]
        full: bool,
        /// Agents; as the scenario says when absent.
        #[arg(long, value_name = "N")]
        nodes: Option<usize>,
        /// Simulated seconds of faults and traffic; as the scenario says when absent.
        #[arg(long)]
        seconds: Option<u64>,
        /// Write a page of the run, with a time line of roles, faults and lag; of several runs the first that does
        /// not hold, or the last.
        #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
        html: Option<PathBuf>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// List the scenarios that come with the program.
    List,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs, one object a line, the last one of all runs.
    Json,
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "weft-sim: {error:#}"));
            ExitCode::from(3)
        }
    }
}

fn execute(command: Command) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match command {
        Command::List => {
            for name in Scenario::names() {
                writeln!(out, "{name:<15} {}", Scenario::find(name)?.about)?;
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Run { scenario, seed, seeds, full, nodes, seconds, html, output } => {
            let mut scenario = Scenario::find(&scenario)?;
            if full {
                scenario = scenario.in_full();
            }
            if let Some(nodes) = nodes {
                scenario = scenario.with_agents(nodes);
            }
            if let Some(seconds) = seconds {
                scenario = scenario.with_seconds(seconds);
            }
            let end = seed.checked_add(seeds).context("count seeds: there are not as many")?;
            if matches!(output, Format::Table) {
                writeln!(out, "{}", Report::header())?;
            }
            // Before anything is run: a page that cannot be written is no reason to wait for.
            let mut page = html.as_deref().map(open).transpose()?;
            let (mut summary, mut all_held, mut trace) = (Summary::of(&scenario), true, 0);
            for seed in seed..end {
                let report = run(&scenario, seed, Sabotage::None);
                match output {
                    Format::Table => writeln!(out, "{report}")?,
                    Format::Json => writeln!(out, "{}", report.to_json()?)?,
                }
                out.flush()?;
                if let Some(page) = page.as_mut().filter(|_| all_held) {
                    write(page, &report.to_html())?;
                }
                all_held &= report.holds();
                summary.add(&report);
                trace = report.trace;
            }
            match output {
                Format::Table => writeln!(out, "{summary}\n{trace:016x}")?,
                Format::Json => writeln!(out, "{}", summary.to_json()?)?,
            }
            Ok(if summary.holds() { ExitCode::SUCCESS } else { ExitCode::from(1) })
        }
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("write {}", path.display()))
}

/// In the place of what was there.
fn write(file: &mut File, text: &str) -> anyhow::Result<()> {
    let mut put = || {
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(text.as_bytes())
    };
    put().context("write the page")
}
