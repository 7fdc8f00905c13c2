//! What a leader does from its election to its end: fence the store, adopt what it holds, then serve.
//!
//! Store first, then log: a number is in the store before any entry names it, and an answer follows the entry. It is freed
//! the other way round: what the store still has then is adopted, and retired again. So the store is never behind the log: each
//! write takes its fence up, each entry says how far that was, and a store with less is an older copy, of which nothing is adopted. Whenever it is not known what became of a write the leader begins again with the next round of its fence, so there is one way
//! back for everything: election, outage, a lost answer, a log that took no more.

mod beside;
mod messages;
mod numbers;
mod writing;

pub use messages::{
    Ask, Change, Contents, Effect, Event, Fault, Limits, NO_NUMBER, Operation, RequestId, SELDOM,
    Stored, Ticket, Trouble, Verdict,
};

use crate::{ClusterState, CommandV1, FILTERS, adoption, retirement::Retirement};
use beside::{Claim, UnderWay};
use numbers::Numbers;
use std::collections::{BTreeSet, VecDeque};
use weft_types::{Batch, Cluster, Fence, Identity, LabelFilter, LabelSet, NodeName, Revision};
use writing::freed;

/// How far a leader is. Everything that goes wrong leads back to `Reading`, after a pause.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Another leads, or nobody. Entered from everywhere.
    Idle,
    /// Something went wrong: it goes on after some ticks. Entered from everywhere but `Idle`.
    Pausing(u32),
    /// The store's fence is asked for. From `Idle`, `Pausing`, `Raising`.
    Reading,
    /// This leader's fence is written. From `Reading`.
    Raising(Fence),
    /// All that the store holds is asked for. From `Raising`.
    Listing(Fence),
    /// What the store has and the log has not is proposed. From `Listing`.
    Adopting(Fence, Ticket),
    /// Changes go to the store and then to the log. From `Listing`, `Adopting`, `Forgetting`.
    Serving(Fence, UnderWay),
    /// Numbers are free in the log, and go out of the store; nothing else is under way. From `Serving`.
    Forgetting(Fence, VecDeque<Batch>),
    /// The store is not this cluster's, or an older copy: said, and nothing is done. From `Reading`, `Listing`.
    Broken(Fault),
}

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wish {
    /// Other objects.
    Objects(Change),
    /// A number for a label set.
    Number(LabelSet),
    /// Other labels that make identities.
    Labels(LabelFilter),
}

/// A command under way, and whose requests it does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Under {
    requests: Vec<(RequestId, Wish)>,
    claim: Claim,
    command: CommandV1,
    batches: VecDeque<Batch>,
}

/// One operator's part in the store.
#[derive(Clone, Debug)]
pub struct Leadership {
    cluster: Cluster,
    generation: u16,
    limits: Limits,
    phase: Phase,
    term: u64,
    /// The highest fence that the store had when it answered here.
    fence: Option<Fence>,
    numbers: Numbers,
    retirement: Retirement,
    /// What is to be done of it, before anything else.
    due: VecDeque<CommandV1>,
    waiting: VecDeque<(RequestId, Wish)>,
    /// Those that the store was asked for at least once, and that are not answered.
    begun: BTreeSet<RequestId>,
    operation: Operation,
    ticket: Ticket,
    /// Ticks that the store was waited for.
    waited: u32,
    /// Ticks since it failed, and nothing since.
    failing: Option<u32>,
    /// Whether it answered since the election.
    answered: bool,
    /// The newest version that every member of the group knows.
    known: u8,
}

impl Leadership {
    /// Of an operator whose log is of a generation; its proposals count up from `ticket`.
    pub fn new(cluster: impl Into<Cluster>, generation: u16, limits: Limits) -> Self {
        let cluster = cluster.into();
        Self {
            numbers: Numbers::of(cluster.space),
            cluster,
            generation,
            limits,
            phase: Phase::Idle,
            term: 0,
            fence: None,
            retirement: Retirement::new(limits.grace),
            due: VecDeque::new(),
            waiting: VecDeque::new(),
            begun: BTreeSet::new(),
            operation: 0,
            ticket: 0,
            waited: 0,
            failing: None,
            answered: false,
            known: 0,
        }
    }

