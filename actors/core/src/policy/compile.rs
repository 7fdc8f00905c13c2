//! What a class holds for each peer.

use super::{
    Entries,
    numbers::{PrefixNumbers, RuleNumbers},
    ports,
    terms::{Identities, TermId, Terms},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};
use weft_abi::{
    address::NetPort,
    policy::{
        EGRESS, INGRESS, PRECEDENCE_DEFAULT, PRECEDENCE_NETWORK_POLICY, PREFIX_ANY, PREFIX_PORT,
        PREFIX_PROTOCOL, PolicyEntry, PolicyKey, PolicyPrefix,
    },
};
use weft_types::{
    Identity, LabelSet,
    policy::{Direction, Port, Ports, Protocol, RuleId},
};

/// The peer number of entries that anyone matches.
pub(super) const ANYONE: u32 = 0;

/// A class's entries by peer number.
pub(super) type ByPeer = BTreeMap<u32, Entries>;

/// A rule whose peers are terms.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) id: RuleId,
    pub(super) peers: Who,
    pub(super) ports: Ports,
}

/// Who may be at the other end of a rule.
#[derive(Clone, Debug)]
pub(super) enum Who {
    /// Anyone.
    Anyone,
    /// Anyone; a name of a port means something else at each identity of this term, which is all of them.
    AnyoneByName(TermId),
    /// Who one of these terms describes.
    Only(Vec<TermId>),
}

impl Who {
    /// The terms that it is made of.
    pub(super) fn terms(&self) -> &[TermId] {
        match self {
            Self::Anyone => &[],
            Self::AnyoneByName(term) => std::slice::from_ref(term),
            Self::Only(terms) => terms,
        }
    }

    fn has(&self, terms: &Terms, peer: u32) -> bool {
        (peer == ANYONE && !matches!(self, Self::Only(_)))
            || self.terms().iter().any(|term| terms.has(*term, peer))
    }
}

/// A class's rules.
#[derive(Debug, Default)]
pub(super) struct Rules<'a> {
    /// Rules of the policies that isolate it, in either direction.
    pub(super) rules: Vec<&'a Resolved>,
    /// Directions in which no policy isolates it.
    pub(super) open: Vec<Direction>,
}

/// What the entries of a class depend on beside its rules.
pub(super) struct Compiler<'a> {
    pub(super) subject: &'a LabelSet,
    pub(super) identities: &'a Identities,
    pub(super) terms: &'a Terms,
    pub(super) prefixes: &'a PrefixNumbers,
    pub(super) pods: &'a BTreeMap<Ipv4Addr, Identity>,
}

impl Compiler<'_> {
    /// The whole class.
    pub(super) fn class(&self, rules: &Rules<'_>, numbers: &mut RuleNumbers) -> ByPeer {
        let mut by_peer: BTreeMap<u32, Vec<&Resolved>> = BTreeMap::new();
        for rule in &rules.rules {
            if !matches!(rule.peers, Who::Only(_)) {
                by_peer.entry(ANYONE).or_default().push(rule);
            }
            let members: BTreeSet<u32> = rule
                .peers
                .terms()
                .iter()
                .filter_map(|term| self.terms.get(*term))
                .flat_map(|term| term.members.iter().copied())
                .collect();
            for peer in members {
                by_peer.entry(peer).or_default().push(rule);
            }
        }
        if !rules.open.is_empty() {
            by_peer.entry(ANYONE).or_default();
        }
        by_peer
            .into_iter()
            .map(|(peer, some)| (peer, self.entries(peer, &some, &rules.open, numbers)))
            .filter(|(_, entries)| !entries.is_empty())
            .collect()
    }

    /// What the class holds for one peer.
    pub(super) fn peer(&self, peer: u32, rules: &Rules<'_>, numbers: &mut RuleNumbers) -> Entries {
        let some: Vec<&Resolved> =
            rules.rules.iter().filter(|rule| rule.peers.has(self.terms, peer)).copied().collect();
        self.entries(peer, &some, &rules.open, numbers)
    }

    fn entries(
        &self,
        peer: u32,
        rules: &[&Resolved],
        open: &[Direction],
        numbers: &mut RuleNumbers,
    ) -> Entries {
        let mut found: BTreeMap<PolicyPrefix, BTreeSet<&RuleId>> = BTreeMap::new();
        for rule in rules {
            for prefix in self.prefixes(peer, rule) {
                found.entry(prefix).or_default().insert(&rule.id);
            }
        }
        let mut entries = Entries::new();
        for prefix in found.keys() {
            // The longest entry answers, so it names the rules of the shorter ones around it too.
            let rules = covering(prefix).filter_map(|around| found.get(&around)).flatten();
            let rule = numbers.of(&rules.copied().cloned().collect());
            let precedence = PRECEDENCE_NETWORK_POLICY;
            entries.insert(*prefix, PolicyEntry { precedence, rule, ..PolicyEntry::zeroed() });
        }
        if peer == ANYONE {
            for direction in open {
                let entry = PolicyEntry { precedence: PRECEDENCE_DEFAULT, ..PolicyEntry::zeroed() };
                let any = (PREFIX_ANY, 0, NetPort::zeroed());
                entries.insert(prefix(ANYONE, *direction, any), entry);
            }
        }
        entries
    }

    /// The prefixes that a rule makes for a peer.
    fn prefixes(&self, peer: u32, rule: &Resolved) -> Vec<PolicyPrefix> {
        let direction = rule.id.direction;
        // A named port is the destination's: the subject's own on ingress, the peer's on egress.
        let destination = match direction {
            Direction::Ingress => Some(self.subject),
            Direction::Egress => self.labels_of(peer),
        };
        // What such a rule says by number it says to anyone.
        let names_alone = peer != ANYONE && matches!(rule.peers, Who::AnyoneByName(_));
        port_prefixes(&rule.ports, destination, names_alone)
            .into_iter()
            .map(|port| prefix(peer, direction, port))
            .collect()
    }

    /// The labels of a peer: of an identity, or of the pod that has the one address of a prefix.
    fn labels_of(&self, peer: u32) -> Option<&LabelSet> {
        let identity = match self.prefixes.prefix(peer) {
            Some(net) if net.prefix_len() == 32 => *self.pods.get(&net.network())?,
            Some(_) => return None,
            None => Identity(peer),
        };
        self.identities.all().get(&identity)
    }
}

