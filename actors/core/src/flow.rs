//! What a kernel event says, in Hubble's words. Pure: names come from a [`Names`], the clock is a parameter.

use std::net::Ipv4Addr;
use weft_abi::{
    address::Addr,
    event::{EVENT_DROP, Event},
    policy::EGRESS,
};
use weft_hubble::{
    drop,
    flow::{self, EventType, Flow, Icmp, Ip, Layer4, Tcp, TcpFlags},
    print::{DROP, POLICY_VERDICT},
    time,
};
use weft_types::{
    Identity, LabelSet, NamespacedName, NodeName, Policy, Revision,
    policy::{Direction, Isolation, Peers, PolicyId, Port, Ports, Rule, RuleId},
};

/// Whom the numbers and addresses of an event stand for.
pub trait Names {
    /// The cluster.
    fn cluster(&self) -> &str;
    /// This node.
    fn node(&self) -> &str;
    /// The label set of an identity's number.
    fn labels(&self, identity: u32) -> Option<&LabelSet>;
    /// Who has an address.
    fn whose(&self, address: Ipv4Addr) -> Option<Whose>;
    /// The rules behind a rule number.
    fn rules(&self, number: u32) -> Vec<RuleId>;
    /// The policies that isolate a class in a direction.
    fn isolating(&self, class: u32, direction: Direction) -> Vec<PolicyId>;
    /// A policy.
    fn policy(&self, id: &PolicyId) -> Option<&Policy>;
    /// The revision that an epoch stands for.
    fn revision(&self, epoch: u64) -> Option<Revision>;
}

/// Who has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// A pod.
    Pod {
        /// Its namespace and name.
        name: NamespacedName,
        /// Its number on this node, 0 when it is on another.
        endpoint: u32,
        /// Its identity.
        identity: Identity,
    },
    /// A node.
    Node(NodeName),
}

/// Decodes an event. `wall_offset_ns` is what the wall clock (since 1970) is ahead of the monotonic one.
///
/// A packet that a flow's first verdict let pass is a policy verdict, as Cilium's; one that was not is a drop.
/// Policies that let it pass have a label `weft:rule=DIRECTION[INDEX]`; those that isolate the endpoint that
/// refused it are the ones that denied it.
pub fn decode(event: &Event, wall_offset_ns: u64, names: &impl Names) -> Flow {
    let dropped = event.kind == EVENT_DROP;
    let egress = is_egress(event, dropped, names);
    let reason = u32::from(event.reason);
    let l4 = layer4(event);
    let revision = names.revision(event.epoch).map_or(0, |revision| revision.0);
    let denied = |direction: Direction| {
        let decides = dropped && egress == (direction == Direction::Egress);
        let ids = if decides { names.isolating(event.class, direction) } else { Vec::new() };
        ids.iter().map(|id| policy(id, Vec::new(), revision)).collect::<Vec<_>>()
    };
    let allowed = |rule: u32| {
        let rules = if dropped || rule == 0 { Vec::new() } else { names.rules(rule) };
        policies(&rules, revision)
    };
    Flow {
        time: time::rfc3339(event.time.saturating_add(wall_offset_ns)),
        verdict: if dropped { "DROPPED" } else { "FORWARDED" }.to_owned(),
        drop_reason: if dropped { reason } else { 0 },
        drop_reason_desc: if dropped { drop::name(reason).to_owned() } else { String::new() },
        ip: (event.family == 4).then(|| Ip {
            source: address(event.source).to_string(),
            destination: address(event.destination).to_string(),
            version: "IPv4".to_owned(),
        }),
        summary: summary(event, l4.as_ref()),
        l4,
        source: Some(endpoint(event, event.source, event.source_identity, names)),
        destination: Some(endpoint(event, event.destination, event.destination_identity, names)),
        kind: "L3_L4".to_owned(),
        node_name: format!("{}/{}", names.cluster(), names.node()),
        event_type: Some(if dropped {
            EventType { kind: DROP, sub_type: i32::from(event.reason) }
        } else {
            EventType { kind: POLICY_VERDICT, sub_type: 0 }
        }),
        traffic_direction: if egress { "EGRESS" } else { "INGRESS" }.to_owned(),
        policy_match_type: if dropped { 0 } else { match_type(event, egress, names) },
        // Hubble leaves it open for drops.
        is_reply: (!dropped).then_some(false),
        egress_allowed_by: allowed(event.egress_rule),
        ingress_allowed_by: allowed(event.ingress_rule),
        egress_denied_by: denied(Direction::Egress),
        ingress_denied_by: denied(Direction::Ingress),
    }
}

