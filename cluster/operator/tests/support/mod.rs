//! A real operator on loopback: certificates, admin calls, and agents that speak the wire.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

pub mod faults;

use faults::Faults;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use std::{
    collections::BTreeMap,
    future::Future,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use weft_api::{
    Failure,
    operator::{Answer, Request, Waited},
    transport::{CallError, Client, Options},
};
use weft_operator::{
    config::{Config, EtcdTls},
    operator::Operator,
    session,
};
use weft_types::{
    Delta, NamespacedName, Node, NodeName, Object, PodEndpoint, Policy, Revision, Selector,
    delta::DeltaKey,
    object::Pod,
    policy::{Isolation, PolicyId, PolicyKind},
};
use weft_wire::{
    ToAgent, ToOperator,
    frame::{FrameError, receive_within, send},
    tls::{Identity, connect},
};

/// Long enough on a machine that does other things.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// No frame to an agent is longer where no single change is.
const LONGEST: usize = 1 << 20;

/// An authority of certificates, in a folder.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join("ca.pem"), certificate.pem()).unwrap();
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// (CA, certificate, key) of whoever has this DNS name.
    pub fn issue(&self, name: &str) -> (PathBuf, PathBuf, PathBuf) {
        self.issue_also(name, &[])
    }

    /// The same of whoever has other names too.
    pub fn issue_also(&self, name: &str, also: &[&str]) -> (PathBuf, PathBuf, PathBuf) {
        let names = [&[name], also].concat().into_iter().map(str::to_owned);
        let mut params = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = also.first().unwrap_or(&name);
        let at = |kind: &str| self.dir.join(format!("{file}.{kind}"));
        std::fs::write(at("pem"), certificate.pem()).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        (self.dir.join("ca.pem"), at("pem"), at("key"))
    }

    pub fn identity(&self, name: &str) -> Identity {
        let (ca, certificate, key) = self.issue(name);
        Identity::read(&ca, &certificate, &key).unwrap()
    }
}

/// An operator that runs on a thread of its own.
pub struct Running {
    pub address: SocketAddr,
    pub metrics: Option<SocketAddr>,
    pub socket: PathBuf,
    stop: Option<oneshot::Sender<()>>,
    kill: Option<oneshot::Sender<()>>,
    pause: mpsc::UnboundedSender<std::sync::mpsc::Receiver<()>>,
    thread: Option<thread::JoinHandle<anyhow::Result<()>>>,
}

