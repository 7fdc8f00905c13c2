//! An agent that is started anew while no operator can be reached goes on from what lies on its disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

#[path = "cni/node.rs"]
mod node;

use node::{Node, Sandbox, connect, echoes, files, serve};
use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};
use weft_api::agent::EndpointRow;
use weft_tests::lab::is_root;

/// What becomes of a file.
type Damage = fn(Vec<u8>) -> Vec<u8>;

/// Who may reach `server`: `client` and `customer`.
const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: t}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress:
    - from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [client, customer]}]}}]
";

/// A node with a server and a client that talk, others scheduled beside them.
struct Talking {
    node: Node,
    server: (Sandbox, Ipv4Addr),
    client: (Sandbox, Ipv4Addr),
    stream: TcpStream,
}

impl Talking {
    fn begin(test: &str) -> Self {
        let node = Node::up(test);
        node.schedule(&[
            ("server", "server"),
            ("client", "client"),
            ("late", "client"),
            ("other", "other"),
        ]);
        node.lab.change("apply", POLICY);
        let (server, client) = (node.plugged("server"), node.plugged("client"));
        serve(&server.0);
        let stream = connect(&client.0, server.1).expect("the policy allows it");
        Self { node, server, client, stream }
    }

    /// Ends operator and agent, changes what is on disk, and starts the agent alone.
    fn agent_alone(&self, change: impl FnOnce(&Node)) {
        if self.operator_runs() {
            self.node.lab.does(&["operator", "kill"]);
        }
        self.node.kill_agent();
        change(&self.node);
        self.node.start_agent();
    }

    fn operator_runs(&self) -> bool {
        let status = self.node.lab.status();
        let mut processes = status["processes"].as_array().unwrap().iter();
        processes.any(|p| p["name"] == "operator1" && p["state"] == "runs")
    }

    fn operator_is_back(&self) {
        self.node.lab.does(&["operator", "start"]);
        self.node.becomes("the agent is well", |node| {
            let status = node.ask(weft_api::agent::Request::Status);
            matches!(status, Ok(weft_api::agent::Answer::Status(status)) if status.healthy)
        });
    }

    #[track_caller]
    fn ready(&self) {
        self.node.becomes("it is ready", |node| node.runtime.status(&node.network).is_ok());
    }

    #[track_caller]
    fn still_talk(&mut self) {
        assert!(echoes(&mut self.stream), "the open connection");
        assert!(connect(&self.client.0, self.server.1).is_some(), "a new connection");
    }

    fn reaches_server(&self, from: &Sandbox) -> bool {
        connect(from, self.server.1).is_some_and(|mut stream| echoes(&mut stream))
    }
}

#[test]
fn root_pods_that_are_known_start_without_operators_and_others_do_not() {
    if !is_root() {
        return;
    }
    let mut talking = Talking::begin("alone");
    let before = talking.node.endpoints();
    talking.agent_alone(|_| ());
    talking.ready();
    assert_eq!(talking.node.endpoints().len(), before.len());
    for (row, was) in talking.node.endpoints().iter().zip(&before) {
        assert_eq!(
            (&row.pod, row.address, row.identity, &row.labels),
            (&was.pod, was.address, was.identity, &was.labels)
        );
        assert_eq!(row.policy, was.policy);
    }
    talking.still_talk();

    let late = talking.node.plugged("late").0;
    assert!(talking.reaches_server(&late), "its labels are allowed");
    let other = talking.node.plugged("other").0;
    assert!(!talking.reaches_server(&other), "its labels are not");
    let stranger = talking.node.sandbox("stranger");
    let begun = Instant::now();
    let refused = talking.node.add(&stranger).unwrap_err();
    assert_eq!(refused.code, 11, "{refused:?}");
    assert!(
        refused.message.contains("t/stranger") && refused.message.contains("no operator"),
        "{refused:?}"
    );
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());

    // What came while it was alone is there after the next time, too.
    talking.agent_alone(|_| ());
    talking.ready();
    assert_eq!(talking.node.endpoints().len(), 4);
    assert!(talking.reaches_server(&late) && !talking.reaches_server(&other));
    talking.still_talk();

    talking.operator_is_back();
    talking.node.schedule(&[("stranger", "client")]);
    talking.node.add(&stranger).unwrap();
    assert!(talking.reaches_server(&stranger) && talking.reaches_server(&late));
    assert!(!talking.reaches_server(&other));
    talking.still_talk();
}

