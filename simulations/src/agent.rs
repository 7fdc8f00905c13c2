//! Agents as operators meet them: each holds a revision, asks for what follows, and says what it plugged.

use crate::{
    invariant::Invariant,
    release::Release,
    time::Micros,
    view::{Share, View, Views},
};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    rc::Rc,
};
use weft_raft::MemberId;
use weft_state::CommandV1;
use weft_types::{Delta, NamespacedName, NodeName, Revision};

/// An agent.
pub(crate) struct Agent {
    pub(crate) node: NodeName,
    /// Whom it is connected to.
    pub(crate) operator: MemberId,
    /// Of its program.
    pub(crate) release: Release,
    pub(crate) held: Option<Revision>,
    /// What is published, as far as it knows.
    pub(crate) view: Rc<View>,
    /// Pods that run here, and their addresses.
    pods: BTreeMap<NamespacedName, Ipv4Addr>,
    /// What it has to say: pods that came here or went, and are not published so.
    pub(crate) says: Vec<CommandV1>,
    /// The question that is not answered yet, and when it was asked.
    pub(crate) asked: Option<(u64, Micros)>,
    /// Its node is down until then.
    pub(crate) down_until: Micros,
}

/// An agent's question: what follows what it holds? With what it has to say.
pub(crate) struct Asking {
    pub(crate) agent: usize,
    pub(crate) number: u64,
    pub(crate) held: Option<Revision>,
    pub(crate) says: Vec<CommandV1>,
    pub(crate) release: Release,
}

/// What an operator says to an agent's question.
#[derive(Clone)]
pub(crate) enum Told {
    /// What leads to a revision.
    News(Rc<News>),
    /// There is nothing newer.
    Nothing,
    /// The operator is behind what the agent holds.
    Behind,
    /// The operator is of another release.
    OtherRelease,
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
    pub(crate) fn new(node: NodeName, operator: MemberId, release: Release) -> Self {
        Self {
            node,
            operator,
            release,
            held: None,
            view: Rc::default(),
            pods: BTreeMap::new(),
            says: Vec::new(),
            asked: None,
            down_until: Micros(0),
        }
    }

    /// Its node goes down, and with it all that it knew and all pods; it comes back after a time.
    pub(crate) fn go_down(&mut self, until: Micros) {
        *self =
            Self { down_until: until, ..Self::new(self.node.clone(), self.operator, self.release) };
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
            self.run();
        }
        let (node, revision) = (&self.node, news.revision);
        if back {
            let seen = format!("the agent of {node} goes back to {revision}");
            return Some((Invariant::NeverBack, seen));
        }
        let seen = |at| format!("the agent of {node} knows something else at {at} than others");
        alike.err().map(|at| (Invariant::OneState, seen(at)))
    }

    /// Runs what is scheduled here, and notes what is to be said of it.
    fn run(&mut self) {
        let share = self.view.share(&self.node).cloned().unwrap_or_default();
        self.pods.retain(|pod, _| share.scheduled.contains(pod));
        self.plug(&share);
        let said = |(pod, address): (&NamespacedName, &Ipv4Addr)| {
            (share.plugged.get(address) != Some(pod))
                .then(|| CommandV1::Plug(self.node.clone(), pod.clone(), *address))
        };
        self.says = self.pods.iter().filter_map(said).collect();
        let other =
            share.plugged.iter().filter(|(address, pod)| self.pods.get(pod) != Some(address));
        let gone = other.filter(|(address, _)| !self.pods.values().any(|used| used == *address));
        self.says.extend(gone.map(|(address, _)| CommandV1::Unplug(self.node.clone(), *address)));
    }

    fn plug(&mut self, share: &Share) {
        let Some(mut free) = share.prefix.map(|prefix| prefix.hosts()) else { return };
        let new = share.scheduled.iter().filter(|pod| !self.pods.contains_key(pod));
        let new: Vec<&NamespacedName> = new.collect();
        if new.is_empty() {
            return;
        }
        let used: BTreeSet<Ipv4Addr> = self.pods.values().copied().collect();
        for pod in new {
            if let Some(address) = free.find(|address| !used.contains(address)) {
                self.pods.insert(pod.clone(), address);
            }
        }
    }
}
