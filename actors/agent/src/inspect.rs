//! The `Inspector` actor: the maps of this node as people want to see them. It reads, and writes nothing.

use crate::{
    Refusal,
    mapsync::{ClassSync, Describe, TableSync},
    runtime::{Edge, Life, Role, Seat, Serve, Thread, request},
};
use std::{net::Ipv4Addr, sync::Arc};
use weft_abi::{
    address::Addr4,
    conntrack::{DENIED, FLOWS4, Flow, FlowKey4, OPENER_HIGH, PENDING4},
    endpoint::Endpoint,
    fragment::{FRAGMENTS4, FragmentKey4, Fragmented, LATEST},
    ipcache::{AddressEntry, HOST, LOCAL, Prefix4, PrefixEntry, REMOTE_NODE, REMOTE_POD},
    map::{ALL, MapKind, MapSpec},
    policy::{DENY, INGRESS, PREFIX_PROTOCOL, PolicyEntry, PolicyPrefix},
};
use weft_api::{
    Failure, FailureKind,
    agent::{MapEntry, MapRow},
};
use weft_datapath::kernel::{Counted, Maps, RawEntry};
use weft_verdict::{
    connection::{State, state},
    conntrack::connects,
};

/// Reads maps, on a thread where nobody waits for it.
pub struct Inspector {
    node: String,
    kernel: Arc<dyn Maps>,
    tables: Vec<Edge<TableSync>>,
    classes: Edge<ClassSync>,
}

impl Inspector {
    /// Of this node's maps and their owners.
    pub fn new(
        node: String,
        kernel: Arc<dyn Maps>,
        tables: &[Seat<TableSync>],
        classes: &Seat<ClassSync>,
    ) -> Self {
        let tables = tables.iter().map(Seat::edge).collect();
        Self { node, kernel, tables, classes: classes.edge() }
    }

    /// A map that has no owner here: the kernel's programs write it.
    fn kernel_row(&self, map: &MapSpec) -> MapRow {
        let counted = self.kernel.prune(map, &mut |_| false).map(|pruned| pruned.seen);
        MapRow {
            node: self.node.clone(),
            name: map.name.to_owned(),
            written_by: "kernel".to_owned(),
            entries: counted.as_ref().map_or(0, |entries| *entries as u64),
            capacity: u64::from(self.kernel.capacity(map)),
            mended: 0,
            problem: counted.err().map(|error| error.to_string()),
        }
    }

    fn dump_classes(&self) -> Result<Vec<MapEntry>, weft_datapath::kernel::KernelError> {
        let mut rows = Vec::new();
        for class in self.kernel.classes()? {
            let mut entries = self.kernel.class_entries(class)?;
            entries.sort();
            rows.extend(entries.iter().map(|(prefix, entry)| MapEntry {
                node: self.node.clone(),
                key: format!("{class} {}", policy_key(prefix)),
                value: policy_entry(entry),
            }));
        }
        Ok(rows)
    }
}

/// Whether a dump makes sense: rings and per-CPU counters have no entries to show.
fn has_entries(map: &MapSpec) -> bool {
    map.key_size > 0 && map.name != weft_abi::metrics::METRICS.name
}

impl Role for Inspector {
    const THREAD: Thread = Thread::Observe;
}

/// All maps.
pub struct ListMaps;
request!(ListMaps => Result<Vec<MapRow>, Refusal>);

impl Serve<ListMaps> for Inspector {
    async fn serve(&mut self, _: ListMaps, _: &Life<Self>) -> Result<Vec<MapRow>, Refusal> {
        let mut rows = Vec::new();
        for table in &self.tables {
            rows.push(table.ask(Describe).await?);
        }
        rows.push(self.classes.ask(Describe).await?);
        let kernel = ALL.iter().filter(|map| map.kind == MapKind::Kernel && has_entries(map));
        rows.extend(kernel.map(|map| self.kernel_row(map)));
        rows.iter_mut().for_each(|row| row.node.clone_from(&self.node));
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(rows)
    }
}

/// What the programs counted.
pub struct ReadCounters;
request!(ReadCounters => Result<Vec<Counted>, Refusal>);

impl Serve<ReadCounters> for Inspector {
    async fn serve(&mut self, _: ReadCounters, _: &Life<Self>) -> Result<Vec<Counted>, Refusal> {
        self.kernel.counted().map_err(crate::internal)
    }
}

/// The entries of a map, by its name with or without `weft_`.
pub struct DumpMap(pub String);
request!(DumpMap => Result<Vec<MapEntry>, Refusal>);

impl Serve<DumpMap> for Inspector {
    async fn serve(
        &mut self,
        DumpMap(name): DumpMap,
        _: &Life<Self>,
    ) -> Result<Vec<MapEntry>, Refusal> {
        let called =
            |map: &&MapSpec| map.name == name || map.name.strip_prefix("weft_") == Some(&*name);
        let Some(map) = ALL.iter().filter(|map| has_entries(map)).find(called) else {
            let names: Vec<&str> = ALL.iter().filter(|m| has_entries(m)).map(|m| m.name).collect();
            return Err(Failure {
                kind: FailureKind::NotFound,
                message: format!("there is no map {name:?}; there are {}", names.join(", ")),
            });
        };
        let dumped = if map.name == weft_abi::policy::CLASSES.name {
            self.dump_classes()
        } else {
            self.kernel.entries(map).map(|mut entries| {
                entries.sort();
                entries.iter().map(|entry| words(&self.node, map, entry)).collect()
            })
        };
        dumped.map_err(crate::internal)
    }
}

