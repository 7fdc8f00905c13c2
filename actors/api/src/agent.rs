//! The agent's socket.

use crate::cni;
use serde::{Deserialize, Serialize};
use std::{net::Ipv4Addr, sync::Arc};
use weft_hubble::flow::Flow;

/// What an agent can be asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// CNI ADD; answered by [`cni::Added`].
    CniAdd(cni::Add),
    /// CNI DEL; answered by nothing. Deleting the absent succeeds.
    CniDelete(cni::Attachment),
    /// CNI CHECK; answered by nothing.
    CniCheck(cni::Check),
    /// CNI STATUS: is ADD possible now?
    CniStatus,
    /// CNI GC: attachments of the network that are not among these are deleted; answered by nothing.
    CniCollect(cni::Collect),
    /// Health, revision, actors.
    Status,
    /// The endpoints of this node.
    Endpoints,
    /// The identities this node knows.
    Identities,
    /// The nodes this node knows.
    Nodes,
    /// The policies this node knows.
    Policies,
    /// The maps of this node.
    Maps,
    /// The entries of one map.
    MapDump {
        /// Its name, with or without `weft_`.
        name: String,
    },
    /// Make an actor panic, to see that it comes back; refused unless the agent was started for such trials.
    Crash {
        /// Its name, as [`Status::actors`] has it.
        actor: String,
    },
    /// Make an actor block its thread, to see that both are replaced; refused likewise.
    Stall {
        /// Its name.
        actor: String,
        /// For how many milliseconds.
        ms: u64,
    },
    /// Flows: those in the ring, oldest first, and with `follow` those to come.
    Flows {
        /// At most this many of the newest in the ring; all of them when absent.
        #[serde(default)]
        last: Option<u64>,
        /// Go on with new ones.
        #[serde(default)]
        follow: bool,
    },
}

impl Request {
    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CniAdd(_) => "cni_add",
            Self::CniDelete(_) => "cni_delete",
            Self::CniCheck(_) => "cni_check",
            Self::CniStatus => "cni_status",
            Self::CniCollect(_) => "cni_collect",
            Self::Status => "status",
            Self::Endpoints => "endpoints",
            Self::Identities => "identities",
            Self::Nodes => "nodes",
            Self::Policies => "policies",
            Self::Maps => "maps",
            Self::MapDump { .. } => "map_dump",
            Self::Crash { .. } => "crash",
            Self::Stall { .. } => "stall",
            Self::Flows { .. } => "flows",
        }
    }
}

/// Answers, one variant a request that has one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done.
    Done,
    /// To [`Request::CniAdd`].
    Added(cni::Added),
    /// To [`Request::Status`].
    Status(Status),
    /// To [`Request::Endpoints`].
    Endpoints(Vec<EndpointRow>),
    /// To [`Request::Identities`].
    Identities(Vec<IdentityRow>),
    /// To [`Request::Nodes`].
    Nodes(Vec<NodeRow>),
    /// To [`Request::Policies`].
    Policies(Vec<PolicyRow>),
    /// To [`Request::Maps`].
    Maps(Vec<MapRow>),
    /// To [`Request::MapDump`].
    MapDump(Vec<MapEntry>),
    /// One of many to [`Request::Flows`].
    Flow(Arc<Flow>),
    /// The agent's ring of flows went on over so many that this reader did not have yet.
    FlowsLost(u64),
    /// So many events found the kernel's ring full, before the next flow.
    EventsLost(u64),
}

/// The agent's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The node.
    pub node: String,
    /// Version of the program, with its commit.
    pub version: String,
    /// Whether everything is as it should be.
    pub healthy: bool,
    /// Newest revision received, `generation.index`.
    pub received: String,
    /// Revision the kernel holds.
    pub realised: String,
    /// The newest revision received, if there is no room for it here: the one before stays in force until what is wanted changes,
    /// or the agent's limits do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The node's epoch.
    pub epoch: u64,
    /// The operator it is connected to; none when it is not.
    pub operator: Option<String>,
    /// Its actors.
    pub actors: Vec<ActorRow>,
    /// What is wrong, a sentence each.
    pub problems: Vec<String>,
    /// What was wrong lately and was dealt with, or is counted and goes on: no reason to call the agent unhealthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// One actor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorRow {
    /// Its name.
    pub name: String,
    /// How often it was made; 1 for one that never failed.
    pub incarnation: u64,
    /// `running`, `restarting`, `failed`.
    pub state: String,
    /// What ended the life before, if any.
    pub last_failure: Option<String>,
    /// Messages to it that found its mailbox full.
    #[serde(default)]
    pub shed: u64,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRow {
    /// The node.
    pub node: String,
    /// Its number there.
    pub id: u32,
    /// `namespace/name`.
    pub pod: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its identity's number.
    pub identity: u32,
    /// Its labels.
    pub labels: Vec<String>,
    /// Host side of its link.
    pub interface: String,
    /// Lifecycle state.
    pub state: String,
    /// Whether a policy isolates it: `ingress`, `egress`, `both`, `none`.
    pub policy: String,
    /// Revision its kernel state is of.
    pub realised: String,
}

/// One identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRow {
    /// The number.
    pub identity: u32,
    /// Its labels.
    pub labels: Vec<String>,
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its pod prefixes.
    pub pod_cidrs: Vec<String>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRow {
    /// `namespace/name`.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// How many ingress rules; none when it does not isolate ingress.
    pub ingress_rules: Option<usize>,
    /// How many egress rules; none when it does not isolate egress.
    pub egress_rules: Option<usize>,
    /// Endpoints of this node it is about.
    pub endpoints: usize,
}

/// One map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapRow {
    /// The node.
    pub node: String,
    /// Its name.
    pub name: String,
    /// Who writes it: `agent`, `kernel`.
    pub written_by: String,
    /// Entries it has.
    pub entries: u64,
    /// Entries it can have.
    pub capacity: u64,
    /// Differences from the desired state found and mended since the agent started.
    pub mended: u64,
    /// What went wrong last, if anything.
    pub problem: Option<String>,
}

/// One entry of a map, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapEntry {
    /// The node.
    pub node: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: String,
}
