//! `weft-bench`, behind `make bench`: what Weft costs, each figure beside something measured in the same run.
//!
//! `docs/benchmarks.md` says how to read the table and how to add a row.

mod bare;
mod cluster;
mod crowd;
mod environment;
mod fabric;
mod kernel;
mod load;
mod measure;
mod namespace;
mod program;
mod quorum;
mod redirect;
mod report;
mod rounds;
mod row;
mod stats;
mod stream;
mod town;
mod world;

use anyhow::{Context, Result};
use clap::{Parser, builder::PossibleValuesParser};
use environment::Environment;
use fabric::{Fabric, Size};
use measure::{ALL, Measurement, Settings, Work};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use report::{Report, SCHEMA};
use row::{Row, Verdict};
use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};
use weft_process::interrupt;

/// Fewer rounds than this are a trial: their quartiles say little.
const ROUNDS_THAT_COUNT: usize = 7;

/// Measure what Weft costs, each figure beside something measured in the same run.
///
/// A row's figures come from interleaved rounds: baseline, Weft, Weft, baseline, … so that whatever the
/// machine does meanwhile falls on both. RESULT is the ratio (or difference) of the medians; in brackets
/// stand the quartiles of what single rounds say. Compare results of one machine and one run, never
/// absolute figures of two. WORKED says whether what was measured did its job: a row that did not shows
/// FAIL. Rows are not judged when others used more than half a CPU meanwhile.
///
/// Needs root, the release build (`make build`) and about seven minutes; --quick shows in a minute
/// that all of it runs.
#[derive(Parser)]
#[command(name = "weft-bench", version, after_help = examples())]
struct Arguments {
    /// Few and short rounds, a small lab: shows that everything runs; the figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Only this measurement; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = names())]
    only: Vec<String>,
    /// Rounds of each comparison; fewer than 7 are a trial.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// Write everything as JSON, every round among it.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(ALL.iter().map(|measurement| measurement.name))
}

fn examples() -> String {
    let mut text = "Measurements:\n".to_owned();
    for measurement in ALL {
        text += &format!("  {:8} {}\n", measurement.name, measurement.about);
    }
    text + "\nExamples:\n  weft-bench --only rr --rounds 31\n  weft-bench --quick --json /tmp/bench.json\n\n\
            Exit codes: 0 measured, 1 something that was measured does not work, 2 wrong usage, 3 could not measure."
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            note(&format!("{error:#}"));
            ExitCode::from(3)
        }
    }
}

/// Says something on the standard error; whoever closed it does not want to know.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "bench: {text}");
}

fn run(arguments: &Arguments) -> Result<ExitCode> {
    anyhow::ensure!(
        nix::unistd::geteuid().is_root(),
        "measuring needs root (network namespaces, eBPF): run `sudo make bench`"
    );
    for name in ["weft", "weft-agent", "weft-operator", "weft-cni"] {
        program::ours(name)?;
    }
    interrupt::watch()?;
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Thousands of connections, here and at what is started.
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let settings = settings(arguments);
    let chosen: Vec<Measurement> = ALL
        .into_iter()
        .filter(|m| arguments.only.is_empty() || arguments.only.iter().any(|n| n == m.name))
        .collect();
    let rows = measure_all(&settings, &chosen)?;
    let report = Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        begun,
        trial: settings.is_trial,
        scale: settings.scale(),
        environment: Environment::read(),
        rows,
    };
    tell(&report, arguments)?;
    let broken = report.rows.iter().any(|row| row.verdict == Verdict::Broken);
    Ok(if broken { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn settings(arguments: &Arguments) -> Settings {
    let milliseconds = Duration::from_millis;
    let full = Settings {
        // Many short rounds rather than few long ones: neighbours see the same machine.
        rounds: 31,
        is_trial: cfg!(debug_assertions),
        round: milliseconds(150),
        size: Size { pods: 50, rules: 1000 },
        adds: 6,
        idle: milliseconds(250),
        entries: 100_000,
        runs: 1000,
        flows: 1 << 16,
        agents: 5000,
    };
    let quick = Settings {
        rounds: 2,
        round: milliseconds(20),
        size: Size { pods: 6, rules: 30 },
        adds: 2,
        idle: milliseconds(100),
        entries: 2000,
        runs: 50,
        flows: 512,
        agents: 50,
        ..full
    };
    let base = if arguments.quick { quick } else { full };
    let rounds = arguments.rounds.map_or(base.rounds, usize::from);
    let is_trial = base.is_trial || arguments.quick || rounds < ROUNDS_THAT_COUNT;
    Settings { rounds, is_trial, ..base }
}

/// Rows of all that were chosen. What cannot be measured is a row that says so, and does not keep others from it.
fn measure_all(settings: &Settings, chosen: &[Measurement]) -> Result<Vec<Row>> {
    let in_lab = chosen.iter().any(|m| matches!(m.work, Work::InLab(_)));
    let mut lab = in_lab.then(|| {
        let Size { pods, rules } = settings.size;
        note(&format!("bringing up a lab: two nodes, {pods} pods on the first, {rules} rules"));
        Fabric::up(settings.size)
    });
    let mut rows = Vec::new();
    for measurement in chosen {
        if matches!(measurement.work, Work::Alone(_)) {
            // Nothing of it is to run beside what needs none.
            lab = None;
        }
        let made = match (measurement.work, &lab) {
            (Work::InLab(work), Some(Ok(lab))) => work(settings, lab),
            (Work::InLab(_), Some(Err(error))) => Err(anyhow::anyhow!("{error:#}")),
            (Work::InLab(_), None) => Err(anyhow::anyhow!("there is no lab")),
            (Work::Alone(work), _) => work(settings),
        };
        interrupt::check()?;
        rows.extend(made.unwrap_or_else(|error| {
            note(&format!("{}: {error:#}", measurement.name));
            measurement.plans.iter().map(|plan| plan.broken(format!("{error:#}"))).collect()
        }));
    }
    Ok(rows)
}

fn tell(report: &Report, arguments: &Arguments) -> Result<()> {
    if let Some(path) = &arguments.json {
        let json = serde_json::to_vec_pretty(report)?;
        std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
    }
    writeln!(std::io::stdout(), "{}", report.text()).context("print the table")
}