/// A prefix and those around it: of the same peer, with fewer bits of the port, without it, without protocol.
fn covering(prefix: &PolicyPrefix) -> impl Iterator<Item = PolicyPrefix> + use<> {
    let PolicyPrefix { length, key } = *prefix;
    let any = PolicyKey { protocol: 0, port: NetPort::zeroed(), ..key };
    let ports = (PREFIX_PROTOCOL..=length).map(move |length| {
        let dropped = PREFIX_PORT - length;
        let port = u32::from(key.port.to_host()) >> dropped << dropped;
        let port = NetPort::from_host(u16::try_from(port).unwrap_or_default());
        PolicyPrefix { length, key: PolicyKey { port, ..key } }
    });
    std::iter::once(PolicyPrefix { length: PREFIX_ANY, key: any }).chain(ports)
}

/// (prefix length, protocol, port).
type PortPart = (u32, u8, NetPort);

fn prefix(peer: u32, direction: Direction, (length, protocol, port): PortPart) -> PolicyPrefix {
    let direction = match direction {
        Direction::Ingress => INGRESS,
        Direction::Egress => EGRESS,
    };
    PolicyPrefix { length, key: PolicyKey { identity: peer, direction, protocol, port } }
}

fn port_prefixes(
    ports: &Ports,
    destination: Option<&LabelSet>,
    names_alone: bool,
) -> Vec<PortPart> {
    let ports = match ports {
        Ports::All => return vec![(PREFIX_ANY, 0, NetPort::zeroed())],
        Ports::Only(ports) => ports,
    };
    let wanted = |port: &&Port| !names_alone || matches!(port, Port::Named { .. });
    ports.iter().filter(wanted).flat_map(|port| one_port(port, destination)).collect()
}

fn one_port(port: &Port, destination: Option<&LabelSet>) -> Vec<PortPart> {
    let range = |protocol: Protocol, first, last| -> Vec<PortPart> {
        let part = |p: ports::PortPrefix| {
            (PREFIX_PROTOCOL + p.bits, protocol.number(), NetPort::from_host(p.first))
        };
        ports::range(first, last).into_iter().map(part).collect()
    };
    match port {
        Port::Protocol(protocol) => {
            vec![(PREFIX_PROTOCOL, protocol.number(), NetPort::zeroed())]
        }
        Port::Range { protocol, first, last } => range(*protocol, *first, *last),
        Port::Named { protocol, name } => {
            let number = destination.and_then(|labels| ports::named(labels, name, *protocol));
            number.map_or_else(Vec::new, |number| range(*protocol, number, number))
        }
    }
}

/// Whether ports are named.
pub(super) fn has_names(ports: &Ports) -> bool {
    matches!(ports, Ports::Only(ports) if ports.iter().any(|p| matches!(p, Port::Named { .. })))
}
