//! Everyone asks everyone, all the time: datagrams of one flow, datagrams each of a flow of its own, and connections. What
//! comes back, what does not, and what policies kept from passing, is judged by the timeline.

use crate::cluster::{PORTS, full};
use std::{
    collections::BTreeMap,
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};
use weft_tests::{
    lab::Lab,
    timeline::{Question, Seen, Timeline, Violation},
};

/// Who may be answered is so within this time, on a machine however busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// A connection that is not there by now is refused or slow; the next one is tried.
const REFUSED: Duration = Duration::from_millis(60);
/// Between two rounds of a prober: thousands of packets a second in all.
const PAUSE: Duration = Duration::from_millis(15);
/// How long a flow's answer is waited for by whoever opened it for that alone.
const FRESH: Duration = Duration::from_secs(2);
const DATAGRAM: &[u8] = b"echo\n";
/// Between a packet's own time and the clock that timelines have.
const CLOCKS: Duration = Duration::from_millis(500);
/// Changes that every node has acknowledged, from a pod's coming on, after which every node knows it: an agent speaks of its
/// endpoints before it acknowledges a first one, and what that brings is ordered before a second one.
const KNOWN: u32 = 2;

/// A pod that is asked.
#[derive(Clone, Copy)]
struct Target {
    at: Ipv4Addr,
    /// Changes that were acknowledged since it came.
    changes: u32,
    /// Since when every node knows it; to one that does not it is a stranger, which policies may keep out.
    known: Option<Duration>,
}

/// What probers share: whom to ask, what is possible, what was wrong.
pub(crate) struct World {
    begun: Instant,
    /// Held for reading while something is judged: who is taken off it is judged no more.
    targets: RwLock<BTreeMap<String, Target>>,
    pub(crate) timeline: Mutex<Timeline<Duration>>,
    violations: Mutex<Vec<(Duration, Violation)>>,
    pub(crate) passed: AtomicU64,
    pub(crate) missed: AtomicU64,
    pub(crate) kept: AtomicU64,
}

impl World {
    pub(crate) fn new(timeline: Timeline<Duration>, begun: Instant) -> Arc<Self> {
        Arc::new(Self {
            begun,
            targets: RwLock::default(),
            timeline: Mutex::new(timeline),
            violations: Mutex::default(),
            passed: AtomicU64::new(0),
            missed: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        })
    }

    /// The clock of the timeline.
    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A pod is to be asked.
    pub(crate) fn ask(&self, pod: &str, address: Ipv4Addr) {
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        targets.insert(full(pod), Target { at: address, changes: 0, known: None });
    }

    /// Every node has acknowledged a change.
    pub(crate) fn acknowledged(&self) {
        let mut targets = self.targets.write().unwrap_or_else(PoisonError::into_inner);
        for target in targets.values_mut() {
            target.changes += 1;
            if target.changes == KNOWN {
                target.known = Some(self.now());
            }
        }
    }

    /// It is asked no more, and what it still answers is nobody's: its address may be another's soon.
    pub(crate) fn ask_no_more(&self, pod: &str) {
        self.targets.write().unwrap_or_else(PoisonError::into_inner).remove(&full(pod));
    }

    /// What was wrong so far.
    pub(crate) fn violations(&self) -> Vec<(Duration, Violation)> {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn targets(&self) -> BTreeMap<String, Ipv4Addr> {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        targets.iter().map(|(name, target)| (name.clone(), target.at)).collect()
    }

    /// Judges what was seen of a pod that is still to be asked.
    fn saw(&self, question: &Question, at: Ipv4Addr, seen: Seen, from: Duration) {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        if targets.get(&question.to).is_none_or(|target| target.at != at) {
            return;
        }
        self.judge(question, seen, (from, self.now()));
    }

    /// Judges what was kept from passing then between two that every node knew.
    pub(crate) fn denied(
        &self,
        (from, to): (Ipv4Addr, Ipv4Addr),
        protocol: &'static str,
        seen: Seen,
        then: Duration,
    ) {
        let targets = self.targets.read().unwrap_or_else(PoisonError::into_inner);
        let known = |address: Ipv4Addr| {
            let (name, target) = targets.iter().find(|(_, target)| target.at == address)?;
            (target.known? + CLOCKS < then).then(|| name.clone())
        };
        if let (Some(from), Some(to)) = (known(from), known(to)) {
            let around = (then.saturating_sub(CLOCKS), then + CLOCKS);
            self.judge(&Question { from, to, protocol }, seen, around);
        }
    }

    fn judge(&self, question: &Question, seen: Seen, between: (Duration, Duration)) {
        let timeline = self.timeline.lock().unwrap_or_else(PoisonError::into_inner);
        let judged = timeline.judge(question, seen, between);
        drop(timeline);
        let counter = match seen {
            Seen::Passed => &self.passed,
            Seen::Missing => &self.missed,
            Seen::KeptIn | Seen::KeptOut => &self.kept,
        };
        counter.fetch_add(1, SeqCst);
        if let Err(violation) = judged {
            let mut violations = self.violations.lock().unwrap_or_else(PoisonError::into_inner);
            violations.push((between.0, violation));
        }
    }
}

/// The probers in one pod.
pub(crate) struct Prober {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Prober {
    pub(crate) fn start(world: &Arc<World>, lab: &Lab, pod: &str) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let ways: [fn(&mut Asking); 2] = [datagrams, connections];
        let start = |(way, (protocol, port)): (fn(&mut Asking), (&'static str, u16))| {
            let entrance = lab.entrance(&full(pod));
            let mut asking = Asking {
                world: Arc::clone(world),
                over: Arc::clone(&over),
                from: full(pod),
                protocol,
                port,
                silent: BTreeMap::new(),
            };
            spawn(move || {
                entrance.enter();
                way(&mut asking);
            })
        };
        let threads = ways.into_iter().zip(PORTS).map(start).collect();
        Self { over, threads }
    }

