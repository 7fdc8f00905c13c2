//! The flow tables over maps in memory: a sweep takes what is over out of all, and nothing else, and says which are full.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{collections::BTreeSet, sync::Arc, time::Instant};
use weft_abi::{
    address::Addr4,
    conntrack::{FLOWS4, Flow, FlowKey4, PENDING4, SENT, SENT_ACK, SENT_RESET},
    event::MUTED4,
    fragment::{FRAGMENTS4, FragmentKey4, Fragmented},
    metrics::{Counter, NOTICE_FLOWS_FULL},
};
use weft_agent::{
    conntrack::{Conntrack, Sweep},
    gated::Gated,
    metrics::Counts,
    runtime::Runtime,
};
use weft_datapath::{
    clock,
    fake::FakeMaps,
    kernel::{Counted, Maps},
};
use weft_verdict::{
    conntrack::{TCP, UDP},
    fragment::LIFETIME,
    lifetime::{CLOSED, UDP_ANSWERED},
};

/// A flow of a protocol that was seen so many seconds ago.
fn flow(protocol: u8, target_sent: u8, ago: u32) -> (Vec<u8>, Vec<u8>) {
    let key = FlowKey4 {
        protocol,
        low_port: weft_abi::address::NetPort::from_host(7),
        ..FlowKey4::zeroed()
    };
    let last_seen = clock::seconds().wrapping_sub(ago);
    let flow = Flow { last_seen, opener_sent: SENT | SENT_ACK, target_sent, ..Flow::zeroed() };
    (key.to_bytes().into(), flow.to_bytes().into())
}

#[actix::test]
async fn a_sweep_takes_what_is_over_out_of_all_tables() {
    let kernel = Arc::new(FakeMaps::default());
    // An hour of room on either side: the clock goes on while this runs.
    let hour = 3_600;
    for map in [&FLOWS4, &PENDING4] {
        let over = flow(UDP, SENT, UDP_ANSWERED + hour);
        let lives = flow(TCP, SENT, CLOSED + hour);
        kernel.state().rows.insert(map.name, [over, lives].into());
    }
    let first = |id: u16, ago: u32| {
        let key = FragmentKey4 { id, ..FragmentKey4::zeroed() };
        let seen = clock::seconds().wrapping_sub(ago);
        let said = Fragmented { seen, ..Fragmented::zeroed() };
        (key.to_bytes().to_vec(), said.to_bytes().to_vec())
    };
    let (young, old) = (first(1, 0), first(2, LIFETIME + hour));
    kernel.state().rows.insert(FRAGMENTS4.name, [young.clone(), old].into());
    let maps: Arc<dyn Maps> = kernel.clone();
    let seat = Runtime::start().role("conntrack", move |life| {
        Conntrack::new(Gated::new(Arc::clone(&maps), life.gate()), Counts::default())
    });
    seat.edge().ask(Sweep).await.unwrap();
    let protocols = |name: &str| -> BTreeSet<u8> {
        let state = kernel.state();
        let keys = state.rows.get(name).unwrap().keys();
        keys.map(|key| FlowKey4::from_bytes(key).unwrap().protocol).collect()
    };
    for map in [&FLOWS4, &PENDING4] {
        assert_eq!(
            protocols(map.name),
            BTreeSet::from([TCP]),
            "{}: the quiet connection stays",
            map.name
        );
    }
    let left: Vec<_> = kernel.state().rows.get(FRAGMENTS4.name).unwrap().keys().cloned().collect();
    // A busy machine may take its time, but not that of a datagram.
    assert_eq!(left, [young.0]);
    // Reset meanwhile, it is over too.
    let (key, reset) = flow(TCP, SENT | SENT_RESET, CLOSED + hour);
    kernel.state().rows.insert(FLOWS4.name, [(key, reset)].into());
    seat.edge().ask(Sweep).await.unwrap();
    assert!(protocols(FLOWS4.name).is_empty());
}

#[actix::test]
async fn a_table_that_was_full_is_said_when_it_happens_and_once() {
    let kernel = Arc::new(FakeMaps::default());
    let full = |packets| Counted {
        reason: NOTICE_FLOWS_FULL,
        direction: 0,
        total: Counter { packets, bytes: 0 },
    };
    // What was counted before this life is no news.
    kernel.state().counted = vec![full(5)];
    let (maps, counts): (Arc<dyn Maps>, _) = (kernel.clone(), Counts::default());
    let counting = counts.clone();
    let seat = Runtime::start().role("conntrack", move |life| {
        Conntrack::new(Gated::new(Arc::clone(&maps), life.gate()), counting.clone())
    });
    let said = || counts.notices().recent(Instant::now());
    seat.edge().ask(Sweep).await.unwrap();
    assert!(said().is_empty(), "{:?}", said());
    kernel.state().counted = vec![full(12)];
    seat.edge().ask(Sweep).await.unwrap();
    assert_eq!(said().len(), 1);
    assert!(
        said()[0].contains("map weft_flows4 is full (262144 entries): 7 times"),
        "{:?}",
        said()
    );
    seat.edge().ask(Sweep).await.unwrap();
    assert!(said()[0].contains(": 7 times"), "{:?}", said());
}

#[actix::test]
async fn a_table_that_pushes_out_what_is_there_is_said_and_counted_while_it_is_full() {
    let kernel = Arc::new(FakeMaps::default());
    let (maps, counts): (Arc<dyn Maps>, _) = (kernel.clone(), Counts::default());
    let counting = counts.clone();
    let seat = Runtime::start().role("conntrack", move |life| {
        Conntrack::new(Gated::new(Arc::clone(&maps), life.gate()), counting.clone())
    });
    let row = |number: u32| {
        let (key, value) = flow(TCP, SENT | SENT_ACK, 0);
        let low_addr = Addr4::new(number.to_be_bytes());
        let key = FlowKey4 { low_addr, ..FlowKey4::from_bytes(&key).unwrap() };
        (key.to_bytes().to_vec(), value)
    };
    let counted = |map: &str| -> u64 {
        let (mut registry, mut page) = (Registry::default(), String::new());
        counts.register(&mut registry);
        encode(&mut page, &registry).unwrap();
        let line = format!("bpf_map_full_total{{map_name=\"{map}\"}} ");
        let count = page.lines().find_map(|it| it.strip_prefix(&line));
        count.map_or(0, |count| count.parse().unwrap())
    };
    // All values are those of flows: what cannot be read is not over in the other tables.
    for (nth, map) in [&PENDING4, &FRAGMENTS4, &MUTED4].into_iter().enumerate() {
        let size = map.capacity;
        // Less than half is not full on any machine.
        for (entries, is_full) in [(size / 2 - 1, false), (size, true), (size / 2 - 1, false)] {
            let before = counted(map.name);
            kernel.state().rows.insert(map.name, (0..entries).map(row).collect());
            seat.edge().ask(Sweep).await.unwrap();
            let more = counted(map.name) - before;
            assert_eq!(more, u64::from(is_full), "{entries} entries of {}", map.name);
        }
        let said = counts.notices().recent(Instant::now());
        let wanted = format!("map {} is full ({size} entries): newer ones push out", map.name);
        assert_eq!(said.len(), nth + 1, "{said:?}");
        assert!(said.iter().any(|said| said.starts_with(&wanted)), "{said:?}");
    }
}
