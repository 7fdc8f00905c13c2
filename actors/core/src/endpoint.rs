//! The endpoints of a node: from CNI ADD to DEL, as one transition function. Slow work is an effect whose end comes back as an event.
//!
//! ```text
//!            Add               Linked            Settled            Opened
//!  (absent) ─────▶ Plugging ───────▶ Settling ────────▶ Opening ────────▶ Ready
//!                     │ Linked(Err), or Delete meanwhile  │ Delete         │ Delete
//!                     ▼                                   ▼                ▼
//!                 Unplugging ◀───────── Settled ─────── Leaving ◀──────────┘
//!                     │ Unplugged(Ok): gone       Unplugged(Err): Stuck, tried again by Delete or Retry
//! ```
//! The kernel's tables hold who is in Settling, Opening or Ready: rows come before a link carries packets and go before it does.

use ipnet::Ipv4Net;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use weft_types::{Identity, NamespacedName};

/// Who waits for an answer; given by the shell.
pub type Caller = u64;

/// The two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Index of the host side.
    pub ifindex: u32,
    /// The pod's hardware address.
    pub mac: [u8; 6],
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod.
    pub pod: NamespacedName,
    /// Path of its network namespace.
    pub netns: String,
    /// Its number on this node.
    pub id: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its identity.
    pub identity: Identity,
    /// Its link, once there is one.
    pub wire: Option<Wire>,
    /// Where in its life it is.
    pub phase: Phase,
}

/// Where in its life an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its link is being made.
    Plugging,
    /// Its link is made; the tables are being written.
    Settling,
    /// The tables hold it; its link is being set up.
    Opening,
    /// Packets flow.
    Ready,
    /// It is being taken out of the tables.
    Leaving,
    /// Its link is being removed.
    Unplugging,
    /// Its link could not be removed.
    Stuck,
}

impl Phase {
    /// As people know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plugging | Self::Settling | Self::Opening => "creating",
            Self::Ready => "ready",
            Self::Leaving | Self::Unplugging => "disconnecting",
            Self::Stuck => "stuck",
        }
    }

    /// Whether the kernel's tables are to hold it.
    pub fn is_in_tables(self) -> bool {
        matches!(self, Self::Settling | Self::Opening | Self::Ready)
    }
}

/// What happens.
#[allow(missing_docs, reason = "the fields are what their names say; `key` is the attachment")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<K> {
    /// CNI ADD.
    Add { key: K, pod: NamespacedName, netns: String, caller: Caller },
    /// CNI DEL.
    Delete { key: K, caller: Caller },
    /// The end of [`Effect::Plug`].
    Linked { key: K, wire: Result<Wire, String> },
    /// The kernel's tables hold what [`Endpoints::in_tables`] was when this version was taken.
    Settled { version: u64 },
    /// The end of [`Effect::Open`].
    Opened { key: K, result: Result<(), String> },
    /// The end of [`Effect::Unplug`].
    Unplugged { key: K, result: Result<(), String> },
    /// Try again what is stuck.
    Retry,
}

/// What is to be done.
#[allow(missing_docs, reason = "the fields are what their names say; `key` is the attachment")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<K> {
    /// Remember the endpoint durably, then make its link.
    Plug { key: K, endpoint: Endpoint },
    /// Write the tables; report [`Event::Settled`].
    Settle,
    /// Remember the endpoint with its link, then set it up.
    Open { key: K, endpoint: Endpoint },
    /// Remove the link, then forget the endpoint durably.
    Unplug { key: K },
    /// Answer an ADD.
    Added { caller: Caller, endpoint: Endpoint },
    /// Answer a DEL.
    Deleted { caller: Caller },
    /// Answer either with a failure that may pass.
    Failed { caller: Caller, why: String },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Waiting {
    adders: Vec<Caller>,
    deleters: Vec<Caller>,
    /// Why the link was not made.
    failure: Option<String>,
    /// The version of the tables that must be settled.
    version: u64,
}

/// All endpoints of this node.
#[derive(Clone, Debug)]
pub struct Endpoints<K> {
    pod_cidrs: Vec<Ipv4Net>,
    workloads: BTreeMap<NamespacedName, Identity>,
    endpoints: BTreeMap<K, Endpoint>,
    waiting: BTreeMap<K, Waiting>,
    last_address: Option<Ipv4Addr>,
    last_id: u32,
    version: u64,
}