/// Whose policy decided. What no rule had to let pass was judged where it goes, if that is a pod of this node.
fn is_egress(event: &Event, dropped: bool, names: &impl Names) -> bool {
    let ruled = event.egress_rule != 0 || event.ingress_rule != 0;
    if dropped || ruled || event.family != 4 {
        return event.direction == EGRESS;
    }
    !matches!(names.whose(address(event.destination)), Some(Whose::Pod { endpoint: 1.., .. }))
}

/// An address of an event.
pub fn address(address: Addr) -> Ipv4Addr {
    Ipv4Addr::from(address.to4().octets())
}

fn layer4(event: &Event) -> Option<Layer4> {
    let source_port = u32::from(event.source_port.to_host());
    let destination_port = u32::from(event.destination_port.to_host());
    let ports = flow::Ports { source_port, destination_port };
    match (event.family, event.protocol) {
        (4, 6) => {
            let flags = TcpFlags::from_bits(event.tcp_flags);
            Some(Layer4::Tcp(Tcp { source_port, destination_port, flags }))
        }
        (4, 17) => Some(Layer4::Udp(ports)),
        (4, 132) => Some(Layer4::Sctp(ports)),
        (4, 1) => {
            let [kind, code] = event.icmp.map(u32::from);
            Some(Layer4::Icmp4(Icmp { kind, code }))
        }
        _ => None,
    }
}

/// The transport in Hubble's words.
fn summary(event: &Event, l4: Option<&Layer4>) -> String {
    match l4 {
        Some(Layer4::Tcp(tcp)) => {
            let flags = tcp.flags.names();
            if flags.is_empty() {
                "TCP".to_owned()
            } else {
                format!("TCP Flags: {}", flags.join(", "))
            }
        }
        Some(Layer4::Udp(_)) => "UDP".to_owned(),
        Some(Layer4::Sctp(_)) => "SCTP".to_owned(),
        Some(Layer4::Icmp4(icmp)) => format!("ICMPv4 {}", icmp_words(icmp.kind, icmp.code)),
        None if event.family == 4 => format!("IP protocol {}", event.protocol),
        None => format!("EtherType {:#06x}", event.ethertype),
    }
}

fn icmp_words(kind: u32, code: u32) -> String {
    let words = match (kind, code) {
        (0, _) => "EchoReply",
        (3, 0) => "DestinationUnreachable(Net)",
        (3, 1) => "DestinationUnreachable(Host)",
        (3, 2) => "DestinationUnreachable(Protocol)",
        (3, 3) => "DestinationUnreachable(Port)",
        (3, 4) => "DestinationUnreachable(FragmentationNeeded)",
        (8, _) => "EchoRequest",
        (11, 0) => "TimeExceeded(TTLExceeded)",
        (11, 1) => "TimeExceeded(FragmentReassemblyTimeExceeded)",
        _ => return format!("{kind}({code})"),
    };
    words.to_owned()
}

fn endpoint(event: &Event, at: Addr, judged: u32, names: &impl Names) -> flow::Endpoint {
    let whose = if event.family == 4 { names.whose(address(at)) } else { None };
    let identity = match &whose {
        // Nobody had said who that is when it was judged; by now somebody has.
        Some(Whose::Pod { identity, .. }) if judged == Identity::UNKNOWN.0 => identity.0,
        _ => judged,
    };
    let labels = match (names.labels(identity), Identity(identity).reserved_name()) {
        (Some(labels), _) => labels.iter().map(|label| label.to_string()).collect(),
        (None, Some(name)) => vec![format!("reserved:{name}")],
        (None, None) => Vec::new(),
    };
    let mut end = flow::Endpoint { identity, labels, ..flow::Endpoint::default() };
    match whose {
        Some(Whose::Pod { name, endpoint, .. }) => {
            end.id = endpoint;
            end.cluster_name = names.cluster().to_owned();
            end.namespace = name.namespace;
            end.pod_name = name.name;
        }
        Some(Whose::Node(_)) => end.cluster_name = names.cluster().to_owned(),
        None => {}
    }
    end
}

