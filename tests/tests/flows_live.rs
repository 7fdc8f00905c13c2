//! What the datapath saw, as `weft flows` and `/metrics` tell it: real connections of a real lab, each told once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, getsockname, socket,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread::sleep,
    time::{Duration, Instant},
};
use weft_tests::lab::{Lab, is_root, program, weft, weft_reads};
use weft_types::Invariant;

const PATIENCE: Duration = Duration::from_secs(30);

/// A client and a server on the first node, another client on the second. The server takes its web and its
/// name port from clients alone, and nobody's else.
const PODS: &str = r"
{apiVersion: v1, kind: Namespace, metadata: {name: live}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: live, labels: {app: client}},
 spec: {nodeName: node1, containers: [{name: c, image: i, ports: [{containerPort: 7000}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: far, namespace: live, labels: {app: client}},
 spec: {nodeName: node2, containers: [{name: c, image: i, ports: [{containerPort: 7000}]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: server, namespace: live, labels: {app: server}},
 spec: {nodeName: node1, containers: [{name: c, image: i, ports: [
   {containerPort: 8080}, {containerPort: 9100}, {containerPort: 5353, protocol: UDP}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: server-is-closed, namespace: live},
 spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: clients-may, namespace: live},
 spec: {podSelector: {matchLabels: {app: server}}, policyTypes: [Ingress], ingress: [
   {from: [{podSelector: {matchLabels: {app: monitor}}}]},
   {from: [{podSelector: {matchLabels: {app: client}}}],
    ports: [{port: 8080}, {port: 5353, protocol: UDP}]}]}}
";

/// A lab of these pods.
struct Live {
    lab: Lab,
    server: Ipv4Addr,
}

fn live(test: &str) -> Live {
    let lab = Lab::named(test);
    weft_reads(&["lab", "up", "--name", &lab.name, "--nodes", "2", "-f", "-"], PODS);
    let server = lab.pod("live/server")["address"].as_str().unwrap().parse().unwrap();
    Live { lab, server }
}

impl Live {
    /// A connection from a pod to the server; the port it came from, and whether it was answered.
    fn connect(&self, from: &str, port: u16) -> (u16, bool) {
        let to = SocketAddrV4::new(self.server, port);
        self.lab.inside(&format!("live/{from}"), move || {
            let (port, stream) = begin(to);
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until && stream.peer_addr().is_err() {
                sleep(Duration::from_millis(2));
            }
            (port, stream.peer_addr().is_ok())
        })
    }

    /// One SYN, and no second one: it is given up before TCP would repeat it. The port it came from.
    fn knock(&self, from: &str, port: u16) -> u16 {
        let to = SocketAddrV4::new(self.server, port);
        self.lab.inside(&format!("live/{from}"), move || begin(to).0)
    }

    /// One datagram, and whether it was answered.
    fn datagram(&self, from: &str, port: u16) -> (u16, bool) {
        let to = SocketAddrV4::new(self.server, port);
        self.lab.inside(&format!("live/{from}"), move || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to).unwrap();
            socket.send(b"x").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            (socket.local_addr().unwrap().port(), socket.recv(&mut [0; 2048]).is_ok())
        })
    }

    /// `weft flows -o json`, once it shows what is waited for.
    #[track_caller]
    fn flows(&self, filters: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let words = format!("flows --lab {} --all -o json {filters}", self.lab.name);
            let output = weft(&words.split_whitespace().collect::<Vec<_>>());
            let text = String::from_utf8(output.stdout).unwrap();
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{words}: {err}");
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let flows: Vec<Value> = lines.map(|mut line| line["flow"].take()).collect();
            if enough(&flows) {
                return flows;
            }
            assert!(begun.elapsed() < PATIENCE, "{words}: {flows:#?}\n{err}");
            sleep(Duration::from_millis(20));
        }
    }

    /// All flows from a port, once there is one.
    #[track_caller]
    fn told(&self, port: u16) -> Vec<Value> {
        self.flows(&format!("--from-port {port}"), |flows| !flows.is_empty())
    }
}

/// A connection on its way; the port is known even if nothing is ever answered.
fn begin(to: SocketAddrV4) -> (u16, TcpStream) {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, 0)).unwrap();
    let port = getsockname::<SockaddrIn>(fd.as_raw_fd()).unwrap().port();
    // It is in progress, whatever becomes of it.
    let _ = connect(fd.as_raw_fd(), &SockaddrIn::from(to));
    (port, TcpStream::from(fd))
}

fn text<'a>(flow: &'a Value, path: &str) -> &'a str {
    flow.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no {path}: {flow:#}"))
}