impl<K> Default for Endpoints<K> {
    fn default() -> Self {
        Self {
            pod_cidrs: Vec::new(),
            workloads: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            waiting: BTreeMap::new(),
            last_address: None,
            last_id: 0,
            version: 0,
        }
    }
}

impl<K: Ord + Clone> Endpoints<K> {
    /// The prefixes this node gives addresses from.
    pub fn set_pod_cidrs(&mut self, pod_cidrs: Vec<Ipv4Net>) {
        self.pod_cidrs = pod_cidrs;
    }

    /// A pod is scheduled here with this identity, or is no longer. An endpoint that is plugged follows.
    pub fn set_workload(&mut self, pod: &NamespacedName, identity: Option<Identity>) {
        let Some(identity) = identity else {
            self.workloads.remove(pod);
            return;
        };
        self.workloads.insert(pod.clone(), identity);
        for endpoint in self.endpoints.values_mut().filter(|e| e.pod == *pod) {
            if endpoint.identity != identity {
                endpoint.identity = identity;
                self.version += 1;
            }
        }
    }

    /// Forgets who is scheduled here, for a snapshot that says it anew.
    pub fn forget_workloads(&mut self) {
        self.workloads.clear();
    }

    /// An endpoint of the life before, whose link is there.
    pub fn recover(&mut self, key: K, endpoint: Endpoint) {
        self.last_id = self.last_id.max(endpoint.id);
        self.last_address = self.last_address.max(Some(endpoint.address));
        self.version += 1;
        self.endpoints.insert(key, endpoint);
    }

    /// What of the life before is to be undone: who was on the way in or out.
    pub fn undo_unfinished(&mut self) -> Vec<Effect<K>> {
        let unfinished: Vec<K> = self
            .endpoints
            .iter()
            .filter(|(_, e)| e.phase != Phase::Ready)
            .map(|(key, _)| key.clone())
            .collect();
        unfinished.into_iter().map(|key| self.unplug(key)).collect()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &Endpoint)> {
        self.endpoints.iter()
    }

    /// One of them.
    pub fn get(&self, key: &K) -> Option<&Endpoint> {
        self.endpoints.get(key)
    }

    /// Whom the kernel's tables are to hold, and the version of that.
    pub fn in_tables(&self) -> (u64, Vec<(&Endpoint, Wire)>) {
        let inside = self.endpoints.values().filter(|e| e.phase.is_in_tables());
        (self.version, inside.filter_map(|e| Some((e, e.wire?))).collect())
    }

    /// The one transition function.
    pub fn step(&mut self, event: Event<K>) -> Vec<Effect<K>> {
        match event {
            Event::Add { key, pod, netns, caller } => self.add(key, pod, netns, caller),
            Event::Delete { key, caller } => self.delete(key, caller),
            Event::Linked { key, wire } => self.linked(key, wire),
            Event::Settled { version } => self.settled(version),
            Event::Opened { key, result } => self.opened(&key, result),
            Event::Unplugged { key, result } => self.unplugged(&key, result),
            Event::Retry => {
                let stuck = self.endpoints.iter().filter(|(_, e)| e.phase == Phase::Stuck);
                let stuck: Vec<K> = stuck.map(|(key, _)| key.clone()).collect();
                stuck.into_iter().map(|key| self.unplug(key)).collect()
            }
        }
    }

    fn add(
        &mut self,
        key: K,
        pod: NamespacedName,
        netns: String,
        caller: Caller,
    ) -> Vec<Effect<K>> {
        let fail = |why: String| vec![Effect::Failed { caller, why }];
        if let Some(endpoint) = self.endpoints.get(&key) {
            return match endpoint.phase {
                Phase::Ready => vec![Effect::Added { caller, endpoint: endpoint.clone() }],
                Phase::Plugging | Phase::Settling | Phase::Opening => {
                    self.waiting.entry(key).or_default().adders.push(caller);
                    Vec::new()
                }
                Phase::Leaving | Phase::Unplugging | Phase::Stuck => {
                    fail(format!("the endpoint of pod {} is still being removed", endpoint.pod))
                }
            };
        }
        let Some(identity) = self.workloads.get(&pod).copied() else {
            return fail(format!("pod {pod} is not known on this node yet"));
        };
        let Some(address) = self.free_address() else {
            return fail("this node has no free pod address".to_owned());
        };
        let id = self.free_id();
        (self.last_address, self.last_id) = (Some(address), id);
        let phase = Phase::Plugging;
        let endpoint = Endpoint { pod, netns, id, address, identity, wire: None, phase };
        self.endpoints.insert(key.clone(), endpoint.clone());
        self.waiting.insert(key.clone(), Waiting { adders: vec![caller], ..Waiting::default() });
        vec![Effect::Plug { key, endpoint }]
    }

