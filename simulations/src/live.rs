//! Chaos on real processes: the world's faults on the operators and the store of a lab, under live flows and probes.

mod faults;
mod flows;
mod lab;
mod load;
mod report;
mod stop;

use anyhow::{Context, Result};
use faults::Fault;
use flows::Flows;
use lab::Lab;
use load::Load;
use report::{Report, Round};
use std::{
    fs::File,
    io::{BufWriter, Write, stderr},
    path::PathBuf,
    time::{Duration, Instant},
};
use stop::Stop;
use weft_sim::write;

/// From the beginning of one round to that of its fault: flows and clients are under way then.
const CALM: Duration = Duration::from_millis(1500);
/// How long the cluster may take to be well again before that is a failure of its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What is done to which lab, and what is written of it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What goes wrong, again and again.
    #[arg(value_enum)]
    scenario: Fault,
    /// How often.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Milliseconds that each lasts.
    #[arg(long, default_value_t = 3000, value_name = "MS")]
    lasts: u64,
    /// The `weft` that makes the lab; the one beside this program by default.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    weft: Option<PathBuf>,
    /// Write what clients asked and were answered, an operation a line, for `weft-sim check`.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    history: Option<PathBuf>,
}

/// Brings a lab up, does it all, and takes the lab down; what came of it.
pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    let stop = Stop::on_signals()?;
    let history = arguments.history.as_ref();
    let history = history
        .map(|path| File::create(path).with_context(|| format!("write {}", path.display())))
        .transpose()?;
    tell("a lab of three nodes, three operators and an etcd of three is brought up");
    let lab = Lab::up(arguments.weft.as_deref())?;
    let flows = Flows::begin(&lab)?;
    let load = Load::begin(&lab)?;
    let mut rounds = Vec::new();
    let mut trouble = None;
    for number in 1..=arguments.rounds {
        if stop.came() {
            break;
        }
        match round(&lab, &load, arguments, &stop) {
            Ok(round) => {
                tell(&format!("round {number} of {}: {round}", arguments.rounds));
                rounds.push(round);
            }
            Err(error) => {
                trouble = Some(format!("round {number}: {error:#}"));
                break;
            }
        }
    }
    tell("it is looked at once more, and taken down");
    let operations = load.end();
    let flows = flows.end();
    if let Some(file) = history {
        write(&operations, BufWriter::new(file)).context("write the history")?;
    }
    Ok(Report::of(arguments.scenario.name(), rounds, &operations, flows, trouble, stop.came()))
}

/// One fault, and what became of it.
fn round(lab: &Lab, load: &Load, arguments: &Arguments, stop: &Stop) -> Result<Round> {
    stop.sleep(CALM);
    let lasts = Duration::from_millis(arguments.lasts);
    let (struck, fault) = arguments.scenario.strike(lab)?;
    while struck.elapsed() < lasts && !stop.came() {
        fault.go_on(lab)?;
        stop.sleep(LOOK);
    }
    let on = fault.heal(lab)?;
    let healed = Instant::now();
    let well = || Ok(lab.is_well()? && load.first_answer_since(healed).is_some());
    let recovered = lab::wait(PATIENCE, well).with_context(|| format!("{on}: heal"))?;
    let gap = load.first_answer_since(struck).map(|at| at.saturating_duration_since(struck));
    Ok(Round { on, gap, recovered })
}

/// A line for people, while it runs.
fn tell(text: &str) {
    // Who closed it does not want to know.
    drop(writeln!(stderr(), "weft-sim live: {text}"));
}
