//! Clients of the operators: they want pods with labels that no other has, and look at what became of them.

use super::lab::Lab;
use anyhow::Result;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use weft_api::{
    FailureKind,
    operator::{Answer, Request},
    transport::{CallError, Client, Options},
};
use weft_sim::{Action, Operation, Outcome};
use weft_types::{
    NamespacedName, NodeName, Object,
    object::{ObjectKey, Pod},
};

const WRITERS: usize = 6;
const READERS: usize = 2;
/// How long a client waits for an answer.
const DEADLINE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
/// Objects that readers look at: those that were wanted last.
const RECENT: usize = 12;
/// Pods that a client wants at once, at most: what a long run costs is no more than what a short one does.
const ROOM: usize = 50;
/// The label that no other pod has.
const LABEL: &str = "app";

/// Clients that are under way.
pub(super) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<Operation>>>,
}

struct Shared {
    begun: Instant,
    sockets: Vec<PathBuf>,
    over: AtomicBool,
    /// Answered changes: called and answered when.
    answers: Mutex<Vec<(Instant, Instant)>>,
    /// Keys that were wanted last.
    recent: Mutex<VecDeque<String>>,
}

impl Load {
    pub(super) fn begin(lab: &Lab) -> Result<Self> {
        let sockets = lab.operators()?.into_iter().map(|operator| operator.socket).collect();
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            sockets,
            over: AtomicBool::new(false),
            answers: Mutex::default(),
            recent: Mutex::default(),
        });
        let writers = (0..WRITERS).map(|number| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || Writer::new(number, shared).run())
        });
        let readers = (0..READERS).map(|number| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || read_again(number, &shared))
        });
        Ok(Self { clients: writers.chain(readers).collect(), shared })
    }

    /// When a change was answered first that was asked for since a time.
    pub(super) fn first_answer_since(&self, time: Instant) -> Option<Instant> {
        let answers = lock(&self.shared.answers);
        answers.iter().filter(|(call, _)| *call >= time).map(|(_, answered)| *answered).min()
    }

    /// Ends them, and looks at everything once more: what was asked and answered.
    pub(super) fn end(self) -> Vec<Operation> {
        self.shared.over.store(true, Ordering::Relaxed);
        let ended = self.clients.into_iter().filter_map(|client| client.join().ok());
        let mut history: Vec<Operation> = ended.flatten().collect();
        let written = history.iter().filter_map(|operation| match &operation.operation {
            Action::Write(objects) => Some(objects.keys().cloned()),
            Action::Read(_) | Action::Allocate(_) | Action::Number(_) | Action::Free { .. } => None,
        });
        let keys: BTreeSet<String> = written.flatten().collect();
        let mut last = Reader { name: "last".to_owned(), operations: Vec::new() };
        last.look(&self.shared, keys);
        history.extend(last.operations);
        history.sort_by_key(|operation| operation.call);
        history
    }
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Asks any operator, and another at once when one does not run.
    fn ask(&self, request: &Request) -> Result<Answer, CallError> {
        let mut sockets: Vec<&Path> = self.sockets.iter().map(PathBuf::as_path).collect();
        fastrand::shuffle(&mut sockets);
        let mut answer = Err(CallError::Failed(weft_api::Failure {
            kind: FailureKind::TryAgain,
            message: "there is no operator".to_owned(),
        }));
        for socket in sockets {
            answer = Client::connect(socket, DEADLINE)
                .and_then(|mut client| client.call(request.clone(), Options::within(DEADLINE)));
            if !matches!(answer, Err(CallError::Unreachable { .. })) {
                break;
            }
        }
        answer
    }
}

/// A client that wants pods, and sometimes fewer of them.
struct Writer {
    number: usize,
    shared: Arc<Shared>,
    operations: Vec<Operation>,
    /// Pods that are there for certain.
    there: Vec<Pod>,
    last: u32,
}

impl Writer {
    fn new(number: usize, shared: Arc<Shared>) -> Self {
        Self { number, shared, operations: Vec::new(), there: Vec::new(), last: 0 }
    }

    fn run(mut self) -> Vec<Operation> {
        while !self.shared.over.load(Ordering::Relaxed) {
            let there = self.there.len();
            if there >= ROOM || there > 0 && fastrand::u8(0..5) == 0 {
                let pod = self.there.swap_remove(fastrand::usize(0..there));
                self.want(pod, false);
            } else {
                let pod = self.pod();
                self.want(pod, true);
            }
            thread::sleep(PAUSE);
        }
        self.operations
    }