#[test]
fn root_a_state_that_is_damaged_is_said_and_nothing_goes_by_it() {
    if !is_root() {
        return;
    }
    let mut talking = Talking::begin("damaged");
    let other = talking.node.plugged("other").0;
    let late = talking.node.sandbox("late");
    let damages: [(&str, Damage); 3] = [
        ("damaged", |mut bytes| {
            bytes[30] ^= 1;
            bytes
        }),
        ("version", |mut bytes| {
            bytes[7] = 99;
            bytes
        }),
        ("", |_| Vec::new()),
    ];
    for (said, damage) in damages {
        talking.agent_alone(|node| {
            let file = node.file("state/published");
            let bytes = fs::read(&file).unwrap();
            fs::write(file, damage(bytes)).unwrap();
        });
        talking.still_talk();
        assert!(!talking.reaches_server(&other));
        let refused = talking.node.add(&late).unwrap_err();
        assert_eq!(refused.code, 11, "{refused:?}");
        let status = talking.node.runtime.status(&talking.node.network).unwrap_err();
        assert_eq!(status.code, 50, "{status:?}");
        assert_eq!(talking.node.endpoints().len(), 3);
        assert_eq!(talking.node.links().len(), 3);
        let log = fs::read_to_string(talking.node.lab.dir().join("node1.log")).unwrap();
        assert!(log.contains("is ignored") && log.contains(said), "{log}");
        talking.operator_is_back();
        talking.still_talk();
        assert!(!talking.reaches_server(&other));
    }
    talking.node.add(&late).unwrap();
    // It is whole again.
    talking.agent_alone(|_| ());
    talking.ready();
    assert!(talking.reaches_server(&late));
}

#[test]
fn root_a_pod_whose_record_is_damaged_goes_on_until_it_is_deleted() {
    if !is_root() {
        return;
    }
    let mut talking = Talking::begin("record");
    let other = talking.node.plugged("other").0;
    let row = talking.node.endpoints().into_iter().find(|row| row.pod == "t/client").unwrap();
    let file = talking.node.file(&format!("state/endpoints/{}.json", row.interface));
    let said = |node: &Node| node.problems().iter().any(|p| p.contains(&row.interface));
    let whole = fs::read(&file).unwrap();
    let torn = &whole[..whole.len() / 2];
    // With operators away; then with them. A file without a link is nobody's.
    let nobodys = talking.node.file("state/endpoints/wl0123456789ab.json");
    talking
        .agent_alone(|_| [&file, &nobodys].iter().for_each(|file| fs::write(file, torn).unwrap()));
    talking.ready();
    for operators in [false, true] {
        if operators {
            talking.node.lab.does(&["operator", "start"]);
            talking.node.kill_agent();
            talking.node.start_agent();
            talking.ready();
        }
        talking.node.becomes("it is said", said);
        talking.node.becomes("it has its name from operators", |node| {
            node.endpoints().iter().any(|is| (&is.pod, is.address) == (&row.pod, row.address))
        });
        talking.still_talk();
        assert!(!talking.reaches_server(&other));
        assert!(fs::read(&file).unwrap() == torn && !nobodys.exists());
        assert_eq!((talking.node.endpoints().len(), talking.node.links().len()), (3, 3));
    }
    let (late, address) = talking.node.plugged("late");
    assert!(talking.reaches_server(&late) && address != row.address);
    // It hears of changes as everyone does.
    talking.node.schedule(&[("client", "stranger")]);
    talking.node.becomes("it is relabelled", |node| {
        node.endpoints().iter().any(|is| is.pod == row.pod && is.identity != row.identity)
    });
    let client = talking.client.0.container.clone();
    assert!(talking.node.runtime.check(&talking.node.network, &client).is_err());
    talking.node.runtime.delete(&talking.node.network, &client).unwrap();
    assert_eq!((talking.node.endpoints().len(), talking.node.links().len()), (3, 3));
    assert!(!file.exists());
    assert_eq!(talking.node.problems(), Vec::<String>::new());
    assert!(talking.reaches_server(&late));
}

