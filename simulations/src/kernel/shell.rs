//! What drives the cores of policy and of addresses, in the order in which the agent's own actors do
//! (`actors/agent/src/{uplink,policy,ipcache}.rs`, `endpoints/tables.rs`): all of it is one process, so no actor is ever new alone.

use super::{
    Kernel,
    classes::ClassSync,
    maps::Refused,
    rows::{forget_neighbours, key, prefix_rows, row, take_address, take_policy},
    table::TableSync,
};
use crate::sabotage::Sabotage;
use ipnet::Ipv4Net;
use std::{collections::BTreeMap, net::Ipv4Addr, rc::Rc};
use weft_abi::{
    endpoint::ENDPOINTS,
    ipcache::{ADDRESSES4, PREFIXES4},
};
use weft_core::{
    ipcache::{Ipcache, LocalPod},
    mapsync::{Rows, difference},
    policy::{Engine, Step, prefixes_of_rows},
};
use weft_types::{Delta, Identity, NodeName};

/// Who is in the tables of a node: by address.
pub(crate) type Inside = Rc<BTreeMap<Ipv4Addr, LocalPod>>;

/// What the columns are told at once.
pub(crate) struct Advance {
    pub(crate) deltas: Vec<Delta>,
    /// Everything, where a column may have missed something.
    pub(crate) whole: Vec<Delta>,
    pub(crate) inside: Inside,
}

/// A column of the agent, or what of it is told by another.
#[derive(Default)]
struct Column {
    /// Whether it was told everything once.
    published: bool,
    /// Whether it took all that it was told.
    fed: bool,
}

/// Of a process of an agent, what realises.
pub(super) struct Shell {
    engine: Engine,
    ipcache: Ipcache,
    policy: Column,
    addresses: Column,
    /// Whether the endpoints that live on were said.
    born: bool,
    /// Whether the engine knows what the life before left in the kernel.
    seeded: bool,
    held: BTreeMap<Identity, usize>,
    /// Whether the classes of all of them are there.
    is_held: bool,
    /// The prefixes that the trie was told to name.
    named: BTreeMap<Ipv4Net, u32>,
    /// Who is in the tables; nothing while that is not known.
    inside: Option<Inside>,
    rows: Rows,
    kernel: Kernel,
    classes: ClassSync,
    address_map: TableSync,
    prefix_map: TableSync,
    endpoint_map: TableSync,
    sabotage: Sabotage,
}

impl Shell {
    /// Of a node, over its kernel as it is.
    pub(super) fn new(node: NodeName, kernel: Kernel, sabotage: Sabotage) -> Self {
        let table = |map| TableSync::new(kernel.clone(), map);
        Self {
            engine: Engine::default(),
            ipcache: Ipcache::new(node),
            policy: Column::default(),
            addresses: Column::default(),
            born: false,
            seeded: false,
            held: BTreeMap::new(),
            is_held: true,
            named: BTreeMap::new(),
            inside: None,
            rows: Rows::new(),
            classes: ClassSync::new(kernel.clone()),
            address_map: table(ADDRESSES4.name),
            prefix_map: table(PREFIXES4.name),
            endpoint_map: table(ENDPOINTS.name),
            kernel,
            sabotage,
        }
    }

    /// Whether it has to be told everything.
    pub(super) fn is_hungry(&self) -> bool {
        !self.policy.fed || !self.addresses.fed
    }

    /// Brings every column to what is published now. All are told even if one fails: what one has missed it gets whole.
    pub(super) async fn advance(&mut self, advance: &Advance) -> Result<(), Refused> {
        if !self.born {
            // Before anything was published: the endpoints of the life before are held, and nothing is taken out.
            self.settle(&advance.inside).await?;
            self.born = true;
        }
        let is_new = !self.addresses.fed;
        let first = if is_new { Some(self.tell_addresses(advance).await) } else { None };
        let policy = self.tell_policy(advance).await;
        let addresses = match first {
            Some(told) => told,
            None => self.tell_addresses(advance).await,
        };
        let endpoints = self.settle(&advance.inside).await;
        policy.and(addresses).and(endpoints)?;
        self.classes.bump().await
    }

    async fn tell_policy(&mut self, advance: &Advance) -> Result<(), Refused> {
        let deltas = if std::mem::replace(&mut self.policy.fed, false) {
            &advance.deltas
        } else {
            self.engine.clear();
            self.policy.published = true;
            &advance.whole
        };
        deltas.iter().for_each(|delta| take_policy(&mut self.engine, delta));
        if self.sabotage == Sabotage::NeighbourForgotten {
            forget_neighbours(&mut self.engine, deltas);
        }
        self.realise().await?;
        self.policy.fed = true;
        Ok(())
    }

    async fn tell_addresses(&mut self, advance: &Advance) -> Result<(), Refused> {
        let deltas = if std::mem::replace(&mut self.addresses.fed, false) {
            &advance.deltas
        } else {
            self.ipcache.clear();
            self.addresses.published = true;
            &advance.whole
        };
        deltas.iter().for_each(|delta| take_address(&mut self.ipcache, delta));
        self.write_addresses().await?;
        self.addresses.fed = true;
        Ok(())
    }

