//! How what waits is put together and written: many requests share a transaction.

use super::{
    Ask, Change, Effect, Leadership, NO_NUMBER, Phase, RequestId, Under, Verdict, Wish,
    beside::{Claim, UnderWay},
};
use crate::{ClusterState, CommandV1, Conflict};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use weft_types::{
    Batch, Fence, Identity, LabelFilter, LabelSet, NamespacedName, NodeName, Object,
    object::ObjectKey,
};

/// Requests put together: of one object what was said last counts.
#[derive(Default)]
struct Merged {
    wanted: BTreeMap<ObjectKey, (Object, Wanted)>,
    /// Label sets that somebody wants a number for.
    sets: BTreeSet<LabelSet>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    There,
    Gone,
}

impl Merged {
    /// Adds a change, if the state may become so with it: only nodes can be in each other's way.
    fn add(&mut self, state: &ClusterState, change: &Change) -> Result<(), Conflict> {
        if change.put.iter().any(|object| matches!(object, Object::Node(_))) {
            let first = ObjectKey::Node(NodeName(String::new()));
            let nodes = first..ObjectKey::Pod(NamespacedName::new("", ""));
            let wanted = self.wanted.range(nodes).map(|(k, w)| (k.clone(), w.clone()));
            let mut with = Self { wanted: wanted.collect(), ..Self::default() };
            with.insert(change);
            let (put, remove) = with.parts();
            state.check(&put, &remove)?;
        }
        self.insert(change);
        Ok(())
    }

    fn insert(&mut self, change: &Change) {
        for (objects, wanted) in [(&change.remove, Wanted::Gone), (&change.put, Wanted::There)] {
            for object in objects {
                self.wanted.insert(object.key(), (object.clone(), wanted));
            }
        }
    }

