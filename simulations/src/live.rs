//! Chaos on real processes: the world's faults on the operators and the store of a lab, under live flows and probes.

mod connections;
mod faults;
mod flows;
mod lab;
mod load;
mod pods;
mod report;

use anyhow::{Context, Result};
use connections::Counting;
use faults::{Fault, Step};
use flows::Flows;
use lab::Lab;
use load::Load;
use pods::{Runtime, Started};
use report::{Report, Round};
use std::{
    fs::File,
    io::{BufWriter, Write, stderr},
    path::PathBuf,
    time::{Duration, Instant},
};
use weft_process::interrupt;
use weft_sim::write;

/// From the beginning of one round to that of its fault, at least and at most: flows and clients are under way then.
const CALM: (u64, u64) = (1000, 2000);
/// How long the cluster may take to be well again before that is a failure of its own.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What is done to which lab, and what is written of it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What goes wrong, again and again; of several, one after the other.
    #[arg(value_enum, required = true)]
    scenario: Vec<Fault>,
    /// How often all of it.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Milliseconds that each fault lasts, a third more at most.
    #[arg(long, default_value_t = 3000, value_name = "MS")]
    lasts: u64,
    /// What decides when each fault strikes, whom, and for how long; any by default, which is told.
    #[arg(long)]
    seed: Option<u64>,
    /// Election time-outs within which something is to be allocated again after a leader is lost, 99 times of 100.
    #[arg(long, value_name = "TIME-OUTS")]
    gap: Option<f64>,
    /// The `weft` that makes the lab; the one beside this program by default.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    weft: Option<PathBuf>,
    /// Write what clients asked and were answered, an operation a line, for `weft-sim check`.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    history: Option<PathBuf>,
}

/// Brings a lab up, does it all, and takes the lab down; what came of it.
pub(crate) fn run(arguments: &Arguments) -> Result<Report> {
    interrupt::watch()?;
    let history = arguments.history.as_ref();
    let history = history
        .map(|path| File::create(path).with_context(|| format!("write {}", path.display())))
        .transpose()?;
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let mut rng = fastrand::Rng::with_seed(seed);
    tell(&format!(
        "a lab of three nodes, three operators and an etcd of three is brought up; --seed {seed} does the same to another"
    ));
    let lab = Lab::up(arguments.weft.as_deref())?;
    // An ADD of a pod that nobody knows takes longer than most faults last.
    let starts = arguments.scenario.contains(&Fault::GroupLoss);
    let runtime = starts.then(|| Runtime::on(&lab)).transpose()?;
    let flows = Flows::begin(&lab)?;
    let load = Load::begin(&lab)?;
    let mut rounds = Vec::new();
    let mut trouble = None;
    let steps: Vec<Step> =
        arguments.scenario.iter().flat_map(|fault| fault.steps()).copied().collect();
    let lasts = Duration::from_millis(arguments.lasts);
    let world = World { lab: &lab, load: &load, runtime: runtime.as_ref() };
    let rounds_and_steps =
        (1..=arguments.rounds).flat_map(|round| steps.iter().map(move |step| (round, *step)));
    for (number, step) in rounds_and_steps {
        if interrupt::came() {
            break;
        }
        match world.round(step, lasts, &mut rng) {
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
    let names: Vec<&str> = arguments.scenario.iter().map(|fault| fault.name()).collect();
    let report = Report::of(names.join(", "), rounds, &operations, flows, trouble);
    Ok(report.judged((seed, arguments.gap), interrupt::came()))
}

/// What a fault strikes.
struct World<'a> {
    lab: &'a Lab,
    load: &'a Load,
    runtime: Option<&'a Runtime>,
}

impl World<'_> {
    /// One fault of a round, and what became of it.
    fn round(&self, step: Step, lasts: Duration, rng: &mut fastrand::Rng) -> Result<Round> {
        let Self { lab, load, runtime } = self;
        // As much is drawn whatever becomes of it, so that one round's course changes no other's.
        let (calm, lasts) = (rng.u64(CALM.0..=CALM.1), lasts.mul_f64(1.0 + rng.f64() / 3.0));
        let whom = rng.usize(..);
        interrupt::sleep(Duration::from_millis(calm));
        let counting = Counting::begin(lab)?;
        let (struck, fault) = step.strike(lab, whom)?;
        let mut started = runtime.filter(|_| step.starts_pods()).map(|_| Started::default());
        while struck.elapsed() < lasts && !interrupt::came() {
            interrupt::sleep(LOOK);
            // Once, in the midst of it.
            let due = started == Some(Started::default()) && struck.elapsed() > lasts / 3;
            if let Some(runtime) = runtime.filter(|_| due) {
                started = Some(runtime.start()?);
            }
        }
        // What is away is away until it has been started again: that is part of how long it takes.
        let over = Instant::now();
        let on = fault.heal(lab)?;
        let healed = Instant::now();
        let goes_on = || load.first_answer_since(healed).is_some();
        let well = || Ok(goes_on() && lab.is_well()? && lab.is_enforced()?);
        lab::wait(PATIENCE, well).with_context(|| format!("{on}: heal"))?;
        let recovered = over.elapsed();
        let gap = load.first_answer_since(struck).map(|at| at.saturating_duration_since(struck));
        let begun = counting.end()?;
        Ok(Round { on, is_leader: step.is_leader(), gap, recovered, started, begun })
    }
}

/// A line for people, while it runs.
fn tell(text: &str) {
    // Who closed it does not want to know.
    drop(writeln!(stderr(), "weft-sim live: {text}"));
}
