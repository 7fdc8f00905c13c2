//! Agents as operators meet them: each holds a revision, asks for what follows, and says what it plugged.

use crate::{
    Invariant,
    kernel::Realiser,
    pods::Pods,
    release::Release,
    time::Micros,
    told::{Kept, Part},
    view::{Share, View, Views},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    rc::Rc,
};
use weft_core::patience;
use weft_raft::MemberId;
use weft_state::Word;
use weft_types::{Delta, Identity, NamespacedName, NodeName, Revision};

/// What a node has plugged.
pub(crate) type Endpoints = Rc<[(Ipv4Addr, Identity)]>;

/// An agent.
pub(crate) struct Agent {
    pub(crate) node: NodeName,
    /// Whom it is connected to.
    pub(crate) operator: MemberId,
    /// Of its program.
    pub(crate) release: Release,
    /// The version of messages that it offers its operator; the newest that it speaks, until one does not take that.
    pub(crate) offers: u16,
    pub(crate) held: Option<Revision>,
    /// What is published, as far as it knows.
    pub(crate) view: Rc<View>,
    /// What of it its node has to know, as far as it was told, where agents are few.
    pub(crate) kept: Kept,
    /// What makes its node's kernel hold that, where agents are few.
    pub(crate) realiser: Option<Realiser>,
    /// Pods that run here.
    pub(crate) pods: Pods,
    /// Which of its sessions this is.
    pub(crate) session: u64,
    /// All that it has plugged.
    pub(crate) all: Endpoints,
    /// What it has to say: pods that came here or went, and are not published so.
    pub(crate) says: Vec<Word>,
    /// The question that is not answered yet, and when it was asked.
    pub(crate) asked: Option<(u64, Micros)>,
    /// How long it waits before it goes to an operator again, unless one takes it.
    back_off: Micros,
    /// Questions in this second, which is counted from the beginning.
    tries: (u64, u32),
    /// Its node is down until then.
    pub(crate) down_until: Micros,
    /// It reaches no operator until then, and keeps what it has.
    pub(crate) cut_until: Micros,
    /// Its node's kernel refuses writes until then.
    pub(crate) refuses_until: Micros,
}

/// Between an agent's session and its next try, which is twice as long each time until a session is taken.
const BACK_OFF: Micros = Micros::of(patience::BACK_OFF);
/// The most of it: what `--session-retry-max` is where nothing is said.
const BACK_OFF_MOST: Micros = Micros::seconds(5);

/// An agent's question: what follows what it holds? With what it has to say.
pub(crate) struct Asking {
    pub(crate) agent: usize,
    pub(crate) number: u64,
    pub(crate) held: Option<Revision>,
    /// What its kernel holds.
    pub(crate) holds: Option<Revision>,
    /// Of this session.
    pub(crate) session: u64,
    pub(crate) all: Endpoints,
    pub(crate) says: Vec<Word>,
    /// The version of messages that it offers.
    pub(crate) offers: u16,
    /// The identities that it was told of, where agents are few.
    pub(crate) told: Option<BTreeSet<Identity>>,
}

/// What an operator says to an agent's question.
#[derive(Clone)]
pub(crate) enum Told {
    /// What leads to a revision.
    News(Rc<News>),
    /// There is nothing newer.
    Nothing,
    /// The operator is behind what the agent holds, or another session took the place of this one.
    Behind,
    /// The operator does not speak what was offered, but this.
    OtherVersion(u16),
    /// The operator's process does not run, or ended.
    Gone,
}

/// What leads to a revision, one for all who are told it.
pub(crate) struct News {
    revision: Revision,
    content: Content,
    /// What it made of what was known before.
    made: RefCell<Vec<(Rc<View>, Made)>>,
}

/// What news consist of.
pub(crate) enum Content {
    /// What changed since what the agent holds.
    Since(Vec<Rc<Delta>>),
    /// Everything.
    Everything(Rc<View>),
}