impl Running {
    /// Starts one, or says why it does not start.
    pub fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_with(config, Faults::default())
    }

    /// The same over a store and a disk that fail as they are told.
    pub fn start_with(config: Config, faults: Faults) -> anyhow::Result<Self> {
        Self::start_by(config, move |config| async move { faults.operator(&config).await })
    }

    /// The same, put together by somebody.
    pub fn start_by<F>(
        config: Config,
        make: impl FnOnce(Config) -> F + Send + 'static,
    ) -> anyhow::Result<Self>
    where
        F: Future<Output = anyhow::Result<Operator>>,
    {
        let (stop, stopped) = oneshot::channel();
        let (kill, killed) = oneshot::channel();
        let (pause, mut pauses) = mpsc::unbounded_channel::<std::sync::mpsc::Receiver<()>>();
        let (tell, told) = std::sync::mpsc::channel();
        let socket = config.admin_socket.clone();
        let thread = thread::spawn(move || {
            actix::System::new().block_on(async move {
                let operator = make(config).await?;
                tokio::task::spawn_local(async move {
                    while let Some(over) = pauses.recv().await {
                        // It stands still until nobody holds the other end.
                        _ = over.recv();
                    }
                });
                tell.send((operator.listens_at()?, operator.metrics_at())).unwrap();
                tokio::select! {
                    ended = operator.run(async move { drop(stopped.await) }) => ended,
                    Ok(()) = killed => Ok(()),
                }
            })
        });
        match told.recv() {
            Ok((address, metrics)) => {
                let (stop, kill, thread) = (Some(stop), Some(kill), Some(thread));
                Ok(Self { address, metrics, socket, stop, kill, pause, thread })
            }
            Err(_) => Err(thread.join().unwrap().unwrap_err()),
        }
    }

    /// The value of a metric, as its line begins.
    pub fn metric(&self, line: &str) -> f64 {
        let text = get(self.metrics.unwrap(), "/metrics");
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or(0.0)
    }

    pub fn ask(&self, request: Request) -> Result<Answer, Failure> {
        ask(&self.socket, request)
    }

    /// The revision of a change and how much it changed.
    pub fn apply(&self, objects: Vec<Object>) -> (Revision, usize) {
        accepted(self.ask(Request::Apply { objects }))
    }

    pub fn delete(&self, objects: Vec<Object>) -> (Revision, usize) {
        accepted(self.ask(Request::Delete { objects }))
    }

    pub fn wait(&self, node: Option<&str>, timeout_ms: u64) -> Waited {
        let node = node.map(str::to_owned);
        match self.ask(Request::Wait { revision: None, timeout_ms, node }) {
            Ok(Answer::Waited(waited)) => waited,
            other => panic!("{other:?}"),
        }
    }

    pub fn revision(&self) -> Revision {
        match self.ask(Request::Status) {
            Ok(Answer::Status(status)) => status.revision,
            other => panic!("{other:?}"),
        }
    }

    /// It does nothing, and hears nothing, until what this returns is dropped.
    pub fn pause(&self) -> std::sync::mpsc::Sender<()> {
        let (held, over) = std::sync::mpsc::channel();
        self.pause.send(over).unwrap();
        held
    }

    pub fn stop(mut self) {
        self.end().unwrap();
    }

    /// Ends it without a word to its peers.
    pub fn kill(mut self) {
        self.kill.take().unwrap().send(()).unwrap();
        self.end().unwrap();
    }

    /// Why it ended, by itself.
    pub fn ended(mut self) -> String {
        let ended = self.thread.take().unwrap().join().unwrap();
        ended.unwrap_err().to_string()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        drop(self.stop.take());
        self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.end());
    }
}

/// What a GET brings.
pub fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

pub fn ask(socket: &Path, request: Request) -> Result<Answer, Failure> {
    ask_within(socket, request, PATIENCE)
}

/// The same of someone who does not wait so long.
pub fn ask_within(socket: &Path, request: Request, time: Duration) -> Result<Answer, Failure> {
    let mut client = Client::connect(socket, PATIENCE).unwrap();
    client.call(request, Options::within(time)).map_err(|error| match error {
        CallError::Failed(failure) => failure,
        other => panic!("{other}"),
    })
}

#[track_caller]
fn accepted(answer: Result<Answer, Failure>) -> (Revision, usize) {
    match answer {
        Ok(Answer::Accepted { revision, changed }) => (revision, changed),
        other => panic!("{other:?}"),
    }
}

/// A folder with an authority, and the operators that run over it.
pub struct World {
    pub authority: Authority,
    pub dir: TempDir,
}

impl World {
    pub fn new() -> Self {
        let dir = TempDir::new().unwrap();
        Self { authority: Authority::new(&dir.path().join("keys")), dir }
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("state/store.redb")
    }

    /// The log's file.
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("state/raft.redb")
    }

    pub fn config(&self) -> Config {
        let (ca, cert, key) = self.authority.issue("operator.weft");
        Config {
            cluster: "blue".to_owned(),
            state_dir: self.dir.path().join("state"),
            etcd: Vec::new(),
            etcd_tls: EtcdTls::default(),
            listen: "127.0.0.1:0".parse().unwrap(),
            admin_socket: self.dir.path().join("operator.sock"),
            ca,
            cert,
            key,
            metrics_listen: Some("127.0.0.1:0".parse().unwrap()),
            peers: weft_process::config::defaults(),
            labels: weft_process::config::defaults(),
            identities: weft_process::config::defaults(),
            // What agents hold is compared with the whole state; tests/interests.rs has the others.
            sessions: session::Config { push_everything: true, ..weft_process::config::defaults() },
            admission: weft_process::config::defaults(),
            leader: weft_process::config::defaults(),
            logs: weft_process::config::defaults(),
        }
    }

    pub fn start(&self) -> Running {
        Running::start(self.config()).unwrap()
    }

    /// An agent that has just greeted.
    pub async fn agent(&self, operator: SocketAddr, node: &str, held: Option<Revision>) -> Agent {
        let identity = self.authority.identity(&format!("{node}.node.weft"));
        Agent::greet(&identity, operator, node, held).await.unwrap()
    }
}