    fn pod(&mut self) -> Pod {
        self.last += 1;
        let name = format!("w{}-{}", self.number, self.last);
        Pod {
            labels: BTreeMap::from([(LABEL.to_owned(), name.clone())]),
            name: NamespacedName::new("live", name),
            service_account: "default".to_owned(),
            ports: Vec::new(),
            node: Some(NodeName(format!("node{}", fastrand::u8(1..=3)))),
            address: None,
            command: Vec::new(),
        }
    }

    /// A pod is to be there, or not to be there.
    fn want(&mut self, pod: Pod, there: bool) {
        let key = ObjectKey::Pod(pod.name.clone()).to_string();
        let value = there.then(|| value_of(&pod)).flatten();
        let labels = value.as_deref().map(register);
        {
            let mut recent = lock(&self.shared.recent);
            recent.push_back(key.clone());
            if recent.len() > RECENT {
                recent.pop_front();
            }
        }
        let objects = vec![Object::Pod(pod.clone())];
        let request = if there { Request::Apply { objects } } else { Request::Delete { objects } };
        let (called, call) = (Instant::now(), self.shared.now());
        let answer = self.shared.ask(&request);
        let answered = Instant::now();
        let outcome = outcome(&answer);
        let returned = (outcome != Outcome::Unknown).then(|| self.shared.now());
        if outcome == Outcome::Done {
            lock(&self.shared.answers).push((called, answered));
            if there {
                self.there.push(pod);
            }
        }
        let client = format!("writer{}", self.number);
        let mut add = |operation| {
            let (client, outcome) = (client.clone(), outcome.clone());
            self.operations.push(Operation { client, call, returned, operation, outcome });
        };
        add(Action::Write(BTreeMap::from([(key, value)])));
        if let Some(labels) = labels {
            add(Action::Allocate(labels));
        }
    }
}

/// A pod in a word: the label that no other has.
fn value_of(pod: &Pod) -> Option<String> {
    pod.labels.get(LABEL).cloned()
}

/// A label set by the label that no other has.
fn register(value: &str) -> String {
    format!("k8s:{LABEL}={value}")
}

fn outcome(answer: &Result<Answer, CallError>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Done,
        Err(CallError::Unreachable { .. }) => Outcome::Failed,
        Err(CallError::Failed(failure)) if failure.kind == FailureKind::Invalid => Outcome::Failed,
        Err(CallError::Failed(_) | CallError::Broken { .. }) => Outcome::Unknown,
    }
}

/// A client that looks.
struct Reader {
    name: String,
    operations: Vec<Operation>,
}

fn read_again(number: usize, shared: &Shared) -> Vec<Operation> {
    let mut reader = Reader { name: format!("reader{number}"), operations: Vec::new() };
    while !shared.over.load(Ordering::Relaxed) {
        let keys = lock(&shared.recent).iter().cloned().collect();
        reader.look(shared, keys);
        thread::sleep(4 * PAUSE);
    }
    reader.operations
}

impl Reader {
    /// Looks at objects, and at the numbers of label sets that no pod shares.
    fn look(&mut self, shared: &Shared, keys: BTreeSet<String>) {
        let call = shared.now();
        if let Ok(Answer::Objects(objects)) = shared.ask(&Request::Objects) {
            let returned = Some(shared.now());
            let seen = |object: &Object| match object {
                Object::Pod(pod) => Some((object.key().to_string(), value_of(pod))),
                Object::Namespace(_) | Object::Node(_) | Object::Policy(_) => None,
            };
            let mut seen: BTreeMap<String, Option<String>> =
                objects.iter().filter_map(seen).collect();
            for key in &keys {
                let value = seen.remove(key).flatten();
                self.add((call, returned), Action::Read(key.clone()), Outcome::Value(value));
            }
        }
        let call = shared.now();
        if let Ok(Answer::Identities(rows)) = shared.ask(&Request::Identities) {
            let returned = Some(shared.now());
            let labels = keys.iter().filter_map(|key| Some(register(key.rsplit('/').next()?)));
            let labels: BTreeSet<String> = labels.collect();
            for row in rows {
                // A number that nobody has any more may be given back: that one is not there says nothing.
                let label = row.labels.into_iter().find(|label| labels.contains(label));
                if let Some(label) = label {
                    let outcome = Outcome::Number(Some(row.identity));
                    self.add((call, returned), Action::Number(label), outcome);
                }
            }
        }
    }

    fn add(&mut self, (call, returned): (u64, Option<u64>), operation: Action, outcome: Outcome) {
        let client = self.name.clone();
        self.operations.push(Operation { client, call, returned, operation, outcome });
    }
}

/// What a client that panicked left is as good as any.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
