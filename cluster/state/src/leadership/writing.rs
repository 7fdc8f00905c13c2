//! How what waits is put together and written: many requests share a transaction.

use super::{Ask, Change, Effect, Leadership, Phase, RequestId, Under, Verdict, Wish};
use crate::{ClusterState, CommandV1};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use weft_types::{Batch, Fence, Identity, LabelFilter, LabelSet, Object, object::ObjectKey};

/// Requests put together: of one object what was said last counts.
#[derive(Default)]
struct Merged {
    wanted: BTreeMap<ObjectKey, (Object, Wanted)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    There,
    Gone,
}

impl Merged {
    fn add(&mut self, change: &Change) {
        for (objects, wanted) in [(&change.remove, Wanted::Gone), (&change.put, Wanted::There)] {
            for object in objects {
                self.wanted.insert(object.key(), (object.clone(), wanted));
            }
        }
    }

    fn parts(&self) -> (Vec<Object>, Vec<Object>) {
        let of = |kind: Wanted| {
            let wanted = self.wanted.values().filter(move |(_, wanted)| *wanted == kind);
            wanted.map(|(object, _)| object.clone()).collect()
        };
        (of(Wanted::There), of(Wanted::Gone))
    }
}

/// What shares a command, as it differs from the state.
enum Gathered {
    Objects { put: Vec<Object>, remove: Vec<Object> },
    Labels(LabelFilter),
}

impl Gathered {
    /// Label sets that need a number.
    fn sets(&self, state: &ClusterState) -> BTreeSet<LabelSet> {
        match self {
            Self::Objects { put, remove } => state.unnumbered(put, remove),
            Self::Labels(filter) => state.unnumbered_with(filter),
        }
    }

    /// Whether it is so already.
    fn is_so(&self, state: &ClusterState, sets: &BTreeSet<LabelSet>) -> bool {
        match self {
            Self::Objects { put, remove } => put.is_empty() && remove.is_empty() && sets.is_empty(),
            Self::Labels(filter) => filter == state.labels(),
        }
    }

    fn command(self, identities: Vec<(Identity, LabelSet)>) -> CommandV1 {
        match self {
            Self::Objects { put, remove } => CommandV1::Desire { put, remove, identities },
            Self::Labels(filter) => {
                let patterns = filter.added().to_vec();
                CommandV1::FilterLabels { patterns, identities }
            }
        }
    }
}

impl Leadership {
    /// When nothing is under way, takes what waits as far as a transaction has room.
    pub(super) fn write(&mut self, state: &ClusterState, effects: &mut Vec<Effect>) {
        let Phase::Serving(fence) = self.phase else { return };
        while !self.waiting.is_empty() {
            let (requests, gathered) = self.gather(state, effects);
            let sets = gathered.sets(state);
            if gathered.is_so(state, &sets) {
                self.done(requests, effects);
                continue;
            }
            let Some(identities) = self.numbers.take(sets) else {
                let none = Verdict::Invalid("every number of the cluster is taken".to_owned());
                for (request, _) in requests {
                    self.begun.remove(&request);
                    effects.push(Effect::Answer(request, none.clone()));
                }
                continue;
            };
            let command = gathered.command(identities);
            let batches = transactions(&command, self.limits.transaction);
            self.begun.extend(requests.iter().map(|(request, _)| *request));
            self.written(fence, Under { requests, command, batches }, effects);
            return;
        }
    }

    /// Requests that share a command, and what of them is not so already. Another filter has a command of its own.
    fn gather(
        &mut self,
        state: &ClusterState,
        effects: &mut Vec<Effect>,
    ) -> (Vec<(RequestId, Wish)>, Gathered) {
        let (mut merged, mut requests) = (Merged::default(), Vec::new());
        while let Some((request, wish)) = self.waiting.pop_front() {
            let change = match wish {
                Wish::Labels(filter) if requests.is_empty() => {
                    let requests = vec![(request, Wish::Labels(filter.clone()))];
                    return (requests, Gathered::Labels(filter));
                }
                Wish::Labels(filter) => {
                    self.waiting.push_front((request, Wish::Labels(filter)));
                    break;
                }
                Wish::Objects(change) => change,
            };
            let size = merged.wanted.len() + change.put.len() + change.remove.len();
            if !requests.is_empty() && size > self.limits.transaction {
                self.waiting.push_front((request, Wish::Objects(change)));
                break;
            }
            let mut with = Merged { wanted: merged.wanted.clone() };
            with.add(&change);
            let (put, remove) = with.parts();
            match state.check(&put, &remove) {
                Ok(()) => {
                    merged = with;
                    requests.push((request, Wish::Objects(change)));
                }
                Err(conflict) => {
                    self.begun.remove(&request);
                    effects.push(Effect::Answer(request, Verdict::Invalid(conflict.to_string())));
                }
            }
        }
        let (put, remove) = merged.parts();
        let (put, remove) = state.effective(&put, &remove);
        (requests, Gathered::Objects { put, remove })
    }

    /// The next transaction, or the log when all are written.
    pub(super) fn written(&mut self, fence: Fence, mut under: Under, effects: &mut Vec<Effect>) {
        match under.batches.pop_front() {
            Some(batch) => {
                self.phase = Phase::Writing(fence, under);
                self.store(Ask::Write(fence, batch), effects);
            }
            None => {
                let ticket = self.propose(under.command.clone(), effects);
                self.phase = Phase::Ordering(fence, under, ticket);
            }
        }
    }
}

/// What a command writes, in pieces that a transaction takes: numbers before the objects that need them.
fn transactions(command: &CommandV1, size: usize) -> VecDeque<Batch> {
    let (put, remove, identities): (&[Object], &[Object], _) = match command {
        CommandV1::Desire { put, remove, identities } => (put, remove, identities),
        CommandV1::FilterLabels { identities, .. } => (&[], &[], identities),
        // What nodes say is not in the store.
        CommandV1::Plug(..) | CommandV1::Unplug(..) | CommandV1::EndpointsAre(..) => {
            return VecDeque::new();
        }
    };
    let mut batches = VecDeque::from([Batch::default()]);
    let mut room = size.max(1);
    let mut next = |add: &mut dyn FnMut(&mut Batch)| {
        if room == 0 {
            batches.push_back(Batch::default());
            room = size.max(1);
        }
        room -= 1;
        if let Some(batch) = batches.back_mut() {
            add(batch);
        }
    };
    for pair in identities {
        next(&mut |batch| batch.identities.push(pair.clone()));
    }
    for object in remove {
        next(&mut |batch| batch.remove.push(object.key()));
    }
    for object in put {
        next(&mut |batch| batch.put.push(object.clone()));
    }
    batches
}
