//! How long a table takes from the actor that wants it to the kernel that has it, against one bare batch.

use super::{Measurement, Settings, Work, compare, of};
use crate::{
    kernel::Bed,
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
};
use anyhow::{Context, Result, anyhow};
use std::{
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use weft_abi::ipcache::{ADDRESSES4, AddressEntry, REMOTE_POD};
use weft_agent::{
    gated::Gated,
    mapsync::{self, Change, ClassSync, Fill, TableSync},
    metrics::Counts,
    runtime::{self, Runtime},
};
use weft_core::mapsync::{Edits, Rows};
use weft_datapath::{RealKernel, kernel::Maps, maps::RealMaps};

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "maps",
    about: "a table of addresses through the map's owner against one bare batch",
    plans: &[Plan {
        name: "map-sync",
        title: "map sync, addresses",
        unit: Unit::Milliseconds,
        relation: Relation::Floor,
        baseline: "bare batch",
        target: Some(Target::AtMost(1.5)),
    }],
    work: Work::Alone(measure),
};

const PATIENCE: Duration = Duration::from_secs(60);

fn measure(settings: &Settings) -> Result<Vec<Row>> {
    Bed::within(|| {
        let bare = Bed::open("bare")?.maps;
        let RealKernel { maps, .. } = Bed::open("owned")?;
        let rows: Rows = (0..settings.entries).map(entry).collect();
        let owner = Owner::new(Arc::clone(&maps))?;
        let mut held = (0, 0);
        let mut arms = [
            Arm::new("bare batch", || {
                let took = batch(&bare, &rows)?;
                held.0 = empty(&bare, &rows)?;
                Ok(took)
            }),
            Arm::new("owner", || {
                let took = owner.change(rows.iter().map(|(k, v)| (k.clone(), Some(v.clone()))))?;
                held.1 = maps.entries(&ADDRESSES4)?.len();
                owner.change(rows.keys().map(|key| (key.clone(), None)))?;
                Ok(took)
            }),
        ];
        let (figures, conditions) = compare(settings, "map sync", &mut arms)?;
        drop(arms);
        let shown = format!("the kernel held {} and {} of {} entries", held.0, held.1, rows.len());
        let whole = held == (rows.len(), rows.len());
        let check = if whole { Check::passed(shown) } else { Check::failed(shown) };
        let rows = MEASUREMENT.plans.iter();
        Ok(rows
            .map(|p| p.row(of(&figures, 1), of(&figures, 0), check.clone(), conditions))
            .collect())
    })
}

/// The n-th address and who has it.
#[expect(clippy::cast_possible_truncation, reason = "a million at most")]
fn entry(number: usize) -> (Vec<u8>, Vec<u8>) {
    let number = number as u32;
    let value =
        AddressEntry { identity: 256 + number, flags: REMOTE_POD, ..AddressEntry::zeroed() };
    ((0x0a00_0000 + number).to_be_bytes().to_vec(), value.to_bytes().to_vec())
}

/// Milliseconds of writing them with as few calls of the kernel as it allows.
fn batch(maps: &RealMaps, rows: &Rows) -> Result<f64> {
    let keys: Vec<u8> = rows.keys().flatten().copied().collect();
    let values: Vec<u8> = rows.values().flatten().copied().collect();
    let begun = Instant::now();
    maps.update_flat(&ADDRESSES4, &keys, &values)?;
    Ok(milliseconds(begun))
}

/// How many there are; there are none afterwards.
fn empty(maps: &RealMaps, rows: &Rows) -> Result<usize> {
    let held = maps.entries(&ADDRESSES4)?.len();
    maps.delete(&ADDRESSES4, &rows.keys().map(Vec::as_slice).collect::<Vec<_>>())?;
    Ok(held)
}

fn milliseconds(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

/// A thread on which the map's owner lives, an actor as in an agent.
struct Owner(mpsc::Sender<Asked>);

/// Edits, and where to say how long they took.
type Asked = (Edits, mpsc::Sender<Result<f64>>);

impl Owner {
    /// Of an empty map.
    fn new(maps: Arc<RealMaps>) -> Result<Self> {
        let (ask, asked) = mpsc::channel();
        let (say, said) = mpsc::channel();
        thread::spawn(move || runtime::block_on(own(maps, asked, say)));
        said.recv().context("start the map's owner")??;
        Ok(Self(ask))
    }

    /// Milliseconds until the owner answers that the kernel holds them.
    fn change(&self, edits: impl Iterator<Item = (Vec<u8>, Option<Vec<u8>>)>) -> Result<f64> {
        let (say, said) = mpsc::channel();
        let ended = || anyhow!("the map's owner ended");
        self.0.send((edits.collect(), say)).map_err(|_| ended())?;
        said.recv().map_err(|_| ended())?
    }
}

/// Nothing else happens on this thread, so it may wait for the next question as it is.
async fn own(maps: Arc<RealMaps>, asked: mpsc::Receiver<Asked>, ready: mpsc::Sender<Result<()>>) {
    let runtime = Runtime::start();
    let maps: Arc<dyn Maps> = maps;
    let config = mapsync::Config::default();
    let classes = runtime.role("map-classes", {
        let maps = Arc::clone(&maps);
        move |life| {
            ClassSync::new(Gated::new(Arc::clone(&maps), life.gate()), config, Counts::default())
        }
    });
    let seat = runtime.role("map-addresses", move |life| {
        let owning = (config, Counts::default());
        TableSync::new(Gated::new(Arc::clone(&maps), life.gate()), &ADDRESSES4, &classes, owning)
    });
    let owner = seat.edge();
    let filled = owner.ask_within(PATIENCE, Fill(Rows::new())).await;
    // Whoever does not listen any more has given up.
    let _ = ready.send(filled.map_err(Into::into).and_then(answered));
    for (edits, say) in asked {
        let begun = Instant::now();
        let done = owner.ask_within(PATIENCE, Change(edits)).await;
        let took = milliseconds(begun);
        let _ = say.send(done.map_err(Into::into).and_then(answered).map(|()| took));
    }
}

fn answered(answer: Result<(), weft_agent::Refusal>) -> Result<()> {
    answer.map_err(|refusal| anyhow!("the map's owner: {}", refusal.message))
}
