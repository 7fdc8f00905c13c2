//! What a leader wants of the store and of the log; and who asked for it.

use crate::{
    founding::FoundingError,
    keeper::{Keeper, Question, Told},
    messages::Undone,
};
use std::collections::BTreeMap;
use tokio::sync::{oneshot, watch};
use weft_api::{Failure, FailureKind};
use weft_state::{
    ClusterState, CommandV1,
    leadership::{
        Change, Effect, Event, Fault, Leadership, Limits, RequestId, Ticket, Trouble, Verdict,
    },
    retirement::Grace,
};
use weft_store::StoreError;
use weft_types::{Cluster, Fence, Identity, LabelFilter, LabelSet, Revision, TraceContext};

/// A leader's patience, in [`crate::leader::TICK`]s: what a store needs to list a large cluster, half a second
/// before one that failed is asked again, and three until another member is to lead whom it may answer. A store splits what is more than its own transactions take. While one command is put in
/// order the next goes to the store, and who comes meanwhile shares the one after it: more under way would be smaller.
fn limits(grace: Grace) -> Limits {
    let (waiting, transaction, ordering) = (16 << 10, 1024, 1);
    Limits { waiting, transaction, ordering, patience: 300, pause: 5, yields: 30, grace }
}

/// The leader's own request: to filter labels as it was told.
const FILTER: RequestId = 0;

/// What was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The revision that holds it.
    pub revision: Revision,
    /// Objects that were added, changed or removed.
    pub changed: usize,
    /// The number of the label set that was asked for.
    pub number: Option<Identity>,
}

/// How far a leader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Others lead, or the store was not heard yet.
    Waiting,
    /// It takes changes.
    Serving,
    /// It never will: the store is not this cluster's, or cannot be understood.
    Broken(String),
}

/// What is to be put in order.
#[derive(Debug)]
pub struct Order {
    /// What its end is told by.
    pub ticket: Ticket,
    /// The fence under which the store has it, in whose term it may be ordered.
    pub fence: Fence,
    /// The command.
    pub command: CommandV1,
    /// The call that it is part of.
    pub cause: Option<TraceContext>,
}

/// Where the labels are that make identities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filtering {
    /// As in the state, which may differ.
    Unknown,
    /// Asked for.
    Asked,
    /// As they should be, or they cannot be.
    Settled,
    /// They stay as they were until the group is of this version.
    Until(u8),
}

struct Asker {
    changed: usize,
    /// Whose number is wanted.
    labels: Option<LabelSet>,
    cause: Option<TraceContext>,
    answer: oneshot::Sender<Result<Accepted, Undone>>,
}

/// The leader's part in the store, with its shell.
pub struct Leading {
    cluster: String,
    leadership: Leadership,
    keeper: Keeper,
    labels: LabelFilter,
    filtering: Filtering,
    askers: BTreeMap<RequestId, Asker>,
    last: RequestId,
    /// Whether another member is to lead.
    yields: bool,
    /// What the store said last when it did not do what it was asked, until it does something.
    trouble: Option<StoreError>,
    standing: watch::Sender<Standing>,
}

impl Leading {
    /// Of a cluster of a generation, in which these labels make identities; and how far it is.
    pub fn new(
        cluster: &Cluster,
        generation: u16,
        (labels, grace): (LabelFilter, Grace),
        keeper: Keeper,
    ) -> (Self, watch::Receiver<Standing>) {
        let (standing, watched) = watch::channel(Standing::Waiting);
        let leading = Self {
            cluster: cluster.name.clone(),
            leadership: Leadership::new(cluster.clone(), generation, limits(grace)),
            keeper,
            labels,
            filtering: Filtering::Unknown,
            askers: BTreeMap::new(),
            last: FILTER,
            yields: false,
            trouble: None,
            standing,
        };
        (leading, watched)
    }

    /// Somebody wants a change: the event that says so, and where the answer comes.
    pub fn ask(
        &mut self,
        state: &ClusterState,
        change: Change,
        cause: Option<TraceContext>,
    ) -> (Event, oneshot::Receiver<Result<Accepted, Undone>>) {
        let (put, remove) = state.effective(&change.put, &change.remove);
        let (answer, answered) = oneshot::channel();
        let changed = put.len() + remove.len();
        let request = self.admit(Asker { changed, labels: None, cause, answer });
        (Event::Asked(request, change), answered)
    }

    /// Somebody wants a number for a label set.
    pub fn number(
        &mut self,
        labels: LabelSet,
        cause: Option<TraceContext>,
    ) -> (Event, oneshot::Receiver<Result<Accepted, Undone>>) {
        let (answer, answered) = oneshot::channel();
        let wanted = Some(labels.clone());
        let request = self.admit(Asker { changed: 0, labels: wanted, cause, answer });
        (Event::Number(request, labels), answered)
    }

    fn admit(&mut self, asker: Asker) -> RequestId {
        self.last += 1;
        self.askers.insert(self.last, asker);
        self.last
    }

    /// The store's word, as an event.
    pub fn hear(&mut self, told: Told) -> Event {
        let answer = told.answer.map_err(|error| {
            tracing::warn!("{error}");
            let trouble = trouble(&error);
            self.trouble = Some(error);
            trouble
        });
        Event::Stored(told.operation, answer)
    }

    /// What is wrong with the store: for good, or when it did not do what it was asked last.
    pub fn trouble(&self) -> Option<String> {
        self.broken().or_else(|| self.trouble.as_ref().map(ToString::to_string))
    }

    /// Whether another member is to lead, whom the store may answer; asked once for each time that it is so.
    pub fn yields(&mut self) -> bool {
        std::mem::take(&mut self.yields)
    }

    /// What decides.
    pub const fn core(&self) -> &Leadership {
        &self.leadership
    }