/// Rules by their policies, in the rules' order.
fn policies(rules: &[RuleId], revision: u64) -> Vec<flow::Policy> {
    let mut found: Vec<(&PolicyId, Vec<String>)> = Vec::new();
    for rule in rules {
        let label = format!("weft:rule={}[{}]", rule.direction, rule.index);
        match found.iter_mut().find(|(id, _)| *id == &rule.policy) {
            Some((_, labels)) => labels.push(label),
            None => found.push((&rule.policy, vec![label])),
        }
    }
    found.into_iter().map(|(id, labels)| policy(id, labels, revision)).collect()
}

fn policy(id: &PolicyId, labels: Vec<String>, revision: u64) -> flow::Policy {
    flow::Policy {
        name: id.name.name.clone(),
        namespace: id.name.namespace.clone(),
        labels,
        revision,
        kind: format!("{:?}", id.kind),
    }
}

/// How narrowly the rule that let a packet pass matched, as Cilium numbers it; 0 where no rule had to.
fn match_type(event: &Event, egress: bool, names: &impl Names) -> u32 {
    let number = if egress { event.egress_rule } else { event.ingress_rule };
    if number == 0 {
        return 0;
    }
    let narrow = |id: RuleId| {
        let policy = names.policy(&id.policy)?;
        let isolation = match id.direction {
            Direction::Ingress => &policy.ingress,
            Direction::Egress => &policy.egress,
        };
        let Isolation::Isolated(rules) = isolation else { return None };
        rules.get(usize::try_from(id.index).ok()?).map(narrowness)
    };
    names.rules(number).into_iter().find_map(narrow).unwrap_or(0)
}