    fn delete(&mut self, key: K, caller: Caller) -> Vec<Effect<K>> {
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.deleters.push(caller);
        match self.endpoints.get_mut(&key) {
            // A link may be there that no file tells of.
            None => vec![Effect::Unplug { key }],
            Some(endpoint) => match endpoint.phase {
                // Seen when the link is made, or gone.
                Phase::Plugging | Phase::Leaving | Phase::Unplugging => Vec::new(),
                Phase::Settling | Phase::Opening | Phase::Ready => self.leave(&key),
                Phase::Stuck => vec![self.unplug(key)],
            },
        }
    }

    fn leave(&mut self, key: &K) -> Vec<Effect<K>> {
        self.version += 1;
        if let Some(endpoint) = self.endpoints.get_mut(key) {
            endpoint.phase = Phase::Leaving;
        }
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.version = self.version;
        let mut effects: Vec<Effect<K>> = std::mem::take(&mut waiting.adders)
            .into_iter()
            .map(|caller| Effect::Failed { caller, why: "deleted meanwhile".to_owned() })
            .collect();
        effects.push(Effect::Settle);
        effects
    }

    fn linked(&mut self, key: K, wire: Result<Wire, String>) -> Vec<Effect<K>> {
        let Some(endpoint) = self.endpoints.get_mut(&key).filter(|e| e.phase == Phase::Plugging)
        else {
            return Vec::new();
        };
        let waiting = self.waiting.entry(key.clone()).or_default();
        match wire {
            Err(why) => {
                waiting.failure = Some(why);
                vec![self.unplug(key)]
            }
            Ok(wire) => {
                endpoint.wire = Some(wire);
                if !waiting.deleters.is_empty() {
                    return self.leave(&key);
                }
                endpoint.phase = Phase::Settling;
                self.version += 1;
                waiting.version = self.version;
                vec![Effect::Settle]
            }
        }
    }

    fn settled(&mut self, version: u64) -> Vec<Effect<K>> {
        let due: Vec<(K, Phase)> = self
            .endpoints
            .iter()
            .filter(|(key, _)| self.waiting.get(key).is_some_and(|w| w.version <= version))
            .map(|(key, endpoint)| (key.clone(), endpoint.phase))
            .collect();
        let mut effects = Vec::new();
        for (key, phase) in due {
            match phase {
                Phase::Settling => {
                    if let Some(endpoint) = self.endpoints.get_mut(&key) {
                        endpoint.phase = Phase::Opening;
                        effects.push(Effect::Open { key, endpoint: endpoint.clone() });
                    }
                }
                Phase::Leaving => effects.push(self.unplug(key)),
                Phase::Plugging
                | Phase::Opening
                | Phase::Ready
                | Phase::Unplugging
                | Phase::Stuck => {}
            }
        }
        effects
    }

    fn opened(&mut self, key: &K, result: Result<(), String>) -> Vec<Effect<K>> {
        let Some(endpoint) = self.endpoints.get_mut(key).filter(|e| e.phase == Phase::Opening)
        else {
            return Vec::new();
        };
        if let Err(why) = result {
            let callers = self.waiting.get_mut(key).map(|w| std::mem::take(&mut w.adders));
            let mut effects: Vec<Effect<K>> = callers
                .into_iter()
                .flatten()
                .map(|caller| Effect::Failed { caller, why: why.clone() })
                .collect();
            effects.extend(self.leave(key));
            return effects;
        }
        endpoint.phase = Phase::Ready;
        let endpoint = endpoint.clone();
        let adders = self.waiting.remove(key).map(|w| w.adders).unwrap_or_default();
        adders
            .into_iter()
            .map(|caller| Effect::Added { caller, endpoint: endpoint.clone() })
            .collect()
    }

