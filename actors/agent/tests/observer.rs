//! The observer over a ring in memory: events become flows, for readers who come and go, fast and slow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use prometheus_client::{encoding::text::encode, registry::Registry};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, watch};
use weft_abi::{
    address::{Addr, Addr4, NetPort},
    drop::DropReason,
    event::{EVENT_ALLOWED, EVENT_DROP, EVENT_VERSION, Event},
    policy::INGRESS,
};
use weft_agent::{
    endpoints::{PluggedHere, PluggedPod, PluggedPods},
    flows::{Follow, Reader},
    metrics::Counts,
    observer::{Observer, Read, Setting, Told},
    published::Advance,
    runtime::{Edge, Fault, Runtime},
    uplink::Progress,
};
use weft_api::agent::Answer;
use weft_core::{policy::RuleNames, recent::Place};
use weft_datapath::fake::FakeEvents;
use weft_hubble::flow::Flow;
use weft_types::{
    Delta, Identity, LabelSet, NamespacedName, NodeName, PodEndpoint, Revision, Source,
    policy::{Direction, PolicyId, PolicyKind, RuleId},
};

const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    ring: FakeEvents,
    edge: Edge<Observer>,
    plugged: watch::Sender<Option<PluggedPods>>,
    rules: watch::Sender<RuleNames>,
    progress: watch::Sender<Progress>,
    end: watch::Receiver<u64>,
    counts: Counts,
    /// Events that found the ring full and were not told of yet.
    lost: Arc<AtomicU64>,
}

/// An observer that was told names.
async fn world() -> World {
    let (plugged, told) = watch::channel(Some(PluggedPods::default()));
    let (rules, named) = watch::channel(RuleNames::default());
    let (progress, seen) = watch::channel(Progress::default());
    let (end, ended) = watch::channel(0);
    let (ring, counts) = (FakeEvents::new().unwrap(), Counts::default());
    let open = ring.clone();
    let lost = Arc::new(AtomicU64::new(0));
    let full = Arc::clone(&lost);
    let setting = Setting {
        node: NodeName("node1".to_owned()),
        open: Arc::new(move || Ok(Box::new(open.clone()))),
        lost: Arc::new(move || Ok(full.swap(0, Ordering::Relaxed))),
        plugged: told,
        rules: named,
        progress: seen,
        traced: Arc::default(),
        end: Arc::new(end),
        strangers: Arc::new(watch::channel(Arc::default()).0),
        counts: counts.clone(),
    };
    let seat = Runtime::start().role("observer", move |_| Observer::new(setting.clone()));
    let world =
        World { ring, edge: seat.edge(), plugged, rules, progress, end: ended, counts, lost };
    world.name(Vec::new()).await;
    world
}

impl World {
    /// What the uplink does.
    async fn name(&self, deltas: Vec<Delta>) {
        let deltas = deltas.into_iter().map(Arc::new).collect();
        let advance = Advance { revision: Revision::new(1, 9), whole: true, deltas };
        self.edge.ask(advance).await.unwrap().unwrap();
    }

    fn tell(&self, event: Event) {
        let whole = Event { version: EVENT_VERSION, length: 128, ..event };
        self.ring.tell(&whole.to_bytes()).unwrap();
    }

    /// Waits until so many flows were seen.
    async fn seen(&self, count: u64) {
        let mut end = self.end.clone();
        let seen = async { end.wait_for(|end| *end >= count).await.map(|end| *end) };
        assert_eq!(tokio::time::timeout(PATIENCE, seen).await.unwrap().unwrap(), count);
    }

    async fn flows(&self) -> Vec<Arc<Flow>> {
        let page = self.edge.ask(Read { place: Place::Newest(99), most: 99 }).await.unwrap();
        let flow = |told: Arc<Told>| match &*told {
            Told::Flow(flow) => Arc::clone(flow),
            Told::Lost(lost) => panic!("{lost} events were lost"),
        };
        page.items.into_iter().map(flow).collect()
    }

    fn reader(&self, last: u64, follow: Follow) -> mpsc::Receiver<Answered> {
        let observer = self.edge.seat().edge();
        let (end, counts) = (self.end.clone(), self.counts.clone());
        Reader { observer, end, counts, follow }.start(last)
    }

    fn metrics(&self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        self.counts.register(&mut registry);
        encode(&mut text, &registry).unwrap();
        text
    }
}

type Answered = Result<Answer, weft_agent::Refusal>;

/// The source port of a flow, which these tests number them by; or what was lost.
fn number(answer: Answered) -> Result<u32, u64> {
    match answer.unwrap() {
        Answer::Flow(flow) => match flow.l4.as_ref().unwrap() {
            weft_hubble::flow::Layer4::Udp(ports) => Ok(ports.source_port),
            other => panic!("{other:?}"),
        },
        Answer::FlowsLost(lost) | Answer::EventsLost(lost) => Err(lost),
        other => panic!("{other:?}"),
    }
}

