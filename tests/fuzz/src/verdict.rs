//! Packets through the verdict crate: tables and tuples of any shape, against a judge that looks at every entry.

use crate::bytes::Bytes;
use std::collections::BTreeMap;
use weft_abi::{
    address::{Addr, Addr4, NetPort},
    conntrack::{DENIED, Flow, FlowKey4, OPENER_HIGH},
    endpoint::Endpoint,
    fragment::{FragmentKey4, Fragmented},
    ipcache::{AddressEntry, HOST, LOCAL, PrefixEntry, REMOTE_NODE, REMOTE_POD},
    policy::{
        DENY, EGRESS, INGRESS, PREFIX_ANY, PREFIX_PORT, PREFIX_PROTOCOL, PolicyEntry, PolicyKey,
        PolicyPrefix,
    },
};
use weft_core::policy::{Entries, offline::Trie};
use weft_verdict::{
    conntrack::{
        ICMP, SCTP, Side, Step, TCP, Tuple, UDP, belongs_among_answered, from_opener, key, opens,
        sent, step,
    },
    flow::{Judgement, Opening, World, judge_flow, resolve},
    fragment::{Piece, datagram, find, first, is_over, latest, piece},
    lifetime::is_expired,
    policy::{Query, Verdict, judge},
};

const PROTOCOLS: [u8; 5] = [ICMP, TCP, UDP, SCTP, 47];
const PORTS: [u16; 6] = [0, 8, 80, 81, 0x8000, 0xffff];
/// Interfaces, and with them endpoints and their classes, are numbered to this.
const LAST: u8 = 4;

/// One node's tables.
#[derive(Debug, Default)]
struct Tables {
    addresses: BTreeMap<u32, AddressEntry>,
    /// By length and address.
    prefixes: BTreeMap<(u8, u32), PrefixEntry>,
    endpoints: BTreeMap<u32, Endpoint>,
    classes: BTreeMap<u32, Entries>,
}

/// First fragments, by the bytes of their keys.
type Fragments = BTreeMap<Vec<u8>, Fragmented>;

/// The target: tables, then packets and changes of the epoch, as long as there are bytes.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let tables = Tables::of(&mut bytes);
    let mut flows: BTreeMap<Vec<u8>, Flow> = BTreeMap::new();
    let mut fragments = Fragments::new();
    let mut epoch = 1;
    while !bytes.is_empty() {
        match bytes.up_to(7) {
            0 => epoch += 1,
            1 => {
                let later = u32::from(bytes.number());
                flows.retain(|_, flow| !is_expired(TCP, flow, later));
            }
            2 => {
                let (tuple, now) = (tuple(&mut bytes), bytes.byte().into());
                let (word, id) = (bytes.number(), bytes.up_to(3).into());
                if let Some(tuple) = fragment(&mut fragments, &tuple, (word, id), now) {
                    packet(&tables, &mut flows, epoch, &tuple);
                }
            }
            _ => packet(&tables, &mut flows, epoch, &tuple(&mut bytes)),
        }
    }
}

fn address(bytes: &mut Bytes<'_>) -> Addr4 {
    // Few, so that flows meet.
    Addr4::new([10, bytes.byte() & 1, bytes.byte() & 1, bytes.byte() & 3])
}

fn port(bytes: &mut Bytes<'_>) -> NetPort {
    NetPort::from_host(bytes.one_of(&PORTS))
}

fn tuple(bytes: &mut Bytes<'_>) -> Tuple {
    Tuple {
        source: address(bytes),
        destination: address(bytes),
        source_port: port(bytes),
        destination_port: port(bytes),
        policy_port: port(bytes),
        protocol: bytes.one_of(&PROTOCOLS),
        control: bytes.byte(),
    }
}

impl Tables {
    fn of(bytes: &mut Bytes<'_>) -> Self {
        let mut tables = Self::default();
        for _ in 0..bytes.up_to(8) {
            let at = address(bytes).to_host();
            let entry = AddressEntry {
                identity: bytes.up_to(4).into(),
                flags: bytes.one_of(&[0, LOCAL, HOST, REMOTE_POD, REMOTE_NODE]),
                ifindex: bytes.up_to(LAST).into(),
                node: Addr::from4(Addr4::new([192, 168, 0, bytes.byte()])),
                ..AddressEntry::zeroed()
            };
            tables.addresses.insert(at, entry);
        }
        for _ in 0..bytes.up_to(6) {
            let (length, at) = (bytes.up_to(32), address(bytes).to_host());
            let entry = PrefixEntry {
                identity: bytes.up_to(4).into(),
                cidr: bytes.up_to(4).into(),
                flags: bytes.one_of(&[0, LOCAL, REMOTE_POD]),
                ..PrefixEntry::zeroed()
            };
            tables.prefixes.insert((length, masked(at, length)), entry);
        }
        for ifindex in 1..=u32::from(bytes.up_to(LAST)) {
            let class = u32::from(bytes.up_to(LAST));
            let endpoint = Endpoint { ifindex, id: ifindex, class, ..Endpoint::zeroed() };
            tables.endpoints.insert(ifindex, endpoint);
        }
        for class in 0..u32::from(bytes.up_to(LAST)) {
            let entries = (0..bytes.up_to(12)).map(|_| entry(bytes)).collect();
            tables.classes.insert(class, entries);
        }
        tables
    }
}