    /// Whether changes are taken.
    pub fn is_serving(&self) -> bool {
        *self.standing.borrow() == Standing::Serving
    }

    /// Goes on by an event; what is to be ordered. `newest` is the revision of `state`.
    pub fn step(&mut self, state: &ClusterState, newest: Revision, event: Event) -> Vec<Order> {
        if matches!(event, Event::Led(_) | Event::Deposed) {
            self.filtering = Filtering::Unknown;
        }
        let mut orders = Vec::new();
        self.carry_out(state, newest, event, &mut orders);
        if matches!(self.filtering, Filtering::Until(version) if version <= state.version()) {
            self.filtering = Filtering::Unknown;
        }
        if self.leadership.is_serving() && self.filtering == Filtering::Unknown {
            self.filtering = Filtering::Asked;
            let event = Event::Filter(FILTER, self.labels.clone());
            self.carry_out(state, newest, event, &mut orders);
        }
        let standing = match (self.broken(), self.filtering) {
            (Some(why), _) => Standing::Broken(why),
            (None, Filtering::Settled | Filtering::Until(_)) if self.leadership.is_serving() => {
                Standing::Serving
            }
            (None, _) => Standing::Waiting,
        };
        self.standing.send_if_modified(|known| {
            let modified = *known != standing;
            *known = standing;
            modified
        });
        orders
    }

    fn carry_out(
        &mut self,
        state: &ClusterState,
        newest: Revision,
        event: Event,
        orders: &mut Vec<Order>,
    ) {
        for effect in self.leadership.step(state, event) {
            match effect {
                Effect::Store(operation, ask) => {
                    self.keeper.ask(Question { operation, ask, cause: self.cause() });
                }
                Effect::Propose(ticket, fence, command) => {
                    orders.push(Order { ticket, fence, command, cause: self.cause() });
                }
                Effect::Yield => self.yields = true,
                Effect::Answer(FILTER, verdict) => self.filtered(verdict),
                Effect::Answer(request, verdict) => {
                    self.answer(state, request, verdict, newest);
                }
            }
        }
    }

    /// Why this store will never do.
    fn broken(&self) -> Option<String> {
        match (self.leadership.fault(), &self.trouble) {
            (Some(fault), _) => Some(FoundingError::of(fault, &self.cluster).to_string()),
            (None, Some(unreadable @ StoreError::Unreadable { .. })) => {
                Some(unreadable.to_string())
            }
            (None, _) => None,
        }
    }

    /// Of what shares a transaction, the first cause that there is.
    fn cause(&self) -> Option<TraceContext> {
        self.leadership.under_way().find_map(|request| self.askers.get(&request)?.cause)
    }

    fn filtered(&mut self, verdict: Verdict) {
        self.filtering = match verdict {
            Verdict::Done => Filtering::Settled,
            Verdict::Invalid(problem) => {
                tracing::error!("filter labels anew: {problem}; they stay as they were");
                Filtering::Settled
            }
            Verdict::TooOld(version) => {
                let why =
                    "an operator of an older release is of the group, or was not heard of yet";
                tracing::warn!(version, "labels make identities as before: {why}");
                Filtering::Until(version)
            }
            Verdict::NotLeading | Verdict::Unknown | Verdict::Busy => Filtering::Unknown,
        };
    }

    fn answer(
        &mut self,
        state: &ClusterState,
        request: RequestId,
        verdict: Verdict,
        revision: Revision,
    ) {
        let Some(asker) = self.askers.remove(&request) else { return };
        let Asker { changed, labels, answer, .. } = asker;
        let failed = |kind, message| Err(Failure { kind, message }.into());
        let outcome = match verdict {
            Verdict::Done => {
                self.trouble = None;
                let number = labels.and_then(|labels| state.identities().get(&labels).copied());
                Ok(Accepted { revision, changed, number })
            }
            Verdict::Invalid(message) => failed(FailureKind::Invalid, message),
            Verdict::NotLeading => match self.broken() {
                Some(why) => failed(FailureKind::Internal, format!("change the cluster: {why}")),
                None => Err(Undone::NotLeading),
            },
            Verdict::Unknown => {
                let message = "change the cluster: another operator leads now; it may still be done; asking again does no harm unless somebody changed the same meanwhile";
                failed(FailureKind::TryAgain, message.to_owned())
            }
            Verdict::TooOld(version) => {
                let message = format!(
                    "change the cluster: it needs every operator to know version {version}: an older one is of the group"
                );
                failed(FailureKind::TryAgain, message)
            }
            Verdict::Busy => {
                let message = "change the cluster: too much waits for the store; try again";
                failed(FailureKind::TryAgain, message.to_owned())
            }
        };
        // Whoever asked may be gone.
        drop(answer.send(outcome));
    }
}

fn trouble(error: &StoreError) -> Trouble {
    match error {
        StoreError::Ambiguous { .. } => Trouble::Ambiguous,
        StoreError::Fenced { .. } => Trouble::Fenced,
        StoreError::Taken { .. } => Trouble::Taken,
        StoreError::Failed { .. } | StoreError::Unreadable { .. } => Trouble::Failed,
    }
}

impl FoundingError {
    /// A store that turned out to be the wrong one.
    pub(crate) fn of(fault: &Fault, cluster: &str) -> Self {
        match fault {
            Fault::OtherCluster(found) => {
                Self::OtherCluster { asked: cluster.to_owned(), found: found.clone() }
            }
            Fault::OtherSpace { store, asked } => Self::OtherSpace { asked: *asked, found: *store },
            Fault::Apart { store, log } => Self::Apart { log: *log, store: *store },
            Fault::Behind { store, known } => Self::Behind { store: *store, known: *known },
            Fault::OldStore(number) => Self::OldStore { number: *number },
        }
    }
}
