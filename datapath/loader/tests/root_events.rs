//! The real ring of events: who reads it, goes on where it was left, is woken, and finds what had room. What the fake
//! ring (`weft_datapath::fake`) does was learned here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod support;

use std::{cell::Cell, time::Duration};
use support::{Datapath, Program, SHOT, SYN, is_root, tcp};
use weft_abi::{
    event::{EVENT_DROP, EVENTS},
    metrics::NOTICE_EVENTS_LOST,
};
use weft_datapath::{events::RealEvents, kernel::Events};

/// The smallest ring there is: 30 events.
const RING: u32 = 4096;

/// Packets of as many flows, each dropped and told once: nobody has that address.
fn drop_packets(datapath: &mut Datapath, ports: std::ops::Range<u16>) {
    for port in ports {
        let packet = tcp(([198, 51, 100, 7], port), ([10, 0, 0, 1], 80), SYN);
        assert_eq!(datapath.run(Program::ToPod, &packet.bytes()).action, SHOT);
    }
}

/// Takes at most so many; their source ports.
fn drain(events: &mut RealEvents, most: usize) -> Vec<u16> {
    let mut ports = Vec::new();
    let drained = events.drain(most, &mut |event| {
        let event = event.expect("what the programs write is well formed");
        assert_eq!(event.kind, EVENT_DROP);
        ports.push(event.source_port.to_host());
    });
    assert_eq!(drained, ports.len());
    ports
}

#[test]
fn root_a_reader_goes_on_where_the_one_before_ended() {
    if !is_root() {
        return;
    }
    let mut datapath = Datapath::load();
    let mut events = RealEvents::open(datapath.bpffs()).unwrap();
    drop_packets(&mut datapath, 1..4);
    assert_eq!(drain(&mut events, 2), [1, 2]);
    drop(events);
    let mut events = RealEvents::open(datapath.bpffs()).unwrap();
    drop_packets(&mut datapath, 4..5);
    assert_eq!(drain(&mut events, 9), [3, 4]);
    assert_eq!(drain(&mut events, 9), []);
}

#[test]
fn root_a_ring_that_nobody_reads_is_full_and_what_is_lost_is_counted() {
    if !is_root() {
        return;
    }
    let mut datapath = Datapath::load_with(&[(&EVENTS, RING)]);
    let mut events = RealEvents::open(datapath.bpffs()).unwrap();
    // Again and again, so that records lie over the ring's end.
    let (mut read, mut next) = (0, 1);
    for _ in 0..8 {
        drop_packets(&mut datapath, next..next + 50);
        let ports = drain(&mut events, 99);
        let expected: Vec<u16> = (next..).take(ports.len()).collect();
        assert_eq!(ports, expected, "the oldest are there, the newest had no room");
        assert!((20..50).contains(&ports.len()), "{ports:?}");
        read += ports.len() as u64;
        next += 50;
    }
    assert_eq!(datapath.counted(NOTICE_EVENTS_LOST), 8 * 50 - read);
}

#[test]
fn root_who_took_all_is_woken_by_the_next() {
    if !is_root() {
        return;
    }
    let mut datapath = Datapath::load();
    let mut events = RealEvents::open(datapath.bpffs()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let readiness = events.readiness().unwrap();
        let (turns, seen) = (Cell::new(0), Cell::new(0));
        let reader = readiness.whenever(async || {
            turns.set(turns.get() + 1);
            seen.set(seen.get() + drain(&mut events, usize::MAX).len());
        });
        let packets = async {
            for round in 0..5 {
                let port = 1 + 10 * round;
                drop_packets(&mut datapath, port..port + 10);
                while seen.get() < 10 * (usize::from(round) + 1) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            // Nothing comes, so nobody is woken.
            let turns_then = turns.get();
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(turns.get(), turns_then);
        };
        tokio::select! {
            () = packets => {}
            ended = reader => panic!("{ended}"),
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("nobody was woken"),
        }
        assert_eq!(seen.get(), 50);
    });
}
