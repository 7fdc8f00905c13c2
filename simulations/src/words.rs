//! What policies say of a packet, read word by word: whom they are about, and what a rule of theirs lets through. Nothing of it is
//! shared with what compiles them.

use std::net::{IpAddr, Ipv4Addr};
use weft_types::{
    LabelSet, Policy,
    policy::{Direction, Isolation, Peer, Peers, Port, Ports, Rule},
};

/// One end of a packet, and who is at the other.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    /// Seen from this end.
    pub(crate) direction: Direction,
    /// Its labels.
    pub(crate) own: &'a LabelSet,
    /// Those of the other, where they are known.
    pub(crate) peer: Option<&'a LabelSet>,
    /// Where that is, as far as it matters: of nowhere no block has it.
    pub(crate) peer_at: Option<Ipv4Addr>,
    /// IP protocol number.
    pub(crate) protocol: u8,
    /// Of the destination.
    pub(crate) port: u16,
}

impl Side<'_> {
    /// Whether these policies let it.
    pub(crate) fn is_let<'p>(&self, policies: impl IntoIterator<Item = &'p Policy>) -> bool {
        let mut is_isolated = false;
        for policy in policies {
            let isolation = match self.direction {
                Direction::Ingress => &policy.ingress,
                Direction::Egress => &policy.egress,
            };
            let Isolation::Isolated(rules) = isolation else { continue };
            if policy.subject.matches(self.own) {
                if rules.iter().any(|rule| self.meets(rule)) {
                    return true;
                }
                is_isolated = true;
            }
        }
        !is_isolated
    }

    fn meets(&self, rule: &Rule) -> bool {
        let peer = match &rule.peers {
            Peers::Anyone => true,
            Peers::Only(peers) => peers.iter().any(|peer| self.is_peer(peer)),
        };
        let port = match &rule.ports {
            Ports::All => true,
            Ports::Only(ports) => ports.iter().any(|port| self.is_port(port)),
        };
        peer && port
    }

    fn is_peer(&self, peer: &Peer) -> bool {
        match peer {
            // Who is not known matches no description.
            Peer::Pods(selector) => self.peer.is_some_and(|labels| selector.matches(labels)),
            Peer::Block(block) => {
                let Some(at) = self.peer_at.map(IpAddr::V4) else { return false };
                block.cidr.contains(&at) && !block.except.iter().any(|net| net.contains(&at))
            }
        }
    }

    fn is_port(&self, port: &Port) -> bool {
        match port {
            Port::Protocol(protocol) => protocol.number() == self.protocol,
            Port::Range { protocol, first, last } => {
                protocol.number() == self.protocol && (*first..=*last).contains(&self.port)
            }
            // No pod of a world names a port.
            Port::Named { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use weft_types::{
        Label, NamespacedName, Selector, Source,
        policy::{IpBlock, PolicyId, PolicyKind, Protocol},
        selector::Requirement,
    };

    fn labels(app: &str) -> LabelSet {
        let (key, value) = ("app".to_owned(), app.to_owned());
        LabelSet::from_iter([Label { source: Source::K8s, key, value }])
    }

    fn apps(app: &str) -> Selector {
        let (source, key, values) = (Source::K8s, "app".to_owned(), vec![app.to_owned()]);
        Selector::new(vec![Requirement::In { source, key, values }])
    }

    fn policy(ingress: Isolation) -> Policy {
        Policy {
            id: PolicyId { kind: PolicyKind::NetworkPolicy, name: NamespacedName::new("a", "p") },
            subject: apps("web"),
            ingress,
            egress: Isolation::Open,
        }
    }

    fn rule(peers: Peers, ports: Ports) -> Isolation {
        Isolation::Isolated(vec![Rule { peers, ports }])
    }

    #[track_caller]
    fn check(ingress: Isolation, peer: Option<&str>, port: u16, is_let: bool) {
        let (own, peer) = (labels("web"), peer.map(labels));
        let peer_at = Some([10, 0, 1, 9].into());
        let direction = Direction::Ingress;
        let side = Side { direction, own: &own, peer: peer.as_ref(), peer_at, protocol: 6, port };
        assert_eq!(side.is_let([&policy(ingress)]), is_let);
    }

    #[test]
    fn what_no_policy_isolates_is_let() {
        check(Isolation::Open, None, 80, true);
        check(Isolation::Isolated(Vec::new()), Some("db"), 80, false);
        let own = labels("db");
        let (direction, peer_at) = (Direction::Ingress, Some([10, 0, 1, 9].into()));
        let side = Side { direction, own: &own, peer: None, peer_at, protocol: 6, port: 80 };
        assert!(side.is_let([&policy(Isolation::Isolated(Vec::new()))]), "it is about others");
    }

    #[test]
    fn a_rule_lets_whom_it_describes_to_its_ports() {
        let db = || Peers::Only(vec![Peer::Pods(apps("db"))]);
        check(rule(db(), Ports::All), Some("db"), 80, true);
        check(rule(db(), Ports::All), Some("web"), 80, false);
        check(rule(db(), Ports::All), None, 80, false);
        check(rule(Peers::Anyone, Ports::All), None, 80, true);
        let range = Port::Range { protocol: Protocol::Tcp, first: 80, last: 81 };
        let ports = || Ports::Only(vec![range.clone()]);
        check(rule(db(), ports()), Some("db"), 81, true);
        check(rule(db(), ports()), Some("db"), 82, false);
        let ports = Ports::Only(vec![Port::Protocol(Protocol::Udp)]);
        check(rule(db(), ports), Some("db"), 80, false);
    }

    #[test]
    fn a_block_has_whoever_has_an_address_of_it() {
        let block = |except: &[&str]| {
            let except = except.iter().map(|net| net.parse().unwrap()).collect();
            let block = IpBlock { cidr: "10.0.0.0/8".parse().unwrap(), except };
            rule(Peers::Only(vec![Peer::Block(block)]), Ports::All)
        };
        check(block(&[]), None, 80, true);
        check(block(&["10.0.1.0/28"]), Some("db"), 80, false);
        check(block(&["10.0.2.0/24"]), Some("db"), 80, true);
    }
}
