//! A lab under traffic that is accounted for to the last byte, whatever is done to the lab meanwhile.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "what tests share; a failure here is the test's"
)]

use crate::lab::{Lab, Stream};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

/// Nobody who may connect waits as long, and nobody who may not connects within it.
const PATIENCE: Duration = Duration::from_secs(20);
/// A stranger's connection that is not there by now is refused; the next one is tried.
const REFUSED: Duration = Duration::from_millis(60);
/// A stranger's datagrams are so far apart.
const PAUSE: Duration = Duration::from_millis(2);

/// Who talks to whom all the time: on one node and across, from both nodes.
const PAIRS: [(&str, &str); 4] = [
    ("client1", "server1"),
    ("client1", "server2"),
    ("client2", "server1"),
    ("client2", "server2"),
];
/// Who never may: strangers at ingress, the mute at its own egress.
const FORBIDDEN: [(&str, &str); 6] = [
    ("stranger1", "server1"),
    ("stranger1", "server2"),
    ("stranger2", "server1"),
    ("stranger2", "server2"),
    ("mute", "server1"),
    ("mute", "server2"),
];

/// Brings a lab up with pods on two nodes. The policies, by which clients reach servers and nobody else does, come
/// later: an agent that believed an old snapshot would let pass what they forbid.
#[track_caller]
pub fn bed(test: &str) -> Lab {
    let lab = Lab::named(test);
    lab.change("up", &pods());
    lab.change("apply", &policies());
    lab
}

/// The pods of a [`bed`].
pub fn pods() -> String {
    let pod = |name: &str, node: u8, role: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: load, labels: {{role: {role}, app: {name}}}}}\n\
             spec: {{nodeName: node{node}, containers: [{{name: c, image: i, \
             ports: [{{containerPort: 80}}, {{containerPort: 53, protocol: UDP}}]}}]}}\n---\n"
        )
    };
    [
        pod("client1", 1, "client"),
        pod("client2", 2, "client"),
        pod("server1", 1, "server"),
        pod("server2", 2, "server"),
        pod("stranger1", 1, "stranger"),
        pod("stranger2", 2, "stranger"),
        pod("mute", 1, "client"),
    ]
    .concat()
}

fn policies() -> String {
    let policy = |name: &str, spec: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: {name}, namespace: load}}\nspec: {spec}\n---\n"
        )
    };
    [
        policy(
            "from-clients",
            "{podSelector: {matchLabels: {role: server}}, \
             ingress: [{from: [{podSelector: {matchLabels: {role: client}}}]}]}",
        ),
        policy("mute", "{podSelector: {matchLabels: {app: mute}}, policyTypes: [Egress]}"),
    ]
    .concat()
}

/// The traffic: 16 connections and 4 streams of 1,000 datagrams a second, new connections one after another, and
/// those who may not.
#[derive(Debug)]
pub struct Load<'a> {
    lab: &'a Lab,
    /// Before it began.
    unread: u64,
    streams: Vec<Stream>,
    watchers: Vec<JoinHandle<()>>,
    watched: Ends,
}

/// Ends the watchers when the test does, however it ends.
#[derive(Debug)]
struct Ends(Arc<Watched>);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.over.store(true, SeqCst);
    }
}

impl Deref for Ends {
    type Target = Watched;

    fn deref(&self) -> &Watched {
        &self.0
    }
}

/// What the watchers saw.
#[derive(Debug, Default)]
struct Watched {
    over: AtomicBool,
    /// Set by the test while an agent is away.
    away: AtomicBool,
    opened: AtomicU64,
    opened_away: AtomicU64,
    slowest_ms: AtomicU64,
    tried: AtomicU64,
    passed: AtomicU64,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Bytes over connections that came back.
    pub bytes: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Datagrams that the fabric lost: they did not come back, and not for being unread.
    pub lost: u64,
    /// Datagrams that came to a pod whose reader had no room for more: a machine too busy lost these.
    pub unread: u64,
    /// The longest time in which something was missing.
    pub longest_gap_ms: u64,
    /// New connections, and those of them opened while an agent was away.
    pub opened: (u64, u64),
    /// The slowest of them, until its first byte was back.
    pub slowest_ms: u64,
    /// What was tried that is forbidden.
    pub tried: u64,
}

impl<'a> Load<'a> {
    /// Starts it over a [`bed`].
    pub fn over(lab: &'a Lab) -> Self {
        let mut streams = Vec::new();
        for (from, to) in PAIRS {
            let (from, to) = (format!("load/{from}"), format!("load/{to}"));
            let patient = ["--patience", "20s", &*from, &*to];
            let tcp = ["--streams", "4", "--rate", "64k"];
            streams.push(lab.stream(&[&tcp[..], &patient].concat()));
            streams.push(lab.stream(&[&["--udp", "--rate", "512k"][..], &patient].concat()));
        }
        let watched = Arc::new(Watched::default());
        let mut watchers = Vec::new();
        let mut watch = |from: &str, to: &str, what: fn(Ipv4Addr, &Watched)| {
            let to: Ipv4Addr =
                lab.pod(&format!("load/{to}"))["address"].as_str().unwrap().parse().unwrap();
            let (inside, watched) = (lab.entrance(&format!("load/{from}")), Arc::clone(&watched));
            watchers.push(spawn(move || {
                inside.enter();
                what(to, &watched);
            }));
        };
        for (from, to) in PAIRS {
            watch(from, to, opens);
        }
        for (from, to) in FORBIDDEN {
            watch(from, to, sends_in_vain);
            watch(from, to, connects_in_vain);
        }
        Self { lab, unread: unread(lab), streams, watchers, watched: Ends(watched) }
    }

