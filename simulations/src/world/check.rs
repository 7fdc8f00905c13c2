//! What must be so when all is well again.

use super::{QUIET, World};
use crate::{
    Invariant,
    agent::Agent,
    operator::{Operator, Running},
    release::{self, Release},
    time::Micros,
    view::View,
};
use std::{collections::BTreeMap, rc::Rc};
use weft_state::{ClusterState, VERSION};
use weft_store::Store;
use weft_types::{Delta, Identity, LabelSet, Object, Revision, object::ObjectKey};

/// In so long nodes agree that a number is freed, when all is well.
const AGREE: Micros = Micros::seconds(6);

impl World {
    /// Whoever is not as everybody else is named.
    pub(super) fn check_all(&mut self) {
        self.check_history();
        let mut found = self.unlike();
        found.extend(self.lost());
        found.extend(self.unsettled());
        for (invariant, seen) in found {
            self.invariants.violated(invariant, self.now, seen);
        }
        let furthest = self.operators.values().filter_map(|o| o.running.as_ref());
        if let Some(running) = furthest.max_by_key(|running| running.index) {
            self.counts.entries = running.index;
            self.counts.identities = running.state.identities().len() as u64;
        }
    }

    fn furthest(&self) -> Option<&Operator> {
        let index = |o: &&Operator| o.running.as_ref().map(Running::revision);
        self.operators.values().max_by_key(index)
    }

    /// Operators and agents that differ from the operator that is furthest, and what differs from the store.
    fn unlike(&self) -> Vec<(Invariant, String)> {
        let mut found = Vec::new();
        let mut differs = |seen: String| found.push((Invariant::Converges, seen));
        let Some(best) = self.furthest() else { return found };
        let Some(model) = &best.running else {
            differs("no operator runs".to_owned());
            return found;
        };
        for operator in self.operators.values() {
            let member = operator.member;
            match &operator.running {
                None => differs(format!("member {member} does not run")),
                Some(r) if r.state != model.state || r.index != model.index => {
                    let (at, of) = (r.index, model.index);
                    differs(format!("member {member} is at {at}, member {} at {of}", best.member));
                }
                Some(_) => {}
            }
        }
        if self.scenario.begins() == Release::Before {
            let is_newest = model.state.version() == VERSION;
            if !is_newest || *model.state.labels() != release::filter() {
                differs(
                    "all are upgraded, and what only the newer release knows is not so".to_owned(),
                );
            }
        }
        let identities: BTreeMap<Identity, LabelSet> =
            self.store.contents.identities().unwrap_or_default().into_iter().collect();
        let known: BTreeMap<Identity, LabelSet> =
            model.state.identities().iter().map(|(l, n)| (*n, LabelSet::clone(l))).collect();
        if identities != known {
            let (store, log) = (identities.len(), known.len());
            differs(format!("the store has {store} identities, the log {log}"));
        }
        let left = unreferenced(&model.state).count();
        if left > 0 && self.until_free() <= QUIET {
            differs(format!("{left} numbers are not free that nobody refers to"));
        }
        let by_key = |objects: Vec<Object>| -> BTreeMap<ObjectKey, Object> {
            objects.into_iter().map(|object| (object.key(), object)).collect()
        };
        let objects = by_key(self.store.contents.objects().unwrap_or_default());
        if objects != by_key(model.state.objects().collect()) {
            differs("the store and the log differ in an object".to_owned());
        }
        found.extend(self.agents_unlike(model.revision(), model.state.snapshot().collect()));
        found
    }

    /// How long at most nobody refers to a number before it is free, when all is well: both graces, and until nodes agree.
    fn until_free(&self) -> Micros {
        Micros::millis(2 * self.scenario.grace) + AGREE
    }

