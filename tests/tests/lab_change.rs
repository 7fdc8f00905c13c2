//! A running lab is changed: `apply` and `delete` leave alone what they are not about.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use serde_json::Value;
use std::{
    io::{Read, Write},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    thread,
    time::{Duration, Instant},
};
use weft_api::{
    operator::{Answer, Request},
    transport::{Client, Options},
};
use weft_tests::lab::{Lab, example, is_root, rows, weft};
use weft_types::Object;

const PATIENCE: Duration = Duration::from_secs(30);

fn namespace_labels(lab: &Lab, name: &str) -> Vec<String> {
    let mut client = Client::connect(&lab.dir().join("operator.sock"), PATIENCE).unwrap();
    let Answer::Objects(objects) =
        client.call(Request::Objects, Options::within(PATIENCE)).unwrap()
    else {
        panic!("no objects")
    };
    let found = objects.iter().find_map(|object| match object {
        Object::Namespace(namespace) if namespace.name == name => Some(namespace),
        _ => None,
    });
    found.expect("the namespace").labels.iter().map(|(k, v)| format!("{k}={v}")).collect()
}

/// A connection from a pod, opened in its network namespace.
fn connection(lab: &Lab, from: &str, to: &str, port: u16) -> TcpStream {
    let address = lab.pod(to)["address"].as_str().unwrap().to_owned();
    let stream = lab.inside(from, move || TcpStream::connect((address, port)).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn comes_back(stream: &mut TcpStream, what: &[u8]) -> bool {
    let mut back = vec![0; what.len()];
    stream.write_all(what).is_ok() && stream.read_exact(&mut back).is_ok() && back == what
}

fn deployment(name: &str, replicas: u32, port: u16) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}, namespace: extra}}\n\
         spec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    \
         metadata: {{labels: {{app: {name}}}}}\n    spec: {{containers: [{{name: c, image: i, \
         ports: [{{containerPort: {port}}}, {{containerPort: {port}}}]}}]}}\n"
    )
}

fn pods(lab: &Lab, namespace: &str) -> Vec<String> {
    let status = lab.status();
    let names = status["pods"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with(namespace)).map(str::to_owned).collect();
    names.sort();
    names
}

#[test]
fn root_a_lab_is_changed_while_its_pods_talk() {
    if !is_root() {
        return;
    }
    let lab = Lab::up("change", &[&example("shop.yaml")]);
    let mut stream = connection(&lab, "shop/frontend-0", "shop/cart-1", 8080);
    assert!(stream.write_all(b"echo\n").is_ok());
    assert!(comes_back(&mut stream, b"before"));

    // Pods with ports of their own, in a namespace that the manifests only imply: nothing is cut.
    lab.change("apply", &deployment("web", 2, 7000));
    assert_eq!(pods(&lab, "extra/"), ["extra/web-0", "extra/web-1"]);
    assert_eq!(lab.reaches("extra/web-0", "extra/web-1", "TCP", 7000), Some(true));
    assert!(comes_back(&mut stream, b"after pods came"));

    // Another port, the same pods: what listened before is gone, what listens now is there at once.
    lab.change("apply", &deployment("web", 2, 7001));
    assert_eq!(lab.reaches("extra/web-0", "extra/web-1", "TCP", 7001), Some(true));
    assert_eq!(lab.reaches("extra/web-0", "extra/web-1", "TCP", 7000), None);
    assert!(comes_back(&mut stream, b"after ports changed"));

    // Asked for by a probe, in pods that do not declare it, for as long as the probe lasts.
    assert!(lab.probe(&["TCP/6000", "UDP/6000"]).values().any(|allowed| *allowed));
    assert!(comes_back(&mut stream, b"after a probe"));

    // What a file implies does not overwrite what is known.
    let labels = namespace_labels(&lab, "shop");
    assert!(labels.contains(&"team=shop".to_owned()), "{labels:?}");
    lab.does(&["apply", "-f", &example("deny.yaml")]);
    assert_eq!(namespace_labels(&lab, "shop"), labels);
    lab.does(&["delete", "-f", &example("deny.yaml")]);
    assert_eq!(namespace_labels(&lab, "shop"), labels);
    assert!(comes_back(&mut stream, b"after the policy went"));

    // Fewer replicas, and none.
    lab.change("apply", &deployment("web", 1, 7001));
    assert_eq!(pods(&lab, "extra/"), ["extra/web-0"]);
    let netns = lab.pod("extra/web-0")["netns"].as_str().unwrap().to_owned();
    lab.does(&["delete", "deployment", "extra/web"]);
    assert_eq!(pods(&lab, "extra/"), Vec::<String>::new());
    assert!(!std::path::Path::new("/run/netns").join(netns).exists());
    let gone = lab.run(&["delete", "pod", "extra/web-0"]);
    assert_eq!(gone.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("none of that name"));
    assert!(comes_back(&mut stream, b"after pods went"));

    // A pod that comes back under its name is another one.
    let mut doomed = connection(&lab, "shop/frontend-0", "shop/cart-0", 8080);
    assert!(doomed.write_all(b"echo\n").is_ok() && comes_back(&mut doomed, b"x"));
    lab.does(&["delete", "pod", "shop/cart-0"]);
    doomed.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    assert!(!comes_back(&mut doomed, b"y"));
    lab.does(&["apply", "-f", &example("shop.yaml")]);
    assert_eq!(lab.reaches("shop/frontend-0", "shop/cart-0", "TCP", 8080), Some(true));
    assert!(comes_back(&mut stream, b"to the end"));
}

