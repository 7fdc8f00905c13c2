//! Agents as operators meet them: each holds a revision, asks for what follows, and says what it plugged.

use crate::{
    time::Micros,
    view::{Share, View},
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
    pub(crate) held: Option<Revision>,
    /// What is published, as far as it knows.
    pub(crate) view: Rc<View>,
    share: Option<Rc<Share>>,
    /// Pods that run here, and their addresses.
    pods: BTreeMap<NamespacedName, Ipv4Addr>,
    /// What it has to say: pods that came here or went, and are not published so.
    pub(crate) says: Vec<CommandV1>,
    /// The question that is not answered yet, and when it was asked.
    pub(crate) asked: Option<(u64, Micros)>,
    /// Its node is down until then.
    pub(crate) down_until: Micros,
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
}

/// What leads to a revision, one for all who are told it.
pub(crate) struct News {
    revision: Revision,
    extent: Extent,
    deltas: Vec<Rc<Delta>>,
    /// Which view it made of which.
    made: RefCell<Vec<(Rc<View>, Rc<View>)>>,
}

/// What news are about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// What changed since what the agent holds.
    Since,
    /// Everything.
    Everything,
}

impl News {
    pub(crate) fn new(revision: Revision, extent: Extent, deltas: Vec<Delta>) -> Rc<Self> {
        let deltas = deltas.into_iter().map(Rc::new).collect();
        Rc::new(Self { revision, extent, deltas, made: RefCell::default() })
    }

    /// What becomes of a view: computed once for all agents that share it.
    fn make(&self, before: &Rc<View>) -> Rc<View> {
        let mut made = self.made.borrow_mut();
        let anew = self.extent == Extent::Everything;
        if let Some((_, view)) = made.iter().find(|(from, _)| anew || Rc::ptr_eq(from, before)) {
            return Rc::clone(view);
        }
        let mut view = if anew { View::default() } else { View::clone(before) };
        self.deltas.iter().for_each(|delta| view.apply(delta));
        // Who came here on another way should know the same, and then shares it.
        let same = made.iter().find(|(_, other)| **other == view);
        let view = same.map_or_else(|| Rc::new(view), |(_, other)| Rc::clone(other));
        made.push((Rc::clone(before), Rc::clone(&view)));
        view
    }
}

impl Agent {
    pub(crate) fn new(node: NodeName, operator: MemberId) -> Self {
        Self {
            node,
            operator,
            held: None,
            view: Rc::default(),
            share: None,
            pods: BTreeMap::new(),
            says: Vec::new(),
            asked: None,
            down_until: Micros(0),
        }
    }

    /// Its node goes down, and with it all that it knew and all pods; it comes back after a time.
    pub(crate) fn go_down(&mut self, until: Micros) {
        *self = Self { down_until: until, ..Self::new(self.node.clone(), self.operator) };
    }

    /// Takes what it was told; the revision it would have gone back to.
    pub(crate) fn take(&mut self, told: &Told) -> Option<Revision> {
        let Told::News(news) = told else { return None };
        let back = self.held.filter(|held| *held > news.revision).map(|_| news.revision);
        self.held = Some(news.revision);
        self.view = news.make(&self.view);
        let same = match (&self.share, self.view.share(&self.node)) {
            (Some(before), Some(now)) => Rc::ptr_eq(before, now),
            (before, now) => before.is_none() && now.is_none(),
        };
        if !same {
            self.share = self.view.share(&self.node).cloned();
            self.run();
        }
        back
    }

    /// Runs what is scheduled here, and notes what is to be said of it.
    fn run(&mut self) {
        let share = self.share.clone().unwrap_or_default();
        self.pods.retain(|pod, _| share.scheduled.contains(pod));
        self.plug(&share);
        let said = |(pod, address): (&NamespacedName, &Ipv4Addr)| {
            (share.plugged.get(address) != Some(pod))
                .then(|| CommandV1::Plug(self.node.clone(), pod.clone(), *address))
        };
        self.says = self.pods.iter().filter_map(said).collect();
        let used: BTreeSet<&Ipv4Addr> = self.pods.values().collect();
        let gone = share.plugged.keys().filter(|address| !used.contains(address));
        self.says.extend(gone.map(|address| CommandV1::Unplug(self.node.clone(), *address)));
    }

    fn plug(&mut self, share: &Share) {
        let Some(mut free) = share.prefix.map(|prefix| prefix.hosts()) else { return };
        let used: BTreeSet<Ipv4Addr> = self.pods.values().copied().collect();
        for pod in &share.scheduled {
            if !self.pods.contains_key(pod)
                && let Some(address) = free.find(|address| !used.contains(address))
            {
                self.pods.insert(pod.clone(), address);
            }
        }
    }
}
