//! A lab without pods of its own: its node1 as a container runtime and its operators as schedulers see it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what tests share; each uses a part"
)]

use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::Barrier,
    thread::{self, sleep},
    time::{Duration, Instant},
};
use weft_api::{
    agent::{self, EndpointRow, MapEntry},
    operator,
    transport::{Client, Options},
};
use weft_tests::{
    cni::{Container, Failure, Netns, Network, Runtime},
    lab::{Lab, program},
};
use weft_types::{NamespacedName, NodeName, Object, object::Pod};

pub const PATIENCE: Duration = Duration::from_secs(30);

/// A pod of node2, which lets those of the app `web` in and nobody else: node2 has to know them.
pub const PEER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: peer, namespace: t, labels: {app: peer}}
spec: {nodeName: node2, containers: [{name: c, image: c}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: peer, namespace: t}
spec:
  podSelector: {matchLabels: {app: peer}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]
";

pub struct Node {
    pub lab: Lab,
    pub runtime: Runtime,
    pub network: Network,
}

/// A pod's sandbox: its namespace, and itself as the runtime knows it.
pub struct Sandbox {
    pub netns: Netns,
    pub container: Container,
}

impl Node {
    pub fn up(test: &str) -> Self {
        let lab = Lab::up(test, &[]);
        let dir = lab.dir();
        let plugins = program("weft-cni").parent().unwrap().to_owned();
        let socket = dir.join("node1/agent.sock");
        Self {
            runtime: Runtime { path: vec![plugins], cache: dir.join("results") },
            network: Network {
                version: "1.1.0",
                name: "weft",
                plugins: vec![json!({"type": "weft-cni", "socket": socket})],
            },
            lab,
        }
    }

    /// Has the operator schedule pods of namespace `t` to node1, without plugging them.
    pub fn schedule(&self, pods: &[(&str, &str)]) {
        let objects = pods.iter().map(|(name, app)| {
            Object::Pod(Pod {
                name: NamespacedName::new("t", *name),
                labels: BTreeMap::from([("app".to_owned(), (*app).to_owned())]),
                service_account: "default".to_owned(),
                ports: Vec::new(),
                node: Some(NodeName("node1".to_owned())),
                address: None,
                command: Vec::new(),
            })
        });
        let socket = self.lab.dir().join("operator.sock");
        let mut client = Client::connect(&socket, PATIENCE).unwrap();
        let apply = operator::Request::Apply { objects: objects.collect() };
        client.call(apply, Options::within(PATIENCE)).unwrap();
    }

    pub fn sandbox(&self, pod: &str) -> Sandbox {
        let netns = Netns::new(format!("{}-{pod}", self.lab.name));
        let container = Container::of_pod(&format!("c-{pod}"), &netns.path(), "t", pod);
        Sandbox { netns, container }
    }

    pub fn add(&self, sandbox: &Sandbox) -> Result<Ipv4Addr, Failure> {
        self.runtime.add(&self.network, &sandbox.container).map(|result| address(&result))
    }

    #[track_caller]
    pub fn plugged(&self, pod: &str) -> (Sandbox, Ipv4Addr) {
        let sandbox = self.sandbox(pod);
        let address = self.add(&sandbox).unwrap();
        (sandbox, address)
    }

    pub fn ask(&self, request: agent::Request) -> Result<agent::Answer, String> {
        self.ask_at("node1", request)
    }

    fn ask_at(&self, node: &str, request: agent::Request) -> Result<agent::Answer, String> {
        let socket = self.lab.dir().join(node).join("agent.sock");
        let mut client = Client::connect(&socket, PATIENCE).map_err(|e| e.to_string())?;
        client.call(request, Options::within(PATIENCE)).map_err(|e| e.to_string())
    }

    pub fn endpoints(&self) -> Vec<EndpointRow> {
        match self.ask(agent::Request::Endpoints).unwrap() {
            agent::Answer::Endpoints(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    pub fn rows(&self, map: &str) -> Vec<MapEntry> {
        self.rows_at("node1", map)
    }

    fn rows_at(&self, node: &str, map: &str) -> Vec<MapEntry> {
        match self.ask_at(node, agent::Request::MapDump { name: map.to_owned() }).unwrap() {
            agent::Answer::MapDump(rows) => rows,
            other => panic!("{other:?}"),
        }
    }

    /// Addresses of this node's pods that a node's kernel has.
    pub fn known_at(&self, node: &str) -> BTreeSet<Ipv4Addr> {
        let rows = self.rows_at(node, "addresses4").into_iter();
        let addresses = rows.map(|row| row.key.parse::<Ipv4Addr>().unwrap());
        addresses.filter(|address| address.octets()[..3] == [10, 244, 1]).collect()
    }

    /// A folder or file of node1's agent.
    pub fn file(&self, path: &str) -> PathBuf {
        self.lab.dir().join("node1").join(path)
    }

    pub fn queued(&self) -> Vec<PathBuf> {
        files(&self.file("delete-queue"))
    }

    /// What the agent says is wrong with the node.
    pub fn problems(&self) -> Vec<String> {
        match self.ask(agent::Request::Status).unwrap() {
            agent::Answer::Status(status) => status.problems,
            other => panic!("{other:?}"),
        }
    }

    /// Names of the host sides of pods' links.
    pub fn links(&self) -> Vec<String> {
        let links = self.lab.does(&["node", "exec", "node1", "--", "ip", "-br", "link"]);
        let names = links.lines().filter_map(|line| line.split(['@', ' ']).next());
        names.filter(|name| name.starts_with("wl")).map(str::to_owned).collect()
    }

    /// Nothing of any pod is left, in this node's kernel and the other's, on the disk, or by what the agent says.
    #[track_caller]
    pub fn has_nothing(&self) {
        assert_eq!(self.endpoints(), []);
        assert_eq!(self.links(), [""; 0]);
        for folder in ["state/endpoints", "delete-queue"] {
            let files = files(&self.file(folder));
            assert!(files.is_empty(), "{files:?}");
        }
        let pins = files(&self.file("bpf/links"));
        let of_pods = pins.iter().filter(|pin| pin.to_string_lossy().contains("_pod_"));
        assert_eq!(of_pods.count(), 0, "{pins:?}");
        assert_eq!(self.rows("endpoints"), []);
        assert_eq!(self.known_at("node1"), BTreeSet::new());
        // The other node hears of it by way of the operator.
        self.becomes("node2 knows none of them", |node| node.known_at("node2").is_empty());
        self.becomes("nothing is left over", |node| node.problems().is_empty());
    }

    #[track_caller]
    pub fn becomes(&self, what: &str, is: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !is(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {:?}", self.lab.status());
            sleep(Duration::from_millis(50));
        }
    }

    pub fn kill_agent(&self) {
        self.lab.does(&["agent", "kill", "--node", "node1"]);
    }

    pub fn start_agent(&self) {
        self.lab.does(&["agent", "start", "--node", "node1"]);
    }
}

/// Does something for each, all at once.
pub fn at_once<T: Send>(of: &[Sandbox], work: impl Fn(&Sandbox) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(of.len());
    thread::scope(|scope| {
        let each = |sandbox| {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(sandbox)
            })
        };
        let threads: Vec<_> = of.iter().map(each).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

pub fn address(result: &Value) -> Ipv4Addr {
    let text = result["ips"][0]["address"].as_str().unwrap();
    text.split('/').next().unwrap().parse().unwrap()
}

/// Has a sandbox answer at TCP port 80, for as long as it is there.
pub fn serve(sandbox: &Sandbox) {
    echo(sandbox.netns.inside(listener));
}

/// At TCP port 80, where the calling thread is.
pub fn listener() -> TcpListener {
    TcpListener::bind("0.0.0.0:80").unwrap()
}

/// Sends back what comes, for as long as the listener's namespace is there.
pub fn echo(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            std::thread::spawn(move || {
                let mut byte = [0];
                while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
            });
        }
    });
}

/// A connection from one sandbox to an address; none when nobody answers.
pub fn connect(from: &Sandbox, to: Ipv4Addr) -> Option<TcpStream> {
    let to = SocketAddr::from((to, 80));
    let stream = from.netns.inside(move || TcpStream::connect_timeout(&to, Duration::from_secs(1)));
    let stream = stream.ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    Some(stream)
}

/// Whether what is sent comes back.
pub fn echoes(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut byte).is_ok() && byte == *b"x"
}