fn masked(address: u32, length: u8) -> u32 {
    address & u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0)
}

fn entry(bytes: &mut Bytes<'_>) -> (PolicyPrefix, PolicyEntry) {
    let (identity, direction) = (bytes.up_to(4).into(), bytes.one_of(&[INGRESS, EGRESS]));
    let open = PolicyKey { identity, direction, ..PolicyKey::zeroed() };
    let prefix = match bytes.up_to(16) {
        0 => PolicyPrefix { length: PREFIX_ANY, key: open },
        bits => {
            let bits = u32::from(bits - 1);
            let port = bytes.one_of(&PORTS) & 0xffff_u16.checked_shl(16 - bits).unwrap_or(0);
            let (protocol, port) = (bytes.one_of(&PROTOCOLS), NetPort::from_host(port));
            let key = PolicyKey { protocol, port, ..open };
            PolicyPrefix { length: PREFIX_PROTOCOL + bits, key }
        }
    };
    let entry = PolicyEntry {
        precedence: bytes.up_to(3).into(),
        rule: bytes.byte().into(),
        flags: bytes.one_of(&[0, DENY]),
        ..PolicyEntry::zeroed()
    };
    (prefix, entry)
}

impl World for Tables {
    type Class<'a> = Trie<'a>;

    fn address(&self, address: Addr4) -> Option<&AddressEntry> {
        self.addresses.get(&address.to_host())
    }

    fn prefix(&self, address: Addr4) -> Option<&PrefixEntry> {
        let lengths = (0..=32).rev();
        lengths
            .into_iter()
            .find_map(|length| self.prefixes.get(&(length, masked(address.to_host(), length))))
    }

    fn endpoint(&self, ifindex: u32) -> Option<&Endpoint> {
        self.endpoints.get(&ifindex)
    }

    fn class(&self, class: u32) -> Option<Trie<'_>> {
        self.classes.get(&class).map(Trie)
    }
}

/// A packet of a datagram's pieces as the flow's packet that it is, if that is known.
fn fragment(
    fragments: &mut Fragments,
    tuple: &Tuple,
    (word, id): (u16, u16),
    now: u32,
) -> Option<Tuple> {
    match piece(word, tuple.protocol) {
        Piece::Whole => Some(*tuple),
        Piece::First => {
            for key in [datagram(tuple, id), latest(tuple)] {
                fragments.insert(key.to_bytes().to_vec(), first(tuple, [0; 2], now));
            }
            Some(*tuple)
        }
        Piece::Later => {
            let look_up = |key: &FragmentKey4| fragments.get(&key.to_bytes().to_vec()).copied();
            let of = find(tuple, id, now, look_up)?;
            assert!(!is_over(&of, now));
            let (source_port, destination_port) = (of.source_port, of.destination_port);
            Some(Tuple { source_port, destination_port, policy_port: of.policy_port, ..*tuple })
        }
        Piece::Overlapping => None,
    }
}

/// One packet, tracked as the programs do it.
fn packet(tables: &Tables, flows: &mut BTreeMap<Vec<u8>, Flow>, epoch: u64, tuple: &Tuple) {
    let (key, side) = sides(tuple);
    let at = key.to_bytes().to_vec();
    let known = flows.get(&at).copied();
    let opener = known.is_none_or(|flow| from_opener(&flow, side));
    let steps = known.map(|flow| step(&flow, tuple, opener, epoch));
    let mut flow = match steps {
        Some(Step::Forward) => {
            let flow = known.unwrap();
            assert_eq!((flow.epoch, flow.flags & DENIED), (epoch, 0), "an open flow of this epoch");
            flow
        }
        Some(Step::Refuse) => return assert_ne!(known.unwrap().flags & DENIED, 0),
        Some(Step::Rejudge) => judged(tables, epoch, &openings(tuple, opener), known, side, opener),
        Some(Step::Reopen) => judged(tables, epoch, &openings(tuple, true), None, side, true),
        None if !opens(tuple) => return,
        None => judged(tables, epoch, &openings(tuple, true), None, side, true),
    };
    let opener = from_opener(&flow, side);
    let by_end = if opener { &mut flow.opener_sent } else { &mut flow.target_sent };
    *by_end = sent(*by_end, tuple);
    belongs_among_answered(tuple.protocol, &flow);
    flows.insert(at, flow);
}