/// What is known after news.
#[derive(Clone)]
struct Made {
    view: Rc<View>,
    /// The nodes that there is something new of; none stands for all.
    about: Option<Rc<BTreeSet<NodeName>>>,
}

impl News {
    pub(crate) fn new(revision: Revision, content: Content) -> Rc<Self> {
        Rc::new(Self { revision, content, made: RefCell::default() })
    }

    /// What becomes of a view: computed once for all agents that share it. An error when others know something else
    /// at that revision.
    fn make(
        &self,
        before: &Rc<View>,
        views: &mut Views,
        now: Micros,
    ) -> (Made, Result<(), Revision>) {
        let deltas = match &self.content {
            Content::Everything(view) => {
                return (Made { view: Rc::clone(view), about: None }, Ok(()));
            }
            Content::Since(deltas) => deltas,
        };
        let mut known = self.made.borrow_mut();
        if let Some((_, made)) = known.iter().find(|(from, _)| Rc::ptr_eq(from, before)) {
            return (made.clone(), Ok(()));
        }
        let known_there = views.at(self.revision).cloned();
        let to_it = known_there.and_then(|view| Some((before.leads_to(&view, deltas)?, view)));
        let (made, alike) = if let Some((about, view)) = to_it {
            (Made { view, about: Some(Rc::new(about)) }, Ok(()))
        } else {
            let mut view = View::clone(before);
            deltas.iter().for_each(|delta| view.apply(delta));
            let (view, alike) = match views.share(now, self.revision, Rc::new(view)) {
                Ok(view) => (view, Ok(())),
                Err(view) => (view, Err(self.revision)),
            };
            (Made { view, about: None }, alike)
        };
        known.push((Rc::clone(before), made.clone()));
        (made, alike)
    }
}

impl Agent {
    pub(crate) fn new(node: NodeName, operator: MemberId, release: Release, pods: Pods) -> Self {
        Self {
            node,
            operator,
            release,
            offers: release.wire().newest,
            pods,
            held: None,
            view: Rc::default(),
            kept: Kept::default(),
            realiser: None,
            session: 1,
            all: Rc::default(),
            says: Vec::new(),
            asked: None,
            back_off: BACK_OFF,
            tries: (0, 0),
            down_until: Micros(0),
            cut_until: Micros(0),
            refuses_until: Micros(0),
        }
    }

    /// Its node goes down, and with it all that it knew and all pods; it comes back after a time.
    pub(crate) fn go_down(&mut self, until: Micros) {
        let session = self.session + 1;
        let new = Self::new(self.node.clone(), self.operator, self.release, self.pods.anew());
        let realiser = self.realiser.as_ref().map(Realiser::anew);
        *self = Self { down_until: until, session, realiser, ..new };
    }

    /// Its process ends, and comes back after a time with what its disk has: what was published, and who is plugged. Its kernel
    /// goes on.
    pub(crate) fn end_process(&mut self, until: Micros) {
        self.down_until = until;
        self.session += 1;
        self.asked = None;
        if let Some(realiser) = &mut self.realiser {
            realiser.kill();
        }
    }

    /// What its kernel holds, as far as it may say so.
    pub(crate) fn holds(&self) -> Option<Revision> {
        self.realiser.as_ref().map_or(self.held, Realiser::acknowledged)
    }

    /// Takes what it was told; what does not hold then.
    pub(crate) fn take(
        &mut self,
        told: &Told,
        views: &mut Views,
        now: Micros,
    ) -> Option<(Invariant, String)> {
        let Told::News(news) = told else { return None };
        let back = self.held.is_some_and(|held| held > news.revision);
        self.held = Some(news.revision);
        let (Made { view, about }, alike) = news.make(&self.view, views, now);
        self.view = view;
        if about.is_none_or(|about| about.contains(&self.node)) {
            self.run(now);
        }
        let (node, revision) = (&self.node, news.revision);
        if back {
            let seen = format!("the agent of {node} goes back to {revision}");
            return Some((Invariant::NeverBack, seen));
        }
        let seen = |at| format!("the agent of {node} knows something else at {at} than others");
        alike.err().map(|at| (Invariant::OneState, seen(at)))
    }