async fn next(flows: &mut mpsc::Receiver<Answered>) -> Result<u32, u64> {
    number(tokio::time::timeout(PATIENCE, flows.recv()).await.unwrap().unwrap())
}

fn numbered(number: u16) -> Event {
    Event {
        kind: EVENT_ALLOWED,
        direction: INGRESS,
        protocol: 17,
        family: 4,
        source: Addr::from4(Addr4::new([10, 244, 1, 2])),
        destination: Addr::from4(Addr4::new([10, 244, 1, 3])),
        source_port: NetPort::from_host(number),
        ..Event::zeroed()
    }
}

fn pod(name: &str, last: u8) -> PodEndpoint {
    PodEndpoint {
        name: NamespacedName::new("shop", name),
        address: [10, 244, 1, last].into(),
        identity: Identity(300),
        node: NodeName("node1".to_owned()),
    }
}

#[actix::test]
async fn events_become_flows_with_the_names_that_owners_published() {
    let world = world().await;
    let endpoint = pod("cart-0", 3);
    let pods = [(endpoint.address, PluggedPod { endpoint, id: 7, cause: None })].into();
    world.plugged.send_replace(Some(Arc::new(PluggedHere { pods, ..PluggedHere::default() })));
    let policy = PolicyId {
        kind: PolicyKind::NetworkPolicy,
        name: NamespacedName::new("shop", "cart-from-frontend"),
    };
    let rule = RuleId { policy, direction: Direction::Ingress, index: 1 };
    let rules: BTreeMap<_, _> = [(5, Arc::new(BTreeSet::from([rule])))].into();
    world.rules.send_replace(Arc::new(rules));
    world.progress.send_modify(|progress| {
        progress.cluster = "blue".to_owned();
        progress.epochs.insert(3, Revision::new(1, 9));
    });
    let mut labels = LabelSet::new();
    labels.insert(Source::K8s, "app", "frontend");
    let frontend = Delta::EndpointUpsert(pod("frontend-0", 2));
    world.name(vec![frontend, Delta::IdentityUpsert(Identity(299), labels)]).await;

    world.tell(Event { epoch: 4, ingress_rule: 5, source_identity: 299, ..numbered(1) });
    let reason = DropReason::PolicyDenied.number();
    world.tell(Event { kind: EVENT_DROP, reason, ..numbered(2) });
    world.seen(2).await;
    let flows = world.flows().await;
    let [allowed, denied] = flows.as_slice() else { panic!("{flows:?}") };
    let (source, destination) =
        (allowed.source.as_ref().unwrap(), allowed.destination.as_ref().unwrap());
    assert_eq!((&*source.pod_name, source.id), ("frontend-0", 0));
    assert_eq!(source.labels, ["k8s:app=frontend"]);
    assert_eq!((&*destination.pod_name, destination.id), ("cart-0", 7));
    assert_eq!(allowed.node_name, "blue/node1");
    let by = &allowed.ingress_allowed_by[0];
    assert_eq!((&*by.name, by.revision), ("cart-from-frontend", Revision::new(1, 9).0));
    assert_eq!(by.labels, ["weft:rule=ingress[1]"]);
    assert_eq!((&*denied.verdict, &*denied.drop_reason_desc), ("DROPPED", "POLICY_DENIED"));
    let counted = world.metrics();
    for line in [
        "flows_processed_total{type=\"drop\",verdict=\"DROPPED\"} 1",
        "flows_processed_total{type=\"policy-verdict\",verdict=\"FORWARDED\"} 1",
    ] {
        assert!(counted.contains(line), "{counted}");
    }
}

#[actix::test]
async fn what_is_no_event_is_counted_and_what_follows_it_is_read() {
    let world = world().await;
    world.ring.tell(&[]).unwrap();
    world.ring.tell(&[EVENT_VERSION + 1; 128]).unwrap();
    world.ring.tell(&[EVENT_VERSION; 7]).unwrap();
    world.tell(Event { kind: 200, ..numbered(1) });
    world.tell(numbered(2));
    world.seen(1).await;
    assert_eq!(world.flows().await.len(), 1);
    let counted = world.metrics();
    for line in ["length\"} 2", "version\"} 1", "kind\"} 1"] {
        assert!(
            counted.contains(&format!("events_malformed_total{{problem=\"{line}")),
            "{counted}"
        );
    }
}

