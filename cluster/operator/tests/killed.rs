//! The operator killed between its steps: a real process, ended at a named point, and what is left of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use support::{
    Agent, PATIENCE, World, block_on,
    faults::{Call, Fault, Faults},
    node, pod,
};
use weft_api::{
    operator::{Answer, Request},
    transport::{Client, Options},
};
use weft_operator::config::{Config, EtcdTls};
use weft_store::{FileStore, Store};
use weft_types::{Object, Revision};

/// Changes that pass before the process ends.
const PASS: usize = 5;

/// The process that is killed; run by the tests below, which tell it on its standard input where its folder
/// is and when it ends.
#[test]
#[ignore = "a process that other tests start"]
fn victim() {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    let mut words = line.split_whitespace();
    let (Some(dir), Some(point)) = (words.next(), words.next()) else { return };
    let dir = Path::new(dir);
    let faults = Faults::default();
    let (call, fault) = match point {
        "before-store" => (Call::StoreWrite, Fault::DieBefore),
        "between-store-and-log" => (Call::StoreWrite, Fault::DieAfter),
        "before-log" => (Call::DiskWrite, Fault::DieBefore),
        "between-log-and-push" => (Call::DiskWrite, Fault::DieAfter),
        other => panic!("{other}"),
    };
    // That it leads is in the log before it serves.
    let before = usize::from(call == Call::DiskWrite);
    faults.plan(call, before + PASS, fault);
    let config = Config {
        cluster: "blue".to_owned(),
        state_dir: dir.join("state"),
        etcd: Vec::new(),
        etcd_tls: EtcdTls::default(),
        listen: "127.0.0.1:0".parse().unwrap(),
        admin_socket: dir.join("operator.sock"),
        ca: dir.join("keys/ca.pem"),
        cert: dir.join("keys/operator.weft.pem"),
        key: dir.join("keys/operator.weft.key"),
        metrics_listen: None,
        peers: weft_process::config::defaults(),
        labels: weft_process::config::defaults(),
        identities: weft_process::config::defaults(),
        sessions: weft_process::config::defaults(),
        admission: weft_process::config::defaults(),
        leader: weft_process::config::defaults(),
        logs: weft_process::config::defaults(),
    };
    actix::System::new().block_on(async move {
        let operator = faults.operator(&config).await.unwrap();
        std::fs::write(dir.join("port.tmp"), operator.listens_at().unwrap().to_string()).unwrap();
        std::fs::rename(dir.join("port.tmp"), dir.join("port")).unwrap();
        operator.run(std::future::pending()).await.unwrap();
    });
}

/// Ends it also when a test fails.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn start(dir: &Path, point: &str) -> Victim {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{} {point}", dir.display()).unwrap();
    let victim = Victim(child);
    let until = Instant::now() + PATIENCE;
    while !dir.join("port").exists() {
        assert!(Instant::now() < until, "the operator does not start");
        thread::sleep(Duration::from_millis(5));
    }
    victim
}

/// The revision of a change; none when the operator ended in it.
fn try_apply(socket: &Path, objects: Vec<Object>) -> Option<Revision> {
    let mut client = Client::connect(socket, Duration::ZERO).ok()?;
    match client.call(Request::Apply { objects }, Options::within(PATIENCE)) {
        Ok(Answer::Accepted { revision, .. }) => Some(revision),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

/// What an agent held when the operator ended, and whether the change in which it ended is there after
/// the next start.
fn killed(point: &str) -> bool {
    let world = World::new();
    world.config();
    let dir = world.dir.path();
    let mut victim = start(dir, point);
    let address = std::fs::read_to_string(dir.join("port")).unwrap().parse().unwrap();
    let socket = dir.join("operator.sock");
    let mut accepted = Vec::new();
    let told = block_on(async {
        let mut agent = world.agent(address, "node1", None).await;
        agent.reach(Revision::new(1, 0)).await;
        for number in 0.. {
            let object = pod(&format!("p-{number}"), &format!("app-{number}"), 1);
            let Some(revision) = try_apply(&socket, vec![object]) else { break };
            agent.reach(revision).await;
            accepted.push((revision, number));
            assert!(number < 100, "it never ends");
        }
        // Everything that was sent before the end.
        let pushed = agent.hear().await;
        assert!(pushed.is_err(), "pushed, though it ended before: {pushed:?}");
        agent
    });
    assert!(!victim.0.wait().unwrap().success());
    assert_eq!(accepted.len(), PASS);
    after(&world, told, &accepted)
}

fn after(world: &World, told: Agent, accepted: &[(Revision, u32)]) -> bool {
    let operator = world.start();
    // What was pushed is durable: generation and index.
    assert!(operator.revision() >= told.revision, "{} {}", operator.revision(), told.revision);
    let Ok(Answer::Objects(objects)) = operator.ask(Request::Objects) else { panic!() };
    let names: BTreeSet<String> = objects.iter().map(|object| object.key().to_string()).collect();
    for (_, number) in accepted {
        assert!(names.contains(&format!("pod/shop/p-{number}")), "an accepted change is lost");
    }
    let last = names.contains(&format!("pod/shop/p-{}", accepted.len()));
    // The agent goes on from what it holds, and no number it was told means another label set now.
    let before = told.identities();
    assert_eq!(before.len(), accepted.len());
    // Also the change in which the operator ended gets its one number, when it comes again.
    let number = accepted.len();
    operator.apply(vec![pod(&format!("p-{number}"), &format!("app-{number}"), 1), node(1)]);
    let newest = operator.revision();
    let now = block_on(async {
        let mut agent = world.agent(operator.address, "node1", Some(told.revision)).await;
        agent.holds = told.holds;
        agent.revision = told.revision;
        agent.reach(newest).await;
        assert_eq!(agent.snapshots, 0, "it goes on by changes");
        agent.identities()
    });
    let kept: BTreeMap<u32, String> =
        now.iter().filter(|(n, _)| before.contains_key(n)).map(|(n, l)| (*n, l.clone())).collect();
    assert_eq!(kept, before);
    let sets: BTreeSet<&String> = now.values().collect();
    assert_eq!((sets.len(), now.len()), (accepted.len() + 1, accepted.len() + 1));
    operator.stop();
    // The store and what was published name the same.
    let stored = FileStore::open(&world.store()).unwrap().identities().unwrap();
    let stored: BTreeMap<u32, String> =
        stored.into_iter().map(|(number, labels)| (number.0, labels.to_string())).collect();
    assert_eq!(stored, now);
    last
}

#[test]
fn killed_before_the_store_nothing_is_left_of_the_change() {
    assert!(!killed("before-store"));
}

#[test]
fn killed_between_store_and_log_the_change_is_adopted_and_was_not_pushed() {
    assert!(killed("between-store-and-log"));
    assert!(killed("before-log"));
}

#[test]
fn killed_between_log_and_push_the_change_is_pushed_after_the_restart() {
    assert!(killed("between-log-and-push"));
}
