//! Who is plugged here, as it is told to operators and to who names flows.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};
use weft_types::{Identity, PodEndpoint, TraceContext};
use weft_wire::ToOperator;

/// A plugged pod and the call that plugged it, where that is known.
#[derive(Clone, Debug)]
pub struct PluggedPod {
    /// As operators are told.
    pub endpoint: PodEndpoint,
    /// Its number on this node.
    pub id: u32,
    /// CNI ADD's trace; it makes no difference to what the pod is.
    pub cause: Option<TraceContext>,
}

impl PartialEq for PluggedPod {
    fn eq(&self, other: &Self) -> bool {
        (&self.endpoint, self.id) == (&other.endpoint, other.id)
    }
}

/// The pods that are plugged here.
#[derive(Clone, Debug, Default)]
pub struct PluggedHere {
    /// By their addresses.
    pub pods: BTreeMap<Ipv4Addr, PluggedPod>,
    /// The calls that freed addresses which nobody has now; no more of them than this node ever had pods at once.
    pub freed: BTreeMap<Ipv4Addr, TraceContext>,
    /// Every address that somebody here has with the identity of it, also who is to be named by operators yet.
    pub held: BTreeMap<Ipv4Addr, Identity>,
    /// What is wrong with the records of endpoints, by their addresses.
    pub damaged: BTreeMap<Ipv4Addr, String>,
}

/// The same, for many readers.
pub type PluggedPods = Arc<PluggedHere>;

impl PluggedHere {
    /// What follows: these pods, where calls were under way for these addresses.
    pub(super) fn next(
        before: &Self,
        (held, pods): (BTreeMap<Ipv4Addr, Identity>, BTreeMap<Ipv4Addr, PluggedPod>),
        causes: &BTreeMap<Ipv4Addr, TraceContext>,
    ) -> Self {
        let calls =
            before.pods.keys().filter_map(|address| Some((*address, *causes.get(address)?)));
        let mut freed: BTreeMap<_, _> = before.freed.clone();
        freed.retain(|address, _| !before.pods.contains_key(address));
        freed.extend(calls);
        freed.retain(|address, _| !pods.contains_key(address));
        Self { pods, freed, held, damaged: BTreeMap::new() }
    }

    /// Every endpoint here, as an operator is told it first.
    pub fn all(&self) -> ToOperator {
        let endpoints = self.held.iter().map(|(address, identity)| (*address, *identity));
        ToOperator::EndpointsAre { endpoints: endpoints.collect() }
    }

    /// What an operator that was told one state is told of this one.
    pub fn since(&self, told: &Self) -> Vec<ToOperator> {
        let is_free = |address: &Ipv4Addr| ToOperator::EndpointUnplugged {
            address: *address,
            trace: self.freed.get(address).copied(),
        };
        let gone = told.held.keys().filter(|address| !self.held.contains_key(address)).map(is_free);
        let new = self.pods.iter().filter(|(address, pod)| told.pods.get(*address) != Some(*pod));
        let plugged = |(_, pod): (&Ipv4Addr, &PluggedPod)| ToOperator::EndpointPlugged {
            endpoint: pod.endpoint.clone(),
            trace: pod.cause,
        };
        gone.chain(new.map(plugged)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_types::{NamespacedName, NodeName};

    type Here = (BTreeMap<Ipv4Addr, Identity>, BTreeMap<Ipv4Addr, PluggedPod>);

    fn pods<const N: usize>(last: [(u8, &str); N]) -> Here {
        let pod = |(last, name): (u8, &str)| {
            let endpoint = PodEndpoint {
                name: NamespacedName::new("shop", name),
                address: [10, 0, 1, last].into(),
                identity: Identity(300),
                node: NodeName("node1".to_owned()),
            };
            (endpoint.address, PluggedPod { endpoint, id: last.into(), cause: Some(call(last)) })
        };
        let pods: BTreeMap<_, _> = last.into_iter().map(pod).collect();
        (pods.keys().map(|address| (*address, Identity(300))).collect(), pods)
    }

    fn call(number: u8) -> TraceContext {
        TraceContext { trace_id: number.into(), span_id: number.into(), flags: 1 }
    }

    fn freed(last: u8, trace: Option<TraceContext>) -> ToOperator {
        ToOperator::EndpointUnplugged { address: [10, 0, 1, last].into(), trace }
    }

    #[test]
    fn an_address_whose_pod_is_to_be_named_is_not_free() {
        let none = BTreeMap::new();
        let told = PluggedHere::next(&PluggedHere::default(), pods([(5, "a")]), &none);
        let damaged = BTreeMap::from([([10, 0, 1, 5].into(), "torn".to_owned())]);
        let held = told.held.clone();
        let unnamed = PluggedHere { damaged, held, ..PluggedHere::default() };
        assert_eq!(unnamed.since(&told), []);
        let endpoints = vec![([10, 0, 1, 5].into(), Identity(300))];
        assert_eq!(unnamed.all(), ToOperator::EndpointsAre { endpoints });
        assert_eq!(PluggedHere::default().since(&unnamed), [freed(5, None)]);
    }

    #[test]
    fn who_went_is_told_with_the_call_that_took_it_also_when_more_happened_meanwhile() {
        let none = BTreeMap::new();
        let told = PluggedHere::next(&PluggedHere::default(), pods([(5, "a"), (6, "b")]), &none);
        assert!(told.freed.is_empty());
        let causes = BTreeMap::from([([10, 0, 1, 5].into(), call(50))]);
        let one = PluggedHere::next(&told, pods([(6, "b")]), &causes);
        assert_eq!(one.since(&told), [freed(5, Some(call(50)))]);
        // Its reader was slow: another went, of which no call is known.
        let two = PluggedHere::next(&one, pods([]), &none);
        assert_eq!(two.since(&told), [freed(5, Some(call(50))), freed(6, None)]);
        assert_eq!(two.since(&one), [freed(6, None)]);
        // An address that is somebody's again was freed by nobody, and then by the newest call.
        let three = PluggedHere::next(&two, pods([(5, "c")]), &none);
        assert!(three.freed.is_empty());
        assert!(matches!(&three.since(&told)[..],
            [ToOperator::EndpointUnplugged { trace: None, .. },
             ToOperator::EndpointPlugged { endpoint, trace: Some(_) }] if endpoint.name.name == "c"));
        let four = PluggedHere::next(&three, pods([]), &none);
        assert_eq!(four.since(&told), [freed(5, None), freed(6, None)]);
        assert!(four.freed.is_empty());
    }
}
