//! How many bytes a node of a large cluster is sent: what it has to know, against all that is published.

use super::{Measurement, Settings, Work};
use crate::{
    interrupt, note,
    row::{Check, Conditions, Plan, Relation, Row, Unit},
    town::{NODE_PODS, Town, name_of},
};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use weft_operator::history::{Pushes, Snapshot};
use weft_state::interests::{Scope, View, coalesce};
use weft_types::{Delta, Revision};

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "filtering",
    about: "bytes that a node of 5,000 is sent, of what it has to know against all that is published",
    plans: &[SNAPSHOT, CHANGES],
    work: Work::Alone(measure),
};

const SNAPSHOT: Plan = Plan {
    name: "snapshot-bytes",
    title: "a node's snapshot, 250,000 pods",
    unit: Unit::Kibibytes,
    relation: Relation::Ratio,
    baseline: "all that is published",
    target: None,
};
const CHANGES: Plan =
    Plan { name: "change-bytes", title: "sent a node while 1% of pods are replaced", ..SNAPSHOT };

/// Nodes that are looked at.
const LOOKED_AT: usize = 25;
/// Pods that are replaced between two pushes.
const AT_ONCE: usize = 50;

/// Where a session is, and what was sent by it.
struct Session {
    view: View,
    snapshot: usize,
    pushes: usize,
}

fn measure(settings: &Settings) -> Result<Vec<Row>> {
    note(&format!("filtering: {} nodes of {NODE_PODS} pods", settings.agents));
    let mut town = Town::new(settings.agents)?;
    let revision = Revision::new(1, 1);
    let looked_at = (0..settings.agents).step_by((settings.agents / LOOKED_AT).max(1));
    let mut sessions = Vec::new();
    let mut wrong = Vec::new();
    for (node, scope) in looked_at
        .map(|node| (node, Scope::Interests))
        // Whoever is told everything is told what all are.
        .chain([(0, Scope::Everything)])
    {
        interrupt::check()?;
        let mut view = View::new(name_of(node), scope, BTreeSet::new());
        let deltas = view.whole(&town.state, &town.interests);
        let told = deltas.iter().filter_map(|delta| match delta {
            Delta::IdentityUpsert(identity, _) => Some(*identity),
            _ => None,
        });
        if scope == Scope::Interests && told.collect::<BTreeSet<_>>() != town.has_to_know(node) {
            wrong.push(name_of(node).to_string());
        }
        let frames = Snapshot::new(revision, deltas.into_iter())?.frames;
        let snapshot = frames.iter().map(|frame| frame.len()).sum();
        sessions.push(Session { view, snapshot, pushes: 0 });
    }
    let replaced = settings.agents * NODE_PODS / 100;
    for step in 0..replaced.div_ceil(AT_ONCE) {
        interrupt::check()?;
        let run = coalesce(&town.replace(AT_ONCE)?);
        let revision = Revision::new(1, 2 + step as u64);
        for session in &mut sessions {
            let deltas = session.view.advance(&run, &town.state, &town.interests);
            let frame = Pushes::default().frame(revision, deltas, None);
            session.pushes += frame.context("a push is longer than any may be")?.len();
        }
    }
    let everything = sessions.pop().context("no session")?;
    let kibibytes = |bytes: usize| bytes as f64 / 1024.0;
    let snapshots: Vec<f64> = sessions.iter().map(|it| kibibytes(it.snapshot)).collect();
    let pushes: Vec<f64> = sessions.iter().map(|it| kibibytes(it.pushes)).collect();
    let check = match wrong.is_empty() {
        true => Check::passed(format!(
            "each of {} nodes was told of the identities that policies about its pods name, and of no other",
            sessions.len()
        )),
        false => Check::failed(format!("{} know others than they have to", wrong.join(", "))),
    };
    let conditions = Conditions { is_trial: settings.is_trial, ..Conditions::default() };
    let same = |bytes: usize| vec![kibibytes(bytes); sessions.len()];
    Ok(vec![
        SNAPSHOT.row(&snapshots, &same(everything.snapshot), check.clone(), conditions),
        CHANGES.row(&pushes, &same(everything.pushes), check, conditions),
    ])
}
