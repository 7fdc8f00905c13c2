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
    /// The address that the previous result has, when there is one.
    pub address: Option<Ipv4Addr>,
}