fn narrowness(rule: &Rule) -> u32 {
    let protocol_only = |ports: &[Port]| ports.iter().all(|p| matches!(p, Port::Protocol(_)));
    match (&rule.peers, &rule.ports) {
        (Peers::Anyone, Ports::All) => 4,
        (Peers::Only(_), Ports::All) => 1,
        (Peers::Only(_), Ports::Only(ports)) if protocol_only(ports) => 5,
        (Peers::Anyone, Ports::Only(ports)) if protocol_only(ports) => 6,
        (Peers::Only(_), Ports::Only(_)) => 2,
        (Peers::Anyone, Ports::Only(_)) => 3,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
    use super::*;
    use weft_abi::{
        address::{Addr4, NetPort},
        event::EVENT_ALLOWED,
        policy::INGRESS,
    };
    use weft_hubble::print::Compact;
    use weft_types::{
        Selector, Source,
        policy::{PolicyKind, Protocol},
    };

    struct Shop {
        cart: LabelSet,
        policy: Policy,
    }

    fn shop() -> Shop {
        let mut cart = LabelSet::new();
        cart.insert(Source::K8s, "app", "cart");
        let http = Port::Named { protocol: Protocol::Tcp, name: "http".to_owned() };
        let from = Peers::Only(Vec::new());
        let rules = vec![
            Rule { peers: Peers::Anyone, ports: Ports::All },
            Rule { peers: from, ports: Ports::Only(vec![http]) },
        ];
        let id = PolicyId {
            kind: PolicyKind::NetworkPolicy,
            name: NamespacedName::new("shop", "cart-from-frontend"),
        };
        let subject = Selector::new(Vec::new());
        let ingress = Isolation::Isolated(rules);
        Shop { cart, policy: Policy { id, subject, ingress, egress: Isolation::Open } }
    }

    impl Names for Shop {
        fn cluster(&self) -> &str {
            "lab"
        }
        fn node(&self) -> &str {
            "node1"
        }
        fn labels(&self, identity: u32) -> Option<&LabelSet> {
            (identity == 300).then_some(&self.cart)
        }
        fn whose(&self, address: Ipv4Addr) -> Option<Whose> {
            let pod = |name, endpoint, identity| {
                let name = NamespacedName::new("shop", name);
                Some(Whose::Pod { name, endpoint, identity: Identity(identity) })
            };
            match address.octets() {
                [10, 244, 1, 2] => pod("frontend-0", 0, 299),
                [10, 244, 2, 2] => pod("cart-0", 7, 300),
                [172, 30, 0, 11] => Some(Whose::Node(NodeName("node1".to_owned()))),
                _ => None,
            }
        }
        fn rules(&self, number: u32) -> Vec<RuleId> {
            let policy = self.policy.id.clone();
            let rule = RuleId { policy, direction: Direction::Ingress, index: 1 };
            if number == 5 { vec![rule] } else { Vec::new() }
        }
        fn isolating(&self, class: u32, direction: Direction) -> Vec<PolicyId> {
            let is = class == 300 && direction == Direction::Ingress;
            if is { vec![self.policy.id.clone()] } else { Vec::new() }
        }
        fn policy(&self, id: &PolicyId) -> Option<&Policy> {
            (*id == self.policy.id).then_some(&self.policy)
        }
        fn revision(&self, epoch: u64) -> Option<Revision> {
            (epoch == 4).then(|| Revision::new(0, 9))
        }
    }

    fn at(address: [u8; 4]) -> Addr {
        Addr::from4(Addr4::new(address))
    }

    fn syn() -> Event {
        Event {
            kind: EVENT_ALLOWED,
            direction: INGRESS,
            tcp_flags: 2,
            protocol: 6,
            epoch: 4,
            time: 1_000,
            source: at([10, 244, 1, 2]),
            destination: at([10, 244, 2, 2]),
            source_port: NetPort::from_host(43210),
            destination_port: NetPort::from_host(8080),
            source_identity: 299,
            destination_identity: 300,
            ingress_rule: 5,
            class: 300,
            family: 4,
            ..Event::zeroed()
        }
    }

    /// 2026-07-30T12:34:56.789 when the monotonic clock is at 1,000 ns.
    const OFFSET: u64 = 1_785_414_896_788_999_000;

    fn line(event: &Event) -> String {
        let flow = decode(event, OFFSET, &shop());
        Compact { policy_names: true, ..Compact::default() }.line(&flow)
    }

    #[test]
    fn an_allowed_connection_names_the_rule_that_allowed_it() {
        let flow = decode(&syn(), OFFSET, &shop());
        let json = serde_json::to_string(&flow).unwrap();
        assert_eq!(
            json,
            "{\"time\":\"2026-07-30T12:34:56.789Z\",\"verdict\":\"FORWARDED\",\
             \"IP\":{\"source\":\"10.244.1.2\",\"destination\":\"10.244.2.2\",\"ipVersion\":\"IPv4\"},\
             \"l4\":{\"TCP\":{\"source_port\":43210,\"destination_port\":8080,\"flags\":{\"SYN\":true}}},\
             \"source\":{\"identity\":299,\"cluster_name\":\"lab\",\"namespace\":\"shop\",\"pod_name\":\"frontend-0\"},\
             \"destination\":{\"ID\":7,\"identity\":300,\"cluster_name\":\"lab\",\"namespace\":\"shop\",\
             \"labels\":[\"k8s:app=cart\"],\"pod_name\":\"cart-0\"},\
             \"Type\":\"L3_L4\",\"node_name\":\"lab/node1\",\"event_type\":{\"type\":5},\"traffic_direction\":\"INGRESS\",\
             \"policy_match_type\":2,\"is_reply\":false,\"Summary\":\"TCP Flags: SYN\",\
             \"ingress_allowed_by\":[{\"name\":\"cart-from-frontend\",\"namespace\":\"shop\",\
             \"labels\":[\"weft:rule=ingress[1]\"],\"revision\":\"9\",\"kind\":\"NetworkPolicy\"}]}"
        );
        assert_eq!(
            line(&syn()),
            "Jul 30 12:34:56.789: shop/frontend-0:43210 (ID:299) -> shop/cart-0:8080 (ID:300) \
             policy-verdict:L3-L4 INGRESS ALLOWED BY cart-from-frontend (NetworkPolicy) (TCP Flags: SYN)"
        );
    }

    #[test]
    fn what_no_rule_had_to_allow_was_judged_where_it_went() {
        let direction = |event: &Event| decode(event, OFFSET, &shop()).traffic_direction;
        let free = Event { ingress_rule: 0, ..syn() };
        assert_eq!(direction(&free), "INGRESS", "to a pod of this node");
        let (source, destination) = (free.destination, free.source);
        let out = Event { source, destination, ..free };
        assert_eq!(direction(&out), "EGRESS", "to a pod of another");
        let world = Event { destination: at([8, 8, 8, 8]), ..free };
        assert_eq!(direction(&world), "EGRESS");
    }

    #[test]
    fn a_denied_one_names_the_policies_that_isolate() {
        let event = Event { kind: EVENT_DROP, reason: 133, ingress_rule: 0, ..syn() };
        let flow = decode(&event, OFFSET, &shop());
        assert_eq!(flow.drop_reason_desc, "POLICY_DENIED");
        assert_eq!(flow.is_reply, None);
        assert_eq!(flow.ingress_denied_by.len(), 1);
        assert!(flow.egress_denied_by.is_empty() && flow.ingress_allowed_by.is_empty());
        assert_eq!(
            line(&event),
            "Jul 30 12:34:56.789: shop/frontend-0:43210 (ID:299) <> shop/cart-0:8080 (ID:300) \
             Policy denied DROPPED BY cart-from-frontend (NetworkPolicy) (TCP Flags: SYN)"
        );
    }

    #[test]
    fn every_transport_has_words() {
        let of = |protocol, icmp| summary_of(Event { protocol, icmp, ..syn() });
        assert_eq!(of(17, [0, 0]), "UDP");
        assert_eq!(of(132, [0, 0]), "SCTP");
        assert_eq!(of(1, [8, 0]), "ICMPv4 EchoRequest");
        assert_eq!(of(1, [3, 3]), "ICMPv4 DestinationUnreachable(Port)");
        assert_eq!(of(1, [42, 1]), "ICMPv4 42(1)");
        assert_eq!(of(47, [0, 0]), "IP protocol 47");
        assert_eq!(summary_of(Event { tcp_flags: 0x12, ..syn() }), "TCP Flags: SYN, ACK");
        assert_eq!(summary_of(Event { tcp_flags: 0, ..syn() }), "TCP");
        let other = Event { family: 0, ethertype: 0x86dd, ..syn() };
        assert_eq!(summary_of(other), "EtherType 0x86dd");
        let flow = decode(&other, 0, &shop());
        assert!(flow.ip.is_none() && flow.l4.is_none());
    }

    fn summary_of(event: Event) -> String {
        decode(&event, OFFSET, &shop()).summary
    }

    #[test]
    fn who_was_not_known_to_the_kernel_is_told_as_who_it_is_known_to_be_now() {
        let event = Event { destination_identity: 0, ..syn() };
        assert_eq!(decode(&event, OFFSET, &shop()), decode(&syn(), OFFSET, &shop()));
        let event = Event { source: at([10, 244, 1, 9]), source_identity: 0, ..syn() };
        let source = decode(&event, OFFSET, &shop()).source.unwrap();
        assert_eq!((source.identity, source.pod_name.as_str()), (0, ""), "nobody knows");
    }

    #[test]
    fn ends_that_are_no_pods_have_their_reserved_names() {
        let event =
            Event { source: at([8, 8, 8, 8]), source_identity: 2, ingress_rule: 0, ..syn() };
        let flow = decode(&event, OFFSET, &shop());
        assert_eq!(flow.source.as_ref().unwrap().labels, ["reserved:world"]);
        assert_eq!(flow.policy_match_type, 0, "no rule had to match");
        assert!(line(&event).contains(": 8.8.8.8:43210 (world) -> shop/cart-0:8080 (ID:300) "));
    }
}
