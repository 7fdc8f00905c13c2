//! The owners of the agent-written maps: each makes its map in the kernel be what is desired, and looks now and then whether it still is.

use crate::{
    Refusal,
    gated::Gated,
    internal,
    metrics::Counts,
    runtime::{Edge, Life, Role, Seat, Serve, Thread, request},
    try_again,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use weft_abi::{
    map::{MapKind, MapSpec},
    policy::{ClassEdit, PolicyEntry, PolicyPrefix},
};
use weft_api::agent::MapRow;
use weft_core::{
    mapsync::{Edits, Rows, Table},
    policy::Entries,
};
use weft_datapath::kernel::{KernelError, Maps};

/// What the owners of maps are told.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// How often each map is compared with what it should hold; 100,000 entries take some 50 ms of a thread.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub map_sweep: Duration,
}

impl Default for Config {
    fn default() -> Self {
        weft_process::config::defaults()
    }
}

/// The map is to hold exactly these rows.
pub struct Fill(pub Rows);
request!(Fill => Result<(), Refusal>);

/// Some rows change.
pub struct Change(pub Edits);
request!(Change => Result<(), Refusal>);

/// What the kernel holds now.
pub struct ReadRows;
request!(ReadRows => Result<Rows, Refusal>);

impl Serve<ReadRows> for TableSync {
    async fn serve(&mut self, _: ReadRows, _: &Life<Self>) -> Result<Rows, Refusal> {
        self.read()
    }
}

/// Compare the kernel with what it should hold, and mend it.
pub struct Sweep;
request!(Sweep => ());

/// The map in a row.
pub struct Describe;
request!(Describe => MapRow);

/// What a map's owner tells of it besides its entries.
struct Health {
    map: &'static MapSpec,
    counts: Counts,
    problem: Option<String>,
}

impl Health {
    fn of(map: &'static MapSpec, counts: Counts) -> Self {
        Self { map, counts, problem: None }
    }

    /// What a sweep found.
    fn swept(&self, mended: Result<usize, Refusal>) {
        let map = self.map.name;
        match mended {
            Ok(0) => {}
            Ok(mended) => self.counts.map_mended(map, mended),
            Err(error) => tracing::error!(map, %error, "sweep"),
        }
    }

    fn note<T>(&mut self, result: Result<T, KernelError>) -> Result<T, Refusal> {
        result.map_err(|error| {
            self.problem = Some(error.to_string());
            internal(error)
        })
    }

    fn row(&self, kernel: &Gated<dyn Maps>, entries: usize) -> MapRow {
        let written_by = if self.map.kind == MapKind::Kernel { "kernel" } else { "agent" };
        MapRow {
            node: String::new(),
            name: self.map.name.to_owned(),
            written_by: written_by.to_owned(),
            entries: entries as u64,
            capacity: u64::from(kernel.capacity(self.map)),
            mended: self.counts.mended_of(self.map.name),
            problem: self.problem.clone(),
        }
    }
}

/// The owner of one map of plain rows.
pub struct TableSync {
    kernel: Gated<dyn Maps>,
    config: Config,
    map: &'static MapSpec,
    table: Table,
    epoch: Edge<ClassSync>,
    health: Health,
}

impl TableSync {
    /// Of a map; `epoch` is whose the epoch is.
    pub fn new(
        kernel: Gated<dyn Maps>,
        map: &'static MapSpec,
        epoch: &Seat<ClassSync>,
        (config, counts): (Config, Counts),
    ) -> Self {
        let (table, health) = (Table::default(), Health::of(map, counts));
        Self { kernel, config, map, table, epoch: epoch.edge(), health }
    }