    fn unplug(&mut self, key: K) -> Effect<K> {
        if let Some(endpoint) = self.endpoints.get_mut(&key) {
            endpoint.phase = Phase::Unplugging;
        }
        Effect::Unplug { key }
    }

    fn unplugged(&mut self, key: &K, result: Result<(), String>) -> Vec<Effect<K>> {
        let Waiting { adders, deleters, failure, .. } =
            self.waiting.remove(key).unwrap_or_default();
        let mut effects = Vec::new();
        for caller in adders {
            let why = failure.clone().unwrap_or_else(|| "deleted meanwhile".to_owned());
            effects.push(Effect::Failed { caller, why });
        }
        match result {
            Ok(()) => {
                self.endpoints.remove(key);
                effects.extend(deleters.into_iter().map(|caller| Effect::Deleted { caller }));
            }
            Err(why) => {
                if let Some(endpoint) = self.endpoints.get_mut(key) {
                    endpoint.phase = Phase::Stuck;
                }
                let fail = |caller| Effect::Failed { caller, why: why.clone() };
                effects.extend(deleters.into_iter().map(fail));
            }
        }
        effects
    }

    /// The next free address after the one given last, so that a freed one rests as long as it can.
    /// The first two of a prefix are the network's own.
    fn free_address(&self) -> Option<Ipv4Addr> {
        let taken: BTreeSet<Ipv4Addr> = self.endpoints.values().map(|e| e.address).collect();
        let all = || self.pod_cidrs.iter().flat_map(|cidr| cidr.hosts().skip(1));
        let is_free = |address: &Ipv4Addr| !taken.contains(address);
        let after = all().filter(|address| Some(*address) > self.last_address);
        after.into_iter().find(is_free).or_else(|| all().find(is_free))
    }

    fn free_id(&self) -> u32 {
        let taken: BTreeSet<u32> = self.endpoints.values().map(|e| e.id).collect();
        // Numbers go round at 16 bits, as people read them.
        (self.last_id + 1..=0xffff)
            .chain(1..=self.last_id)
            .find(|id| !taken.contains(id))
            .unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIRE: Wire = Wire { ifindex: 7, mac: [2, 0, 0, 0, 0, 1] };

    fn pod() -> NamespacedName {
        NamespacedName::new("shop", "cart-0")
    }

    fn endpoints() -> Endpoints<&'static str> {
        let mut endpoints = Endpoints::default();
        endpoints.set_pod_cidrs(vec!["10.0.0.0/29".parse().unwrap()]);
        endpoints.set_workload(&pod(), Some(Identity(300)));
        endpoints
    }

