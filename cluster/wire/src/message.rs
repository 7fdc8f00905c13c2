//! What agent and operator say to each other. One enum a direction, which only grows, at its end ([`crate::version`]).

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use weft_types::{Delta, Identity, NodeName, PodEndpoint, Revision, TraceContext};

/// From an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToOperator {
    /// First message of a session.
    Hello {
        /// The node it speaks for; its certificate must say the same.
        node: NodeName,
        /// Counted up by the agent with each session, whichever operator it is with: of two the higher is the newer. An agent
        /// begins with its clock's microseconds since 1970, and goes on from [`ToAgent::Stale`] when that was too few.
        session: u64,
        /// The revision that its kernel holds.
        held: Option<Revision>,
        /// The revision up to which it was told, at least `held`: deltas go on from there. None asks for a snapshot.
        from: Option<Revision>,
        /// The identities that it was told of, up to there: of pods elsewhere it holds what is about these.
        identities: Vec<Identity>,
        /// Addresses that it asked for, as by [`ToOperator::Who`].
        asked: Vec<Ipv4Addr>,
    },
    /// The kernel of this node holds everything up to this revision.
    Acknowledge {
        /// The revision read back from the kernel.
        revision: Revision,
        /// The agent's part in it; none when it is said again.
        trace: Option<TraceContext>,
    },
    /// A pod was plugged here. Sent again with every new session until it appears in the state.
    EndpointPlugged {
        /// The endpoint; its node must be the speaker, its address inside the node's prefixes.
        endpoint: PodEndpoint,
        /// The CNI call it came from.
        trace: Option<TraceContext>,
    },
    /// A pod was unplugged here.
    EndpointUnplugged {
        /// The address that is free now.
        address: Ipv4Addr,
        /// The CNI call that freed it, where that is known.
        trace: Option<TraceContext>,
    },
    /// All endpoints of the node, said once in each session and before anything that its kernel holds is acknowledged: what
    /// the operator has beyond them is gone.
    EndpointsAre {
        /// Their addresses, with the identities that they have.
        endpoints: Vec<(Ipv4Addr, Identity)>,
    },
    /// Answer to [`ToAgent::Ping`].
    Pong,
    /// The kernel of this node does not take a revision. Said once for each reason; a later
    /// [`ToOperator::Acknowledge`] of it ends that.
    Behind {
        /// The revision.
        revision: Revision,
        /// Why: which rule or address there is no room for, which call failed.
        reason: String,
    },
    /// Who has these addresses? Answered by deltas about their identities, then and whenever they change.
    Who {
        /// Addresses of the cluster's pods that this node was not told of.
        addresses: Vec<Ipv4Addr>,
    },
}

/// From an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// The session is accepted.
    Welcome {
        /// The cluster's name, a label of every identity.
        cluster: String,
        /// The newest revision here.
        revision: Revision,
    },
    /// The session is refused and closed; trying again soon does not help.
    Refused {
        /// Why, for the agent's log.
        reason: String,
    },
    /// A snapshot follows: what it does not name does not exist. It ends with [`ToAgent::SnapshotEnd`].
    SnapshotBegin,
    /// Changes; all of one revision, or a part of a snapshot.
    Deltas {
        /// The revision they lead to; in a snapshot, that of the snapshot.
        revision: Revision,
        /// The changes.
        deltas: Vec<Delta>,
        /// What caused them.
        trace: Option<TraceContext>,
    },
    /// The snapshot is complete.
    SnapshotEnd {
        /// The revision it is of.
        revision: Revision,
    },
    /// Are you there? Sent when nothing else was for some time.
    Ping,
    /// The session is refused and closed: one with this number or a higher one was the node's. The next one is numbered higher.
    Stale {
        /// The newest that is known.
        session: u64,
    },
    /// A pod that was plugged can be spoken with: the nodes that have to know its address have it, or time is up.
    Spread {
        /// The pod's address.
        address: Ipv4Addr,
        /// Those that do not have it yet.
        behind: Vec<NodeName>,
    },
}