fn names(flow: &Value, by: &str) -> Vec<String> {
    let policies = flow[by].as_array().cloned().unwrap_or_default();
    policies
        .iter()
        .map(|policy| format!("{}/{}", text(policy, "/namespace"), text(policy, "/name")))
        .collect()
}

#[test]
fn root_a_connection_is_one_flow_with_the_rule_that_decided() {
    if !is_root() {
        return;
    }
    let live = live("flows");
    let (port, answered) = live.connect("client", 8080);
    assert!(answered);
    let flows = live.told(port);
    let [flow] = flows.as_slice() else { panic!("{flows:#?}") };
    assert_eq!(
        (text(flow, "/verdict"), text(flow, "/traffic_direction")),
        ("FORWARDED", "INGRESS")
    );
    assert_eq!(text(flow, "/source/namespace"), "live");
    assert_eq!(text(flow, "/source/pod_name"), "client");
    assert_eq!(text(flow, "/destination/pod_name"), "server");
    assert!(flow["source"]["labels"].as_array().unwrap().contains(&"k8s:app=client".into()));
    assert_eq!(text(flow, "/IP/destination"), live.server.to_string());
    assert_eq!(flow["l4"]["TCP"]["source_port"], port);
    assert_eq!(flow["l4"]["TCP"]["destination_port"], 8080);
    assert_eq!(flow["l4"]["TCP"]["flags"]["SYN"], true);
    assert_eq!(text(flow, "/node_name"), format!("{}/node1", live.lab.name));
    assert_eq!(names(flow, "ingress_allowed_by"), ["live/clients-may"]);
    assert_eq!(flow["ingress_allowed_by"][0]["labels"][0], "weft:rule=ingress[1]");
    let revision = text(flow, "/ingress_allowed_by/0/revision").parse::<u64>().unwrap();
    assert!(revision > 0, "{flow:#}");

    let port = live.knock("client", 9100);
    let flows = live.told(port);
    let [flow] = flows.as_slice() else { panic!("{flows:#?}") };
    assert_eq!((text(flow, "/verdict"), text(flow, "/traffic_direction")), ("DROPPED", "INGRESS"));
    assert_eq!(text(flow, "/drop_reason_desc"), "POLICY_DENIED");
    assert_eq!(names(flow, "ingress_denied_by"), ["live/clients-may", "live/server-is-closed"]);
    assert_eq!(names(flow, "ingress_allowed_by"), [""; 0]);
    assert_eq!(flow["l4"]["TCP"]["destination_port"], 9100);

    // From the other node each node tells what it judged.
    let (port, answered) = live.connect("far", 8080);
    assert!(answered);
    let of_both = |flows: &[Value]| flows.len() >= 2;
    let flows = live.flows(&format!("--from-port {port}"), of_both);
    assert_eq!(flows.len(), 2, "{flows:#?}");
    let directions: BTreeMap<_, _> = flows
        .iter()
        .map(|flow| {
            (text(flow, "/node_name").rsplit_once('/').unwrap().1, text(flow, "/traffic_direction"))
        })
        .collect();
    assert_eq!(directions, BTreeMap::from([("node1", "INGRESS"), ("node2", "EGRESS")]));
}