/// Both directions of a flow have one key.
fn sides(tuple: &Tuple) -> (FlowKey4, Side) {
    let back = Tuple {
        source: tuple.destination,
        destination: tuple.source,
        source_port: tuple.destination_port,
        destination_port: tuple.source_port,
        ..*tuple
    };
    let ((there, side), (here, other)) = (key(tuple), key(&back));
    assert_eq!(there.to_bytes(), here.to_bytes());
    let itself = (tuple.source, tuple.source_port) == (tuple.destination, tuple.destination_port);
    assert_eq!(side == other, itself);
    (there, side)
}

fn openings(tuple: &Tuple, from_opener: bool) -> Opening {
    let (source, destination) = if from_opener {
        (tuple.source, tuple.destination)
    } else {
        (tuple.destination, tuple.source)
    };
    Opening { source, destination, protocol: tuple.protocol, port: tuple.policy_port }
}

fn judged(
    tables: &Tables,
    epoch: u64,
    opening: &Opening,
    before: Option<Flow>,
    side: Side,
    opener: bool,
) -> Flow {
    let mut found = Judgement::NOTHING;
    judge_flow(tables, opening, &mut found);
    let (source, destination) =
        (resolve(tables, opening.source), resolve(tables, opening.destination));
    let ends = [
        (source, EGRESS, destination, found.egress_rule),
        (destination, INGRESS, source, found.ingress_rule),
    ];
    for (own, direction, peer, rule) in ends {
        let by_own_node = direction == INGRESS && peer.flags & HOST != 0;
        if own.flags & LOCAL == 0 || by_own_node || found.refusal.is_some() {
            continue;
        }
        let class = tables.endpoints[&own.ifindex].class;
        let query = Query {
            direction,
            identity: peer.identity,
            cidr: cidr(tables, peer.address),
            protocol: opening.protocol,
            port: opening.port,
        };
        assert_eq!(slowly(&tables.classes[&class], &query), Verdict::Allow { rule });
    }
    for entries in tables.classes.values() {
        for direction in [INGRESS, EGRESS] {
            let (identity, cidr) = (found.opener, cidr(tables, opening.source));
            let (protocol, port) = (opening.protocol, opening.port);
            let query = Query { direction, identity, cidr, protocol, port };
            assert_eq!(judge(&Trie(entries), &query), slowly(entries, &query), "{query:?}");
        }
    }
    let is_high = (side == Side::High) == opener;
    Flow {
        epoch,
        flags: if is_high { OPENER_HIGH } else { 0 }
            | if found.refusal.is_some() { DENIED } else { 0 },
        forward: found.forward,
        reply: found.reply,
        ..before.unwrap_or_else(Flow::zeroed)
    }
}

/// The number of the policy prefix around an address.
fn cidr(tables: &Tables, address: Addr4) -> u32 {
    tables.prefix(address).map_or(0, |prefix| prefix.cidr)
}

/// The verdict by looking at every entry, bit by bit.
fn slowly(entries: &Entries, query: &Query) -> Verdict {
    let longest = |identity: u32| {
        let covers = |prefix: &PolicyPrefix| {
            let key = &prefix.key;
            let bits = prefix.length.saturating_sub(PREFIX_PROTOCOL).min(PREFIX_PORT);
            let differ = u32::from(key.port.to_host() ^ query.port.to_host());
            key.identity == identity
                && key.direction == query.direction
                && (prefix.length == PREFIX_ANY
                    || (key.protocol == query.protocol && differ >> (16 - bits) == 0))
        };
        entries.iter().filter(|(prefix, _)| covers(prefix)).max_by_key(|(prefix, _)| prefix.length)
    };
    let asked = [query.identity, 0, query.cidr].into_iter().enumerate();
    let asked = asked.filter(|(at, identity)| *at == 1 || *identity != 0);
    let found = asked.filter_map(|(_, identity)| longest(identity)).map(|(_, entry)| entry);
    // Of equals the first that was asked; `max_by_key` gives the last.
    match found.rev().max_by_key(|entry| (entry.precedence, entry.flags & DENY)) {
        None => Verdict::NoMatch,
        Some(entry) if entry.flags & DENY != 0 => Verdict::Deny { rule: entry.rule },
        Some(entry) => Verdict::Allow { rule: entry.rule },
    }
}
