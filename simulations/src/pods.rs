//! Pods of a node: the shipped core of endpoints, over a kernel that does everything at once, and a runtime that calls it.

use crate::{time::Micros, view::Share};
use rpds::RedBlackTreeMap;
use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv4Addr,
};
use weft_core::{
    endpoint::{Caller, Effect, Endpoints, Event, Failure, Presence, Wire},
    ipcache::LocalPod,
    patience,
};
use weft_types::{Identity, NamespacedName};

/// How long an ADD waits for its pod to become known while an operator is there: what `--cni-patience` is where nothing is said.
const PATIENCE: Micros = Micros::seconds(10);
/// And while none is.
const PATIENCE_ALONE: Micros = Micros::of(patience::ALONE);
/// From a runtime's ADD that was told to try again to its next.
const AGAIN: Micros = Micros::seconds(1);
/// Nobody waits for an answer that the runtime does not see at once.
const CALLER: Caller = 0;

/// The pods of a node.
#[derive(Default)]
pub(crate) struct Pods {
    core: Endpoints<NamespacedName>,
    /// What is scheduled here, as the core knows it.
    scheduled: RedBlackTreeMap<NamespacedName, Identity>,
    /// ADDs of pods that are not known here yet.
    waiting: BTreeMap<NamespacedName, Adding>,
    /// How long a pod takes to end.
    lingers: Micros,
    /// Pods that are wanted no more, and when they end.
    ending: BTreeMap<NamespacedName, Micros>,
}

/// An ADD, again and again.
#[derive(Clone, Copy, Debug)]
struct Adding {
    /// Of the first call.
    first: Micros,
    /// Of this one.
    since: Micros,
}

/// How an ADD ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Added {
    Done,
    /// The CNI's "try again", its code 11.
    TryAgain,
    /// For good.
    Refused(String),
}

impl Pods {
    /// None, of a runtime that takes so long to end one.
    pub(crate) fn new(lingers: Micros) -> Self {
        Self { lingers, ..Self::default() }
    }