    fn add(key: &'static str, caller: Caller) -> Event<&'static str> {
        Event::Add { key, pod: pod(), netns: format!("/run/netns/{key}"), caller }
    }

    fn settle(endpoints: &mut Endpoints<&'static str>) -> Vec<Effect<&'static str>> {
        let (version, _) = endpoints.in_tables();
        endpoints.step(Event::Settled { version })
    }

    fn plugged(endpoints: &mut Endpoints<&'static str>, key: &'static str) {
        endpoints.step(add(key, 1));
        assert_eq!(endpoints.step(Event::Linked { key, wire: Ok(WIRE) }), [Effect::Settle]);
        assert!(matches!(settle(endpoints)[..], [Effect::Open { .. }]));
        let opened = endpoints.step(Event::Opened { key, result: Ok(()) });
        assert!(matches!(opened[..], [Effect::Added { caller: 1, .. }]), "{opened:?}");
    }

    #[test]
    fn from_add_to_delete() {
        let mut endpoints = endpoints();
        plugged(&mut endpoints, "a");
        assert_eq!(endpoints.in_tables().1.len(), 1);
        assert_eq!(endpoints.step(Event::Delete { key: "a", caller: 2 }), [Effect::Settle]);
        assert_eq!(endpoints.in_tables().1.len(), 0, "out of the tables before its link goes");
        assert_eq!(settle(&mut endpoints), [Effect::Unplug { key: "a" }]);
        let gone = endpoints.step(Event::Unplugged { key: "a", result: Ok(()) });
        assert_eq!(gone, [Effect::Deleted { caller: 2 }]);
        assert_eq!(endpoints.iter().count(), 0);
    }

    #[test]
    fn a_repeated_add_is_one_endpoint_with_two_answers() {
        let mut endpoints = endpoints();
        endpoints.step(add("a", 1));
        assert_eq!(endpoints.step(add("a", 2)), []);
        endpoints.step(Event::Linked { key: "a", wire: Ok(WIRE) });
        settle(&mut endpoints);
        let opened = endpoints.step(Event::Opened { key: "a", result: Ok(()) });
        assert_eq!(opened.len(), 2);
        assert!(matches!(endpoints.step(add("a", 3))[..], [Effect::Added { caller: 3, .. }]));
    }

    #[test]
    fn a_delete_beside_an_add_ends_both() {
        let mut endpoints = endpoints();
        endpoints.step(add("a", 1));
        assert_eq!(endpoints.step(Event::Delete { key: "a", caller: 2 }), []);
        let linked = endpoints.step(Event::Linked { key: "a", wire: Ok(WIRE) });
        assert!(matches!(linked[..], [Effect::Failed { caller: 1, .. }, Effect::Settle]));
        assert_eq!(settle(&mut endpoints), [Effect::Unplug { key: "a" }]);
        let gone = endpoints.step(Event::Unplugged { key: "a", result: Ok(()) });
        assert_eq!(gone, [Effect::Deleted { caller: 2 }]);
    }

    #[test]
    fn a_link_that_fails_is_undone_and_said() {
        let mut endpoints = endpoints();
        endpoints.step(add("a", 1));
        let failed = endpoints.step(Event::Linked { key: "a", wire: Err("no netns".to_owned()) });
        assert_eq!(failed, [Effect::Unplug { key: "a" }]);
        let gone = endpoints.step(Event::Unplugged { key: "a", result: Ok(()) });
        assert_eq!(gone, [Effect::Failed { caller: 1, why: "no netns".to_owned() }]);
        assert_eq!(endpoints.iter().count(), 0);
    }

    #[test]
    fn what_cannot_be_removed_is_tried_again() {
        let mut endpoints = endpoints();
        plugged(&mut endpoints, "a");
        endpoints.step(Event::Delete { key: "a", caller: 2 });
        settle(&mut endpoints);
        let stuck = endpoints.step(Event::Unplugged { key: "a", result: Err("busy".to_owned()) });
        assert_eq!(stuck, [Effect::Failed { caller: 2, why: "busy".to_owned() }]);
        assert!(matches!(endpoints.step(add("a", 3))[..], [Effect::Failed { caller: 3, .. }]));
        assert_eq!(endpoints.step(Event::Retry), [Effect::Unplug { key: "a" }]);
        assert_eq!(endpoints.step(Event::Unplugged { key: "a", result: Ok(()) }), []);
        assert_eq!(endpoints.iter().count(), 0);
    }

    #[test]
    fn an_older_settlement_does_not_count() {
        let mut endpoints = endpoints();
        endpoints.step(add("a", 1));
        let (before, _) = endpoints.in_tables();
        endpoints.step(Event::Linked { key: "a", wire: Ok(WIRE) });
        assert_eq!(endpoints.step(Event::Settled { version: before }), []);
    }

    #[test]
    fn freed_addresses_rest_and_the_last_one_is_found() {
        let mut endpoints = endpoints();
        let mut given = Vec::new();
        // 10.0.0.0/29 has .1 to .6; .1 is the network's own.
        for _ in 0..5 {
            plugged(&mut endpoints, "a");
            given.push(endpoints.get(&"a").unwrap().address.octets()[3]);
            endpoints.step(Event::Delete { key: "a", caller: 2 });
            settle(&mut endpoints);
            endpoints.step(Event::Unplugged { key: "a", result: Ok(()) });
        }
        assert_eq!(given, [2, 3, 4, 5, 6]);
        for key in ["a", "b", "c", "d", "e"] {
            plugged(&mut endpoints, key);
        }
        assert!(matches!(endpoints.step(add("f", 9))[..], [Effect::Failed { caller: 9, .. }]));
    }

    #[test]
    fn a_relabelled_pod_is_settled_anew() {
        let mut endpoints = endpoints();
        plugged(&mut endpoints, "a");
        let (before, _) = endpoints.in_tables();
        endpoints.set_workload(&pod(), Some(Identity(301)));
        let (after, tables) = endpoints.in_tables();
        assert!(after > before && tables[0].0.identity == Identity(301));
    }
}
