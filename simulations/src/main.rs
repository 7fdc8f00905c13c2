//! `weft-sim`: runs scenarios, and says what held.

mod live;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use mimalloc::MiMalloc;
use std::{
    fs::File,
    io::{BufReader, BufWriter, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};
use weft_sim::{Report, Scenario, Summary, check, read, run_each, write};

/// The C library's takes a tenth of all time longer, where many agents begin anew a quarter.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
        #[command(flatten)]
        runs: Runs,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Do the same to real processes: a lab of three nodes, three operators and an etcd of three, under live flows and
    /// probes; exit 1 when something was lost, broken off, or not well again. Needs root.
    Live {
        #[command(flatten)]
        arguments: live::Arguments,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// Look whether a history is linearizable, such as `run` and `live` write; exit 1 when it is not.
    Check {
        /// One operation a line: client, call, return, operation, outcome.
        #[arg(value_hint = clap::ValueHint::FilePath)]
        history: PathBuf,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t = Format::Table)]
        output: Format,
    },
    /// List the scenarios that come with the program.
    List,
}

/// Runs of a scenario, and what is written of them.
#[derive(clap::Args)]
struct Runs {
    /// A name of `weft-sim list`, or a .yaml file.
    scenario: String,
    /// The seed, or the first of several.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after another.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// As large and as long as the scenario is in full: 1000 agents for minutes.
    #[arg(long, conflicts_with = "small")]
    full: bool,
    /// The same faults in a world of five nodes and two clients with a few pods each: many seeds in little time.
    #[arg(long)]
    small: bool,
    /// How many runs at a time; one for each processor when absent.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
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
    /// Write what clients asked and were answered, an operation a line, of the same run as the page.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    history: Option<PathBuf>,
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
    match command {
        Command::List => list(),
        Command::Check { history, output } => check_file(&history, output),
        Command::Live { arguments, output } => run_live(&arguments, output),
        Command::Run { runs, output } => runs.run(output),
    }
}

fn list() -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    for name in Scenario::names() {
        writeln!(out, "{name:<17} {}", Scenario::find(name)?.about)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Runs {
    fn scenario(&self) -> anyhow::Result<Scenario> {
        let mut scenario = Scenario::find(&self.scenario)?;
        if self.full {
            scenario = scenario.in_full();
        }
        if self.small {
            scenario = scenario.in_small();
        }
        if let Some(nodes) = self.nodes {
            scenario = scenario.with_agents(nodes);
        }
        if let Some(seconds) = self.seconds {
            scenario = scenario.with_seconds(seconds);
        }
        Ok(scenario)
    }

    fn run(&self, output: Format) -> anyhow::Result<ExitCode> {
        let scenario = self.scenario()?;
        let end = self.seed.checked_add(self.seeds);
        let end = end.context("count seeds: there are not as many")?;
        // Before anything is run: a file that cannot be written is no reason to wait for.
        let open = |path: &Option<PathBuf>| path.as_deref().map(open).transpose();
        let (mut page, history) = (open(&self.html)?, open(&self.history)?);
        let jobs = self.jobs.map_or_else(thread::available_parallelism, Ok)?;
        let mut out = std::io::stdout().lock();
        if matches!(output, Format::Table) {
            writeln!(out, "{}", Report::header())?;
        }
        let (mut summary, mut trace) = (Summary::of(&scenario), 0);
        run_each(&scenario, self.seed..end, jobs, |report| {
            match output {
                Format::Table => writeln!(out, "{report}")?,
                Format::Json => writeln!(out, "{}", report.to_json()?)?,
            }
            out.flush()?;
            // What did not hold is what one wants to look at.
            if summary.held() && (!report.holds() || report.seed + 1 == end) {
                if let Some(page) = &mut page {
                    page.write_all(report.to_html().as_bytes()).context("write the page")?;
                }
                if let Some(history) = &history {
                    write(&report.history, BufWriter::new(history)).context("write the history")?;
                }
            }
            summary.add(&report);
            trace = report.trace;
            anyhow::Ok(())
        })?;
        match output {
            Format::Table => writeln!(out, "{summary}\n{trace:016x}")?,
            Format::Json => writeln!(out, "{}", summary.to_json()?)?,
        }
        Ok(if summary.holds() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

fn run_live(arguments: &live::Arguments, output: Format) -> anyhow::Result<ExitCode> {
    let report = live::run(arguments)?;
    let mut out = std::io::stdout().lock();
    match output {
        Format::Table => writeln!(out, "{report}")?,
        Format::Json => writeln!(out, "{}", report.to_json()?)?,
    }
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn check_file(path: &Path, output: Format) -> anyhow::Result<ExitCode> {
    let file = File::open(path).with_context(|| format!("read {}", path.display()))?;
    let checked = check(&read(BufReader::new(file))?);
    let mut out = std::io::stdout().lock();
    match output {
        Format::Table => writeln!(out, "{checked}")?,
        Format::Json => writeln!(out, "{}", checked.to_json()?)?,
    }
    Ok(if checked.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("write {}", path.display()))
}
