//! The flow tables over maps in memory: a sweep takes what is over out of all, and nothing else.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{collections::BTreeSet, sync::Arc};
use weft_abi::{
    conntrack::{FLOWS4, Flow, FlowKey4, PENDING4, SENT, SENT_ACK, SENT_RESET},
    fragment::{FRAGMENTS4, FragmentKey4, Fragmented},
};
use weft_agent::{
    conntrack::{Conntrack, Sweep},
    gated::Gated,
    runtime::Runtime,
};
use weft_datapath::{clock, fake::FakeMaps, kernel::Maps};
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
    let seat = Runtime::start()
        .role("conntrack", move |life| Conntrack::new(Gated::new(Arc::clone(&maps), life.gate())));
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
