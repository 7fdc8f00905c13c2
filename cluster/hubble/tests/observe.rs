//! Lines as `hubble observe` prints them, and its filters.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use weft_hubble::{
    filter::{self, End, Filter, Filters, LabelSelector},
    flow::Flow,
    format::{Format, Printer},
    print::{self, Compact, LostIn},
};

/// A flow as a real `hubble` printed it, with these fields changed.
fn flow(changes: &str) -> Flow {
    let mut value: serde_json::Value = serde_json::from_str(
        r#"{"time":"2026-07-30T12:34:56.789123456Z","verdict":"FORWARDED","IP":{"source":"10.0.1.10","destination":"10.0.2.20","ipVersion":"IPv4"},
        "l4":{"TCP":{"source_port":43210,"destination_port":80,"flags":{"SYN":true}}},
        "source":{"ID":1234,"identity":25000,"namespace":"default","labels":["k8s:app=xwing","k8s:tier=ship"],"pod_name":"xwing"},
        "destination":{"identity":26000,"namespace":"default","labels":["k8s:app=deathstar"],"pod_name":"deathstar-abc"},
        "Type":"L3_L4","node_name":"default/node-a","event_type":{"type":5},"traffic_direction":"EGRESS","policy_match_type":2,
        "is_reply":false,"Summary":"TCP Flags: SYN"}"#,
    )
    .unwrap();
    let changes: serde_json::Value = serde_json::from_str(changes).unwrap();
    for (key, change) in changes.as_object().unwrap() {
        value[key] = change.clone();
    }
    serde_json::from_value(value).unwrap()
}

