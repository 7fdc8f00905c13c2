//! The transition function, over all endpoints of a node.

use super::{Caller, Effect, Endpoint, Event, Failure, Phase, Presence, Wire};
use ipnet::Ipv4Net;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use weft_types::{Identity, NamespacedName};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Waiting {
    adders: Vec<Caller>,
    deleters: Vec<Caller>,
    /// Whether one of the adders came when the link was made already.
    joined: bool,
    /// Why the link was not made.
    failure: Option<Failure>,
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
    /// Endpoints that were relabelled since they were remembered durably.
    relabelled: BTreeSet<K>,
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
            relabelled: BTreeSet::new(),
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
        for (key, endpoint) in self.endpoints.iter_mut().filter(|(_, e)| e.pod == *pod) {
            if endpoint.identity != identity {
                endpoint.identity = identity;
                self.version += 1;
                self.relabelled.insert(key.clone());
            }
        }
    }

    /// Which pod an endpoint is, of which only its number, address and identity were known.
    pub fn name(&mut self, key: &K, pod: &NamespacedName) {
        let Some(endpoint) = self.endpoints.get_mut(key) else { return };
        endpoint.pod = pod.clone();
        self.version += 1;
        if let Some(identity) = self.workloads.get(pod).copied() {
            self.set_workload(pod, Some(identity));
        }
    }

    /// Endpoints to be remembered durably once more, since they were relabelled. Who is on the way in is
    /// remembered when its link is set up; who is on the way out is forgotten.
    pub fn outdated(&self) -> Vec<(K, Endpoint)> {
        let known = self.relabelled.iter().filter_map(|key| Some((key, self.endpoints.get(key)?)));
        let ready = known.filter(|(_, endpoint)| endpoint.phase == Phase::Ready);
        ready.map(|(key, endpoint)| (key.clone(), endpoint.clone())).collect()
    }

    /// An endpoint was remembered durably with its identity.
    pub fn remembered(&mut self, key: &K) {
        self.relabelled.remove(key);
    }

    /// Why no pod could be plugged now, if none could.
    pub fn obstacle(&self) -> Option<Failure> {
        self.chosen_address().err()
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
    pub fn in_tables(&self) -> (u64, Vec<(&K, &Endpoint, Wire)>) {
        let inside = self.endpoints.iter().filter(|(_, e)| e.phase.is_in_tables());
        (self.version, inside.filter_map(|(key, e)| Some((key, e, e.wire?))).collect())
    }

    /// Whom others are to know: who is in the tables, or on the way there.
    pub fn announced(&self) -> impl Iterator<Item = (&K, &Endpoint)> {
        let is = |phase: Phase| phase == Phase::Plugging || phase.is_in_tables();
        self.endpoints.iter().filter(move |(_, endpoint)| is(endpoint.phase))
    }

    /// The one transition function.
    pub fn step(&mut self, event: Event<K>) -> Vec<Effect<K>> {
        match event {
            Event::Add { key, pod, netns, adopt, caller } => {
                self.add(key, (pod, netns, adopt), caller)
            }
            Event::Delete { key, caller } => self.delete(key, caller),
            Event::Linked { key, wire } => self.linked(key, wire),
            Event::Settled { version } => self.settled(version),
            Event::Opened { key, result } => self.opened(&key, result),
            Event::Found { key, result } => self.found(&key, result),
            Event::Unplugged { key, result } => self.unplugged(&key, result),
            Event::Retry => {
                let stuck = self.endpoints.iter().filter(|(_, e)| e.phase == Phase::Stuck);
                let stuck: Vec<K> = stuck.map(|(key, _)| key.clone()).collect();
                let mut effects: Vec<Effect<K>> =
                    stuck.into_iter().map(|key| self.unplug(key)).collect();
                // Files are written with the tables.
                effects.extend((!self.relabelled.is_empty()).then_some(Effect::Settle));
                effects
            }
        }
    }

    fn add(
        &mut self,
        key: K,
        (pod, netns, adopt): (NamespacedName, String, Option<Ipv4Addr>),
        caller: Caller,
    ) -> Vec<Effect<K>> {
        let fail = |why: Failure| vec![Effect::Failed { caller, why }];
        if let Some(endpoint) = self.endpoints.get(&key) {
            return match endpoint.phase {
                Phase::Leaving | Phase::Unplugging | Phase::Stuck => {
                    let pod = &endpoint.pod;
                    let why = format!("the endpoint of pod {pod} is still being removed");
                    fail(Failure::Passing(why))
                }
                _ if endpoint.pod != pod
                    || endpoint.netns != netns
                    || adopt.is_some_and(|address| address != endpoint.address) =>
                {
                    let Endpoint { pod, netns, address, .. } = endpoint;
                    let is = format!("pod {pod} at {address} in {netns}");
                    fail(Failure::Lasting(format!("this container is plugged already: {is}")))
                }
                phase @ (Phase::Plugging | Phase::Settling | Phase::Opening | Phase::Ready) => {
                    let endpoint = endpoint.clone();
                    let waiting = self.waiting.entry(key.clone()).or_default();
                    waiting.adders.push(caller);
                    waiting.joined |= phase != Phase::Plugging;
                    let find = (phase == Phase::Ready).then_some(Effect::Find { key, endpoint });
                    find.into_iter().collect()
                }
            };
        }
        if self.waiting.contains_key(&key) {
            let why = format!("what is left of pod {pod} is still being removed");
            return fail(Failure::Passing(why));
        }
        let Some(identity) = self.workloads.get(&pod).copied() else {
            return fail(Failure::Passing(format!("pod {pod} is not known on this node yet")));
        };
        let address = match adopt {
            Some(address) => self.adopted_address(address),
            None => self.chosen_address(),
        };
        let address = match address {
            Ok(address) => address,
            Err(why) => return fail(why),
        };
        let id = self.free_id();
        self.last_id = id;
        let adopted = adopt.is_some();
        if !adopted {
            self.last_address = Some(address);
        }
        let phase = Phase::Plugging;
        let endpoint = Endpoint { pod, netns, id, address, identity, adopted, wire: None, phase };
        self.endpoints.insert(key.clone(), endpoint.clone());
        self.waiting.insert(key.clone(), Waiting { adders: vec![caller], ..Waiting::default() });
        vec![Effect::Announce, Effect::Plug { key, endpoint }]
    }

    fn delete(&mut self, key: K, caller: Caller) -> Vec<Effect<K>> {
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.deleters.push(caller);
        match self.endpoints.get_mut(&key) {
            // A link may be there that no file tells of. It is removed once, and until then nobody is plugged under its name.
            None if waiting.deleters.len() > 1 => Vec::new(),
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
            .map(|caller| Effect::Failed { caller, why: deleted() })
            .collect();
        effects.push(Effect::Settle);
        effects
    }

    fn linked(&mut self, key: K, wire: Result<Wire, Failure>) -> Vec<Effect<K>> {
        let Some(endpoint) = self.endpoints.get_mut(&key).filter(|e| e.phase == Phase::Plugging)
        else {
            return Vec::new();
        };
        let waiting = self.waiting.entry(key.clone()).or_default();
        match wire {
            Err(why) => {
                waiting.failure = Some(why);
                vec![self.unplug(key), Effect::Announce]
            }
            Ok(wire) => {
                endpoint.wire = Some(wire);
                if !waiting.deleters.is_empty() {
                    return self.leave(&key);
                }
                if !self.workloads.contains_key(&endpoint.pod) {
                    // This node may have agreed meanwhile that its identity is nobody's.
                    let why = format!("pod {} went while it was being plugged", endpoint.pod);
                    waiting.failure = Some(Failure::Passing(why));
                    return vec![self.unplug(key), Effect::Announce];
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

    fn opened(&mut self, key: &K, result: Result<(), Failure>) -> Vec<Effect<K>> {
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
        let joined = self.waiting.get(key).is_some_and(|waiting| waiting.joined);
        let mut effects = match joined {
            // The network namespace may be another than the one that the link was made in.
            true => vec![Effect::Find { key: key.clone(), endpoint: endpoint.clone() }],
            false => self.answer_adders(key),
        };
        // Relabelled while it was being remembered: once more, now that nobody else writes its file.
        effects.extend(self.relabelled.contains(key).then_some(Effect::Settle));
        effects
    }

    /// A repeated ADD is answered by what it made, if that is still there; else it is taken away, and the next
    /// attempt makes it anew.
    fn found(&mut self, key: &K, result: Result<Presence, Failure>) -> Vec<Effect<K>> {
        if self.endpoints.get(key).is_none_or(|endpoint| endpoint.phase != Phase::Ready) {
            // Deleted meanwhile; its adders were told.
            return Vec::new();
        }
        let why = match result {
            Ok(Presence::There) => return self.answer_adders(key),
            Ok(Presence::Gone) => None,
            Err(why) => Some(why),
        };
        let adders = self.waiting.remove(key).map(|w| w.adders).unwrap_or_default();
        let gone = || Failure::Passing("its link is gone: it is made anew".to_owned());
        let mut effects: Vec<Effect<K>> = adders
            .into_iter()
            .map(|caller| Effect::Failed { caller, why: why.clone().unwrap_or_else(gone) })
            .collect();
        if why.is_none() {
            effects.extend(self.leave(key));
        }
        effects
    }

    fn answer_adders(&mut self, key: &K) -> Vec<Effect<K>> {
        let adders = self.waiting.remove(key).map(|w| w.adders).unwrap_or_default();
        let Some(endpoint) = self.endpoints.get(key) else { return Vec::new() };
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

    fn unplugged(&mut self, key: &K, result: Result<(), Failure>) -> Vec<Effect<K>> {
        let Waiting { adders, deleters, failure, .. } =
            self.waiting.remove(key).unwrap_or_default();
        let mut effects = Vec::new();
        for caller in adders {
            let why = failure.clone().unwrap_or_else(deleted);
            effects.push(Effect::Failed { caller, why });
        }
        match result {
            Ok(()) => {
                self.endpoints.remove(key);
                self.relabelled.remove(key);
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

    fn has_prefixes(&self) -> Result<(), Failure> {
        let none = || Failure::Passing("this node has no prefix for pods yet".to_owned());
        if self.pod_cidrs.is_empty() { Err(none()) } else { Ok(()) }
    }

    /// An address that is chosen here.
    fn chosen_address(&self) -> Result<Ipv4Addr, Failure> {
        self.has_prefixes()?;
        let full = || Failure::Passing("every pod address of this node is taken".to_owned());
        self.free_address().ok_or_else(full)
    }

    /// An address that another plugin gave: others have to find it here, so it is from this node's prefixes.
    fn adopted_address(&self, address: Ipv4Addr) -> Result<Ipv4Addr, Failure> {
        self.has_prefixes()?;
        if !self.pod_cidrs.iter().any(|cidr| cidr.contains(&address)) {
            let cidrs: Vec<String> = self.pod_cidrs.iter().map(ToString::to_string).collect();
            return Err(Failure::Lasting(format!(
                "the plugin before weft-cni gave the pod {address}, which is not of this node's {}: have its IPAM give \
                 addresses of that",
                cidrs.join(", ")
            )));
        }
        match self.endpoints.values().find(|endpoint| endpoint.address == address) {
            Some(Endpoint { pod, .. }) => Err(Failure::Lasting(format!(
                "the plugin before weft-cni gave the pod {address}, which pod {pod} has: only one of them may give \
                 addresses of this node"
            ))),
            None => Ok(address),
        }
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

fn deleted() -> Failure {
    Failure::Passing("deleted meanwhile".to_owned())
}
