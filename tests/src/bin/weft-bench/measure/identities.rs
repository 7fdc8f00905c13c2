//! How fast numbers are given to label sets, against the store that they end in: many clients' rate, a lone client's time.

use super::{Measurement, Settings, Work, compare, each, of, tail};
use crate::{
    cluster::{Caller, Cluster, Etcd, Operator, PATIENCE, eventually},
    quorum::Quorum,
    rounds::Arm,
    row::{Check, Plan, Relation, Row, Target, Unit},
};
use anyhow::{Context, Result, bail};
use etcd_client::{Compare, CompareOp, KvClient, Txn, TxnOp};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinSet, LocalSet},
};
use weft_api::{
    operator::{Answer, Request},
    transport::{Client, Options},
};
use weft_store::{EtcdStore, Store};
use weft_types::{
    Identity, Label, LabelSet, NamespacedName, Object, Source, label::key, object::Pod,
};

/// Its place in the table.
pub(crate) const MEASUREMENT: Measurement = Measurement {
    name: "identities",
    about: "numbers for label sets, by three operators over an etcd of three, against etcd alone",
    plans: &[RATE, PODS, LONE, LONE_P99],
    work: Work::Alone(measure),
};

const RATE: Plan = Plan {
    name: "identity-rate",
    title: "identities, 512 clients",
    unit: Unit::PerSecond,
    relation: Relation::Ratio,
    baseline: "etcd create-if-absent",
    target: Some(Target::AtLeast(10.0)),
};
const PODS: Plan = Plan {
    name: "new-pod-rate",
    title: "pods of new identities, 512 clients",
    target: None,
    ..RATE
};
const LONE: Plan = Plan {
    name: "identity-lone-p50",
    title: "identity, lone client, p50",
    unit: Unit::Milliseconds,
    relation: Relation::Floor,
    baseline: "etcd put + quorum append",
    target: Some(Target::AtMost(1.5)),
};
const LONE_P99: Plan =
    Plan { name: "identity-lone-p99", title: "identity, lone client, p99", target: None, ..LONE };

/// Clients that ask at once; each asks again when it is answered.
const CLIENTS: usize = 512;
/// Connections of those to etcd, which carry calls side by side.
const CONNECTIONS: usize = 8;
/// Rounds: more would only fill disks.
const ROUNDS: usize = 9;
/// How many times as long as a round of packets one of these is.
const LONGER: u32 = 4;
/// A lone client's calls in a round.
const CALLS: usize = 100;

fn measure(settings: &Settings) -> Result<Vec<Row>> {
    let few = Settings { rounds: settings.rounds.min(ROUNDS), ..*settings };
    // Nobody refers to these numbers, and all of them are to be there in the end.
    let cluster = Cluster::of_three(&["--identity-grace", "1h"])?;
    let etcd = cluster.etcd.as_ref().context("there is no etcd")?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (asked, put) = (Numbers::default(), Numbers::default());
    let time = few.round * LONGER;
    let mut rivals = runtime.block_on(rivals(etcd))?;
    let callers = runtime.block_on(callers(&cluster))?;
    let mut askers = callers.into_iter().map(Asker::new).collect::<Vec<_>>();
    let callers = runtime.block_on(self::callers(&cluster))?;
    let mut appliers = callers.into_iter().map(Applier).collect::<Vec<_>>();
    let mut arms = [
        Arm::new(RATE.baseline, || rate(&runtime, &mut rivals, &put, time)),
        Arm::new("identities", || rate(&runtime, &mut askers, &asked, time)),
        Arm::new("pods", || rate(&runtime, &mut appliers, &asked, time)),
    ];
    let (rates, conditions) = compare(&few, "identities", &mut arms)?;
    drop(arms);
    drop((appliers, rivals));

    let mut kv = runtime.block_on(etcd.connect())?;
    let mut quorum = Quorum::start(cluster.folder())?;
    let mut lone = Client::connect(&cluster.leader()?.socket, PATIENCE)?;
    let (mut floors, mut all) = (Vec::new(), Vec::new());
    let mut arms = [
        Arm::new(LONE.baseline, || {
            each(CALLS, &mut floors, || {
                let (number, begun) = (put.next(), Instant::now());
                runtime.block_on(kv.put(place(number), value(number), None))?;
                quorum.append()?;
                Ok(begun.elapsed())
            })
        }),
        Arm::new("a lone identity", || {
            each(CALLS, &mut all, || {
                let (number, begun) = (asked.next(), Instant::now());
                given(lone.call(request(number), Options::within(PATIENCE))?)?;
                Ok(begun.elapsed())
            })
        }),
    ];
    let (lone, quiet) = compare(&few, "a lone identity", &mut arms)?;
    drop(arms);
    let given = askers.into_iter().flat_map(|asker| asker.given).collect();
    let check = all_are_there(&cluster, etcd, asked.0.get(), &given)?;
    Ok(vec![
        RATE.row(of(&rates, 1), of(&rates, 0), check.clone(), conditions),
        PODS.row(of(&rates, 2), of(&rates, 0), check.clone(), conditions),
        LONE.row(of(&lone, 1), of(&lone, 0), check.clone(), quiet),
        LONE_P99.row(&tail(&all), &tail(&floors), check, quiet),
    ])
}

/// Numbers that nobody else is given.
#[derive(Clone, Default)]
struct Numbers(Rc<Cell<u64>>);

impl Numbers {
    fn next(&self) -> u64 {
        self.0.replace(self.0.get() + 1)
    }
}

/// One of many clients.
trait Asks: Sized + 'static {
    /// Does it for a number that nobody else is given.
    async fn ask(&mut self, number: u64) -> Result<()>;
}