/// Higher than any before.
pub fn next_session() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

impl World {
    /// The same of one that holds something.
    pub async fn agent_again(
        &self,
        operator: SocketAddr,
        node: &str,
        held: Revision,
        holds: &BTreeMap<DeltaKey, Delta>,
    ) -> Agent {
        let identity = self.authority.identity(&format!("{node}.node.weft"));
        Agent::again(&identity, operator, node, Some(held), holds).await.unwrap()
    }
}

/// An agent's side of a session.
#[derive(Debug)]
pub struct Agent {
    pub stream: TlsStream<TcpStream>,
    /// What it was told, by key.
    pub holds: BTreeMap<DeltaKey, Delta>,
    pub revision: Revision,
    /// How many snapshots and deltas messages came.
    pub snapshots: usize,
    pub pushes: usize,
    pub longest: usize,
    pub trace: Option<weft_types::TraceContext>,
    node: String,
}

impl Agent {
    /// Connects and says hello; no answer is waited for.
    pub async fn greet(
        identity: &Identity,
        operator: SocketAddr,
        node: &str,
        held: Option<Revision>,
    ) -> Result<Self, anyhow::Error> {
        Self::again(identity, operator, node, held, &BTreeMap::new()).await
    }

    /// The same of one that holds something.
    pub async fn again(
        identity: &Identity,
        operator: SocketAddr,
        node: &str,
        held: Option<Revision>,
        holds: &BTreeMap<DeltaKey, Delta>,
    ) -> Result<Self, anyhow::Error> {
        let mut stream = connect(operator, &identity.connector()?).await?;
        let identities = holds.keys().filter_map(|key| match key {
            DeltaKey::Identity(number) => Some(*number),
            _ => None,
        });
        let hello = ToOperator::Hello {
            node: NodeName(node.to_owned()),
            session: next_session(),
            held,
            from: held,
            identities: identities.collect(),
            asked: Vec::new(),
        };
        send(&mut stream, &hello).await?;
        let mut agent = Self::over(stream, node);
        agent.holds = holds.clone();
        agent.revision = held.unwrap_or_default();
        Ok(agent)
    }

    /// One that has said nothing yet.
    pub fn over(stream: TlsStream<TcpStream>, node: &str) -> Self {
        Self {
            stream,
            holds: BTreeMap::new(),
            revision: Revision::ZERO,
            snapshots: 0,
            pushes: 0,
            longest: 0,
            trace: None,
            node: node.to_owned(),
        }
    }

    pub async fn say(&mut self, message: ToOperator) {
        send(&mut self.stream, &message).await.unwrap();
    }

    pub async fn acknowledge(&mut self) {
        let revision = self.revision;
        self.say(ToOperator::Acknowledge { revision, trace: None }).await;
    }

    pub async fn plug(&mut self, pod: &str, address: Ipv4Addr) {
        let name = NamespacedName::new("shop", pod);
        let identity = match self.holds.get(&DeltaKey::Workload(name.clone())) {
            Some(Delta::WorkloadUpsert(workload)) => workload.identity,
            _ => weft_types::Identity::INIT,
        };
        let endpoint = PodEndpoint { name, address, identity, node: NodeName(self.node.clone()) };
        self.say(ToOperator::EndpointPlugged { endpoint, trace: None }).await;
    }

    /// The next message other than a ping. Pings alone are no answer: they come for ever.
    pub async fn hear(&mut self) -> Result<ToAgent, FrameError> {
        let heard = async {
            loop {
                match receive_within(&mut self.stream, LONGEST).await? {
                    ToAgent::Ping => self.say(ToOperator::Pong).await,
                    message => return Ok(message),
                }
            }
        };
        timeout(PATIENCE, heard).await.expect("nothing came")
    }

