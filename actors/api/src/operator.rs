//! The operator's admin socket.

use serde::{Deserialize, Serialize};
use weft_types::{Label, Object, Revision};

/// What an operator can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Make these objects part of the desired state; answered by [`Answer::Accepted`].
    Apply {
        /// Objects to add or replace, by kind and name.
        objects: Vec<Object>,
    },
    /// Take these objects out of the desired state.
    Delete {
        /// Objects to remove; only kind and name count. Removing the absent is no error.
        objects: Vec<Object>,
    },
    /// The number of a label set, which is given one when it has none; answered by [`Answer::Number`].
    Number {
        /// Its labels, in any order.
        labels: Vec<Label>,
    },
    /// Wait until every node's kernel holds the revision, or that of one node.
    Wait {
        /// The revision; the newest when absent.
        revision: Option<Revision>,
        /// Milliseconds to wait at most.
        timeout_ms: u64,
        /// The only node that counts; all when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
    },
    /// Members, sessions and their revisions.
    Status,
    /// Every identity.
    Identities,
    /// Every object of the desired state.
    Objects,
    /// The operators' group, as this operator sees it, or another that it asks.
    Cluster {
        /// That member.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<u64>,
    },
    /// Change the operators' group.
    Member(MemberChange),
    /// Have another voter lead: this one, or who is furthest.
    Transfer {
        /// Its number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        to: Option<u64>,
    },
}

/// A place where peers reach an operator, HOST:PORT, as it was said; or what is wrong with it.
pub fn peer_place(text: &str) -> Result<String, String> {
    let port = |(host, port): (&str, &str)| {
        (!host.is_empty()).then_some(port)?.parse().ok().filter(|port: &u16| *port > 0)
    };
    match text.rsplit_once(':').and_then(port) {
        Some(_) => Ok(text.to_owned()),
        None => Err(format!("{text:?} is no HOST:PORT, as 10.0.0.4:4901")),
    }
}

/// A change of the operators' group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberChange {
    /// A new member, which gets the log and does not vote yet.
    Add {
        /// Its number, never another's.
        member: u64,
        /// Where its peers reach it.
        address: String,
    },
    /// A member that has the log votes from now on.
    Promote {
        /// Its number.
        member: u64,
    },
    /// A member is none any more.
    Remove {
        /// Its number.
        member: u64,
    },
}

impl Request {
    /// Whether it changes nothing: every operator answers it, and whoever asks twice only hears it twice.
    pub const fn is_look(&self) -> bool {
        match self {
            Self::Apply { .. }
            | Self::Delete { .. }
            | Self::Number { .. }
            | Self::Member(_)
            | Self::Transfer { .. } => false,
            Self::Wait { .. }
            | Self::Status
            | Self::Identities
            | Self::Objects
            | Self::Cluster { .. } => true,
        }
    }

    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Apply { .. } => "apply",
            Self::Delete { .. } => "delete",
            Self::Number { .. } => "number",
            Self::Wait { .. } => "wait",
            Self::Status => "status",
            Self::Identities => "identities",
            Self::Objects => "objects",
            Self::Cluster { .. } => "cluster",
            Self::Member(_) => "member",
            Self::Transfer { .. } => "transfer",
        }
    }
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Apply`] and [`Request::Delete`]: the revision that holds the change.
    Accepted {
        /// `policy wait` waits for it.
        revision: Revision,
        /// Objects that were added, changed or removed.
        changed: usize,
    },
    /// To [`Request::Number`].
    Number {
        /// The label set's number.
        identity: u32,
        /// A revision that has it.
        revision: Revision,
    },
    /// To [`Request::Wait`].
    Waited(Waited),
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Identities`].
    Identities(Vec<IdentityRow>),
    /// To [`Request::Objects`].
    Objects(Vec<Object>),
    /// To [`Request::Cluster`].
    Cluster(Cluster),
    /// To [`Request::Member`]: it is so. To [`Request::Transfer`]: it was asked for.
    Done,
}

