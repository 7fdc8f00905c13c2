//! Spans reach a collector as OpenTelemetry's variables say, one trace over all processes; a collector that is away costs nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod collector;

use collector::{Collector, Span};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};
use weft_tests::lab::{Lab, example, is_root, program};

/// For spans to come that were made already.
const PATIENCE: Duration = Duration::from_secs(20);

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: traced, namespace: shop, labels: {app: traced}}\n\
     spec: {nodeName: node1, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}\n";

/// Runs `weft` with these variables and no other of OpenTelemetry's.
#[track_caller]
fn weft(variables: &[(&str, &str)], words: &[&str]) -> Output {
    let mut command = Command::new(program("weft"));
    let inherited = std::env::vars().map(|(name, _)| name);
    inherited
        .filter(|name| name.starts_with("OTEL_"))
        .for_each(|name| _ = command.env_remove(name));
    let output = command.args(words).envs(variables.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    output
}

/// A command that needs no lab, no root and nearly no time; how long it took.
fn validates(variables: &[(&str, &str)]) -> Duration {
    let begun = Instant::now();
    warned(variables);
    begun.elapsed()
}

/// What the same warns of.
fn warned(variables: &[(&str, &str)]) -> String {
    let output = weft(variables, &["policy", "validate", "-f", &example("shop.yaml")]);
    let said = String::from_utf8(output.stderr).unwrap();
    let (warned, rest): (Vec<_>, Vec<_>) =
        said.lines().partition(|line| line.starts_with("weft: "));
    assert_eq!(rest.len(), 1, "{said}");
    warned.join("\n")
}

/// Waits until these spans are as they should be.
#[track_caller]
fn settled<T>(collector: &Collector, what: &str, find: impl Fn(&[Span]) -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        let spans = collector.spans();
        match find(&spans) {
            Some(found) => return found,
            None if Instant::now() > until => panic!("{what}: {spans:#?}"),
            None => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// The way from where a trace began to a span, each step as `service/instance name`; none while a step is missing.
fn way(spans: &[Span], to: &Span) -> Option<Vec<String>> {
    let by_id: BTreeMap<&str, &Span> = spans.iter().map(|span| (&*span.id, span)).collect();
    let (mut steps, mut at) = (Vec::new(), to);
    loop {
        let service = format!("{}/{}", at.service, at.instance);
        // A message to an actor is called by who serves it.
        let name = at.attributes.get("actor").unwrap_or(&at.name);
        steps.push(format!("{} {name}", service.trim_end_matches('/')));
        if at.parent.is_empty() {
            steps.reverse();
            return Some(steps);
        }
        at = by_id.get(&*at.parent)?;
    }
}

#[test]
fn both_protocols_are_spoken_with_the_headers_and_the_name_that_are_said() {
    for (protocol, collector, path) in [
        ("http/protobuf", Collector::http(), "/v1/traces"),
        ("grpc", Collector::grpc(), "/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
    ] {
        let endpoint = format!("http://{}", collector.address);
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=blue%20team"),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test"),
            ("OTEL_SERVICE_NAME", "mine"),
            ("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ];
        let span = sent(&collector, &variables);
        assert_eq!((&*span.service, &*span.name), ("mine", "weft"), "{protocol}");
        assert_eq!(span.trace, "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(span.parent, "b7ad6b7169203331");
        assert_eq!(span.attributes["command"], "policy validate");
        assert_eq!(span.resource["deployment.environment.name"], "test");
        assert!(span.begun_ns < span.ended_ns, "{span:?}");
        let (asked, headers) = &collector.requests()[0];
        assert_eq!((&**asked, &*headers["x-tenant"]), (path, "blue team"), "{protocol}");
    }
}

#[test]
fn what_is_not_to_be_recorded_is_not_sent() {
    let collector = Collector::http();
    let endpoint = format!("http://{}/v1/traces", collector.address);
    let there = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &*endpoint);
    validates(&[there, ("OTEL_SDK_DISABLED", "true")]);
    validates(&[there, ("OTEL_TRACES_SAMPLER", "always_off")]);
    validates(&[
        there,
        ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0"),
    ]);
    let unsampled = ("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
    validates(&[there, unsampled]);
    assert_eq!(collector.spans(), []);
    sent(&collector, &[there, unsampled, ("OTEL_TRACES_SAMPLER", "always_on")]);
}

/// The span of a command that sends one. It waits half a second for the collector, which may be more than that away on a
/// busy machine: then it is said again.
fn sent(collector: &Collector, variables: &[(&str, &str)]) -> Span {
    for _ in 0..20 {
        validates(variables);
        if let Some(span) = collector.spans().first() {
            return span.clone();
        }
    }
    panic!("no span came: {variables:?}");
}

#[test]
fn a_collector_that_is_away_costs_a_command_less_than_a_second() {
    // One takes connections and never says a word, the other refuses.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [silent.local_addr().unwrap(), refusing] {
        for protocol in ["grpc", "http/protobuf"] {
            let endpoint = format!("http://{address}");
            let variables = [
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
            ];
            // Others may use the machine: the best of several is what it costs.
            let least = |variables: &[_]| (0..4).map(|_| validates(variables)).min().unwrap();
            let (with, without) = (least(&variables), least(&[]));
            let limit = without + Duration::from_secs(1);
            assert!(with < limit, "{protocol} at {address}: {with:?}, else {without:?}");
        }
    }
}

#[test]
fn a_collector_that_cannot_be_used_is_said_in_a_line_and_fails_no_command() {
    let (there, silent) = (Collector::http(), TcpListener::bind("127.0.0.1:0").unwrap());
    let refusing = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = |address| format!("http://{address}");
    let name = "OTEL_EXPORTER_OTLP_ENDPOINT";
    assert_eq!(warned(&[]), "");
    // Half a second may be too little, once.
    assert!((0..5).any(|_| warned(&[(name, &at(there.address))]).is_empty()));
    let silent = at(silent.local_addr().unwrap());
    for endpoint in ["rubbish", "http://", &refusing.to_string(), &at(refusing), &silent] {
        for protocol in ["http/protobuf", "grpc"] {
            let said = warned(&[(name, endpoint), ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)]);
            let expected =
                format!("weft: warning: no collector took the trace ({name}={endpoint}): ");
            assert!(said.starts_with(&expected) && said.lines().count() == 1, "{protocol}: {said}");
        }
    }
    // One that is not spoken, and one that is turned off.
    let said = warned(&[(name, &at(there.address)), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]);
    assert!(said.contains("http/json") && said.lines().count() == 1, "{said}");
    assert_eq!(warned(&[(name, "rubbish"), ("OTEL_SDK_DISABLED", "true")]), "");
}

/// A lab whose processes send to this collector at once.
fn lab(collector: &Collector) -> (Lab, impl Fn(&[&str])) {
    let lab = Lab::named("otlp");
    let endpoint = format!("http://{}", collector.address);
    let run = move |words: &[&str]| {
        let variables = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "50"),
            ("OTEL_SERVICE_NAME", "mine"),
        ];
        weft(&variables, words);
    };
    run(&["lab", "up", "--name", &lab.name, "-f", &example("shop.yaml")]);
    (lab, run)
}

#[test]
fn root_a_labs_change_is_one_trace_from_the_command_to_the_first_packet_judged_by_it() {
    if !is_root() {
        return;
    }
    let collector = Collector::http();
    let (lab, run) = lab(&collector);
    let file = lab.dir().join("traced.yaml");
    fs::write(&file, POD).unwrap();
    run(&["lab", "apply", "--name", &lab.name, "-f", file.to_str().unwrap()]);
    run(&["lab", "apply", "--name", &lab.name, "-f", &example("deny.yaml")]);
    run(&["lab", "probe", "--name", &lab.name]);
    let command = |spans: &[Span], name: &str, nth: usize| {
        let commands =
            spans.iter().filter(|span| span.attributes.get("command").is_some_and(|it| it == name));
        commands.filter(|span| span.service == "mine").nth(nth).cloned()
    };
    let first = settled(&collector, "the first apply", |spans| command(spans, "lab apply", 0));
    let second = settled(&collector, "the second apply", |spans| command(spans, "lab apply", 1));

    // The plugin sends nothing itself: its agent does, with its own ids.
    let plugged = settled(&collector, "the map write of the CNI call", |spans| {
        let mut writes =
            spans.iter().filter(|span| span.trace == first.trace && span.name == "map.write");
        writes.find_map(|span| {
            way(spans, span).filter(|way| way.iter().any(|step| step.ends_with("weft-cni")))
        })
    });
    let begins = [
        "mine weft",
        "mine cni",
        "weft-agent/node1 weft-cni",
        "weft-agent/node1 cni",
        "weft-agent/node1 endpoints",
    ];
    assert_eq!(plugged[..5], begins, "{plugged:?}");

    for node in ["node1", "node2"] {
        let of_node = |span: &&Span| span.trace == second.trace && span.instance == node;
        let (packet, way) = settled(&collector, "the first packet", |spans| {
            let packet = spans.iter().filter(of_node).find(|span| span.name == "packet")?;
            Some((packet.clone(), way(spans, packet)?))
        });
        let realise = format!("weft-agent/{node} realise");
        let packets = format!("weft-agent/{node} packet");
        let steps = [
            "mine weft",
            "weft-operator admin",
            "weft-operator propose",
            "weft-operator commit",
            &realise,
            &packets,
        ];
        assert_eq!(way, steps);
        assert_eq!(packet.begun_ns, packet.ended_ns, "it is a moment: {packet:?}");
        let spans = collector.spans();
        let write = spans.iter().filter(of_node).find(|s| s.name == "map.write").expect("a write");
        assert!(packet.begun_ns > write.begun_ns, "{packet:?} {write:?}");
        assert!(packet.attributes["flow"].contains("shop/"), "{packet:?}");
        let packets = spans.iter().filter(of_node).filter(|span| span.name == "packet");
        assert_eq!(packets.count(), 1, "the first alone");
    }
    let page = lab.on_node("node1", || {
        let mut agent = TcpStream::connect("127.0.0.1:9962").unwrap();
        agent.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        std::io::read_to_string(agent).unwrap()
    });
    let became = |what: &str| {
        let series = format!("weft_spans_total{{result=\"{what}\"}} ");
        page.lines().find_map(|line| line.strip_prefix(&*series)?.parse::<u64>().ok())
    };
    assert!(became("sent").is_some_and(|sent| sent > 0) && became("lost") == Some(0), "{page}");
}