#[test]
fn root_a_ping_is_a_flow_with_its_type() {
    if !is_root() {
        return;
    }
    let live = live("ping");
    // The policies name ports, which ICMP has not; nobody isolates the clients.
    let found = live.lab.probe(&["ICMP/8"]);
    assert_eq!(found.len(), 6, "{found:?}");
    for ((from, to, protocol, kind), allowed) in &found {
        assert_eq!((protocol.as_str(), *kind), ("ICMP", 8));
        assert_eq!(*allowed, to != "live/server", "{from} -> {to}");
    }
    let pings = |filters: &str| {
        let filters = format!("--protocol icmp {filters}");
        live.flows(&filters, |flows| !flows.is_empty())
    };
    let flows = pings("--from-pod live/client --to-pod live/server");
    for flow in &flows {
        assert_eq!(
            (text(flow, "/verdict"), text(flow, "/traffic_direction")),
            ("DROPPED", "INGRESS")
        );
        assert_eq!(text(flow, "/drop_reason_desc"), "POLICY_DENIED");
        assert_eq!(flow["l4"]["ICMPv4"]["type"], 8, "{flow:#}");
        assert_eq!(names(flow, "ingress_denied_by"), ["live/clients-may", "live/server-is-closed"]);
        assert_eq!(text(flow, "/Summary"), "ICMPv4 EchoRequest");
    }
    let flows = pings("--from-pod live/server --to-pod live/client");
    let [flow] = flows.as_slice() else { panic!("{flows:#?}") };
    assert_eq!(
        (text(flow, "/verdict"), text(flow, "/IP/source")),
        ("FORWARDED", &*live.server.to_string())
    );
    assert_eq!(flow["l4"]["ICMPv4"]["type"], 8, "{flow:#}");
}

#[test]
fn root_filters_choose_and_formats_say_the_same() {
    if !is_root() {
        return;
    }
    let live = live("filters");
    let allowed = live.connect("client", 8080);
    let denied = live.knock("client", 9100);
    let named = live.datagram("client", 5353);
    assert_eq!((allowed.1, named.1), (true, true));
    let ports = [allowed.0, denied, named.0];
    let all = ports.map(|port| format!("--from-port {port}")).join(" ");
    live.flows(&all, |flows| flows.len() == 3);
    let [web, closed, name] = [0, 1, 2];
    for (filters, expected) in [
        ("--verdict FORWARDED", vec![web, name]),
        ("--verdict DROPPED", vec![closed]),
        ("--drop-reason-desc POLICY_DENIED", vec![closed]),
        ("--type drop", vec![closed]),
        ("--type policy-verdict", vec![web, name]),
        ("--protocol tcp", vec![web, closed]),
        ("--protocol udp", vec![name]),
        ("--port 9100", vec![closed]),
        ("--to-port 9100 --protocol udp", vec![]),
        ("--to-port 8080 --to-port 5353", vec![web, name]),
        ("--from-pod live/client", vec![web, closed, name]),
        ("--from-pod live/server", vec![]),
        ("--to-pod live/server --verdict DROPPED", vec![closed]),
        ("--to-pod live/client", vec![]),
        ("--pod live/server", vec![web, closed, name]),
        ("--namespace live", vec![web, closed, name]),
        ("--namespace other", vec![]),
        ("--from-label app=client", vec![web, closed, name]),
        ("--to-label app=client", vec![]),
        ("--traffic-direction egress", vec![]),
        ("--tcp-flags SYN", vec![web, closed]),
        ("--node-name node1", vec![web, closed, name]),
        ("--node-name node2", vec![]),
        ("--not --verdict DROPPED", vec![web, name]),
        ("--not --protocol tcp", vec![name]),
    ] {
        let flows = live.flows(filters, |_| true);
        // Flows of the lab's own beginnings may be there too.
        let found: Vec<u64> = flows
            .iter()
            .filter_map(|flow| flow.pointer("/l4/TCP").or(flow.pointer("/l4/UDP")))
            .filter_map(|l4| l4["source_port"].as_u64())
            .filter(|port| ports.iter().any(|ours| u64::from(*ours) == *port))
            .collect();
        let expected: Vec<u64> = expected.into_iter().map(|at: usize| ports[at].into()).collect();
        assert_eq!(found, expected, "{filters}");
    }
    let words =
        format!("flows --lab {} --all --print-policy-names --print-node-name {all}", live.lab.name);
    let output = weft(&words.split_whitespace().collect::<Vec<_>>());
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = lines.lines().collect();
    let [web, closed, name] = lines.as_slice() else { panic!("{lines:#?}") };
    let end = |line: &str| line.split_once("]: ").map(|(_, rest)| rest.to_owned()).unwrap();
    let (client, server) = (identity(&live, "live/client"), identity(&live, "live/server"));
    let ends = |from: u16, arrow: &str, to: u16| {
        format!("live/client:{from} (ID:{client}) {arrow} live/server:{to} (ID:{server})")
    };
    let allowed_by = "policy-verdict:L3-L4 INGRESS ALLOWED BY clients-may (NetworkPolicy)";
    assert_eq!(end(web), format!("{} {allowed_by} (TCP Flags: SYN)", ends(ports[0], "->", 8080)));
    let dropped =
        "Policy denied DROPPED BY clients-may (NetworkPolicy), server-is-closed (NetworkPolicy)";
    assert_eq!(end(closed), format!("{} {dropped} (TCP Flags: SYN)", ends(ports[1], "<>", 9100)));
    assert_eq!(end(name), format!("{} {allowed_by} (UDP)", ends(ports[2], "->", 5353)));
    let node = format!(" [{}/node1]", live.lab.name);
    assert!(lines.iter().all(|line| line.contains(&node)), "{lines:#?}");
    let source = format!("     SOURCE: live/client:{}", ports[0]);
    for (format, begins) in [
        ("dict", &*source),
        ("tab", "TIMESTAMP  "),
        ("table", "TIMESTAMP  "),
        ("json", "{\"flow\":{"),
        ("jsonpb", "{\"flow\":{"),
    ] {
        let words = format!("flows --lab {} --all -o {format} {all}", live.lab.name);
        let output = weft(&words.split_whitespace().collect::<Vec<_>>());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().any(|line| line.starts_with(begins)), "{format}: {text}");
    }
}