    fn read(&mut self) -> Result<Rows, Refusal> {
        let entries = self.health.note(self.kernel.entries(self.map))?;
        Ok(entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
    }

    /// Writes the difference to what the kernel is read to hold; says how much there was.
    async fn mend(&mut self) -> Result<usize, Refusal> {
        let held = self.read()?;
        let edits = self.table.mend(&held);
        if !edits.is_empty() {
            self.write(&edits)?;
            // Flows may have been judged by what was wrong; until that is said it may not be believed.
            self.table.trust(false);
            self.epoch.ask(BumpEpoch).await??;
        }
        self.table.trust(true);
        Ok(edits.len())
    }

    fn write(&mut self, edits: &Edits) -> Result<(), Refusal> {
        // Laid out as the kernel takes them, once.
        let (mut keys, mut values, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for (key, value) in edits {
            match value {
                Some(value) => {
                    keys.extend_from_slice(key);
                    values.extend_from_slice(value);
                }
                None => gone.push(key.as_slice()),
            }
        }
        self.table.trust(false);
        let (map, deletes) = (self.map.name, gone.len());
        let upserts = edits.len() - deletes;
        let span = tracing::debug_span!("map.write", map, upserts, deletes);
        // What goes makes room for what comes.
        let written = span.in_scope(|| {
            self.kernel
                .delete(self.map, &gone)
                .and_then(|()| self.kernel.update_flat(self.map, &keys, &values))
        });
        self.health.note(written)?;
        self.table.trust(true);
        self.health.problem = None;
        Ok(())
    }
}

impl Role for TableSync {
    const THREAD: Thread = Thread::Maps;

    async fn born(&mut self, life: &Life<Self>) -> Result<(), Refusal> {
        life.every(self.config.map_sweep, || Sweep);
        Ok(())
    }
}

impl Serve<Fill> for TableSync {
    async fn serve(&mut self, Fill(rows): Fill, _: &Life<Self>) -> Result<(), Refusal> {
        self.table.fill(rows);
        // What was written before this life is read back, not guessed.
        self.mend().await.map(drop)
    }
}

impl Serve<Change> for TableSync {
    async fn serve(&mut self, Change(edits): Change, _: &Life<Self>) -> Result<(), Refusal> {
        if self.table.desired().is_none() {
            return Err(try_again(format!("map {} is not filled yet", self.map.name)));
        }
        if !self.table.is_trusted() {
            self.table.change(edits);
            return self.mend().await.map(drop);
        }
        let written = self.write(&edits);
        // Wanted whether or not the kernel took it.
        self.table.change(edits);
        written
    }
}

impl Serve<Sweep> for TableSync {
    async fn serve(&mut self, _: Sweep, _: &Life<Self>) {
        if self.table.desired().is_none() {
            return;
        }
        let mended = self.mend().await;
        self.health.swept(mended);
    }
}

impl Serve<Describe> for TableSync {
    async fn serve(&mut self, _: Describe, _: &Life<Self>) -> MapRow {
        self.health.row(&self.kernel, self.table.desired().map_or(0, BTreeMap::len))
    }
}

/// The owner of the policy classes and of the epoch.
pub struct ClassSync {
    kernel: Gated<dyn Maps>,
    config: Config,
    desired: Option<BTreeMap<u32, Entries>>,
    trusted: bool,
    health: Health,
}

impl ClassSync {
    /// Over a kernel.
    pub fn new(kernel: Gated<dyn Maps>, config: Config, counts: Counts) -> Self {
        let health = Health::of(&weft_abi::policy::CLASSES, counts);
        Self { kernel, config, desired: None, trusted: false, health }
    }

    /// The classes the kernel holds.
    fn read(&mut self) -> Result<BTreeMap<u32, Entries>, Refusal> {
        let kernel = &self.kernel;
        let read = kernel.classes().and_then(|classes| {
            let entries = |class| Ok((class, kernel.class_entries(class)?.into_iter().collect()));
            classes.into_iter().map(entries).collect()
        });
        self.health.note(read)
    }

    fn mend(&mut self) -> Result<usize, Refusal> {
        self.trusted = false;
        let held = self.read()?;
        let Some(desired) = &self.desired else { return Ok(0) };
        let replaced: BTreeMap<u32, Entries> = desired
            .iter()
            .filter(|(class, entries)| held.get(class) != Some(entries))
            .map(|(class, entries)| (*class, entries.clone()))
            .collect();
        let removed = held.keys().filter(|class| !desired.contains_key(class)).copied().collect();
        let mended = replaced.len() + held.keys().filter(|c| !desired.contains_key(c)).count();
        self.write(&ClassStep::Replace(replaced))?;
        self.write(&ClassStep::Remove(removed))?;
        if mended > 0 {
            // Flows may have been judged by what was wrong.
            self.health.note(self.kernel.bump_epoch())?;
        }
        self.trusted = true;
        self.health.problem = None;
        Ok(mended)
    }

    fn write(&mut self, step: &ClassStep) -> Result<(), Refusal> {
        let (map, (step_name, classes)) = (weft_abi::policy::CLASSES.name, step.describe());
        let span = tracing::debug_span!("map.write", map, step = step_name, classes);
        let _inside = span.enter();
        let written = match step {
            ClassStep::Replace(classes) if classes.is_empty() => Ok(()),
            ClassStep::Replace(classes) => {
                let whole = |(class, entries): (&u32, &Entries)| (*class, whole(entries));
                self.kernel.class_replace(&classes.iter().map(whole).collect::<Vec<_>>())
            }
            ClassStep::Edit(classes) => {
                classes.iter().try_for_each(|(class, edits)| self.edit(*class, edits))
            }
            ClassStep::Remove(classes) if classes.is_empty() => Ok(()),
            ClassStep::Remove(classes) => {
                self.kernel.class_remove(&classes.iter().copied().collect::<Vec<_>>())
            }
        };
        self.health.note(written)
    }

    /// Edits a class in place. One whose trie is full grows: it is swapped in whole, as all of its edits leave it.
    fn edit(&self, class: u32, edits: &[ClassEdit]) -> Result<(), KernelError> {
        let edited = self.kernel.class_edit(class, edits);
        let grown = self.desired.as_ref().and_then(|desired| desired.get(&class));
        match (edited, grown) {
            (Err(KernelError::Full { capacity, .. }), Some(entries)) => {
                tracing::info!(class, capacity, entries = entries.len(), "a full class grows");
                self.kernel.class_replace(&[(class, whole(entries))])
            }
            (edited, _) => edited,
        }
    }
}

/// A class's entries as the kernel takes them.
fn whole(entries: &Entries) -> Vec<(PolicyPrefix, PolicyEntry)> {
    entries.iter().map(|(key, entry)| (*key, *entry)).collect()
}

impl Role for ClassSync {
    const THREAD: Thread = Thread::Maps;

    async fn born(&mut self, life: &Life<Self>) -> Result<(), Refusal> {
        life.every(self.config.map_sweep, || Sweep);
        Ok(())
    }
}

/// The classes are to be exactly these.
pub struct FillClasses(pub BTreeMap<u32, Entries>);
request!(FillClasses => Result<(), Refusal>);

impl Serve<FillClasses> for ClassSync {
    async fn serve(&mut self, fill: FillClasses, _: &Life<Self>) -> Result<(), Refusal> {
        self.desired = Some(fill.0);
        self.mend().map(drop)
    }
}

/// The classes that the kernel holds now; they are what is desired until something else is said.
pub struct ReadClasses;
request!(ReadClasses => Result<BTreeMap<u32, Entries>, Refusal>);

impl Serve<ReadClasses> for ClassSync {
    async fn serve(
        &mut self,
        _: ReadClasses,
        _: &Life<Self>,
    ) -> Result<BTreeMap<u32, Entries>, Refusal> {
        let held = self.read()?;
        self.desired = Some(held.clone());
        self.trusted = true;
        Ok(held)
    }
}

/// One step of changing classes.
#[derive(Clone, Debug)]
pub enum ClassStep {
    /// Swap classes in whole.
    Replace(BTreeMap<u32, Entries>),
    /// Edit classes in place, each in its order.
    Edit(BTreeMap<u32, Vec<ClassEdit>>),
    /// Take classes out.
    Remove(BTreeSet<u32>),
}
request!(ClassStep => Result<(), Refusal>);

impl ClassStep {
    /// What it does, and to how many classes.
    fn describe(&self) -> (&'static str, usize) {
        match self {
            Self::Replace(classes) => ("replace", classes.len()),
            Self::Edit(classes) => ("edit", classes.len()),
            Self::Remove(classes) => ("remove", classes.len()),
        }
    }
}

impl Serve<ClassStep> for ClassSync {
    async fn serve(&mut self, step: ClassStep, _: &Life<Self>) -> Result<(), Refusal> {
        let Some(desired) = &mut self.desired else {
            return Err(try_again("policy classes are not filled yet"));
        };
        match &step {
            ClassStep::Replace(classes) => desired.extend(classes.clone()),
            ClassStep::Edit(classes) => {
                for (class, edits) in classes {
                    let entries = desired.entry(*class).or_default();
                    for edit in edits {
                        match edit {
                            ClassEdit::Upsert(key, entry) => drop(entries.insert(*key, *entry)),
                            ClassEdit::Delete(key) => drop(entries.remove(key)),
                        }
                    }
                }
            }
            ClassStep::Remove(classes) => desired.retain(|class, _| !classes.contains(class)),
        }
        if !self.trusted {
            return self.mend().map(drop);
        }
        let written = self.write(&step);
        self.trusted = written.is_ok();
        written
    }
}

/// Every edit before this is complete: flows are to be judged again.
pub struct BumpEpoch;
request!(BumpEpoch => Result<u64, Refusal>);

impl Serve<BumpEpoch> for ClassSync {
    async fn serve(&mut self, _: BumpEpoch, _: &Life<Self>) -> Result<u64, Refusal> {
        let epoch = self.health.note(self.kernel.bump_epoch())?;
        tracing::debug!(epoch, "epoch bumped");
        Ok(epoch)
    }
}

impl Serve<Sweep> for ClassSync {
    async fn serve(&mut self, _: Sweep, _: &Life<Self>) {
        if self.desired.is_none() {
            return;
        }
        let mended = self.mend();
        self.health.swept(mended);
    }
}

impl Serve<Describe> for ClassSync {
    async fn serve(&mut self, _: Describe, _: &Life<Self>) -> MapRow {
        let classes = self.desired.as_ref().map_or(0, BTreeMap::len);
        self.health.row(&self.kernel, classes)
    }
}