    /// None, of the same runtime.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.lingers)
    }

    /// What is scheduled here is another: who is known is plugged, who went is unplugged when it has ended.
    pub(crate) fn follow(&mut self, share: &Share, now: Micros) {
        self.core.set_pod_cidrs(share.prefix.into_iter().collect());
        let before = std::mem::replace(&mut self.scheduled, share.scheduled.clone());
        for pod in before.keys().filter(|pod| !share.scheduled.contains_key(*pod)) {
            self.core.set_workload(pod, None);
            self.ending.insert(pod.clone(), now + self.lingers);
        }
        self.end(now);
        for (pod, identity) in &share.scheduled {
            self.ending.remove(pod);
            if before.get(pod) != Some(identity) {
                self.core.set_workload(pod, Some(*identity));
            }
            if self.core.get(pod).is_none() && self.call_add(pod) == Added::Done {
                self.waiting.remove(pod);
            }
        }
    }

    /// Pods whose time is over end; whether any did.
    pub(crate) fn end(&mut self, now: Micros) -> bool {
        let over = self.ending.extract_if(.., |_, end| *end <= now);
        let over: Vec<NamespacedName> = over.map(|(pod, _)| pod).collect();
        over.iter().for_each(|pod| self.delete(pod));
        !over.is_empty()
    }

    /// A runtime starts a pod, whether it is known here or not.
    pub(crate) fn add(&mut self, pod: &NamespacedName, now: Micros) -> Added {
        if self.core.get(pod).is_some() {
            return Added::Done;
        }
        let added = self.call_add(pod);
        if added == Added::TryAgain {
            self.waiting.insert(pod.clone(), Adding { first: now, since: now });
        }
        added
    }

    /// A pod is to be elsewhere, or nowhere.
    pub(crate) fn withdraw(&mut self, pod: &NamespacedName) {
        self.waiting.remove(pod);
    }

    /// A pod is started anew where it is.
    pub(crate) fn restart(&mut self, pod: &NamespacedName) -> Added {
        self.delete(pod);
        self.call_add(pod)
    }

    /// ADDs that have waited as long as they do are told how it stands, and their runtimes call again. What they were told.
    pub(crate) fn tire(&mut self, now: Micros, alone: bool) -> Vec<Added> {
        let patience = if alone { PATIENCE_ALONE } else { PATIENCE };
        let over = self.waiting.iter().filter(|(_, adding)| adding.since + patience <= now);
        let over: Vec<NamespacedName> = over.map(|(pod, _)| pod.clone()).collect();
        let told = over.iter().map(|pod| self.call_add(pod)).collect();
        for pod in over {
            self.waiting.entry(pod).and_modify(|adding| adding.since = now + AGAIN);
        }
        told
    }

    /// A pod whose ADD has waited since a time, or longer.
    pub(crate) fn waits_since(&self, time: Micros) -> Option<&NamespacedName> {
        let first = |(pod, adding): (_, &Adding)| (adding.first <= time).then_some(pod);
        self.waiting.iter().find_map(first)
    }

    /// Who is plugged and wanted.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = &NamespacedName> {
        self.plugged().map(|(pod, _)| pod).filter(|pod| self.scheduled.contains_key(*pod))
    }

    /// Who is plugged, where.
    pub(crate) fn plugged(&self) -> impl Iterator<Item = (&NamespacedName, Ipv4Addr)> {
        self.core.iter().map(|(pod, endpoint)| (pod, endpoint.address))
    }

    /// Whom the kernel's tables are to hold.
    pub(crate) fn in_tables(&self) -> BTreeMap<Ipv4Addr, LocalPod> {
        let inside = self.core.in_tables().1.into_iter();
        let local = |identity, ifindex| LocalPod { identity, ifindex };
        inside.map(|(_, it, wire)| (it.address, local(it.identity, wire.ifindex))).collect()
    }

    /// The version of that.
    pub(crate) fn version(&self) -> u64 {
        self.core.in_tables().0
    }

    /// Who has an address.
    pub(crate) fn at(&self, address: Ipv4Addr) -> Option<&NamespacedName> {
        self.plugged().find(|(_, at)| *at == address).map(|(pod, _)| pod)
    }

    /// Of whom the kernel's tables are to hold with an address, the interface.
    pub(crate) fn interface_at(&self, address: Ipv4Addr) -> Option<u32> {
        let mut inside = self.core.in_tables().1.into_iter();
        inside.find(|(_, it, _)| it.address == address).map(|(_, _, wire)| wire.ifindex)
    }

    /// What a plugged pod has.
    pub(crate) fn identity_of(&self, pod: &NamespacedName) -> Option<Identity> {
        self.core.get(pod).map(|endpoint| endpoint.identity)
    }

    /// All that is plugged.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = (Ipv4Addr, Identity)> {
        self.core.iter().map(|(_, endpoint)| (endpoint.address, endpoint.identity))
    }

    fn call_add(&mut self, pod: &NamespacedName) -> Added {
        let (key, netns) = (pod.clone(), String::new());
        let add = Event::Add { key: key.clone(), pod: key, netns, adopt: None, caller: CALLER };
        self.drive(add).unwrap_or_else(|| Added::Refused("ADD has no end".to_owned()))
    }

    fn delete(&mut self, pod: &NamespacedName) {
        self.drive(Event::Delete { key: pod.clone(), caller: CALLER });
    }

    /// One event, and all that follows; how an ADD ended meanwhile.
    fn drive(&mut self, event: Event<NamespacedName>) -> Option<Added> {
        let mut events = VecDeque::from([event]);
        let mut added = None;
        while let Some(event) = events.pop_front() {
            for effect in self.core.step(event) {
                match effect {
                    Effect::Plug { key, endpoint } => {
                        let wire = Wire { ifindex: endpoint.id, mac: [0; 6], mtu: None };
                        events.push_back(Event::Linked { key, wire: Ok(wire) });
                    }
                    // Operators are told with the next question.
                    Effect::Announce => {}
                    Effect::Settle => {
                        events.push_back(Event::Settled { version: self.core.in_tables().0 });
                    }
                    Effect::Open { key, .. } => {
                        events.push_back(Event::Opened { key, result: Ok(()) });
                    }
                    Effect::Find { key, .. } => {
                        events.push_back(Event::Found { key, result: Ok(Presence::There) });
                    }
                    Effect::Unplug { key } => {
                        events.push_back(Event::Unplugged { key, result: Ok(()) });
                    }
                    Effect::Added { .. } => added = Some(Added::Done),
                    Effect::Deleted { .. } => {}
                    Effect::Failed { why: Failure::Passing(_), .. } => {
                        added = Some(Added::TryAgain);
                    }
                    Effect::Failed { why: Failure::Lasting(why), .. } => {
                        added = Some(Added::Refused(why));
                    }
                }
            }
        }
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> NamespacedName {
        NamespacedName::new("sim", "pod")
    }

    fn scheduled() -> Share {
        let prefix = ipnet::Ipv4Net::new([10, 0, 1, 0].into(), 24).ok();
        Share {
            prefix,
            scheduled: [(pod(), Identity(256))].into_iter().collect(),
            ..Share::default()
        }
    }

    fn nothing() -> Share {
        Share { scheduled: RedBlackTreeMap::new(), ..scheduled() }
    }

    #[test]
    fn who_is_not_known_waits_until_it_is() {
        let mut pods = Pods::default();
        assert_eq!(pods.add(&pod(), Micros(0)), Added::TryAgain);
        assert_eq!(pods.tire(Micros::millis(999), true), []);
        assert_eq!(pods.tire(Micros::seconds(1), true), [Added::TryAgain]);
        assert_eq!(pods.tire(Micros::seconds(2), true), [], "the runtime calls again, and waits");
        assert_eq!(pods.waits_since(Micros(0)), Some(&pod()));
        pods.follow(&scheduled(), Micros(0));
        assert_eq!(pods.waits_since(Micros::seconds(9)), None);
        assert_eq!(pods.plugged().count(), 1);
    }

    #[test]
    fn who_is_known_starts_again_and_who_went_is_unplugged() {
        let mut pods = Pods::default();
        pods.follow(&scheduled(), Micros(0));
        assert_eq!(pods.restart(&pod()), Added::Done);
        assert_eq!(pods.add(&pod(), Micros(0)), Added::Done);
        pods.follow(&nothing(), Micros(0));
        assert_eq!(pods.plugged().count(), 0);
    }

    #[test]
    fn who_went_is_there_until_it_has_ended_unless_it_comes_back() {
        let mut pods = Pods::new(Micros::seconds(2));
        pods.follow(&scheduled(), Micros(0));
        pods.follow(&nothing(), Micros::seconds(1));
        assert!(!pods.end(Micros::millis(2999)));
        assert_eq!((pods.plugged().count(), pods.wanted().count()), (1, 0));
        pods.follow(&scheduled(), Micros::millis(2999));
        assert!(!pods.end(Micros::seconds(9)), "it is wanted again");
        pods.follow(&nothing(), Micros::seconds(9));
        assert!(pods.end(Micros::seconds(11)));
        assert_eq!(pods.plugged().count(), 0);
    }
}