    /// Returns when they have ended.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.over.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

/// One prober's questions.
struct Asking {
    world: Arc<World>,
    over: Arc<AtomicBool>,
    from: String,
    protocol: &'static str,
    port: u16,
    /// Since when whom has not answered, and how often it was asked since.
    silent: BTreeMap<String, (Duration, u32)>,
}

impl Asking {
    fn question(&self, to: &str) -> Question {
        Question { from: self.from.clone(), to: to.to_owned(), protocol: self.protocol }
    }

    /// Whom to ask now; those that are gone are not waited for.
    fn whom(&mut self) -> Vec<(String, Ipv4Addr)> {
        let mut targets = self.world.targets();
        targets.remove(&self.from);
        self.silent.retain(|name, _| targets.contains_key(name));
        targets.into_iter().collect()
    }

    /// Someone answered what was asked then.
    fn answered(&mut self, to: &str, at: Ipv4Addr, asked: Duration) {
        self.world.saw(&self.question(to), at, Seen::Passed, asked);
        self.silent.remove(to);
    }

    /// Someone was asked once more.
    fn asked(&mut self, to: &str, at: Ipv4Addr) {
        let now = self.world.now();
        let (since, often) = self.silent.entry(to.to_owned()).or_insert((now, 0));
        *often += 1;
        // Often, too: who gets no turn of the machine asks nobody.
        if now.saturating_sub(*since) > PATIENCE && *often > 20 {
            let since = *since;
            self.silent.insert(to.to_owned(), (now, 0));
            self.world.saw(&self.question(to), at, Seen::Missing, since);
        }
    }
}

/// A datagram that says when it was sent.
fn stamped(now: Duration) -> Vec<u8> {
    let nanoseconds = u64::try_from(now.as_nanos()).unwrap();
    [DATAGRAM, &nanoseconds.to_le_bytes()].concat()
}

/// A socket that waits for nobody.
fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// One flow to each that is there all the time, and another that is new.
fn datagrams(asking: &mut Asking) {
    let old = socket();
    let mut fresh: Vec<(Duration, UdpSocket)> = Vec::new();
    while !asking.over.load(SeqCst) {
        let whom = asking.whom();
        let new = socket();
        for (to, at) in &whom {
            for socket in [&old, &new] {
                // What cannot be sent does not pass.
                let _ = socket.send_to(&stamped(asking.world.now()), (*at, asking.port));
            }
            asking.asked(to, *at);
        }
        fresh.push((asking.world.now(), new));
        sleep(PAUSE);
        hear(asking, &whom, &old);
        fresh.iter().for_each(|(_, socket)| hear(asking, &whom, socket));
        let now = asking.world.now();
        fresh.retain(|(opened, _)| now.saturating_sub(*opened) < FRESH);
    }
}

/// Takes what came back to a socket.
fn hear(asking: &mut Asking, whom: &[(String, Ipv4Addr)], socket: &UdpSocket) {
    let mut datagram = [0; 64];
    loop {
        match socket.recv_from(&mut datagram) {
            Ok((length, SocketAddr::V4(from))) => {
                let stamp = datagram[..length].strip_prefix(DATAGRAM);
                let stamp = stamp.and_then(|stamp| stamp.try_into().ok()).map(u64::from_le_bytes);
                let sender = whom.iter().find(|(_, at)| at == from.ip());
                if let (Some(stamp), Some((to, at))) = (stamp, sender) {
                    asking.answered(to, *at, Duration::from_nanos(stamp));
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            // An error about an earlier datagram.
            _ => {}
        }
    }
}

/// A connection to one after the other.
fn connections(asking: &mut Asking) {
    while !asking.over.load(SeqCst) {
        for (to, at) in asking.whom() {
            let begun = asking.world.now();
            match TcpStream::connect_timeout(&SocketAddr::from((at, asking.port)), REFUSED) {
                Ok(_) => asking.answered(&to, at, begun),
                // The pod's own answer, that nobody listens any more: it was reached.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    asking.answered(&to, at, begun);
                }
                Err(_) => {}
            }
            asking.asked(&to, at);
        }
        sleep(PAUSE);
    }
}
