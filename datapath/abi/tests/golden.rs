//! Another release finds these maps pinned and these programs attached: `golden.txt` changes only with [`ABI_VERSION`].
#![allow(clippy::expect_used, reason = "a test")]

use std::fmt::Write;
use weft_abi::{
    ABI_VERSION, GATEWAY_ADDR4, GATEWAY_MAC,
    address::{Addr, Addr4, NetPort},
    conntrack::{self, Flow, FlowKey4, Path},
    drop::DropReason,
    endpoint::Endpoint,
    epoch::NodeState,
    event::{self, Event, Muted},
    fragment::{self, FragmentKey4, Fragmented},
    ipcache::{self, AddressEntry, Prefix4, PrefixEntry},
    map,
    metrics::{self, Counter},
    policy::{self, PolicyEntry, PolicyKey, PolicyPrefix},
};

/// Every map, and what tells one that an older agent pinned from ours.
fn maps() -> String {
    map::ALL.iter().fold(String::new(), |mut text, map| {
        let map::MapSpec { name, version, kind, key_size, value_size, .. } = map;
        writeln!(text, "map {name} v{version} {kind:?} {key_size} => {value_size}")
            .expect("a string");
        text
    })
}

/// Every field of the types named.
macro_rules! layouts {
    ($($name:ident),* $(,)?) => {{
        let mut text = String::new();
        $(
            writeln!(text, "{} {}", stringify!($name), size_of::<$name>()).expect("a string");
            for (field, offset, size) in $name::FIELDS {
                writeln!(text, "  {offset} {field} {size}").expect("a string");
            }
        )*
        text
    }};
}

/// Numbers that both sides know by name.
macro_rules! numbers {
    ($($module:ident: $($name:ident),*;)*) => {{
        let mut text = String::new();
        $($(
            writeln!(text, "{}::{} {}", stringify!($module), stringify!($name), $module::$name)
                .expect("a string");
        )*)*
        text
    }};
}

fn constants() -> String {
    numbers! {
        conntrack: ECHO_PORT, PATH_STACK, PATH_LOCAL, PATH_REMOTE, PATH_HOST, OPENER_HIGH, DENIED, REFUSED_BY, SENT, SENT_FIN, SENT_RESET, SENT_ACK;
        event: EVENT_VERSION, EVENT_DROP, EVENT_ALLOWED, POINT_FROM_POD, POINT_TO_POD, POINT_FROM_NET;
        fragment: DATAGRAM, LATEST;
        ipcache: LOCAL, HOST, REMOTE_POD, REMOTE_NODE;
        metrics: DIRECTIONS, NOTICE_MID_STREAM, NOTICE_FLOWS_FULL, NOTICE_EVENTS_LOST;
        policy: PREFIX_ANY, PREFIX_PROTOCOL, PREFIX_PORT, INGRESS, EGRESS, DENY, PRECEDENCE_NETWORK_POLICY, PRECEDENCE_DEFAULT;
    }
}

#[test]
fn what_the_kernel_holds_is_laid_out_so() {
    let mut text = format!("ABI_VERSION {ABI_VERSION}\n");
    text += &maps();
    text += &layouts![
        Addr,
        Addr4,
        NetPort,
        FlowKey4,
        Path,
        Flow,
        Endpoint,
        NodeState,
        Event,
        Muted,
        FragmentKey4,
        Fragmented,
        AddressEntry,
        Prefix4,
        PrefixEntry,
        Counter,
        PolicyKey,
        PolicyPrefix,
        PolicyEntry,
    ];
    text += &constants();
    for reason in DropReason::ALL {
        writeln!(text, "drop::{reason:?} {}", reason.number()).expect("a string");
    }
    writeln!(text, "gateway {GATEWAY_MAC:02x?} {GATEWAY_ADDR4:?}").expect("a string");
    assert_eq!(
        text,
        include_str!("golden.txt"),
        "a changed layout, number or meaning needs another ABI_VERSION, and a changed map another version; then \
         golden.txt is:\n{text}"
    );
}