fn policy_key(prefix: &PolicyPrefix) -> String {
    let direction = if prefix.key.direction == INGRESS { "ingress" } else { "egress" };
    let peer = match prefix.key.identity {
        0 => "anyone".to_owned(),
        identity => identity.to_string(),
    };
    let protocol = protocol_words(prefix.key.protocol);
    let port = prefix.key.port.to_host();
    let bits = prefix.length.saturating_sub(PREFIX_PROTOCOL);
    let service = match prefix.length {
        length if length < PREFIX_PROTOCOL => "any".to_owned(),
        PREFIX_PROTOCOL => format!("{protocol}/any"),
        _ if bits == 16 => format!("{protocol}/{port}"),
        _ => format!("{protocol}/{port}-{}", port | (0xffff_u16.checked_shr(bits).unwrap_or(0))),
    };
    format!("{direction} {peer} {service}")
}

fn protocol_words(protocol: u8) -> String {
    match protocol {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        132 => "SCTP".to_owned(),
        other => other.to_string(),
    }
}

fn policy_entry(entry: &PolicyEntry) -> String {
    let verdict = if entry.flags & DENY == 0 { "allow" } else { "deny" };
    format!("{verdict} rule {} precedence {}", entry.rule, entry.precedence)
}

/// An entry in words where its layout has some, in hexadecimal where not.
fn words(node: &str, map: &MapSpec, entry: &RawEntry) -> MapEntry {
    let words = match map.name {
        name if name == weft_abi::ipcache::ADDRESSES4.name => address_words(entry),
        name if name == weft_abi::ipcache::PREFIXES4.name => prefix_words(entry),
        name if name == weft_abi::endpoint::ENDPOINTS.name => endpoint_words(entry),
        name if name == FLOWS4.name || name == PENDING4.name => flow_words(entry),
        name if name == FRAGMENTS4.name => fragment_words(entry),
        _ => None,
    };
    let (key, value) = words.unwrap_or_else(|| (hex(&entry.key), hex(&entry.value)));
    MapEntry { node: node.to_owned(), key, value }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dotted(address: Addr4) -> Ipv4Addr {
    address.octets().into()
}

fn place(flags: u32) -> &'static str {
    match flags {
        LOCAL => "local",
        HOST => "host",
        REMOTE_POD => "remote-pod",
        REMOTE_NODE => "remote-node",
        _ => "elsewhere",
    }
}

fn address_words(entry: &RawEntry) -> Option<(String, String)> {
    let (key, row) = (Addr4::from_bytes(&entry.key)?, AddressEntry::from_bytes(&entry.value)?);
    let mut value = format!("identity {} {}", row.identity, place(row.flags));
    match row.flags {
        LOCAL => value += &format!(" ifindex {}", row.ifindex),
        REMOTE_POD => value += &format!(" via {}", dotted(row.node.to4())),
        _ => {}
    }
    Some((dotted(key).to_string(), value))
}

fn prefix_words(entry: &RawEntry) -> Option<(String, String)> {
    let (key, row) = (Prefix4::from_bytes(&entry.key)?, PrefixEntry::from_bytes(&entry.value)?);
    let (identity, cidr) = (row.identity, row.cidr);
    let value = format!("identity {identity} policy prefix {cidr} {}", place(row.flags));
    Some((format!("{}/{}", dotted(key.addr), key.length), value))
}

fn endpoint_words(entry: &RawEntry) -> Option<(String, String)> {
    let row = Endpoint::from_bytes(&entry.value)?;
    let value = format!(
        "endpoint {} identity {} class {} address {}",
        row.id,
        row.identity,
        row.class,
        dotted(row.addr4)
    );
    Some((format!("ifindex {}", row.ifindex), value))
}

/// The ends of a first fragment, and which datagram it was of.
fn fragment_words(entry: &RawEntry) -> Option<(String, String)> {
    let (key, row) = (FragmentKey4::from_bytes(&entry.key)?, Fragmented::from_bytes(&entry.value)?);
    let which = match key.scope {
        LATEST => "latest".to_owned(),
        _ => u16::from_be(key.id).to_string(),
    };
    let (source, destination) = (dotted(key.source), dotted(key.destination));
    let (from, to) = (row.source_port.to_host(), row.destination_port.to_host());
    Some((
        format!("{} {source} -> {destination} {which}", protocol_words(key.protocol)),
        format!("ports {from} {to} seen {}", row.seen),
    ))
}

fn state_words(state: State) -> &'static str {
    match state {
        State::Opening => " opening",
        State::Answered => " answered",
        State::Established => " established",
        State::HalfClosed => " half-closed",
        State::Closed => " closed",
        State::Reset => " reset",
    }
}

/// Low end, high end, who opened it, what is known of it.
fn flow_words(entry: &RawEntry) -> Option<(String, String)> {
    let (key, flow) = (FlowKey4::from_bytes(&entry.key)?, Flow::from_bytes(&entry.value)?);
    let low = format!("{}:{}", dotted(key.low_addr), key.low_port.to_host());
    let high = format!("{}:{}", dotted(key.high_addr), key.high_port.to_host());
    let (from, to) = if flow.flags & OPENER_HIGH == 0 { (low, high) } else { (high, low) };
    let verdict = if flow.flags & DENIED == 0 { "allowed" } else { "denied" };
    let state = if connects(key.protocol) { state_words(state(&flow)) } else { "" };
    let value = format!(
        "{verdict}{state} epoch {} identities {} -> {} rules {} {} seen {}",
        flow.epoch,
        flow.opener_identity,
        flow.target_identity,
        flow.egress_rule,
        flow.ingress_rule,
        flow.last_seen
    );
    Some((format!("{} {from} -> {to}", protocol_words(key.protocol)), value))
}
