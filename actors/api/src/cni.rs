//! What the CNI plugin asks of the agent.

use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;

/// One attachment: a container's interface. The idempotency key of every CNI call.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attachment {
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub interface: String,
}

impl Attachment {
    /// The name of the file in which DEL waits while the agent is away: JSON of the attachment. A container id has
    /// no `@`, so two attachments never share one.
    pub fn queue_name(&self) -> String {
        format!("{}@{}.json", self.container_id, self.interface)
    }
}

/// ADD: plug a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    /// Which attachment.
    pub attachment: Attachment,
    /// Path of the network namespace, as the agent can open it.
    pub netns: String,
    /// `K8S_POD_NAMESPACE`.
    pub pod_namespace: String,
    /// `K8S_POD_NAME`.
    pub pod_name: String,
    /// Name of the network, for GC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The pod's address, where a plugin before weft-cni made the interface: it is taken over as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopt: Option<Ipv4Addr>,
}

/// GC: which attachments of a network its runtime has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// Name of the network.
    pub network: String,
    /// The attachments.
    pub valid: Vec<Attachment>,
}

/// What ADD made; the plugin turns it into a CNI result of the version it was asked in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Added {
    /// The pod's address; its prefix length is 32.
    pub address: Ipv4Addr,
    /// Its gateway.
    pub gateway: Ipv4Addr,
    /// Name of the host side of its link.
    pub host_interface: String,
    /// Hardware address of the host side, `aa:bb:…`.
    pub host_mac: String,
    /// Hardware address of the pod's side.
    pub mac: String,
    /// MTU of the link.
    pub mtu: u32,
}

/// CHECK: is the attachment as it was made?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which attachment.
    pub attachment: Attachment,
    /// Path of the network namespace.
    pub netns: String,
    /// The addresses that the previous result has for the interface; the pod's must be among them.
    pub addresses: Vec<Ipv4Addr>,
}