    async fn realise(&mut self) -> Result<(), Refused> {
        if !self.policy.published {
            return Ok(());
        }
        if !std::mem::replace(&mut self.seeded, true) {
            self.seed().await?;
        }
        let steps = self.engine.commit().steps;
        for (at, step) in steps.iter().enumerate() {
            if let Err(refused) = self.realise_step(step).await {
                self.engine.failed(&steps, at);
                return Err(refused);
            }
        }
        Ok(())
    }

    /// Learns what the kernel holds.
    async fn seed(&mut self) -> Result<(), Refused> {
        let held = self.classes.read();
        if self.sabotage != Sabotage::MapsForgotten {
            self.named = prefixes_of_rows(&prefix_rows(&self.kernel.maps().rows(PREFIXES4.name)));
            self.engine.seed_prefixes(&self.named);
            self.engine.seed_classes(&held);
        }
        self.set_prefixes(self.named.clone()).await
    }

    async fn realise_step(&mut self, step: &Step) -> Result<(), Refused> {
        match step {
            Step::Prefixes(prefixes) => {
                self.set_prefixes(prefixes.clone()).await?;
                self.named.clone_from(prefixes);
                Ok(())
            }
            Step::Replace(classes) if self.sabotage == Sabotage::ClassEmptied => {
                let emptied = classes.keys().map(|class| (*class, BTreeMap::new())).collect();
                self.classes.step(&Step::Replace(emptied)).await?;
                self.classes.step(step).await
            }
            Step::Edit(_) | Step::Replace(_) | Step::Remove(_) => self.classes.step(step).await,
        }
    }

    async fn set_prefixes(&mut self, prefixes: BTreeMap<Ipv4Net, u32>) -> Result<(), Refused> {
        self.ipcache.set_prefixes(prefixes);
        self.write_addresses().await
    }

    async fn write_addresses(&mut self) -> Result<(), Refused> {
        if !self.addresses.published || !self.seeded {
            return Ok(());
        }
        let edits = self.ipcache.commit();
        let rows = edits
            .addresses
            .iter()
            .map(|(at, row)| (at.octets().into(), row.map(|row| row.to_bytes().into())));
        let all = || {
            let rows = self.ipcache.rows().addresses.into_iter();
            rows.map(|(at, row)| (at.octets().into(), row.to_bytes().into())).collect()
        };
        // Both tables are told, whatever became of the other: the core does not say these edits again.
        let addresses = self.address_map.tell(rows.collect(), all).await;
        let rows = edits
            .prefixes
            .iter()
            .map(|(prefix, row)| (key(prefix), row.map(|row| row.to_bytes().into())));
        let all = || {
            let rows = self.ipcache.rows().prefixes.into_iter();
            rows.map(|(prefix, row)| (key(&prefix), row.to_bytes().into())).collect()
        };
        let prefixes = self.prefix_map.tell(rows.collect(), all).await;
        addresses.and(prefixes)
    }

    /// Makes the tables hold who is in them: rows come after the class they need, and go before it does.
    async fn settle(&mut self, inside: &Inside) -> Result<(), Refused> {
        let changed = self.inside.as_ref() != Some(inside);
        if !changed && self.is_held {
            return Ok(());
        }
        let mut now: BTreeMap<Identity, usize> = BTreeMap::new();
        inside.values().for_each(|pod| *now.entry(pod.identity).or_default() += 1);
        let mut both = now.clone();
        for (identity, count) in &self.held {
            let most = both.entry(*identity).or_default();
            *most = (*most).max(*count);
        }
        self.hold(both).await?;
        if changed {
            self.inside = None;
            let rows: Rows = inside.iter().map(|(at, pod)| row(*at, pod)).collect();
            let edits = difference(&self.rows, &rows);
            self.endpoint_map.tell(edits, || rows.clone()).await?;
            self.rows = rows;
            self.ipcache.set_local(BTreeMap::clone(inside));
            self.write_addresses().await?;
            self.inside = Some(Rc::clone(inside));
        }
        self.hold(now).await?;
        if changed { self.classes.bump().await } else { Ok(()) }
    }

    async fn hold(&mut self, held: BTreeMap<Identity, usize>) -> Result<(), Refused> {
        if self.is_held && held == self.held {
            return Ok(());
        }
        self.is_held = false;
        let before = std::mem::take(&mut self.held);
        let count =
            |of: &BTreeMap<Identity, usize>, identity| of.get(identity).copied().unwrap_or(0);
        for (identity, now) in &held {
            (count(&before, identity)..*now).for_each(|_| self.engine.hold(*identity));
        }
        for (identity, then) in &before {
            (count(&held, identity)..*then).for_each(|_| self.engine.release(*identity));
        }
        self.held = held;
        self.realise().await?;
        self.is_held = true;
        Ok(())
    }
}
