//! Many runs of a scenario: each world in a thread, several side by side, and what came of them in the order of their seeds.

use crate::{Report, Sabotage, Scenario, run};
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    ops::Range,
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

/// Runs a scenario once with each seed, so many at a time, and hands over what came of each; after an error no other begins.
pub fn run_each<E>(
    scenario: &Scenario,
    seeds: Range<u64>,
    jobs: NonZeroUsize,
    mut take: impl FnMut(Report) -> Result<(), E>,
) -> Result<(), E> {
    let next = AtomicU64::new(seeds.start);
    let (done, reports) = mpsc::sync_channel(jobs.get());
    let work = |done: mpsc::SyncSender<Report>| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || done.send(run(scenario, seed, Sabotage::None)).is_err() {
                return;
            }
        }
    };
    thread::scope(|scope| {
        for done in vec![done; jobs.get()] {
            scope.spawn(|| work(done));
        }
        let mut early = BTreeMap::new();
        let mut wanted = seeds.start;
        for report in reports {
            early.insert(report.seed, report);
            while let Some(report) = early.remove(&wanted) {
                take(report)?;
                wanted += 1;
            }
        }
        Ok(())
    })
}