/// Pods that the lab plugs itself; the client is of this app.
fn pods(app: &str) -> String {
    let pod = |name: &str, app: &str, node: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: t, labels: {{app: {app}}}}}\n\
             spec: {{nodeName: {node}, containers: [{{name: c, image: i, ports: [{{containerPort: 8080}}]}}]}}\n"
        )
    };
    [pod("client", app, "node1"), pod("server", "server", "node2"), POLICY.to_owned()].join("---\n")
}

fn client(node: &Node) -> EndpointRow {
    let rows = node.endpoints();
    rows.into_iter().find(|row| row.pod == "t/client").expect("the client is plugged")
}

/// The identity in the client's file.
fn remembered(node: &Node) -> u64 {
    let files = files(&node.file("state/endpoints"));
    let [file] = &files[..] else { panic!("{files:?}") };
    let record: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    record["identity"].as_u64().unwrap()
}

#[test]
fn root_a_relabelled_pod_keeps_its_connections_and_its_labels() {
    if !is_root() {
        return;
    }
    let node = Node::up("relabel");
    node.lab.change("apply", &pods("client"));
    let before = client(&node);
    let stream =
        node.lab.stream(&["t/client", "t/server", "--patience", "20s", "--duration", "4s"]);
    std::thread::sleep(Duration::from_millis(500));

    node.lab.change("apply", &pods("customer"));
    let after = client(&node);
    assert_ne!(after.identity, before.identity);
    assert!(after.labels.iter().any(|label| label == "k8s:app=customer"), "{after:?}");
    assert_eq!(
        (after.address, &after.interface, after.id),
        (before.address, &before.interface, before.id)
    );
    assert_eq!(remembered(&node), u64::from(after.identity));
    let (code, report) = stream.end();
    assert_eq!((code, &report["lost"]), (Some(0), &0.into()), "{report}");

    // To labels that the policy does not allow, and an agent that is started anew.
    node.lab.change("apply", &pods("stranger"));
    assert_eq!(node.lab.reaches("t/client", "t/server", "TCP", 8080), Some(false));
    node.lab.change("apply", &pods("customer"));
    assert_eq!(node.lab.reaches("t/client", "t/server", "TCP", 8080), Some(true));
    node.lab.does(&["operator", "kill"]);
    node.kill_agent();
    node.start_agent();
    node.becomes("it is ready", |node| node.runtime.status(&node.network).is_ok());
    let recovered = client(&node);
    assert_eq!((recovered.identity, recovered.labels), (after.identity, after.labels));
    assert_eq!(node.lab.reaches("t/client", "t/server", "TCP", 8080), Some(true));

    // By its own file alone.
    node.kill_agent();
    fs::remove_file(node.file("state/published")).unwrap();
    node.start_agent();
    assert_eq!(client(&node).identity, after.identity);
    assert_eq!(node.lab.reaches("t/client", "t/server", "TCP", 8080), Some(true));
}

/// The MTU of a pod's interface: as ADD says it, and as it is.
fn mtu(node: &Node, sandbox: &Sandbox) -> (u64, u64) {
    let result = node.runtime.add(&node.network, &sandbox.container).unwrap();
    let show = || Command::new("ip").args(["-j", "link", "show", "eth0"]).output().unwrap().stdout;
    let shown: serde_json::Value = serde_json::from_slice(&sandbox.netns.inside(show)).unwrap();
    (result["interfaces"][1]["mtu"].as_u64().unwrap(), shown[0]["mtu"].as_u64().unwrap())
}

#[test]
fn root_who_is_added_again_is_told_of_the_link_that_it_has() {
    if !is_root() {
        return;
    }
    let node = Node::up("mtu");
    node.schedule(&[("early", "web"), ("late", "web")]);
    let (early, _) = node.plugged("early");
    node.lab.on_node("node1", || {
        let set = ["link", "set", "eth0", "mtu", "1300"];
        assert!(Command::new("ip").args(set).status().unwrap().success());
    });
    // An agent that is started now sees what there is.
    node.kill_agent();
    node.start_agent();
    let (late, _) = node.plugged("late");
    assert_eq!((mtu(&node, &early), mtu(&node, &late)), ((1500, 1500), (1300, 1300)));
}
