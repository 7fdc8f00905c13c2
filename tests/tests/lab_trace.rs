//! One trace from the call to the map write: a grep by its id over all logs finds every step, each the child of the one before.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use weft_api::{
    agent::Request,
    transport::{Client, Options},
};
use weft_tests::{
    cni::{Container, Network, Runtime},
    lab::{Lab, example, is_root, program, weft},
};

/// For lines that are written after the command has returned: the last span of each process.
const PATIENCE: Duration = Duration::from_secs(20);

/// One that policies about pods of the other node name: that node has to know it.
const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: traced, namespace: shop, labels: {app: frontend, traced: \"yes\"}}\n\
     spec: {nodeName: node1, containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}\n";

/// A lab whose processes log everything as JSON.
fn lab(test: &str) -> Lab {
    let lab = Lab::named(test);
    let words = ["--log-format", "json", "lab", "up", "--name", &lab.name, "--log-level", "debug"];
    let up = weft(&[&words[..], &["-f", &example("shop.yaml")]].concat());
    assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
    lab
}

/// The logs of one trace: those of the command, of the plugin, of the operator and of the agents.
struct Trace {
    id: String,
    command: String,
    logs: Vec<PathBuf>,
}

/// A span, from any of its lines.
#[derive(Clone, Debug)]
struct Span {
    parent: Option<String>,
    /// Which log it is in, and what it says of itself.
    log: String,
    says: Value,
}

impl Trace {
    /// Of `weft lab apply` of a file.
    fn of_apply(lab: &Lab, file: &str) -> Self {
        let words = ["-v", "--log-format", "json", "lab", "apply", "--name", &lab.name, "-f", file];
        let output = weft(&words);
        let command = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{command}");
        let last = command.lines().rfind(|line| line.starts_with('{')).expect("the command's line");
        let line: Value = serde_json::from_str(last).unwrap();
        assert_eq!(line["span"]["command"], "lab apply", "{line}");
        assert!(line["parent_id"].is_null(), "it begins here: {line}");
        let id = line["trace_id"].as_str().unwrap().to_owned();
        assert!(id.len() == 32 && line["span_id"].as_str().unwrap().len() == 16, "{line}");
        Self { id, command, logs: logs(lab) }
    }

    /// Of CNI DEL of a pod of node1, called as a runtime does: the trace begins in the plugin.
    fn of_delete(lab: &Lab, pod: &str) -> Self {
        let (node, log) = (lab.dir().join("node1"), lab.dir().join("node1/cni.log"));
        let netns = Path::new("/run/netns").join(lab.pod(pod)["netns"].as_str().unwrap());
        let (namespace, name) = pod.split_once('/').unwrap();
        let container = Container::of_pod(&container(&log), &netns, namespace, name);
        let plugins = program("weft-cni").parent().unwrap().to_owned();
        let runtime = Runtime { path: vec![plugins], cache: node.join("results") };
        let plugin =
            json!({"type": "weft-cni", "socket": node.join("agent.sock"), "log-file": log});
        let network = Network { version: "1.1.0", name: "weft", plugins: vec![plugin] };
        runtime.delete(&network, &container).unwrap();
        let line = last_call(&log);
        assert!(line["span"]["command"] == "DEL" && line["parent_id"].is_null(), "{line}");
        let id = line["trace_id"].as_str().unwrap().to_owned();
        Self { id, command: String::new(), logs: logs(lab) }
    }

    /// `grep ID` over all logs: the spans by their ids.
    fn grep(&self) -> BTreeMap<String, Span> {
        let mut spans = BTreeMap::new();
        let texts = self.logs.iter().map(|log| {
            let name = log.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(log).unwrap_or_default())
        });
        for (log, text) in texts.chain([("weft".to_owned(), self.command.clone())]) {
            for line in text.lines().filter(|line| line.contains(&self.id)) {
                let line: Value = serde_json::from_str(line).expect("every line is JSON");
                assert_eq!(line["trace_id"], self.id.as_str(), "{line}");
                let text = |key: &str| line[key].as_str().map(str::to_owned);
                let span = Span {
                    parent: text("parent_id"),
                    log: log.clone(),
                    says: line["span"].clone(),
                };
                spans.insert(text("span_id").unwrap(), span);
            }
        }
        spans
    }

    /// The way from the command to a span: log and name of each step, with the actor where there is one.
    fn way(spans: &BTreeMap<String, Span>, to: &Span) -> Vec<String> {
        let step = |span: &Span| match span.says["actor"].as_str() {
            Some(actor) => format!("{} {actor}", span.log),
            None => format!("{} {}", span.log, span.says["name"].as_str().unwrap()),
        };
        let mut way = vec![step(to)];
        let mut parent = to.parent.as_ref();
        while let Some(span) = parent.and_then(|id| spans.get(id)) {
            way.push(step(span));
            parent = span.parent.as_ref();
        }
        assert_eq!(parent, None, "a step is in no log; known are {way:?} in {spans:#?}");
        way.reverse();
        way
    }

    /// Waits until a span of which this holds is in the logs, with the whole way to it, which is given.
    #[track_caller]
    fn leads_to(&self, what: &str, is_it: impl Fn(&Span) -> bool) -> Vec<String> {
        let until = Instant::now() + PATIENCE;
        loop {
            let spans = self.grep();
            let found = spans.values().find(|span| is_it(span));
            let root = |span: &Span| {
                let mut at = Some(span);
                while let Some(parent) = at.and_then(|span| span.parent.as_ref()) {
                    at = spans.get(parent);
                }
                at.is_some()
            };
            match found {
                // Parents are written when they end, after their children.
                Some(span) if root(span) => return Self::way(&spans, span),
                _ if Instant::now() > until => panic!("no way to {what} in {spans:#?}"),
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

fn logs(lab: &Lab) -> Vec<PathBuf> {
    let logs = ["operator.log", "node1.log", "node2.log", "node1/cni.log", "node2/cni.log"];
    logs.map(|log| lab.dir().join(log)).to_vec()
}

/// What the plugin said last.
fn last_call(log: &Path) -> Value {
    serde_json::from_str(fs::read_to_string(log).unwrap().lines().last().unwrap()).unwrap()
}

/// The container that was plugged last.
fn container(log: &Path) -> String {
    last_call(log)["span"]["container"].as_str().unwrap().to_owned()
}

fn writes(map: &str, log: &str) -> impl Fn(&Span) -> bool {
    move |span: &Span| {
        span.log == log && span.says["name"] == "map.write" && span.says["map"] == map
    }
}

#[test]
fn root_a_policy_is_one_trace_from_the_command_to_every_kernel_map() {
    if !is_root() {
        return;
    }
    let lab = lab("trace");
    let trace = Trace::of_apply(&lab, &example("deny.yaml"));
    for node in ["node1.log", "node2.log"] {
        let way = trace.leads_to("the write", writes("weft_classes", node));
        let in_node = |step: &str| format!("{node} {step}");
        let operator = |step: &str| format!("operator.log {step}");
        assert_eq!(
            way,
            [
                "weft weft".to_owned(),
                operator("admin"),
                operator("propose"),
                operator("commit"),
                in_node("realise"),
                in_node("policy"),
                in_node("map-classes"),
                in_node("map.write"),
            ]
        );
        let bumps = |span: &Span| span.log == node && span.says["message"] == "BumpEpoch";
        assert_eq!(trace.leads_to("the epoch's bump", bumps)[3..5], way[3..5]);
    }
    first_packets(&lab, &trace);
    for step in ["store.write", "log.append", "push", "acknowledge"] {
        let is_it = |span: &Span| span.log == "operator.log" && span.says["name"] == step;
        assert_eq!(trace.leads_to(step, is_it)[..2], ["weft weft", "operator.log admin"]);
    }
}

/// The trace ends with the first packet that each node judged under the new policy.
fn first_packets(lab: &Lab, trace: &Trace) {
    lab.does(&["probe"]);
    for node in ["node1.log", "node2.log"] {
        let packet = |span: &Span| span.log == node && span.says["name"] == "packet";
        let way = trace.leads_to("the first packet", packet);
        let of_node = |step: &str| format!("{node} {step}");
        assert_eq!(way[4..], [of_node("realise"), of_node("packet")], "{way:?}");
        let spans = trace.grep();
        assert_eq!(spans.values().filter(|span| packet(span)).count(), 1, "the first alone");
        let flow = spans.values().find(|span| packet(span)).unwrap().says["flow"].clone();
        assert!(flow.as_str().unwrap().contains(" shop/"), "{flow}");
    }
}

#[test]
fn root_a_cni_add_is_one_trace_from_the_plugin_to_the_maps_of_the_other_node() {
    if !is_root() {
        return;
    }
    let lab = lab("traceadd");
    let file = lab.dir().join("traced.yaml");
    fs::write(&file, POD).unwrap();
    let trace = Trace::of_apply(&lab, file.to_str().unwrap());
    let begin = ["weft weft", "weft cni", "cni.log cni", "node1.log cni", "node1.log endpoints"];
    for map in ["weft_endpoints", "weft_addresses4"] {
        let way = trace.leads_to(map, writes(map, "node1.log"));
        assert_eq!(way[..5], begin, "{way:?}");
    }
    let plug = |span: &Span| span.says["actor"] == "loader" && span.says["message"] == "Plug";
    assert_eq!(trace.leads_to("the link", plug)[..5], begin);
    // The plugged address goes on through the operator to everyone.
    let other =
        |span: &Span| writes("weft_addresses4", "node2.log")(span) && span.says["upserts"] == 1;
    let way = trace.leads_to("the other node", other);
    assert_eq!(way[..5], begin, "{way:?}");
    let tail: Vec<&str> = way.iter().skip(5).map(String::as_str).collect();
    assert!(
        tail.contains(&"operator.log commit") && tail.contains(&"node2.log realise"),
        "{way:?}"
    );
    a_cni_del_is_one_trace_too(&lab);
}

/// From the plugin to the maps of the other node, which the pod is still scheduled beside: its operator hears of the address alone.
fn a_cni_del_is_one_trace_too(lab: &Lab) {
    let trace = Trace::of_delete(lab, "shop/traced");
    let begin = ["cni.log cni", "node1.log cni", "node1.log endpoints"];
    let removes = |map: &'static str, log: &'static str| {
        move |span: &Span| writes(map, log)(span) && span.says["deletes"] == 1
    };
    for map in ["weft_endpoints", "weft_addresses4"] {
        let way = trace.leads_to(map, removes(map, "node1.log"));
        assert_eq!(way[..3], begin, "{way:?}");
    }
    let unplug = |span: &Span| span.says["actor"] == "loader" && span.says["message"] == "Unplug";
    assert_eq!(trace.leads_to("the link's end", unplug)[..3], begin);
    let way = trace.leads_to("the other node", removes("weft_addresses4", "node2.log"));
    assert_eq!(way[..3], begin, "{way:?}");
    let tail: Vec<&str> = way.iter().skip(3).map(String::as_str).collect();
    assert_eq!(tail[..2], ["operator.log commit", "node2.log realise"], "{way:?}");
    for node in ["node1", "node2"] {
        let says = |span: &Span| span.says["name"] == "acknowledge" && span.says["node"] == node;
        let way = trace.leads_to("the acknowledgement", says);
        let realise = format!("{node}.log realise");
        assert_eq!(way[3..], ["operator.log commit", &*realise, "operator.log acknowledge"]);
    }
}

#[test]
fn root_a_panic_is_told_with_the_last_messages_and_no_secret_is_told_at_all() {
    if !is_root() {
        return;
    }
    let lab = lab("tracepanic");
    let crash = Request::Crash { actor: "policy".to_owned() };
    let mut client = Client::connect(&lab.dir().join("node1/agent.sock"), PATIENCE).unwrap();
    client.call(crash, Options::within(PATIENCE)).unwrap();
    let log = lab.dir().join("node1.log");
    let until = Instant::now() + PATIENCE;
    let lines = |part: &str| -> Vec<Value> {
        let text = fs::read_to_string(&log).unwrap();
        let lines = text.lines().filter(|line| line.contains(part));
        lines.map(|line| serde_json::from_str(line).expect("every line is JSON")).collect()
    };
    while lines("panicked over Fault").is_empty() {
        assert!(Instant::now() < until, "{}", fs::read_to_string(&log).unwrap());
        thread::sleep(Duration::from_millis(50));
    }
    let told = &lines("panicked over Fault")[0];
    assert_eq!((&told["actor"], &told["level"]), (&"policy".into(), &"ERROR".into()), "{told}");
    let last = told["last"].as_str().unwrap();
    assert!(last.ends_with(" Fault") && last.contains("Advance"), "{told}");
    let hook = &lines("panic: asked for by fault injection")[0];
    assert!(hook["at"].as_str().unwrap().contains("shell.rs"), "{hook}");
    assert_eq!(hook["trace_id"], told["trace_id"], "both are lines of the message's trace");

    let secrets: Vec<String> = fs::read_dir(lab.dir().join("keys"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "key"))
        .map(|path| fs::read_to_string(path).unwrap().lines().nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(secrets.len(), 3, "one of each process");
    for log in ["operator.log", "node1.log", "node2.log"] {
        let text = fs::read_to_string(lab.dir().join(log)).unwrap();
        assert!(!text.contains("PRIVATE KEY"), "{log}");
        assert!(secrets.iter().all(|secret| !text.contains(secret)), "{log}");
    }
}