/// The operators' group, as one of them sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub cluster: String,
    /// Who says so.
    pub member: u64,
    /// What it is: `leader`, `elected`, `candidate`, `follower`.
    pub role: String,
    /// Who leads, as far as it knows.
    pub leader: Option<u64>,
    /// In which term.
    pub term: u64,
    /// The newest revision that it has applied.
    pub revision: Revision,
    /// The last entry of its log.
    pub last: u64,
    /// What is committed, as far as it knows.
    pub committed: u64,
    /// Whether it takes changes of the desired state.
    pub serving: bool,
    /// What the store said last when it did not do what it was asked: who leads asks it for changes, others look how it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_problem: Option<String>,
    /// Numbers that would be free, were it not for nodes that may have them still; the leader alone knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<HeldBack>,
    /// The nodes, and which operator their agents are connected to.
    pub agents: Vec<NodeProgress>,
    /// The members.
    pub members: Vec<MemberRow>,
}

/// An identity, and who refers to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRow {
    /// The number.
    pub identity: u32,
    /// Its labels.
    pub labels: Vec<String>,
    /// Where in its life it is.
    pub state: IdentityState,
    /// Pods that are to have it.
    pub pods: usize,
    /// Addresses that have it, on all nodes.
    pub endpoints: usize,
}

/// Where in its life an identity is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityState {
    /// Somebody refers to it.
    Used,
    /// Nobody does, and agents know it: it is retired when that stays so.
    Unused,
    /// Agents are to forget it; then its number is free.
    Retiring,
}

impl IdentityState {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Used => "used",
            Self::Unused => "unused",
            Self::Retiring => "retiring",
        }
    }
}

/// Numbers that are not given again yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldBack {
    /// How many.
    pub numbers: usize,
    /// The nodes that may have one of them still: away, or slow. Deleting the Node of one that never returns gives its numbers free.
    pub by: Vec<String>,
    /// The operators that may still tell agents of one of them, for they have not heard that it is retired: away, or cut off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operators: Vec<u64>,
}

/// A member of the operators' group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRow {
    /// Its number.
    pub member: u64,
    /// Where its peers reach it.
    pub address: String,
    /// Whether it votes.
    pub voter: bool,
    /// The last entry that it is known to have; the leader alone knows.
    pub matched: Option<u64>,
    /// Agents that are connected to it.
    pub agents: usize,
}

/// How a wait ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// The revision waited for.
    pub revision: Revision,
    /// Whether every node holds it.
    pub enforced: bool,
    /// Nodes that do not, and what they hold.
    pub behind: Vec<NodeProgress>,
}

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProgress {
    /// The node.
    pub node: String,
    /// Whether its agent is connected.
    pub connected: bool,
    /// The member that it is connected to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<u64>,
    /// The revision it acknowledged last; none when it never did.
    pub acknowledged: Option<Revision>,
    /// Why its kernel does not take a newer one, as its agent says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// The operator's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program, with its commit.
    pub version: String,
    /// Newest revision.
    pub revision: Revision,
    /// The store: `file`, `etcd`.
    pub store: String,
    /// Nodes and what they hold.
    pub nodes: Vec<NodeProgress>,
    /// How many identities, workloads, endpoints and policies there are.
    pub identities: usize,
    /// Scheduled pods.
    pub workloads: usize,
    /// Plugged pods.
    pub endpoints: usize,
    /// Policies.
    pub policies: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_host_and_a_port() {
        for good in ["10.0.0.4:4901", "operator-2.weft:1", "[fd00::1]:65535"] {
            assert_eq!(peer_place(good).as_deref(), Ok(good));
        }
        for bad in ["", "nonsense", ":4901", "10.0.0.4:", "10.0.0.4:0", "10.0.0.4:65536", "a:b"] {
            assert!(peer_place(bad).unwrap_err().contains("HOST:PORT"), "{bad}");
        }
    }
}