    /// Says that an agent is away, or that none is.
    pub fn away(&self, away: bool) {
        self.watched.away.store(away, SeqCst);
    }

    /// Nothing forbidden has passed, and nobody who may connect could not.
    #[track_caller]
    pub fn goes_on(&self, when: &str) {
        assert_eq!(self.watched.passed.load(SeqCst), 0, "forbidden packets passed {when}");
        let ended = self.watchers.iter().any(JoinHandle::is_finished);
        assert!(!ended, "an allowed connection was not opened {when}");
    }

    /// Ends it. No byte of a connection may be missing, none reset, nothing forbidden may have passed; what
    /// became of datagrams is for the caller to judge.
    #[track_caller]
    pub fn end(self) -> Outcome {
        self.watched.over.store(true, SeqCst);
        for stream in &self.streams {
            kill(Pid::from_raw(stream.pid().try_into().unwrap()), Signal::SIGINT).unwrap();
        }
        let mut outcome = Outcome::default();
        for stream in self.streams {
            let (_, report) = stream.end();
            let number = |key: &str| report[key].as_u64().unwrap();
            assert_eq!((number("resets"), &report["ended"]), (0, &"done".into()), "{report}");
            if report["protocol"] == "UDP" {
                outcome.datagrams += number("sent") / 512;
                outcome.lost += number("lost") / 512;
            } else {
                assert_eq!(number("lost"), 0, "{report}");
                outcome.bytes += number("back");
            }
            outcome.longest_gap_ms = outcome.longest_gap_ms.max(number("longest_gap_ms"));
        }
        for watcher in self.watchers {
            watcher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
        outcome.unread = unread(self.lab) - self.unread;
        outcome.lost = outcome.lost.saturating_sub(outcome.unread);
        let watched = &self.watched;
        outcome.opened = (watched.opened.load(SeqCst), watched.opened_away.load(SeqCst));
        outcome.slowest_ms = watched.slowest_ms.load(SeqCst);
        outcome.tried = watched.tried.load(SeqCst);
        assert_eq!(watched.passed.load(SeqCst), 0, "forbidden packets passed: {outcome:?}");
        assert!(outcome.bytes > 0 && outcome.datagrams > 0 && outcome.tried > 0, "{outcome:?}");
        outcome
    }
}

/// Datagrams that pods in [`PAIRS`] had no room for.
fn unread(lab: &Lab) -> u64 {
    let ends: BTreeSet<&str> = PAIRS.iter().flat_map(|(from, to)| [*from, *to]).collect();
    let count = || {
        let text = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        // A line of names, and one of numbers.
        let mut lines = text.lines().filter(|line| line.starts_with("Udp: "));
        let (names, numbers) = (lines.next().unwrap(), lines.next().unwrap());
        let at = names.split(' ').position(|name| name == "RcvbufErrors").unwrap();
        numbers.split(' ').nth(at).unwrap().parse::<u64>().unwrap()
    };
    ends.iter().map(|pod| lab.inside(&format!("load/{pod}"), count)).sum()
}

/// Opens connections that are allowed, one after another.
fn opens(to: Ipv4Addr, watched: &Watched) {
    while !watched.over.load(SeqCst) {
        let (begun, away) = (Instant::now(), watched.away.load(SeqCst));
        let mut stream = TcpStream::connect_timeout(&SocketAddr::from((to, 80)), PATIENCE)
            .unwrap_or_else(|error| panic!("a connection to {to} that is allowed: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"echo\nx").unwrap();
        let mut back = [0];
        stream.read_exact(&mut back).unwrap();
        let took = u64::try_from(begun.elapsed().as_millis()).unwrap();
        watched.slowest_ms.fetch_max(took, SeqCst);
        watched.opened.fetch_add(1, SeqCst);
        // An agent that was away at both ends was so all the time, or went and came within milliseconds.
        if away && watched.away.load(SeqCst) {
            watched.opened_away.fetch_add(1, SeqCst);
        }
        sleep(Duration::from_millis(5));
    }
}

/// Sends datagrams that may not arrive.
fn sends_in_vain(to: Ipv4Addr, watched: &Watched) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect((to, 53)).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut answer = [0; 64];
    while !watched.over.load(SeqCst) {
        // What cannot be sent does not pass.
        let _ = socket.send(b"echo\nforbidden");
        watched.tried.fetch_add(1, SeqCst);
        match socket.recv(&mut answer) {
            // "Refused" is an answer too: the pod's own.
            Ok(_) => drop(watched.passed.fetch_add(1, SeqCst)),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                watched.passed.fetch_add(1, SeqCst);
            }
            Err(_) => {}
        }
        sleep(PAUSE);
    }
}

/// Opens connections that may not be.
fn connects_in_vain(to: Ipv4Addr, watched: &Watched) {
    while !watched.over.load(SeqCst) {
        watched.tried.fetch_add(1, SeqCst);
        match TcpStream::connect_timeout(&SocketAddr::from((to, 80)), REFUSED) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            passed => {
                eprintln!("forbidden: {to} answered {passed:?}");
                watched.passed.fetch_add(1, SeqCst);
            }
        }
    }
}
