//! The verdict of the kernel programs against a slow reference that shares no code with it, through
//! `BPF_PROG_TEST_RUN`, on packets drawn from the edges of the entries; and broken variants of the
//! reference, each of which the same packets must tell from the kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

#[path = "differential/reference.rs"]
mod reference;
mod support;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reference::{Answer, BROKEN, Entry, Question, answer};
use std::collections::HashSet;
use support::{Datapath, IFINDEX, Program, SHOT, is_root};
use weft_abi::{
    address::NetPort,
    endpoint::ENDPOINTS,
    ipcache::{ADDRESSES4, PREFIXES4},
    policy::{DENY, EGRESS, INGRESS, PolicyEntry, PolicyKey, PolicyPrefix},
};
use weft_datapath::kernel::Maps;

const POLICY_SETS: usize = 2_000;
const PACKETS_A_SET: usize = 500;
const CLASS: u32 = 1000;
const POD: [u8; 4] = [10, 0, 0, 1];
/// TCP, UDP, SCTP.
const PROTOCOLS: [u8; 3] = [6, 17, 132];
/// Peers are `10.side.c.i`: the prefix names the c-th CIDR identity, the address the i-th identity.
const IDENTITIES: [u32; 4] = [0, 2, 300, 301];
const CIDRS: [u32; 3] = [0, 0x0100_0001, 0x0100_0002];

/// xorshift: a fixed seed, so that a failure repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % n as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

fn write_world(datapath: &Datapath) {
    let (ifindex, class) = (IFINDEX.to_ne_bytes(), CLASS.to_ne_bytes());
    datapath.write(
        &ENDPOINTS,
        ifindex.to_vec(),
        &[(0, &ifindex), (8, &class), (12, &class), (16, &POD)],
    );
    let local = weft_abi::ipcache::LOCAL.to_ne_bytes();
    datapath.write(&ADDRESSES4, POD.to_vec(), &[(0, &class), (4, &local), (8, &ifindex)]);
    for side in [EGRESS, INGRESS] {
        for (c, cidr) in CIDRS.iter().enumerate() {
            let c = u8::try_from(c).unwrap();
            let mut key = 24u32.to_ne_bytes().to_vec();
            key.extend([10, side, c, 0]);
            datapath.write(&PREFIXES4, key, &[(4, &cidr.to_ne_bytes())]);
            for (i, identity) in IDENTITIES.iter().enumerate() {
                let address = vec![10, side, c, u8::try_from(i).unwrap()];
                datapath.write(&ADDRESSES4, address, &[(0, &identity.to_ne_bytes())]);
            }
        }
    }
}

/// A set of entries, no two of one key.
fn draw_entries(random: &mut Random) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..3 + random.below(8) {
        let shape = random.below(4);
        let bits = 1 + u32::try_from(random.below(16)).unwrap();
        let entry = Entry {
            direction: random.one_of(&[INGRESS, EGRESS]),
            identity: random.one_of(&[0, 2, 300, 301, CIDRS[1], CIDRS[2]]),
            protocol: if shape == 0 { None } else { Some(random.one_of(&PROTOCOLS)) },
            port: (shape > 1).then(|| {
                let width = 1u32 << (16 - bits);
                let port = u32::try_from(random.below(1 << 16)).unwrap() / width * width;
                (port, port + width - 1)
            }),
            precedence: u32::try_from(random.below(4)).unwrap() << 16,
            rule: u32::try_from(1 + random.below(1000)).unwrap(),
            deny: random.below(5) < 2,
        };
        if !entries.iter().any(|e| e.same_key(&entry)) {
            entries.push(entry);
        }
    }
    entries
}

fn encode(entry: &Entry) -> (PolicyPrefix, PolicyEntry) {
    let mut key = PolicyKey::zeroed();
    (key.identity, key.direction) = (entry.identity, entry.direction);
    let mut length = 40;
    if let Some(protocol) = entry.protocol {
        (key.protocol, length) = (protocol, 48);
    }
    if let Some((low, high)) = entry.port {
        key.port = NetPort::from_host(u16::try_from(low).unwrap());
        length = 64 - (high - low + 1).trailing_zeros();
    }
    let mut value = PolicyEntry::zeroed();
    (value.precedence, value.rule) = (entry.precedence, entry.rule);
    value.flags = if entry.deny { DENY } else { 0 };
    (PolicyPrefix { length, key }, value)
}

/// A question at, or one beside, the edge of an entry.
fn draw_question(random: &mut Random, entries: &[Entry]) -> Question {
    let near = entries[random.below(entries.len())];
    let (low, high) = near.port.unwrap_or((0, 0xffff));
    let edge =
        random.one_of(&[low.wrapping_sub(1), low, low + 1, high.wrapping_sub(1), high, high + 1]);
    let exact = |list: &[u32]| list.iter().position(|i| *i == near.identity && *i != 0);
    Question {
        direction: near.direction,
        identity: exact(&IDENTITIES).unwrap_or_else(|| random.below(IDENTITIES.len())),
        cidr: exact(&CIDRS).unwrap_or_else(|| random.below(CIDRS.len())),
        protocol: near.protocol.unwrap_or_else(|| random.one_of(&PROTOCOLS)),
        port: u16::try_from(edge & 0xffff).unwrap(),
    }
}