#[test]
fn root_commands_at_once_lose_nothing() {
    if !is_root() {
        return;
    }
    let lab = Lab::up("atonce", &[]);
    thread::scope(|scope| {
        for number in 0..6 {
            let lab = &lab;
            scope.spawn(move || lab.change("apply", &deployment(&format!("d{number}"), 2, 7000)));
        }
    });
    let names = pods(&lab, "extra/");
    assert_eq!(names.len(), 12, "{names:?}");
    let rows = lab.probe(&[]);
    assert_eq!(rows.len(), 12 * 11);
    assert!(rows.values().all(|allowed| *allowed));
    // A namespace takes with it what is in it.
    lab.does(&["delete", "namespace", "extra"]);
    assert_eq!(pods(&lab, "extra/"), Vec::<String>::new());
    let status = lab.status();
    assert!(
        status["processes"].as_array().unwrap().iter().all(|p| p["state"] == "runs"),
        "{status}"
    );
}

#[test]
fn root_processes_are_killed_and_started() {
    if !is_root() {
        return;
    }
    let lab = Lab::up("kill", &[&example("shop.yaml")]);
    let mut stream = connection(&lab, "shop/frontend-0", "shop/cart-1", 8080);
    assert!(stream.write_all(b"echo\n").is_ok() && comes_back(&mut stream, b"x"));
    let states = |lab: &Lab| -> Vec<(String, String)> {
        let status = lab.status();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rows = status["processes"].as_array().unwrap().iter();
        rows.map(|p| (text(&p["name"]), text(&p["state"]))).collect()
    };
    lab.does(&["agent", "kill", "--node", "node1"]);
    lab.does(&["operator", "kill"]);
    let ended: Vec<String> =
        states(&lab).into_iter().filter(|(_, state)| state == "ended").map(|(n, _)| n).collect();
    assert_eq!(ended, ["operator1", "node1"]);
    assert_eq!(lab.run(&["status"]).status.code(), Some(1));
    assert!(comes_back(&mut stream, b"nobody there, and it goes on"));
    lab.does(&["operator", "start"]);
    lab.does(&["agent", "start"]);
    lab.does(&["agent", "start", "--node", "node1"]);
    assert!(states(&lab).iter().all(|(_, state)| state == "runs"));
    lab.does(&["apply", "-f", &example("deny.yaml")]);
    assert_eq!(lab.reaches("shop/frontend-0", "shop/cart-1", "TCP", 8080), Some(false));
    let route = lab.does(&["node", "exec", "node2", "--", "ip", "route"]);
    assert!(route.contains("default via 172.30.0.1"), "{route}");
    let address = lab.does(&["exec", "shop/db-0", "--", "ip", "-br", "address"]);
    assert!(address.contains("10.244."), "{address}");
}

#[test]
fn root_a_command_in_a_pod_ends_as_it_ended() {
    if !is_root() {
        return;
    }
    let lab = Lab::up("exec", &[&example("shop.yaml")]);
    let run = |script| lab.run(&["exec", "shop/db-0", "--", "sh", "-c", script]).status;
    assert_eq!(run("exit 7").code(), Some(7));
    assert_eq!(run("kill -TERM $$").signal(), Some(15), "its end is the command's own");
    assert_eq!(lab.run(&["exec", "shop/db-0", "--", "/no/such"]).status.code(), Some(3));
    let waited = weft(&["policy", "wait", "--lab", &lab.name, "-o", "json"]);
    let waited: Value = serde_json::from_slice(&waited.stdout).unwrap();
    assert_eq!((&waited["enforced"], &waited["behind"]), (&true.into(), &Value::Array(vec![])));
    let future = ["policy", "wait", "--lab", &lab.name, "-o", "json", "--revision", "9.9"];
    let waited = weft(&[&future[..], &["--timeout", "50ms"]].concat());
    assert_eq!(waited.status.code(), Some(1));
    let waited: Value = serde_json::from_slice(&waited.stdout).unwrap();
    assert_eq!((&waited["revision"], &waited["enforced"]), (&"9.9".into(), &false.into()));
    assert_eq!(waited["behind"][1]["node"], "node2");
}