#[actix::test]
async fn a_reader_gets_the_newest_and_ends_and_a_follower_goes_on() {
    let world = world().await;
    (0..5).for_each(|n| world.tell(numbered(n)));
    world.seen(5).await;
    let mut flows = world.reader(2, Follow::Off);
    assert_eq!((next(&mut flows).await, next(&mut flows).await), (Ok(3), Ok(4)));
    assert!(flows.recv().await.is_none());
    let mut flows = world.reader(1, Follow::On);
    assert_eq!(next(&mut flows).await, Ok(4));
    world.tell(numbered(5));
    assert_eq!(next(&mut flows).await, Ok(5));
    // More than a page, by someone who asked for all.
    (6..1000).for_each(|n| world.tell(numbered(n)));
    world.seen(1000).await;
    let mut flows = world.reader(u64::MAX, Follow::Off);
    for n in 0..1000 {
        assert_eq!(next(&mut flows).await, Ok(n));
    }
    assert!(flows.recv().await.is_none());
}

#[actix::test]
async fn a_slow_reader_is_overtaken_and_told_by_how_much() {
    let world = world().await;
    world.tell(numbered(0));
    let mut flows = world.reader(1, Follow::On);
    assert_eq!(next(&mut flows).await, Ok(0));
    (1..20_000).for_each(|n| world.tell(numbered(n)));
    world.seen(20_000).await;
    // Each is read in its order, or counted where it is missing.
    let (mut due, mut lost) = (1, 0);
    while due < 20_000 {
        match next(&mut flows).await {
            Ok(number) => {
                assert_eq!(u64::from(number), due);
                due += 1;
            }
            Err(missed) => {
                lost += missed;
                due += missed;
            }
        }
    }
    assert!(lost > 10_000, "{lost}");
    let line = format!("lost_events_total{{source=\"hubble_ring_buffer\"}} {lost}\n");
    assert!(world.metrics().contains(&line), "{}", world.metrics());
}

#[actix::test]
async fn what_found_the_ring_full_is_told_between_the_flows_and_once() {
    let world = world().await;
    world.tell(numbered(0));
    let mut follower = world.reader(1, Follow::On);
    assert_eq!(next(&mut follower).await, Ok(0));
    world.lost.store(7, Ordering::Relaxed);
    // It is asked for once a second, when something happens or somebody reads.
    let mut told = Vec::new();
    let begun = Instant::now();
    for number in 1.. {
        world.tell(numbered(number));
        told.push(next(&mut follower).await);
        if told.contains(&Err(7)) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{told:?}");
    }
    assert_eq!(told.iter().filter(|told| told.is_err()).count(), 1);
    // So is who looks at the agent's status.
    let noticed = world.counts.notices().recent(Instant::now());
    assert!(noticed.len() == 1 && noticed[0].contains(": 7 events of flows"), "{noticed:?}");
    // Who comes later is told too.
    let mut later = world.reader(99, Follow::Off);
    let mut lost = 0;
    while let Some(answer) = later.recv().await {
        lost += number(answer).err().unwrap_or_default();
    }
    assert_eq!(lost, 7);
}

#[actix::test]
async fn a_crash_loses_the_ring_and_nothing_else() {
    let world = world().await;
    (0..3).for_each(|n| world.tell(numbered(n)));
    world.seen(3).await;
    let mut follower = world.reader(1, Follow::On);
    assert_eq!(next(&mut follower).await, Ok(2));
    drop(world.edge.ask(Fault::Panic).await);
    // It comes while nobody reads; the next life waits until it knows whose it is.
    world.tell(numbered(3));
    world.name(vec![Delta::EndpointUpsert(pod("frontend-0", 2))]).await;
    assert_eq!(next(&mut follower).await, Ok(3), "the follower did not notice");
    world.seen(4).await;
    let flows = world.flows().await;
    assert_eq!(flows.len(), 1, "a new life begins with an empty ring");
    assert_eq!(flows[0].source.as_ref().unwrap().pod_name, "frontend-0");
    assert_eq!(world.edge.incarnation(), 2);
}

/// A wake-up of the reader is what costs a packet most, and its reader is woken when it had read all: a reader that is always
/// quick would be woken by each packet.
#[actix::test]
async fn events_that_come_one_by_one_are_gathered() {
    let world = world().await;
    let begun = Instant::now();
    let mut end = world.end.clone();
    let reads = tokio::spawn(async move {
        let mut reads = 0_u128;
        while *end.borrow_and_update() < 200 {
            end.changed().await.unwrap();
            reads += 1;
        }
        reads
    });
    for each in 0..200 {
        world.tell(numbered(each));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reads = tokio::time::timeout(PATIENCE, reads).await.unwrap().unwrap();
    let most = begun.elapsed().as_millis() / 20 + 2;
    assert!(reads <= most, "read {reads} times in {:?}", begun.elapsed());
}