    /// Whether one more shares their command, which takes so many objects.
    fn has_room(&self, wish: &Wish, most: usize) -> bool {
        let room = most.saturating_sub(self.wanted.len() + self.sets.len());
        match wish {
            Wish::Objects(Change { put, remove }) => put.len() + remove.len() <= room,
            Wish::Number(_) => room > 0,
            Wish::Labels(_) => false,
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

/// Requests that share a command, in their order.
struct Shared {
    requests: Vec<(RequestId, Wish)>,
    claim: Claim,
    gathered: Gathered,
}

/// What shares a command, as it differs from the state.
enum Gathered {
    Desire { put: Vec<Object>, remove: Vec<Object>, sets: BTreeSet<LabelSet> },
    Labels(LabelFilter),
}

impl Gathered {
    /// Label sets that need a number.
    fn sets(&self, state: &ClusterState) -> BTreeSet<LabelSet> {
        match self {
            Self::Desire { put, remove, sets } => {
                let wanted = sets.iter().filter(|set| !state.identities().contains_key(*set));
                let mut all = state.unnumbered(put, remove);
                all.extend(wanted.cloned());
                all
            }
            Self::Labels(filter) => state.unnumbered_with(filter),
        }
    }

    /// Whether it is so already.
    fn is_so(&self, state: &ClusterState, sets: &BTreeSet<LabelSet>) -> bool {
        match self {
            Self::Desire { put, remove, .. } => {
                put.is_empty() && remove.is_empty() && sets.is_empty()
            }
            Self::Labels(filter) => filter == state.labels(),
        }
    }

    fn command(self, identities: Vec<(Identity, LabelSet)>) -> CommandV1 {
        match self {
            Self::Desire { put, remove, .. } => CommandV1::Desire { put, remove, identities },
            Self::Labels(filter) => {
                let patterns = filter.added().to_vec();
                CommandV1::FilterLabels { patterns, identities }
            }
        }
    }
}

impl Leadership {
    /// When nothing goes to the store, takes what waits as far as a transaction has room.
    pub(super) fn write(&mut self, state: &ClusterState, effects: &mut Vec<Effect>) {
        let Phase::Serving(fence, under_way) = &mut self.phase else { return };
        let (fence, mut under_way) = (*fence, std::mem::take(under_way));
        if self.due.is_empty() {
            self.due.extend(self.retirement.look(state, self.numbers.last()));
        }
        if self.due.is_empty() && self.known > state.version() && !under_way.is_raising() {
            self.due.push_back(CommandV1::Raise(self.known));
        }
        if under_way.is_empty()
            && let Some(command) = self.due.pop_front()
        {
            let (requests, batches) = (Vec::new(), VecDeque::new());
            let under = Under { requests, claim: Claim::Everything, command, batches };
            under_way.writing = Some(under);
            self.written(fence, &mut under_way, effects);
        }
        // What is due is about numbers, and has nothing beside it: it waits until what is under way is done, and others for it.
        let ready = |under_way: &UnderWay, ordering: usize| {
            under_way.writing.is_none()
                && under_way.ordering.len() < ordering
                && !under_way.is_due()
        };
        while self.due.is_empty() && ready(&under_way, self.limits.ordering) {
            let Some(next) = self.prepare(state, &under_way, effects) else { break };
            under_way.writing = Some(next);
            self.written(fence, &mut under_way, effects);
        }
        self.phase = Phase::Serving(fence, under_way);
    }

    /// The next command; none when nothing waits but for what is under way.
    fn prepare(
        &mut self,
        state: &ClusterState,
        under_way: &UnderWay,
        effects: &mut Vec<Effect>,
    ) -> Option<Under> {
        loop {
            let Shared { requests, claim, gathered } = self.gather(state, under_way, effects)?;
            let mut sets = gathered.sets(state);
            if gathered.is_so(state, &sets) {
                self.done(requests, effects);
                continue;
            }
            sets.retain(|labels| !under_way.numbers(labels));
            let Some(identities) = self.numbers.take(state, sets) else {
                if requests.is_empty() {
                    return None;
                }
                let none = Verdict::Invalid(NO_NUMBER.to_owned());
                for (request, _) in requests {
                    self.begun.remove(&request);
                    effects.push(Effect::Answer(request, none.clone()));
                }
                continue;
            };
            let command = gathered.command(identities);
            let batches = transactions(&command, self.limits.transaction);
            self.begun.extend(requests.iter().map(|(request, _)| *request));
            return Some(Under { requests, claim, command, batches });
        }
    }

    /// The requests that share the next command; none when the first has to wait. Another filter has a command of its own. Pods that were adopted without a number get one whoever asks or does not, by
    /// a command that has nothing beside it.
    fn gather(
        &mut self,
        state: &ClusterState,
        under_way: &UnderWay,
        effects: &mut Vec<Effect>,
    ) -> Option<Shared> {
        if state.lacks_numbers() && !under_way.is_empty() {
            return None;
        }
        let (mut merged, mut requests) = (Merged::default(), Vec::new());
        let mut claims = Claim::Objects(BTreeSet::new());
        while let Some((request, wish)) = self.waiting.pop_front() {
            let claim = Claim::of(&wish);
            let fits = requests.is_empty() || merged.has_room(&wish, self.limits.transaction);
            let waits = match &wish {
                // It is answered when its number is in the log.
                Wish::Number(labels) => under_way.numbers(labels),
                Wish::Objects(_) | Wish::Labels(_) => false,
            };
            if !fits || waits || !under_way.admits(&claim) {
                self.waiting.push_front((request, wish));
                break;
            }
            let change = match wish {
                Wish::Labels(filter) => {
                    let requests = vec![(request, Wish::Labels(filter.clone()))];
                    return Some(Shared { requests, claim, gathered: Gathered::Labels(filter) });
                }
                Wish::Number(labels) => {
                    merged.sets.insert(labels.clone());
                    requests.push((request, Wish::Number(labels)));
                    continue;
                }
                Wish::Objects(change) => change,
            };
            match merged.add(state, &change) {
                Ok(()) => {
                    claims = claims.and(claim);
                    requests.push((request, Wish::Objects(change)));
                }
                Err(conflict) => {
                    self.begun.remove(&request);
                    effects.push(Effect::Answer(request, Verdict::Invalid(conflict.to_string())));
                }
            }
        }
        if requests.is_empty() && !state.lacks_numbers() {
            return None;
        }
        let (put, remove) = merged.parts();
        let (put, remove) = state.effective(&put, &remove);
        let gathered = Gathered::Desire { put, remove, sets: merged.sets };
        Some(Shared { requests, claim: claims, gathered })
    }

    /// The next transaction, or the log when all are written.
    pub(super) fn written(
        &mut self,
        fence: Fence,
        under_way: &mut UnderWay,
        effects: &mut Vec<Effect>,
    ) {
        let Some(mut under) = under_way.writing.take() else { return };
        match under.batches.pop_front() {
            Some(batch) => {
                under_way.writing = Some(under);
                self.store(Ask::Write(fence, batch), effects);
            }
            None => {
                let ticket = self.propose(fence, under.command.clone(), effects);
                under_way.ordering.push_back((ticket, under));
            }
        }
    }
}

/// What a command that was put in order takes out of the store.
pub(super) fn freed(state: &ClusterState, command: &CommandV1, size: usize) -> VecDeque<Batch> {
    let CommandV1::Free { numbers, given } = command else { return VecDeque::new() };
    let stands = |number: &Identity| {
        state.references().get(*number).is_some_and(|numbered| numbered.labels.is_some())
    };
    let free: Vec<Identity> = numbers.iter().filter(|number| !stands(number)).copied().collect();
    let batch = |some: &[Identity]| Batch {
        forget: some.to_vec(),
        given: Some(*given),
        ..Batch::default()
    };
    free.chunks(size.max(1)).map(batch).collect()
}

/// What a command writes, in pieces that a transaction takes: numbers before the objects that need them.
fn transactions(command: &CommandV1, size: usize) -> VecDeque<Batch> {
    let (put, remove, identities): (&[Object], &[Object], _) = match command {
        CommandV1::Desire { put, remove, identities } => (put, remove, identities),
        CommandV1::FilterLabels { identities, .. } => (&[], &[], identities),
        // What nodes say is not in the store; what is freed goes out of it later.
        CommandV1::Said(..)
        | CommandV1::Retire(_)
        | CommandV1::Free { .. }
        | CommandV1::Raise(_) => return VecDeque::new(),
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