/// Ethernet, IPv4 and enough of TCP, UDP or SCTP.
fn packet(question: &Question, source_port: u16) -> [u8; 64] {
    let peer = [
        10,
        question.direction,
        u8::try_from(question.cidr).unwrap(),
        u8::try_from(question.identity).unwrap(),
    ];
    let (from, to) = if question.direction == EGRESS { (POD, peer) } else { (peer, POD) };
    let mut bytes = [0; 64];
    bytes[12..14].copy_from_slice(&[8, 0]);
    bytes[14..24].copy_from_slice(&[0x45, 0, 0, 50, 0, 0, 0, 0, 64, question.protocol]);
    bytes[26..30].copy_from_slice(&from);
    bytes[30..34].copy_from_slice(&to);
    bytes[34..36].copy_from_slice(&source_port.to_be_bytes());
    bytes[36..38].copy_from_slice(&question.port.to_be_bytes());
    (bytes[46], bytes[47]) = (0x50, 2);
    bytes
}

#[test]
fn root_kernel_agrees_with_the_reference_and_broken_variants_are_caught() {
    if !is_root() {
        return;
    }
    // Classes are more than descriptors, as on a node whose agent nobody gave more; here too few for two batches at once.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 400.min(hard), hard).unwrap();
    let mut datapath = Datapath::load();
    write_world(&datapath);

    let mut random = Random(0x005e_ed0f_1e57);
    // All classes are swapped in by batches: one swap alone waits for a grace period of the kernel.
    let sets: Vec<Vec<Entry>> = (0..POLICY_SETS).map(|_| draw_entries(&mut random)).collect();
    let classes: Vec<_> = (CLASS..)
        .zip(&sets)
        .map(|(class, entries)| (class, entries.iter().map(encode).collect::<Vec<_>>()))
        .collect();
    datapath.maps.class_replace(&classes).expect("classes");

    // Flows that a class let pass, and how often believing that later would have been wrong.
    let (mut open, mut stale) = (HashSet::new(), 0usize);
    let (mut counts, mut caught) = ([0usize; 3], [0usize; BROKEN.len()]);
    for (class, entries) in (CLASS..).zip(&sets) {
        // The pod becomes one of this class; the epoch makes every flow of the class before stale.
        datapath.write(
            &ENDPOINTS,
            IFINDEX.to_ne_bytes().to_vec(),
            &[(0, &IFINDEX.to_ne_bytes()), (12, &class.to_ne_bytes()), (16, &POD)],
        );
        datapath.maps.bump_epoch().expect("bump");
        for n in 0..PACKETS_A_SET {
            // Some sets leave nothing unmatched, so it is asked for a little more often.
            let wanted = match n % 16 {
                0..5 => Answer::Allow,
                5..10 => Answer::Deny,
                _ => Answer::NoMatch,
            };
            let mut question = draw_question(&mut random, entries);
            for _ in 0..100 {
                if answer(entries, &question) == wanted {
                    break;
                }
                question = draw_question(&mut random, entries);
            }
            let expected = answer(entries, &question);
            counts[expected as usize] += 1;
            let (egress, ingress) = (Program::FromPod, Program::FromNet);
            let run = if question.direction == EGRESS { egress } else { ingress };
            // A few source ports only, so that flows of earlier classes are met again, stale.
            let source_port = u16::try_from(50_000 + n % 7).unwrap();
            let passed = datapath.run(run, &packet(&question, source_port)).action != SHOT;
            assert_eq!(passed, expected == Answer::Allow, "{question:?} of {entries:#?}");
            let flow = (packet(&question, source_port), question.direction);
            stale += usize::from(open.contains(&flow) && !passed);
            if passed {
                open.insert(flow);
            }
            for ((_, broken), caught) in BROKEN.iter().zip(&mut caught) {
                *caught += usize::from((broken(entries, &question) == Answer::Allow) != passed);
            }
        }
    }
    let total = POLICY_SETS * PACKETS_A_SET;
    eprintln!("{total} packets, allow/deny/no match {counts:?}, 0 mismatches");
    for ((name, _), caught) in BROKEN.iter().zip(caught) {
        eprintln!("  broken variant caught {caught:>7} times: {name}");
        assert!(caught > 0, "the packets do not tell the broken variant `{name}`");
    }
    eprintln!("  broken variant caught {stale:>7} times: stale epoch believed");
    assert!(stale > 0, "no packet met a stale flow of another verdict");
    assert!(counts.iter().all(|c| c * 10 >= total * 3), "a verdict is rare: {counts:?}");
}