    /// Takes messages until it holds a revision; what it holds is a whole revision then.
    pub async fn reach(&mut self, revision: Revision) {
        let mut snapshot = None;
        while self.revision < revision || snapshot.is_some() {
            match self.hear().await.expect("the session goes on") {
                ToAgent::Welcome { revision, .. } => assert!(revision >= self.revision),
                ToAgent::SnapshotBegin => snapshot = Some(BTreeMap::new()),
                ToAgent::Deltas { revision, deltas, trace } => {
                    self.longest = self.longest.max(deltas.len());
                    self.trace = trace;
                    let holds = snapshot.as_mut().unwrap_or(&mut self.holds);
                    take(holds, deltas);
                    if snapshot.is_none() {
                        assert!(revision > self.revision, "an agent never goes back");
                        self.revision = revision;
                        self.pushes += 1;
                    }
                }
                ToAgent::SnapshotEnd { revision } => {
                    assert!(revision >= self.revision, "an agent never goes back");
                    self.holds = snapshot.take().expect("begun");
                    self.revision = revision;
                    self.snapshots += 1;
                }
                // Of pods that it plugged, for whoever asks ([`Self::spread`]).
                ToAgent::Spread { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The nodes that do not know an address yet that it plugged, when it is told.
    pub async fn spread(&mut self, plugged: Ipv4Addr) -> Vec<String> {
        loop {
            match self.hear().await.expect("the session goes on") {
                ToAgent::Spread { address, behind } if address == plugged => {
                    return behind.into_iter().map(|node| node.0).collect();
                }
                ToAgent::Deltas { revision, deltas, .. } => {
                    take(&mut self.holds, deltas);
                    self.revision = revision;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// Takes one more message of what it may hold at the revision that it has.
    pub async fn more(&mut self) {
        match self.hear().await.expect("the session goes on") {
            ToAgent::Deltas { revision, deltas, .. } => {
                assert_eq!(revision, self.revision);
                take(&mut self.holds, deltas);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Why it is refused.
    pub async fn refused(&mut self) -> String {
        match self.hear().await {
            Ok(ToAgent::Refused { reason }) => reason,
            other => panic!("{other:?}"),
        }
    }

    /// The session is over.
    pub async fn closed(&mut self) {
        let over = async { while self.hear().await.is_ok() {} };
        timeout(PATIENCE, over).await.expect("the session goes on");
    }

    pub fn endpoints(&self) -> Vec<Ipv4Addr> {
        let address = |key: &DeltaKey| match key {
            DeltaKey::Endpoint(address) => Some(*address),
            _ => None,
        };
        self.holds.keys().filter_map(address).collect()
    }

    /// Numbers and the label sets they stand for.
    pub fn identities(&self) -> BTreeMap<u32, String> {
        let pair = |delta: &Delta| match delta {
            Delta::IdentityUpsert(number, labels) => Some((number.0, labels.to_string())),
            _ => None,
        };
        self.holds.values().filter_map(pair).collect()
    }
}

fn take(holds: &mut BTreeMap<DeltaKey, Delta>, deltas: Vec<Delta>) {
    for delta in deltas {
        match delta {
            Delta::IdentityDelete(_)
            | Delta::NodeDelete(_)
            | Delta::WorkloadDelete(_)
            | Delta::EndpointDelete(_)
            | Delta::PolicyDelete(_) => drop(holds.remove(&delta.key())),
            _ => drop(holds.insert(delta.key(), delta)),
        }
    }
}

pub fn node(number: u8) -> Object {
    Object::Node(Node {
        name: NodeName(format!("node{number}")),
        address: [172, 30, 0, number].into(),
        pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
    })
}

pub fn pod(name: &str, app: &str, node: u8) -> Object {
    Object::Pod(Pod {
        name: NamespacedName::new("shop", name),
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        service_account: "default".to_owned(),
        ports: Vec::new(),
        node: Some(NodeName(format!("node{node}"))),
        address: None,
        command: Vec::new(),
    })
}

pub fn policy(name: &str, ingress: Isolation) -> Object {
    Object::Policy(Policy {
        id: PolicyId { kind: PolicyKind::NetworkPolicy, name: NamespacedName::new("shop", name) },
        subject: Selector::default(),
        ingress,
        egress: Isolation::Open,
    })
}

/// Runs a test's asynchronous part.
pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