#[test]
fn root_a_daemon_set_has_a_pod_on_each_node() {
    if !is_root() {
        return;
    }
    let lab = Lab::up("daemon", &[]);
    let daemons = deployment("log", 9, 7000).replace("Deployment", "DaemonSet");
    lab.change("apply", &daemons.replace("  replicas: 9\n", ""));
    assert_eq!(pods(&lab, "extra/"), ["extra/log-0", "extra/log-1"]);
    for (pod, node) in [("extra/log-0", "node1"), ("extra/log-1", "node2")] {
        assert_eq!(lab.pod(pod)["node"], node);
    }
    assert_eq!(lab.reaches("extra/log-0", "extra/log-1", "TCP", 7000), Some(true));
    lab.does(&["delete", "ds", "extra/log"]);
    assert_eq!(pods(&lab, "extra/"), Vec::<String>::new());
}

/// What is in force is judged with the pods' real addresses, and what would be, before it is.
#[test]
fn root_a_running_lab_is_explained_and_a_change_of_it_foreseen() {
    if !is_root() {
        return;
    }
    let lab = Lab::up("foresee", &[&example("shop.yaml")]);
    let explain = |more: &[&str]| {
        let ask = ["policy", "explain", "--lab", &lab.name, "--from", "shop/frontend-0", "--to"];
        let words = [&ask[..], &["shop/cart-1", "--port", "TCP/8080"], more].concat();
        String::from_utf8(weft(&words).stdout).unwrap()
    };
    let now = explain(&[]);
    let address = |pod: &str| lab.pod(pod)["address"].as_str().unwrap().to_owned();
    let (from, to) = (address("shop/frontend-0"), address("shop/cart-1"));
    let heading = format!("shop/frontend-0 ({from}) -> shop/cart-1 ({to}), TCP/8080: allowed\n");
    assert!(now.starts_with(&heading), "{now}");
    let then = explain(&["-f", &example("deny.yaml")]);
    assert!(then.contains("denied: isolated by shop/frontend-opens-nothing"), "{then}");
    assert_eq!(explain(&[]), now, "to ask changes nothing");

    let matrix = |more: &[&str]| {
        let words = [&["policy", "matrix", "--lab", &lab.name, "-o", "json"], more].concat();
        let mut rows = rows(&String::from_utf8(weft(&words).stdout).unwrap());
        rows.retain(|(from, to, ..), _| !from.starts_with("node:") && !to.starts_with("node:"));
        rows
    };
    let foreseen = matrix(&["-f", &example("deny.yaml")]);
    assert_eq!(matrix(&[]), lab.probe(&[]));
    lab.does(&["apply", "-f", &example("deny.yaml")]);
    assert_eq!(lab.probe(&[]), foreseen);
}

#[test]
fn root_a_lab_filters_labels_as_it_is_told_and_told_anew() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("labels");
    // By a label that makes no identity nobody is selected: what denies all is left, and what allows is not.
    let shop = example("shop.yaml");
    lab.does(&["up", "--labels", "!app", "-f", &shop]);
    let has_app = || {
        let output = weft(&["identity", "list", "--lab", &lab.name, "-o", "json"]);
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let labels = |row: &Value| row["labels"].as_array().unwrap().clone();
        let mut all = rows.as_array().unwrap().iter().flat_map(labels);
        all.any(|label| label == "k8s:app=cart")
    };
    let reaches_db = || lab.reaches("shop/cart-0", "shop/db-0", "TCP", 5432);
    assert_eq!((has_app(), reaches_db()), (false, Some(false)));
    lab.does(&["operator", "kill"]);
    lab.does(&["operator", "start"]);
    assert!(!has_app(), "an operator that comes back has the lab's filter");
    lab.does(&["apply", "--labels", "", "-f", &shop]);
    assert_eq!((has_app(), reaches_db()), (true, Some(true)));

    // Operators say of each number who refers to it: the six pods have the new ones, and the old ones nobody has.
    let listed = |more: &[&str]| -> Vec<Value> {
        let command = [&["identity", "list", "--lab", &lab.name, "-o", "json"], more].concat();
        let rows: Value = serde_json::from_slice(&weft(&command).stdout).unwrap();
        rows.as_array().unwrap().clone()
    };
    let is_so = || {
        let (used, others): (Vec<Value>, Vec<Value>) =
            listed(&[]).into_iter().partition(|row| row["state"] == "used");
        let sum = |of: &str| used.iter().filter_map(|row| row[of].as_u64()).sum::<u64>();
        (sum("pods"), sum("endpoints"), others.is_empty()) == (6, 6, false)
    };
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{:?}", listed(&[]));
        thread::sleep(Duration::from_millis(100));
    }
    // An agent knows the number and its labels alone.
    let known = listed(&["--node", "node1"]);
    assert!(!known.is_empty() && known.iter().all(|row| row.get("state").is_none()), "{known:?}");
}