    fn agents_unlike(&self, newest: Revision, published: Vec<Delta>) -> Vec<(Invariant, String)> {
        let published: View = published.into_iter().collect();
        // Agents share what they know: few views need to be looked at.
        let mut alike: Vec<&Rc<View>> = Vec::new();
        let mut found = Vec::new();
        for agent in &self.agents {
            let known = alike.iter().any(|view| Rc::ptr_eq(view, &agent.view));
            if !known && *agent.view == published {
                alike.push(&agent.view);
            } else if !known {
                let seen = format!("the agent of {} does not know what is published", agent.node);
                found.push((Invariant::Converges, seen));
            }
            found.extend(agent.unrealised(newest).map(|seen| (Invariant::Converges, seen)));
            if agent.held != Some(newest) {
                let held = agent.held.map(|held| held.to_string());
                let seen = format!("the agent of {} is at {held:?}, not {newest}", agent.node);
                found.push((Invariant::Converges, seen));
            }
        }
        found
    }

    /// What was answered and is not so.
    fn lost(&self) -> Vec<(Invariant, String)> {
        let Some(model) = self.furthest().and_then(|o| o.running.as_ref()) else {
            return Vec::new();
        };
        let objects: BTreeMap<ObjectKey, Object> =
            model.state.objects().map(|object| (object.key(), object)).collect();
        // What is wanted and was not answered may be so or not.
        let open = |key: &ObjectKey| {
            self.clients.iter().filter_map(|client| client.wants.as_ref()).any(|(_, change)| {
                change.put.iter().chain(&change.remove).any(|object| object.key() == *key)
            })
        };
        let lost = self.answered.iter().filter(|(key, object)| objects.get(key) != object.as_ref());
        let lost = lost.filter(|(key, _)| !open(key));
        let lost =
            lost.map(|(key, _)| (Invariant::NothingLost, format!("{key} is not as answered")));
        lost.collect()
    }

    /// Nothing has struck for a while: whoever waited when all was well again waits no more.
    pub(super) fn recovered(&mut self, strikes: u64, revision: Revision) {
        if strikes != self.strikes {
            return;
        }
        let healed = Micros(self.now.0 - QUIET.0);
        let clients = self.clients.iter().zip(0..);
        let clients = clients.filter(|(who, _)| who.wants.is_some() && who.since <= healed);
        let clients = clients.map(|(_, number)| format!("client {number} is not answered"));
        let up = self.agents.iter().filter(|agent| agent.down_until <= healed);
        let agents = up.flat_map(|agent| {
            let behind = agent.held < Some(revision);
            let behind = behind.then(|| format!("the agent of {} is behind", agent.node));
            let waits = agent.pods.waits_since(healed);
            let waits = waits.map(|pod| format!("{pod} is not started on {}", agent.node));
            behind.into_iter().chain(waits)
        });
        let found: Vec<String> = clients.chain(agents).collect();
        for seen in found {
            let seen = format!("{seen}, {QUIET} after everything was well");
            self.invariants.violated(Invariant::Converges, self.now, seen);
        }
    }

    /// Who waits although all is well.
    fn unsettled(&self) -> Vec<(Invariant, String)> {
        let clients = self.clients.iter().filter(|client| client.wants.is_some()).count();
        let says =
            |agent: &Agent| agent.says.first().map(|first| format!("{} ({first:?})", agent.node));
        let agents: Vec<String> = self.agents.iter().filter_map(says).collect();
        let mut found = Vec::new();
        if clients > 0 {
            found.push((Invariant::Converges, format!("{clients} clients still wait")));
        }
        if !agents.is_empty() {
            let seen = format!("pods of {} are not published", agents.join(", "));
            found.push((Invariant::Converges, seen));
        }
        for agent in &self.agents {
            if let Some(pod) = agent.pods.waits_since(self.now) {
                found.push((
                    Invariant::Converges,
                    format!("{pod} is not started on {}", agent.node),
                ));
            }
        }
        if !self.wanted.is_empty() {
            found.push((Invariant::Converges, "the group is not as wanted".to_owned()));
        }
        found.extend(self.operators.values().filter(|o| !o.has_disk()).map(|o| {
            (Invariant::Converges, format!("member {} has nothing on its disk", o.member))
        }));
        found
    }
}

/// Numbers of label sets that nobody refers to.
fn unreferenced(state: &ClusterState) -> impl Iterator<Item = &Identity> {
    state.references().idle().iter().chain(state.references().retiring())
}