#[test]
fn compact_lines_are_hubble_s() {
    let line = |changes: &str| Compact::default().line(&flow(changes));
    let ends = "Jul 30 12:34:56.789: default/xwing:43210 (ID:25000)";
    assert_eq!(
        line(r#"{"event_type":{"type":4,"sub_type":5}}"#),
        format!(
            "{ends} -> default/deathstar-abc:80 (ID:26000) from-endpoint FORWARDED (TCP Flags: SYN)"
        )
    );
    assert_eq!(
        line("{}"),
        format!(
            "{ends} -> default/deathstar-abc:80 (ID:26000) policy-verdict:L3-L4 EGRESS ALLOWED (TCP Flags: SYN)"
        )
    );
    assert_eq!(
        line(r#"{"verdict":"DROPPED","is_reply":null,"event_type":{"type":1,"sub_type":133}}"#),
        format!(
            "{ends} <> default/deathstar-abc:80 (ID:26000) Policy denied DROPPED (TCP Flags: SYN)"
        )
    );
    assert_eq!(
        line(r#"{"verdict":"DROPPED","policy_match_type":0,"traffic_direction":"INGRESS"}"#),
        format!(
            "{ends} -> default/deathstar-abc:80 (ID:26000) policy-verdict:none INGRESS DENIED (TCP Flags: SYN)"
        )
    );
    assert_eq!(
        line(
            r#"{"is_reply":true,"event_type":{"type":4},"Summary":"TCP Flags: SYN, ACK",
            "source":{"identity":26000,"namespace":"default","pod_name":"deathstar-abc"},
            "destination":{"identity":25000,"namespace":"default","pod_name":"xwing"},
            "l4":{"TCP":{"source_port":43210,"destination_port":80,"flags":{}}}}"#
        ),
        "Jul 30 12:34:56.789: default/xwing:80 (ID:25000) <- default/deathstar-abc:43210 (ID:26000) to-endpoint FORWARDED (TCP Flags: SYN, ACK)"
    );
    assert_eq!(
        line(
            r#"{"event_type":{"type":4,"sub_type":2},"Summary":"ICMPv4 EchoRequest","source":{"identity":1},
            "l4":{"ICMPv4":{"type":8}}}"#
        ),
        "Jul 30 12:34:56.789: 10.0.1.10 (host) -> default/deathstar-abc (ID:26000) to-host FORWARDED (ICMPv4 EchoRequest)"
    );
    let named = Compact { node_name: true, policy_names: true, numeric: true, colour: false };
    let by = r#"{"egress_allowed_by":[{"name":"allow-ds","kind":"CiliumNetworkPolicy"}]}"#;
    assert_eq!(
        named.line(&flow(by)),
        "Jul 30 12:34:56.789 [default/node-a]: 10.0.1.10:43210 (ID:25000) -> 10.0.2.20:80 (ID:26000) policy-verdict:L3-L4 EGRESS ALLOWED BY allow-ds (CiliumNetworkPolicy) (TCP Flags: SYN)"
    );
}

#[test]
fn json_lines_are_hubble_s() {
    let flow = flow("{}");
    let line = print::json(&flow);
    assert!(line.starts_with(
        "{\"flow\":{\"time\":\"2026-07-30T12:34:56.789123456Z\",\"verdict\":\"FORWARDED\",\"IP\":{"
    ));
    assert!(line.ends_with(
        "\"policy_match_type\":2,\"is_reply\":false,\"Summary\":\"TCP Flags: SYN\"},\"node_name\":\"default/node-a\",\"time\":\"2026-07-30T12:34:56.789123456Z\"}"
    ));
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(serde_json::from_value::<Flow>(value["flow"].clone()).unwrap(), flow);
}

/// Two flows and a loss between them, as a format has them.
fn printed(format: &str, compact: Compact) -> String {
    let mut printer = Printer::new(format.parse().unwrap(), compact);
    let denied = r#"{"verdict":"DROPPED","is_reply":null,"event_type":{"type":1,"sub_type":133}}"#;
    let mut text = printer.flow(&flow(r#"{"event_type":{"type":4,"sub_type":5}}"#));
    text += &printer.lost(1_785_414_896_789_000_000, "default/node-a", LostIn::Flows, 5);
    text += &printer.flow(&flow(denied));
    text + &printer.end()
}

#[test]
fn a_dict_is_hubble_s() {
    let dict = "  TIMESTAMP: Jul 30 12:34:56.789
     SOURCE: default/xwing:43210
DESTINATION: default/deathstar-abc:80
       TYPE: from-endpoint
    VERDICT: FORWARDED
    SUMMARY: TCP Flags: SYN
------------
  TIMESTAMP: 
     SOURCE: HUBBLE_RING_BUFFER
       TYPE: EVENTS LOST
    VERDICT: 
    SUMMARY: CPU(0) - 5
------------
  TIMESTAMP: Jul 30 12:34:56.789
     SOURCE: default/xwing:43210
DESTINATION: default/deathstar-abc:80
       TYPE: Policy denied
    VERDICT: DROPPED
    SUMMARY: TCP Flags: SYN
";
    assert_eq!(printed("dict", Compact::default()), dict);
    let named = Compact { node_name: true, ..Compact::default() };
    let with_node = printed("dict", named);
    assert!(with_node.contains(".789\n       NODE: default/node-a\n     SOURCE"), "{with_node}");
}

#[test]
fn a_table_is_hubble_s() {
    let table = "TIMESTAMP             SOURCE                DESTINATION                TYPE            VERDICT     SUMMARY
Jul 30 12:34:56.789   default/xwing:43210   default/deathstar-abc:80   from-endpoint   FORWARDED   TCP Flags: SYN
                      HUBBLE_RING_BUFFER                               EVENTS LOST                 CPU(0) - 5
Jul 30 12:34:56.789   default/xwing:43210   default/deathstar-abc:80   Policy denied   DROPPED     TCP Flags: SYN
";
    assert_eq!(printed("table", Compact::default()), table);
    assert_eq!(printed("tab", Compact::default()), table);
    let named = printed("tab", Compact { node_name: true, ..Compact::default() });
    assert!(named.starts_with("TIMESTAMP             NODE             SOURCE "), "{named}");
    assert_eq!(Printer::new(Format::Table, Compact::default()).end(), "", "nothing, of nothing");
}

#[test]
fn formats_are_called_as_hubble_calls_them() {
    let compact = Compact::default();
    for (name, same) in [("json", "jsonpb"), ("tab", "table")] {
        assert_eq!(printed(name, compact), printed(same, compact));
    }
    let lines = printed("jsonpb", compact);
    let keys = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let keys: Vec<bool> = keys.map(|line| line["lost_events"].is_null()).collect();
    assert_eq!(keys, [true, false, true]);
    for name in Format::NAMES {
        assert!(name.parse::<Format>().is_ok(), "{name}");
    }
    assert!("yaml".parse::<Format>().unwrap_err().contains("dict"));
}

#[test]
fn lost_events_are_said() {
    let at = 1_785_414_896_789_000_000;
    assert_eq!(
        print::lost_line(at, LostIn::Flows, 5),
        "Jul 30 12:34:56.789 EVENTS LOST: HUBBLE_RING_BUFFER CPU(0) 5"
    );
    let line = print::lost_json(at, "default/node-a", LostIn::Kernel, 5);
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(value["lost_events"]["source"], "PERF_EVENT_RING_BUFFER");
    assert_eq!(value["lost_events"]["num_events_lost"], "5");
    assert_eq!(value["node_name"], "default/node-a");
}

/// Filters of the source end, and whether they match the flow above.
#[test]
fn ends_are_matched() {
    let source = |end: End| Filter { source: end, ..Filter::default() }.matches(&flow("{}"));
    for (pod, matches) in [
        ("xwing", true),
        ("xw", true),
        ("default/xwing", true),
        ("default/", true),
        ("/xw", true),
        ("other/xwing", false),
        ("wing", false),
        ("other/", false),
    ] {
        let end = End { pod: vec![filter::pod(pod).unwrap()], ..End::default() };
        assert_eq!(source(end), matches, "{pod}");
    }
    assert!(filter::pod("").is_err());
    for (ip, matches) in
        [("10.0.1.10", true), ("10.0.0.0/16", true), ("10.0.2.20", false), ("fd00::/8", false)]
    {
        let end = End { ip: vec![filter::ip(ip).unwrap()], ..End::default() };
        assert_eq!(source(end), matches, "{ip}");
    }
    for (label, matches) in [
        ("app=xwing", true),
        ("k8s:app=xwing", true),
        ("reserved:app=xwing", false),
        ("any:app=xwing", true),
        ("app", true),
        ("!app", false),
        ("!other", true),
        ("app!=xwing", false),
        ("app in (a, xwing),tier=ship", true),
        ("app in (a,b)", false),
        ("app notin (a,b)", true),
        ("app=xwing,tier=base", false),
    ] {
        let end = End { label: vec![LabelSelector::parse(label).unwrap()], ..End::default() };
        assert_eq!(source(end), matches, "{label}");
    }
    for bad in ["", "=x", "a b", "a in b"] {
        assert!(LabelSelector::parse(bad).is_err(), "{bad}");
    }
    let identity = |text: &str| filter::identity(text).unwrap();
    assert!(source(End { identity: vec![1, identity("25000")], ..End::default() }));
    assert!(!source(End { identity: vec![identity("world")], ..End::default() }));
    assert!(source(End { port: vec![43210], ..End::default() }));
    assert!(!source(End { port: vec![80], ..End::default() }));
    let both = End { port: vec![43210], identity: vec![2], ..End::default() };
    assert!(!source(both), "every field must match");
}

#[test]
fn the_flow_itself_is_matched() {
    let drop = r#"{"verdict":"DROPPED","drop_reason_desc":"POLICY_DENIED","event_type":{"type":1,"sub_type":133}}"#;
    let filter = Filter::default;
    let cases = [
        ("{}", Filter { verdict: vec!["FORWARDED".into()], ..filter() }, true),
        ("{}", Filter { verdict: vec!["DROPPED".into()], ..filter() }, false),
        (
            drop,
            Filter { drop_reason: vec![filter::drop_reason("policy_denied").unwrap()], ..filter() },
            true,
        ),
        ("{}", Filter { drop_reason: vec!["POLICY_DENIED".into()], ..filter() }, false),
        (drop, Filter { event: vec![filter::event("drop").unwrap()], ..filter() }, true),
        (drop, Filter { event: vec![filter::event("1:133").unwrap()], ..filter() }, true),
        (
            drop,
            Filter { event: vec![filter::event("trace:to-endpoint").unwrap()], ..filter() },
            false,
        ),
        ("{}", Filter { event: vec![filter::event("policy-verdict").unwrap()], ..filter() }, true),
        ("{}", Filter { protocol: vec![filter::protocol("TCP").unwrap()], ..filter() }, true),
        ("{}", Filter { protocol: vec!["udp".into()], ..filter() }, false),
        ("{}", Filter { direction: vec![filter::direction("egress").unwrap()], ..filter() }, true),
        ("{}", Filter { node: vec!["node-*".into()], ..filter() }, true),
        ("{}", Filter { node: vec!["default/node-a".into()], ..filter() }, true),
        ("{}", Filter { node: vec!["node".into()], ..filter() }, false),
        ("{}", Filter { tcp_flags: vec![filter::tcp_flags("syn").unwrap()], ..filter() }, true),
        (
            "{}",
            Filter { tcp_flags: vec![filter::tcp_flags("SYN,ACK").unwrap()], ..filter() },
            false,
        ),
    ];
    for (changes, filter, matches) in cases {
        assert_eq!(filter.matches(&flow(changes)), matches, "{filter:?}");
    }
    for bad in ["verdikt", ""] {
        assert!(filter::verdict(bad).is_err() && filter::event(bad).is_err());
        assert!(filter::protocol(bad).is_err() && filter::drop_reason(bad).is_err());
    }
}

#[test]
fn one_allowing_filter_suffices_and_no_denying_one_may_match() {
    let tcp = Filter { protocol: vec!["tcp".into()], ..Filter::default() };
    let udp = Filter { protocol: vec!["udp".into()], ..Filter::default() };
    let shown = |allow: &[&Filter], deny: &[&Filter]| {
        let own = |list: &[&Filter]| list.iter().map(|filter| (*filter).clone()).collect();
        Filters { allow: own(allow), deny: own(deny) }.matches(&flow("{}"))
    };
    assert!(shown(&[], &[]));
    assert!(shown(&[&udp, &tcp], &[]));
    assert!(!shown(&[&udp], &[]));
    assert!(!shown(&[&tcp], &[&tcp]));
    assert!(shown(&[], &[&udp]));
}
