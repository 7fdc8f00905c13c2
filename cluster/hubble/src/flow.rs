//! A flow, field for field as Hubble's JSON has it: proto names, zero values left out.

use serde::{Deserialize, Serialize};

/// `flow.Flow`, the fields that Weft fills.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Flow {
    /// RFC 3339 with nanoseconds, UTC.
    pub time: String,
    /// `FORWARDED`, `DROPPED`.
    pub verdict: String,
    /// Number of the drop reason.
    #[serde(skip_serializing_if = "is_zero")]
    pub drop_reason: u32,
    /// Addresses.
    #[serde(rename = "IP", skip_serializing_if = "Option::is_none")]
    pub ip: Option<Ip>,
    /// Transport.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l4: Option<Layer4>,
    /// Who sent it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Endpoint>,
    /// Whom it was for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Endpoint>,
    /// `L3_L4`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `cluster/node`.
    pub node_name: String,
    /// Which event it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_type: Option<EventType>,
    /// `INGRESS`, `EGRESS`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub traffic_direction: String,
    /// What matched: 1 L3-Only, 2 L3-L4, 3 L4-Only, 4 all, 0 none.
    #[serde(skip_serializing_if = "is_zero")]
    pub policy_match_type: u32,
    /// Name of the drop reason, as in Hubble's enum.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub drop_reason_desc: String,
    /// Whether it answers; absent when unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_reply: Option<bool>,
    /// The transport in words.
    #[serde(rename = "Summary")]
    pub summary: String,
    /// Policies that let it out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress_allowed_by: Vec<Policy>,
    /// Policies that let it in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress_allowed_by: Vec<Policy>,
    /// Policies that kept it from leaving.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress_denied_by: Vec<Policy>,
    /// Policies that kept it from entering.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress_denied_by: Vec<Policy>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// `flow.IP`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ip {
    /// Source address.
    pub source: String,
    /// Destination address.
    pub destination: String,
    /// `IPv4`.
    #[serde(rename = "ipVersion")]
    pub version: String,
}

/// `flow.Layer4`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Layer4 {
    /// TCP.
    #[serde(rename = "TCP")]
    Tcp(Tcp),
    /// UDP.
    #[serde(rename = "UDP")]
    Udp(Ports),
    /// SCTP.
    #[serde(rename = "SCTP")]
    Sctp(Ports),
    /// ICMP.
    #[serde(rename = "ICMPv4")]
    Icmp4(Icmp),
}

/// Two ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ports {
    /// Source port.
    #[serde(skip_serializing_if = "is_zero")]
    pub source_port: u32,
    /// Destination port.
    #[serde(skip_serializing_if = "is_zero")]
    pub destination_port: u32,
}

/// `flow.TCP`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tcp {
    /// Source port.
    #[serde(skip_serializing_if = "is_zero")]
    pub source_port: u32,
    /// Destination port.
    #[serde(skip_serializing_if = "is_zero")]
    pub destination_port: u32,
    /// Flags that are set.
    pub flags: TcpFlags,
}

/// `flow.TCPFlags`; false ones are left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the flags of RFC 9293 by their own names")]
pub struct TcpFlags {
    #[serde(skip_serializing_if = "is_false")]
    pub fin: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub syn: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub rst: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub psh: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub ack: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub urg: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub ece: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub cwr: bool,
}

impl TcpFlags {
    /// From the byte of the header: FIN is bit 0.
    pub fn from_bits(bits: u8) -> Self {
        let bit = |at: u8| bits >> at & 1 == 1;
        Self {
            fin: bit(0),
            syn: bit(1),
            rst: bit(2),
            psh: bit(3),
            ack: bit(4),
            urg: bit(5),
            ece: bit(6),
            cwr: bit(7),
        }
    }

    /// The flags that are set, in Hubble's order.
    pub fn names(self) -> Vec<&'static str> {
        let all = [
            (self.syn, "SYN"),
            (self.ack, "ACK"),
            (self.rst, "RST"),
            (self.fin, "FIN"),
            (self.psh, "PSH"),
            (self.urg, "URG"),
            (self.ece, "ECE"),
            (self.cwr, "CWR"),
        ];
        all.into_iter().filter_map(|(set, name)| set.then_some(name)).collect()
    }
}

fn is_false(b: &bool) -> bool {
    !*b
}

/// `flow.ICMPv4`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Icmp {
    /// Type.
    #[serde(rename = "type", skip_serializing_if = "is_zero")]
    pub kind: u32,
    /// Code.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: u32,
}

/// `flow.Endpoint`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoint {
    /// Number on its node.
    #[serde(rename = "ID", skip_serializing_if = "is_zero")]
    pub id: u32,
    /// Identity number.
    #[serde(skip_serializing_if = "is_zero")]
    pub identity: u32,
    /// Cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster_name: String,
    /// Namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Labels of its identity.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Pod.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pod_name: String,
}

/// `flow.CiliumEventType`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EventType {
    /// 1 drop, 4 trace, 5 policy verdict.
    #[serde(rename = "type")]
    pub kind: i32,
    /// Drop reason or observation point.
    #[serde(skip_serializing_if = "is_zero_i")]
    pub sub_type: i32,
}

fn is_zero_i(n: &i32) -> bool {
    *n == 0
}

/// `flow.Policy`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Name.
    pub name: String,
    /// Namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Labels; Weft adds `weft:rule=ingress[0]`, the rule's place in the manifest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Revision the policy was realised at.
    #[serde(skip_serializing_if = "is_zero_u", with = "text")]
    pub revision: u64,
    /// Kind.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
}

fn is_zero_u(n: &u64) -> bool {
    *n == 0
}

/// 64-bit numbers are texts in protobuf's JSON.
mod text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(n: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(n)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