/// Asks for numbers, and remembers them.
struct Asker {
    caller: Caller,
    given: Vec<(u64, Identity)>,
}

impl Asker {
    fn new(caller: Caller) -> Self {
        Self { caller, given: Vec::new() }
    }
}

impl Asks for Asker {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let given = given(self.caller.call(request(number)).await?)?;
        self.given.push((number, given));
        Ok(())
    }
}

/// Applies pods.
struct Applier(Caller);

impl Asks for Applier {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let objects = vec![Object::Pod(pod(number))];
        match self.0.call(Request::Apply { objects }).await? {
            Answer::Accepted { changed: 1, .. } => Ok(()),
            other => bail!("an operator answered {other:?}"),
        }
    }
}

impl Asks for KvClient {
    async fn ask(&mut self, number: u64) -> Result<()> {
        let absent = Compare::create_revision(place(number), CompareOp::Equal, 0);
        let put = TxnOp::put(place(number), value(number), None);
        let answer = self.txn(Txn::new().when([absent]).and_then([put])).await?;
        anyhow::ensure!(answer.succeeded(), "{} was there", place(number));
        Ok(())
    }
}

async fn callers(cluster: &Cluster) -> Result<Vec<Caller>> {
    let leader = cluster.leader()?;
    let mut callers = Vec::new();
    for _ in 0..CLIENTS {
        callers.push(Caller::connect(&leader.socket).await?);
    }
    Ok(callers)
}

async fn rivals(etcd: &Etcd) -> Result<Vec<KvClient>> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(etcd.connect().await?);
    }
    Ok(connections.iter().cycle().take(CLIENTS).cloned().collect())
}

/// What clients do in a second, all of them at once for a while.
fn rate<C: Asks>(
    runtime: &Runtime,
    clients: &mut Vec<C>,
    numbers: &Numbers,
    time: Duration,
) -> Result<f64> {
    let before = numbers.0.get();
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    let local = LocalSet::new();
    for mut client in clients.drain(..) {
        let numbers = numbers.clone();
        let task = async move {
            while begun.elapsed() < time {
                client.ask(numbers.next()).await?;
            }
            Ok::<C, anyhow::Error>(client)
        };
        tasks.spawn_local_on(task, &local);
    }
    let all = local.block_on(runtime, tasks.join_all());
    let took = begun.elapsed();
    *clients = all.into_iter().collect::<Result<_>>()?;
    Ok((numbers.0.get() - before) as f64 / took.as_secs_f64())
}

fn place(number: u64) -> String {
    format!("/rival/identity/{number:08}")
}

/// As long as a label set in the store.
fn value(number: u64) -> String {
    format!("k8s:app={},{}", app(number), "k8s:io.kubernetes.pod.namespace=bench".repeat(3))
}

fn app(number: u64) -> String {
    format!("app-{number}")
}

/// Asks for the number of labels that nobody else has, as many as a pod's are with what is added to them.
fn request(number: u64) -> Request {
    let label = |key: &str, value: &str| Label {
        source: Source::K8s,
        key: key.to_owned(),
        value: value.to_owned(),
    };
    let labels = vec![
        label("app", &app(number)),
        label(key::CLUSTER, "bench"),
        label(key::SERVICE_ACCOUNT, "default"),
        label(key::NAMESPACE, "bench"),
    ];
    Request::Number { labels }
}

/// A pod with such labels.
fn pod(number: u64) -> Pod {
    Pod {
        name: NamespacedName::new("bench", app(number)),
        labels: BTreeMap::from([("app".to_owned(), app(number))]),
        service_account: "default".to_owned(),
        ports: Vec::new(),
        node: None,
        address: None,
        command: Vec::new(),
    }
}

fn given(answer: Answer) -> Result<Identity> {
    match answer {
        Answer::Number { identity, .. } => Ok(Identity(identity)),
        other => bail!("an operator answered {other:?}"),
    }
}

/// Whether every label set that was asked for has a number of its own, in the store and at every operator, and those that
/// were answered have what was answered.
fn all_are_there(
    cluster: &Cluster,
    etcd: &Etcd,
    asked: u64,
    given: &BTreeMap<u64, Identity>,
) -> Result<Check> {
    let stored = EtcdStore::open(etcd.endpoints(), "/weft/bench/")?.identities()?;
    let numbers: BTreeSet<Identity> = stored.iter().map(|(number, _)| *number).collect();
    let app = |labels: &LabelSet| labels.get(Source::K8s, "app").map(str::to_owned);
    let sets: BTreeMap<String, Identity> =
        stored.iter().filter_map(|(number, labels)| Some((app(labels)?, *number))).collect();
    let is_there = |number: &u64| match (sets.get(&self::app(*number)), given.get(number)) {
        (Some(stored), Some(given)) => stored == given,
        (stored, _) => stored.is_some(),
    };
    let lacking = (0..asked).filter(|number| !is_there(number)).count();
    let shown = format!(
        "{asked} label sets were asked for; etcd has {} numbers, {} of them distinct; {lacking} are not there as answered",
        stored.len(),
        numbers.len()
    );
    let all = stored.len() as u64 == asked && numbers.len() == stored.len() && lacking == 0;
    let knows = |operator: &Operator| match operator.ask(Request::Status) {
        Ok(Answer::Status(status)) => status.identities == stored.len(),
        _ => false,
    };
    let everywhere = eventually(|| cluster.operators.iter().all(knows).then_some(()));
    Ok(match everywhere {
        Ok(()) if all => Check::passed(format!("{shown}; all operators know as many")),
        Ok(()) => Check::failed(shown),
        Err(_) => Check::failed(format!("{shown}; an operator does not know them all")),
    })
}