    /// Takes what it was told for its own, at the revision that it holds; what does not hold then, where that is looked at.
    pub(crate) fn keep(&mut self, part: Part, is_looked_at: bool) -> Option<(Invariant, String)> {
        let scope = part.scope;
        let changes = self.kept.take(part);
        if let (Some(realiser), Some(held)) = (&mut self.realiser, self.held) {
            realiser.take(held, changes);
        }
        if !is_looked_at {
            return None;
        }
        let differs = self.kept.differs(&self.view, &self.node, scope)?;
        let seen = format!("the agent of {} does not know {differs:?} as it has to", self.node);
        Some((Invariant::OneState, seen))
    }

    /// How its kernel is not what it should be at a revision, which is the newest.
    pub(crate) fn unrealised(&self, newest: Revision) -> Option<String> {
        let (node, realiser) = (&self.node, self.realiser.as_ref()?);
        if realiser.acknowledged() != Some(newest) || !realiser.is_settled(&self.pods) {
            let holds = realiser.acknowledged().unwrap_or(Revision::ZERO);
            return Some(format!("the kernel of {node} holds {holds}, not {newest}"));
        }
        let map = realiser.differs(&self.kept)?;
        Some(format!("the kernel of {node} differs in {map} from what an agent would write"))
    }

    /// It asks; how often it did in this second.
    pub(crate) fn tries(&mut self, now: Micros) -> u32 {
        let second = now.0 / Micros::seconds(1).0;
        let before = if self.tries.0 == second { self.tries.1 } else { 0 };
        self.tries = (second, before + 1);
        before + 1
    }

    /// How long it waits now, before it goes to another operator.
    pub(crate) fn back_off(&mut self) -> Micros {
        let now = self.back_off;
        self.back_off = Micros(now.0 * 2).min(BACK_OFF_MOST);
        now
    }

    /// Its operator does not speak what it offered: whether it may offer that what the operator speaks.
    pub(crate) fn offers_next(&mut self, answered: u16) -> bool {
        let next = self.release.wire().offer_next(self.offers, answered);
        self.offers = next.unwrap_or(self.offers);
        next.is_some()
    }

    /// An operator took it.
    pub(crate) fn is_taken(&mut self) {
        self.back_off = BACK_OFF;
    }

    /// Whether no operator has answered it for a while.
    pub(crate) fn is_alone(&self) -> bool {
        self.back_off > BACK_OFF
    }

    /// Notes what runs here, and what is to be said of it.
    pub(crate) fn run(&mut self, now: Micros) {
        let share = self.view.share(&self.node).cloned().unwrap_or_default();
        self.pods.follow(&share, now);
        self.say(&share);
    }

    fn say(&mut self, share: &Share) {
        let plugged: BTreeMap<Ipv4Addr, &NamespacedName> =
            self.pods.plugged().map(|(pod, address)| (address, pod)).collect();
        let new =
            plugged.iter().filter(|(address, pod)| share.plugged.get(*address) != Some(**pod));
        let plug = |(address, pod): (&Ipv4Addr, &&NamespacedName)| {
            let identity = self.pods.identity_of(pod).unwrap_or(Identity::UNKNOWN);
            Word::Plug { pod: (*pod).clone(), address: *address, identity }
        };
        let gone = share.plugged.keys().filter(|address| !plugged.contains_key(*address));
        let unplug = |address: &Ipv4Addr| Word::Unplug(*address);
        self.says = new.map(plug).chain(gone.map(unplug)).collect();
        self.all = self.pods.endpoints().collect();
    }
}
