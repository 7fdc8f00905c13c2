//! Policies as Weft keeps them: Kubernetes' NetworkPolicy with every default made explicit.

use crate::{name::NamespacedName, selector::Selector};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which API a policy came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
}

/// What a policy is known by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyId {
    /// The API it came from.
    pub kind: PolicyKind,
    /// Its namespace and name.
    pub name: NamespacedName,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// A policy: whom it is about and, for each direction, whether it isolates them and what it lets through.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// What it is known by.
    pub id: PolicyId,
    /// The workloads it is about; the namespace is a requirement like any other.
    pub subject: Selector,
    /// What it says of traffic to them.
    pub ingress: Isolation,
    /// What it says of traffic from them.
    pub egress: Isolation,
}

/// Whether a policy isolates its subjects in a direction. "No restriction" and "nobody" are not the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Isolation {
    /// The policy says nothing of this direction.
    Open,
    /// Only what a rule of this or another policy allows passes; with no rule, nothing.
    Isolated(Vec<Rule>),
}

/// One rule: peers and ports; both must match.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// Who may be at the other end.
    pub peers: Peers,
    /// To which ports.
    pub ports: Ports,
}

/// Who may be at the other end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Peers {
    /// Anyone: pods, nodes, the world.
    Anyone,
    /// Who one of these describes; none of them means nobody.
    Only(Vec<Peer>),
}

/// A description of peers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Peer {
    /// Pods whose identity's labels match.
    Pods(Selector),
    /// Whoever has an address in the block, pods and nodes included.
    Block(IpBlock),
}

/// A prefix without some prefixes inside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct IpBlock {
    /// The prefix, host bits zero.
    pub cidr: IpNet,
    /// Prefixes inside it that are not meant, host bits zero.
    pub except: Vec<IpNet>,
}

/// To which ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ports {
    /// Every port of every protocol.
    All,
    /// What one of these describes; none of them means no port.
    Only(Vec<Port>),
}

/// A transport protocol that policies can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// IP protocol 6.
    Tcp,
    /// IP protocol 17.
    Udp,
    /// IP protocol 132.
    Sctp,
}

impl Protocol {
    /// The IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// As Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One port of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Port {
    /// Every port of a protocol.
    Protocol(Protocol),
    /// `first..=last` of a protocol.
    Range {
        /// The protocol.
        protocol: Protocol,
        /// First port, host order.
        first: u16,
        /// Last port, not below the first.
        last: u16,
    },
    /// The port that the destination pod calls so, if the protocol agrees.
    Named {
        /// The protocol.
        protocol: Protocol,
        /// The name in the destination's container ports.
        name: String,
    },
}

/// The two directions, seen from the policy's subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// To the subject.
    Ingress,
    /// From the subject.
    Egress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        })
    }
}

/// A rule by its place, for people: the policy, the direction and the rule's index in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RuleId {
    /// The policy.
    pub policy: PolicyId,
    /// The direction.
    pub direction: Direction,
    /// Index in the policy's list, from 0.
    pub index: u32,
}

impl fmt::Display for RuleId {
    /// `namespace/name ingress[0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}[{}]", self.policy, self.direction, self.index)
    }
}