    /// Whether changes are taken.
    pub fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Serving(..) | Phase::Forgetting(..))
    }

    /// Nodes that hold a number back that nobody refers to. Empty where this operator does not lead.
    pub fn holders<'a>(
        &'a self,
        state: &'a ClusterState,
        number: Identity,
    ) -> impl Iterator<Item = &'a NodeName> {
        let leads = self.is_serving() && state.references().retiring().contains(&number);
        leads.then(|| self.retirement.holders(state, number)).into_iter().flatten()
    }

    /// Numbers that would be free, were it not for nodes that hold them back, or operators that have not heard.
    pub fn held_back<'a>(&'a self, state: &'a ClusterState) -> impl Iterator<Item = Identity> {
        self.retirement.held_back(state)
    }

    /// The last entry that retires a number which would be free, were it not for operators that do not know of it.
    pub fn unheard(&self) -> Option<Revision> {
        self.retirement.unheard()
    }

    /// Whose change is on its way to the store or the log.
    pub fn under_way(&self) -> impl Iterator<Item = RequestId> + '_ {
        let under_way = match &self.phase {
            Phase::Serving(_, under_way) => Some(under_way),
            Phase::Idle
            | Phase::Pausing(_)
            | Phase::Reading
            | Phase::Raising(_)
            | Phase::Listing(_)
            | Phase::Adopting(..)
            | Phase::Forgetting(..)
            | Phase::Broken(_) => None,
        };
        let all = under_way.into_iter().flat_map(UnderWay::iter);
        all.flat_map(|under| under.requests.iter().map(|(request, _)| *request))
    }

    /// What is wrong with the store for good.
    pub fn fault(&self) -> Option<&Fault> {
        match &self.phase {
            Phase::Broken(fault) => Some(fault),
            Phase::Idle
            | Phase::Pausing(_)
            | Phase::Reading
            | Phase::Raising(_)
            | Phase::Listing(_)
            | Phase::Adopting(..)
            | Phase::Serving(..)
            | Phase::Forgetting(..) => None,
        }
    }

    /// The one transition. `state` is what everything that was committed so far has made.
    pub fn step(&mut self, state: &ClusterState, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Led(term) if term >= self.term => {
                self.term = term;
                (self.failing, self.answered) = (None, false);
                self.put_back();
                self.retirement.begin();
                self.read(&mut effects);
            }
            Event::Led(_) => {}
            Event::Deposed => self.leave(&mut effects),
            Event::Asked(request, change) => {
                self.asked(request, Wish::Objects(change), &mut effects);
            }
            Event::Number(request, labels) => {
                self.asked(request, Wish::Number(labels), &mut effects);
            }
            Event::Filter(request, filter)
                if filter != *state.labels() && state.version() < FILTERS =>
            {
                effects.push(Effect::Answer(request, Verdict::TooOld(FILTERS)));
            }
            Event::Filter(request, filter) => {
                self.asked(request, Wish::Labels(filter), &mut effects);
            }
            Event::Stored(operation, answer) if operation == self.operation => {
                self.waited = 0;
                match answer {
                    Err(Trouble::Failed | Trouble::Ambiguous) => self.fails(),
                    Ok(_) | Err(Trouble::Fenced | Trouble::Taken) => {
                        (self.failing, self.answered) = (None, true);
                    }
                }
                // No other answer to this is listened to.
                self.operation += 1;
                self.stored(state, answer, &mut effects);
            }
            Event::Stored(..) => {}
            Event::Ordered(ticket, at) => self.ordered(state, ticket, at, &mut effects),
            Event::Refused(ticket) => self.refused(ticket),
            Event::Node(node, seen) => self.retirement.see(state, node, seen),
            Event::Tick { everywhere, known } => {
                self.known = known;
                self.retirement.tick(everywhere);
                self.tick(&mut effects);
            }
        }
        self.write(state, &mut effects);
        effects
    }

    fn asked(&mut self, request: RequestId, wish: Wish, effects: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Idle | Phase::Broken(_)) {
            effects.push(Effect::Answer(request, Verdict::NotLeading));
        } else if self.waiting.len() >= self.limits.waiting {
            effects.push(Effect::Answer(request, Verdict::Busy));
        } else {
            self.waiting.push_back((request, wish));
        }
    }

    fn store(&mut self, ask: Ask, effects: &mut Vec<Effect>) {
        self.operation += 1;
        self.waited = 0;
        effects.push(Effect::Store(self.operation, ask));
    }

    fn read(&mut self, effects: &mut Vec<Effect>) {
        self.phase = Phase::Reading;
        self.store(Ask::Founded, effects);
    }

    fn stored(
        &mut self,
        state: &ClusterState,
        answer: Result<Stored, Trouble>,
        effects: &mut Vec<Effect>,
    ) {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        match (phase, answer) {
            (Phase::Reading, Ok(Stored::Founded(founded))) => self.raise(state, founded, effects),
            (Phase::Raising(fence), Ok(Stored::Done)) => {
                self.fence = self.fence.max(Some(fence));
                self.phase = Phase::Listing(fence);
                self.store(Ask::List, effects);
            }
            // Somebody was quicker, or wrote meanwhile: it is read again with the next tick.
            (Phase::Raising(_), Err(Trouble::Fenced)) => self.phase = Phase::Pausing(0),
            (Phase::Listing(fence), Ok(Stored::Contents(contents))) => {
                self.adopt(state, fence, contents, effects);
            }
            (Phase::Serving(fence, mut under_way), Ok(Stored::Done)) => {
                let fence = self.wrote(fence);
                self.written(fence, &mut under_way, effects);
                self.phase = Phase::Serving(fence, under_way);
            }
            (Phase::Forgetting(fence, batches), Ok(Stored::Done)) => {
                let fence = self.wrote(fence);
                self.forget(fence, batches, effects);
            }
            // What is under way waits, and is looked at again when it is known what the store holds.
            (phase, Ok(_) | Err(_)) => {
                self.phase = phase;
                self.pause();
            }
        }
    }

    /// The store has a write, and another fence with it.
    fn wrote(&mut self, fence: Fence) -> Fence {
        let after = fence.after_a_write();
        self.fence = self.fence.max(Some(after));
        after
    }

    /// Compares the store's fence with what this leader is, and with what the store had.
    fn raise(
        &mut self,
        state: &ClusterState,
        founded: Option<(Cluster, Fence)>,
        effects: &mut Vec<Effect>,
    ) {
        let (generation, term) = (self.generation, self.term);
        let mut after = Fence { generation, term, ..Fence::default() };
        let before = founded.as_ref().map(|(_, fence)| *fence);
        let known = self.fence.max(state.fence()).filter(|known| Some(*known) > before);
        let behind = known.map(|known| Fault::Behind { store: before, known });
        let fault = founded.and_then(|(cluster, fence)| {
            if cluster.name != self.cluster.name {
                Some(Fault::OtherCluster(cluster.name))
            } else if cluster.space != self.cluster.space {
                Some(Fault::OtherSpace { store: cluster.space, asked: self.cluster.space })
            } else if fence.generation != self.generation {
                Some(Fault::Apart { store: fence.generation, log: self.generation })
            } else {
                None
            }
        });
        if let Some(fault) = fault.or(behind) {
            self.phase = Phase::Broken(fault);
            return self.turn_away(effects);
        }
        if let Some(fence) = before {
            if fence.term > self.term {
                // Another leads; consensus will say so here too.
                return self.leave(effects);
            }
            if fence.term == self.term {
                after.round = fence.round.saturating_add(1);
            }
        }
        self.phase = Phase::Raising(after);
        self.store(Ask::Raise(before, after), effects);
    }

    fn adopt(
        &mut self,
        state: &ClusterState,
        fence: Fence,
        contents: Contents,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(lacking) = Numbers::lacking(state, &contents.identities) {
            self.phase = Phase::Broken(Fault::OldStore(lacking));
            return self.turn_away(effects);
        }
        self.numbers.go_on(state, &contents);
        self.phase = match adoption(state, contents.identities, contents.objects) {
            Some(command) => Phase::Adopting(fence, self.propose(fence, command, effects)),
            None => Phase::Serving(fence, UnderWay::default()),
        };
    }

    fn propose(&mut self, fence: Fence, command: CommandV1, effects: &mut Vec<Effect>) -> Ticket {
        self.ticket += 1;
        effects.push(Effect::Propose(self.ticket, fence, command));
        self.ticket
    }

    fn ordered(
        &mut self,
        state: &ClusterState,
        ticket: Ticket,
        at: Revision,
        effects: &mut Vec<Effect>,
    ) {
        if let Phase::Adopting(fence, adoption) = self.phase {
            if adoption == ticket {
                self.phase = Phase::Serving(fence, UnderWay::default());
            }
        } else if let Phase::Serving(fence, under_way) = &mut self.phase {
            let (fence, at_place) =
                (*fence, under_way.ordering.iter().position(|(proposed, _)| *proposed == ticket));
            let Some((_, done)) = at_place.and_then(|place| under_way.ordering.remove(place))
            else {
                return;
            };
            self.done(done.requests, effects);
            if let CommandV1::Retire(numbers) = &done.command {
                self.retirement.retired(numbers, at);
            }
            let freed = freed(state, &done.command, self.limits.transaction);
            if !freed.is_empty() {
                self.forget(fence, freed, effects);
            }
        }
    }

    /// Takes what was freed out of the store.
    fn forget(&mut self, fence: Fence, mut batches: VecDeque<Batch>, effects: &mut Vec<Effect>) {
        if let Some(batch) = batches.pop_front() {
            self.phase = Phase::Forgetting(fence, batches);
            self.store(Ask::Write(fence, batch), effects);
        } else {
            self.phase = Phase::Serving(fence, UnderWay::default());
        }
    }

    /// The store is ahead of the log: what it holds is adopted before anything else.
    fn refused(&mut self, ticket: Ticket) {
        let is_awaited = match &self.phase {
            Phase::Adopting(_, adoption) => *adoption == ticket,
            Phase::Serving(_, under_way) => {
                under_way.ordering.iter().any(|(proposed, _)| *proposed == ticket)
            }
            Phase::Idle
            | Phase::Pausing(_)
            | Phase::Reading
            | Phase::Raising(_)
            | Phase::Listing(_)
            | Phase::Forgetting(..)
            | Phase::Broken(_) => false,
        };
        if is_awaited {
            self.pause();
        }
    }

    /// What is under way waits again, and is prepared anew on the state of then.
    fn put_back(&mut self) {
        // What is still to be done of it is found again.
        self.due.clear();
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        if let Phase::Serving(_, UnderWay { writing, ordering }) = phase {
            let under_way = ordering.into_iter().map(|(_, under)| under).chain(writing);
            let requests: Vec<_> = under_way.flat_map(|under| under.requests).collect();
            requests.into_iter().rev().for_each(|r| self.waiting.push_front(r));
        }
    }

    fn pause(&mut self) {
        self.put_back();
        self.phase = Phase::Pausing(self.limits.pause);
    }

    fn leave(&mut self, effects: &mut Vec<Effect>) {
        self.put_back();
        self.phase = Phase::Idle;
        // Whatever the store was asked, the answer concerns nobody now.
        self.operation += 1;
        self.turn_away(effects);
    }

    fn done(&mut self, requests: Vec<(RequestId, Wish)>, effects: &mut Vec<Effect>) {
        for (request, _) in requests {
            self.begun.remove(&request);
            effects.push(Effect::Answer(request, Verdict::Done));
        }
    }

    fn turn_away(&mut self, effects: &mut Vec<Effect>) {
        let begun = std::mem::take(&mut self.begun);
        let away = |(request, _)| match begun.contains(&request) {
            true => Effect::Answer(request, Verdict::Unknown),
            false => Effect::Answer(request, Verdict::NotLeading),
        };
        effects.extend(self.waiting.drain(..).map(away));
    }

    fn fails(&mut self) {
        self.failing = self.failing.or(Some(0));
    }

    /// An outage of the store alone is no reason for an election after the other: whoever it failed from the beginning waits.
    fn yield_in_time(&mut self, effects: &mut Vec<Effect>) {
        let Some(failing) = &mut self.failing else { return };
        *failing += 1;
        let seldom = if self.answered { 1 } else { SELDOM };
        if *failing >= self.limits.yields.saturating_mul(seldom) {
            *failing = 0;
            effects.push(Effect::Yield);
        }
    }

    fn tick(&mut self, effects: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Idle | Phase::Broken(_)) {
            self.yield_in_time(effects);
        }
        match &mut self.phase {
            Phase::Pausing(0) => self.read(effects),
            Phase::Pausing(left) => *left -= 1,
            Phase::Serving(_, under_way) if under_way.writing.is_none() => {}
            Phase::Reading
            | Phase::Raising(_)
            | Phase::Listing(_)
            | Phase::Serving(..)
            | Phase::Forgetting(..) => {
                self.waited += 1;
                if self.waited > self.limits.patience {
                    self.operation += 1;
                    self.fails();
                    self.pause();
                }
            }
            Phase::Idle | Phase::Adopting(..) | Phase::Broken(_) => {}
        }
    }
}