fn identity(live: &Live, pod: &str) -> u64 {
    let output = weft(&["endpoint", "list", "--lab", &live.lab.name, "-o", "json"]);
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut rows = rows.as_array().unwrap().iter();
    rows.find(|row| row["pod"] == pod).unwrap()["identity"].as_u64().unwrap()
}

/// A `weft flows --follow` that runs; its lines come in one by one.
struct Follower {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    fn start(live: &Live, filters: &str) -> Self {
        let words = format!("flows --lab {} --follow -o json {filters}", live.lab.name);
        let mut child = Command::new(program("weft"))
            .args(words.split_whitespace())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let reader = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            reader.lines().map_while(Result::ok).try_for_each(|line| tell.send(line))
        });
        Self { child, lines }
    }

    /// Whether a flow from this port comes.
    fn shows(&self, port: u16, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            let Ok(line) = self.lines.recv_timeout(left) else { return false };
            let flow: Value = serde_json::from_str(&line).unwrap();
            if flow["flow"]["l4"]["TCP"]["source_port"] == port {
                assert_eq!(text(&flow, "/flow/destination/pod_name"), "server");
                return true;
            }
        }
        false
    }

    /// Makes connections until one is shown: from then on it follows.
    fn attach(&self, live: &Live) {
        let begun = Instant::now();
        while !self.shows(live.connect("client", 8080).0, Duration::from_secs(1)) {
            assert!(begun.elapsed() < PATIENCE, "nothing was shown");
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn root_a_follower_sees_what_comes_and_ends_well() {
    if !is_root() {
        return;
    }
    let live = live("follow");
    let mut follower = Follower::start(&live, "--verdict FORWARDED");
    follower.attach(&live);
    let denied = live.knock("client", 9100);
    let (allowed, _) = live.connect("client", 8080);
    let mut shown = Vec::new();
    while shown.last() != Some(&u64::from(allowed)) {
        let line = follower.lines.recv_timeout(PATIENCE).unwrap();
        let flow: Value = serde_json::from_str(&line).unwrap();
        shown.push(flow["flow"]["l4"]["TCP"]["source_port"].as_u64().unwrap());
    }
    assert!(!shown.contains(&denied.into()), "the filter is for what comes too");
    // An observer that crashes is not noticed by who follows.
    crash(&live, "observer");
    let (after, _) = live.connect("client", 8080);
    assert!(follower.shows(after, PATIENCE), "after the observer crashed");
    // Nor is the agent's own end: what the kernel kept meanwhile is told when it is back.
    live.lab.does(&["agent", "kill", "--node", "node1"]);
    let (meanwhile, _) = live.connect("client", 8080);
    live.lab.does(&["agent", "start", "--node", "node1"]);
    assert!(follower.shows(meanwhile, PATIENCE), "while the agent was away");
    let pid = nix::unistd::Pid::from_raw(follower.child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(follower.child.wait().unwrap().code(), Some(0));
}

fn crash(live: &Live, actor: &str) {
    use weft_api::{
        agent::{Answer, Request},
        transport::{Client, Options},
    };
    let socket = live.lab.dir().join("node1/agent.sock");
    let mut client = Client::connect(&socket, PATIENCE).unwrap();
    let crash = Request::Crash { actor: actor.to_owned() };
    assert_eq!(client.call(crash, Options::within(PATIENCE)).unwrap(), Answer::Done);
}

#[test]
fn root_an_agent_that_was_away_tells_what_happened_meanwhile() {
    if !is_root() {
        return;
    }
    let live = live("away");
    live.lab.does(&["agent", "kill", "--node", "node1"]);
    let allowed = live.connect("client", 8080);
    let denied = live.knock("client", 9100);
    assert!(allowed.1);
    live.lab.does(&["agent", "start", "--node", "node1"]);
    for (port, verdict) in [(allowed.0, "FORWARDED"), (denied, "DROPPED")] {
        let flows = live.told(port);
        let [flow] = flows.as_slice() else { panic!("{flows:#?}") };
        assert_eq!(text(flow, "/verdict"), verdict);
        let pods = (text(flow, "/source/pod_name"), text(flow, "/destination/pod_name"));
        assert_eq!(pods, ("client", "server"), "{flow:#}");
        assert_eq!(text(flow, "/node_name"), format!("{}/node1", live.lab.name));
    }
    let (port, answered) = live.connect("client", 8080);
    assert!(answered);
    assert_eq!(live.told(port).len(), 1);
}

/// An agent that gets no time cannot read, and the kernel's ring fills: how much was lost is told with the flows.
#[test]
fn root_events_that_found_the_ring_full_are_told() {
    if !is_root() {
        return;
    }
    let live = live("burst");
    let agent = live.lab.status()["processes"].as_array().unwrap().iter().find_map(|process| {
        (process["name"] == "node1").then(|| i32::try_from(process["pid"].as_i64().unwrap()))
    });
    let agent = nix::unistd::Pid::from_raw(agent.unwrap().unwrap());
    let signal = |signal| nix::sys::signal::kill(agent, signal).unwrap();
    // More than the ring has room for (30,840), each a flow of its own.
    let server = live.server;
    signal(nix::sys::signal::Signal::SIGSTOP);
    live.lab.inside("live/client", move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        for port in 10_000..50_000 {
            // What cannot be sent now is one event less.
            let _ = socket.send_to(b"x", SocketAddrV4::new(server, port));
        }
    });
    signal(nix::sys::signal::Signal::SIGCONT);
    let begun = Instant::now();
    let lost = loop {
        let output = weft(&["flows", "--lab", &live.lab.name, "--node", "node1", "--last", "1"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let count = |line: &str| {
            line.split_once("EVENTS LOST: PERF_EVENT_RING_BUFFER CPU(0) ")?.1.parse::<f64>().ok()
        };
        if let Some(lost) = text.lines().find_map(count) {
            break lost;
        }
        assert!(begun.elapsed() < PATIENCE, "{text}");
        sleep(Duration::from_millis(100));
    };
    assert!(lost > 1000.0, "{lost}");
    assert!(lost <= live.metric("node1", "weft_datapath_notices_total{notice=\"events-lost\"}"));
}

impl Live {
    /// What a node's agent answers at a path.
    fn get(&self, node: &str, path: &str) -> String {
        self.get_at(node, 9962, path)
    }

    fn get_at(&self, node: &str, port: u16, path: &str) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        self.lab.on_node(node, move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
    }

    /// A series of a node; 0 while there is none.
    fn metric(&self, node: &str, series: &str) -> f64 {
        let text = self.get(node, "/metrics");
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.parse().unwrap())
    }
}

#[test]
fn root_metrics_rise_with_what_happens() {
    if !is_root() {
        return;
    }
    let live = live("metrics");
    let denied = "weft_drop_count_total{reason=\"Policy denied\",direction=\"INGRESS\"}";
    let seen = "weft_flows_processed_total{type=\"drop\",verdict=\"DROPPED\"}";
    let forwarded = "weft_forward_count_total{direction=\"EGRESS\"}";
    let series = [denied, seen, forwarded];
    let before = series.map(|series| live.metric("node1", series));
    for _ in 0..5 {
        live.knock("client", 9100);
        assert!(live.connect("client", 8080).1);
    }
    live.flows("--verdict DROPPED --to-port 9100", |flows| flows.len() == 5);
    let after = series.map(|series| live.metric("node1", series));
    assert_eq!((after[0] - before[0], after[1] - before[1]), (5.0, 5.0));
    assert!(after[2] - before[2] >= 15.0, "5 × SYN, ACK, FIN: {before:?} {after:?}");
    assert_eq!(live.metric("node2", denied), 0.0);

    assert_eq!(live.metric("node1", "weft_endpoint_state{endpoint_state=\"ready\"}"), 2.0);
    let classes = "{map_name=\"weft_classes\"}";
    assert_eq!(live.metric("node1", &format!("weft_bpf_map_entries{classes}")), 2.0);
    let capacity = live.metric("node1", &format!("weft_bpf_map_capacity{classes}"));
    assert_eq!(live.metric("node1", &format!("weft_bpf_map_pressure{classes}")), 2.0 / capacity);
    let (realised, received) =
        ("weft_revision{state=\"realised\"}", "weft_revision{state=\"received\"}");
    assert!(live.metric("node1", realised) > 0.0);
    assert_eq!(live.metric("node1", realised), live.metric("node1", received));
    assert_eq!(live.metric("node1", "weft_operator_session"), 1.0);

    let restarts = "weft_actor_restarts_total{actor=\"policy\"}";
    assert_eq!(live.metric("node1", restarts), 0.0);
    crash(&live, "policy");
    let begun = Instant::now();
    while live.metric("node1", restarts) != 1.0 || !live.get("node1", "/healthz").contains("200 OK")
    {
        assert!(begun.elapsed() < PATIENCE, "{}", live.get("node1", "/healthz"));
        sleep(Duration::from_millis(20));
    }
    assert!(live.get("node1", "/nothing").starts_with("HTTP/1.1 404"));

    // What must hold does, and is told from the beginning.
    let page = live.get("node1", "/metrics");
    for id in [Invariant::NoReuse, Invariant::NothingLost, Invariant::NeverBack] {
        let series = format!("weft_agent_invariant_violations_total{{invariant=\"{id}\"}} 0\n");
        assert!(page.contains(&series), "{page}");
    }

    // Whatever is served is described, and whatever is described is served: some with the first thing that they count. The operator's
    // loopback is the underlay's.
    let described = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let described = std::fs::read_to_string(described).unwrap();
    let described: BTreeSet<&str> = described
        .split('`')
        .filter(|code| code.starts_with("weft_"))
        .filter_map(|code| code.split('{').next())
        .map(|name| name.strip_suffix("_total").unwrap_or(name))
        .filter(|name| *name != "weft_")
        .collect();
    let pages = live.get("node1", "/metrics") + &live.get_at("net", 9963, "/metrics");
    let types = pages.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let later = [
        "weft_bpf_map_full",
        "weft_datapath_notices",
        "weft_events_malformed",
        "weft_lost_events",
        "weft_operator_sessions_refused",
    ];
    assert_eq!(types.chain(later).collect::<BTreeSet<_>>(), described);
}
