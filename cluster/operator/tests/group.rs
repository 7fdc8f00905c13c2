//! Several operators as one group: real ones on loopback, with disks of their own and one store.
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
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};
use support::{Authority, PATIENCE, Running, World, ask_within, block_on, node, pod};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream as ToMember;
use weft_api::{
    API_VERSION, Call, Failure, FailureKind, Reply,
    operator::{Answer, Cluster, MemberChange, Request},
};
use weft_operator::{
    config::Config,
    operator::Operator,
    peers::message::{Say, Told},
};
use weft_raft::{
    Answer as PeerAnswer, Group as Members, Hello, Member, MemberId, MemberRole, PEER_VERSION,
    Saved, decode, encode,
};
use weft_state::{ClusterState, OLDEST};
use weft_store::{Batch, Comparing, Fence, FileDisk, MemberDisk, MemoryStore, Store, StoreError};
use weft_types::{Cluster as Identified, Delta, Identity, LabelSet, Object, Revision, codec};
use weft_wire::tls;

/// The store that all of them ask, as one of them does; who reads what is in it is none of them.
#[derive(Clone)]
struct Shared {
    contents: Arc<Mutex<MemoryStore>>,
    /// Whom it does not answer.
    away: Arc<Mutex<BTreeSet<u64>>>,
    member: u64,
}

impl Shared {
    fn contents(&self) -> Result<MutexGuard<'_, MemoryStore>, StoreError> {
        if self.away.lock().unwrap().contains(&self.member) {
            let problem = "nobody is there".to_owned();
            return Err(StoreError::Failed { action: "ask", problem });
        }
        Ok(self.contents.lock().unwrap())
    }

    /// From now on it does not answer these.
    fn leaves(&self, members: &[u64]) {
        *self.away.lock().unwrap() = members.iter().copied().collect();
    }
}

impl Store for Shared {
    fn founded(&self) -> Result<Option<(Identified, Fence)>, StoreError> {
        self.contents()?.founded()
    }

    fn raise(
        &mut self,
        cluster: &Identified,
        before: Option<Fence>,
        after: Fence,
    ) -> Result<(), StoreError> {
        self.contents()?.raise(cluster, before, after)
    }

    fn identities(&self) -> Result<Vec<(Identity, LabelSet)>, StoreError> {
        self.contents()?.identities()
    }

    fn given(&self) -> Result<Option<Identity>, StoreError> {
        self.contents()?.given()
    }

    fn objects(&self) -> Result<Vec<Object>, StoreError> {
        self.contents()?.objects()
    }

    fn write(&mut self, fence: Fence, batch: &Batch) -> Result<(), StoreError> {
        self.contents()?.write(fence, batch)
    }
}

struct Group {
    world: World,
    store: Shared,
    places: Vec<SocketAddr>,
    running: BTreeMap<u64, Running>,
}

impl Group {
    /// One operator, which founds the cluster; and places for as many.
    fn founded(places: usize) -> Self {
        let mut group = Self::of(places);
        group.start(1);
        group
    }

    /// Places for so many.
    fn of(places: usize) -> Self {
        // They are free again when all were found.
        let listeners: Vec<TcpListener> =
            (0..places).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let places = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        drop(listeners);
        let store = MemoryStore::new(Comparing::Always);
        let contents = Arc::new(Mutex::new(store));
        let store = Shared { contents, away: Arc::default(), member: 0 };
        let world = World::new();
        Self { world, store, places, running: BTreeMap::new() }
    }

    fn place(&self, member: u64) -> SocketAddr {
        self.places[usize::try_from(member).unwrap() - 1]
    }

    fn config(&self, member: u64) -> Config {
        let name = format!("{member}.member.weft");
        let (ca, cert, key) = self.world.authority.issue_also("operator.weft", &[&name]);
        let mut config = Config { ca, cert, key, ..self.world.config() };
        config.state_dir = self.world.dir.path().join(format!("state-{member}"));
        config.admin_socket = self.world.dir.path().join(format!("{member}.sock"));
        config.peers.member = member;
        config.peers.peer_listen = Some(self.place(member));
        config.peers.join = member != 1;
        config
    }

    fn start(&mut self, member: u64) {
        let running = self.try_start(self.config(member));
        self.running.insert(member, running.unwrap());
    }

    fn try_start(&self, config: Config) -> anyhow::Result<Running> {
        let store = Shared { member: config.peers.member, ..self.store.clone() };
        Running::start_by(config, move |config| async move {
            std::fs::create_dir_all(&config.state_dir)?;
            let disk = FileDisk::open(&config.state_dir.join("raft.redb"))?;
            Operator::over(&config, Box::new(store), Box::new(disk)).await
        })
    }

    fn stop(&mut self, member: u64) {
        self.running.remove(&member).unwrap().stop();
    }

    /// How an operator sees the group.
    fn seen_by(&self, member: u64) -> Cluster {
        match self.running[&member].ask(Request::Cluster { of: None }) {
            Ok(Answer::Cluster(cluster)) => cluster,
            other => panic!("{other:?}"),
        }
    }

    /// Whoever leads and takes changes.
    fn leader(&self) -> u64 {
        eventually(|| self.running.keys().copied().find(|member| self.seen_by(*member).serving))
    }

    fn change(&self, change: MemberChange) {
        eventually(|| {
            let leader = &self.running[&self.leader()];
            match leader.ask(Request::Member(change.clone())) {
                Ok(Answer::Done) => Some(()),
                Err(failure) if failure.kind == FailureKind::TryAgain => None,
                other => panic!("{other:?}"),
            }
        });
    }

    /// Makes a new operator a member that votes.
    fn join(&mut self, member: u64) {
        self.change(MemberChange::Add { member, address: self.place(member).to_string() });
        self.start(member);
        self.change(MemberChange::Promote { member });
    }

    /// A change of the desired state, by whoever leads; its revision.
    fn apply(&self, objects: &[Object]) -> Revision {
        eventually(|| {
            let leader = &self.running[&self.leader()];
            match leader.ask(Request::Apply { objects: objects.to_vec() }) {
                Ok(Answer::Accepted { revision, .. }) => Some(revision),
                Err(failure) if failure.kind == FailureKind::TryAgain => None,
                other => panic!("{other:?}"),
            }
        })
    }

    /// What an agent is told by each operator once it is at a revision.
    fn agents_at(&self, revision: Revision) -> Vec<BTreeMap<u32, String>> {
        let operators = self.running.values();
        let told = |operator: &Running| {
            eventually(|| (operator.revision() >= revision).then_some(()));
            block_on(async {
                let mut agent = self.world.agent(operator.address, "node1", None).await;
                agent.reach(revision).await;
                agent.identities()
            })
        };
        operators.map(told).collect()
    }
}

fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "not after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_group_of_three_survives_each_of_its_leaders() {
    let mut group = Group::founded(3);
    let mut objects = vec![node(1)];
    group.apply(&objects);
    group.join(2);
    group.join(3);
    let seen = group.seen_by(group.leader());
    assert_eq!(seen.members.iter().filter(|member| member.voter).count(), 3);
    for round in 0..3 {
        let app = format!("app-{round}");
        objects.push(pod(&app, &app, 1));
        let revision = group.apply(&objects);
        let told = group.agents_at(revision);
        assert_eq!(told.len(), 3);
        assert!(told.iter().all(|told| *told == told_of(&group)), "{told:?}");
        let leader = group.leader();
        // In order or not.
        match round {
            0 => group.stop(leader),
            _ => group.running.remove(&leader).unwrap().kill(),
        }
        // Two go on, and who comes back follows.
        objects.push(pod(&format!("{app}-late"), &format!("{app}-late"), 1));
        let revision = group.apply(&objects);
        assert_ne!(group.leader(), leader);
        group.start(leader);
        assert_eq!(group.agents_at(revision).len(), 3);
    }
    assert_eq!(told_of(&group).len(), 6);
    // Metrics say who leads, and that the term changed with each of them.
    let leader = group.leader();
    let metric = |member: u64, name: &str| {
        group.running[&member].metric(&format!("weft_operator_raft_{name} "))
    };
    for member in 1..=3 {
        let leads = f64::from(u8::from(member == leader));
        eventually(|| (metric(member, "leads") == leads).then_some(()));
        eventually(|| (metric(member, "serves") == leads).then_some(()));
        eventually(|| (metric(member, "term") >= 5.0).then_some(()));
        assert!(metric(member, "terms_total") >= 1.0);
    }
}

#[test]
fn whoever_follows_looks_how_the_store_is() {
    let mut group = Group::founded(2);
    let revision = group.apply(&[node(1)]);
    group.join(2);
    group.agents_at(revision);
    let problems = || {
        let members = group.running.keys();
        members.filter_map(|member| group.seen_by(*member).store_problem).collect::<Vec<_>>()
    };
    assert!(problems().is_empty());
    group.store.leaves(&[1, 2]);
    // Who leads hears of it with the next change.
    let said = problems();
    assert!(said.iter().any(|why| why.contains("nobody is there")), "{said:?}");
    group.store.leaves(&[]);
    assert!(problems().is_empty());
}

#[test]
fn a_leader_whom_the_store_fails_has_another_lead() {
    let mut group = Group::founded(3);
    group.apply(&[node(1)]);
    (2..=3).for_each(|member| group.join(member));
    for round in 0..2 {
        let leader = group.leader();
        group.store.leaves(&[leader]);
        // Whoever wants something is answered, by another in the end.
        let app = format!("app-{round}");
        group.apply(&[pod(&app, &app, 1)]);
        assert_ne!(group.leader(), leader);
        assert_eq!(group.seen_by(leader).role, "follower");
        group.store.leaves(&[]);
    }
    // It fails all of them: whoever leads goes on to, and takes changes when it is back.
    let (leader, term) = (group.leader(), group.seen_by(1).term);
    let all: Vec<u64> = group.running.keys().copied().collect();
    group.store.leaves(&all);
    let refused =
        group.running[&leader].ask(Request::Apply { objects: vec![pod("late", "late", 1)] });
    assert!(refused.is_err(), "{refused:?}");
    eventually(|| (group.seen_by(1).term > term).then_some(()));
    thread::sleep(Duration::from_secs(5));
    assert_eq!(
        group.seen_by(1).term,
        term + 1,
        "an outage is no reason for one election after the other"
    );
    group.store.leaves(&[]);
    group.apply(&[pod("late", "late", 1)]);
}

/// Of a leader that is gone its followers hear nothing for 10 ticks of 50 ms at least, before they elect another; of these,
/// one may have been under way, and two have passed since its last sign of life.
const UNHEARD: Duration = Duration::from_millis(6 * 50);

#[test]
fn whoever_is_told_to_stop_has_another_lead_before_anybody_could_find_that_out() {
    let mut group = Group::founded(3);
    group.apply(&[node(1)]);
    (2..=3).for_each(|member| group.join(member));
    let until = Instant::now() + PATIENCE;
    // A busy machine takes longer than that now and then, but not each time.
    loop {
        let leader = group.leader();
        let told = Instant::now();
        group.stop(leader);
        let leads = |member: &u64| group.seen_by(*member).role == "leader";
        eventually(|| group.running.keys().any(leads).then_some(()));
        let took = told.elapsed();
        if took < UNHEARD {
            break;
        }
        assert!(Instant::now() < until, "another led after {took:?}");
        group.start(leader);
    }
}

/// The numbers that the store has.
fn told_of(group: &Group) -> BTreeMap<u32, String> {
    let all = group.store.identities().unwrap();
    let numbers: BTreeMap<u32, String> =
        all.iter().map(|(number, labels)| (number.0, labels.to_string())).collect();
    let mut sets: Vec<&String> = numbers.values().collect();
    sets.sort();
    sets.dedup();
    assert_eq!((sets.len(), numbers.len()), (all.len(), all.len()), "each set has one number");
    numbers
}

#[test]
fn whoever_is_asked_has_the_leader_do_it_and_answers_for_the_agents_of_all() {
    let mut group = Group::founded(3);
    let revision = group.apply(&[node(1), node(2), pod("web-0", "web", 1)]);
    group.join(2);
    group.join(3);
    group.agents_at(revision);
    let (first, second) = (&group.running[&1], &group.running[&2]);
    assert_eq!(group.leader(), 1);
    // A change, one that cannot be, and a transfer that cannot: all by way of one that does not lead.
    let (revision, changed) = second.apply(vec![pod("web-1", "web", 2)]);
    assert_eq!(changed, 1);
    let refused = second.ask(Request::Transfer { to: Some(9) }).unwrap_err();
    assert!(refused.message.contains("member 9 is none that votes"), "{refused}");
    let again = MemberChange::Add { member: 2, address: "127.0.0.1:1".to_owned() };
    let refused = second.ask(Request::Member(again)).unwrap_err();
    assert!(refused.message.contains("member"), "{refused}");
    // What was answered is what is read next, wherever.
    for operator in group.running.values() {
        let Ok(Answer::Objects(objects)) = operator.ask(Request::Objects) else { panic!() };
        assert_eq!(objects.len(), 4);
        assert!(operator.revision() >= revision);
    }
    // One operator tells how another is.
    match second.ask(Request::Cluster { of: Some(3) }) {
        Ok(Answer::Cluster(seen)) => assert_eq!((seen.member, seen.leader), (3, Some(1))),
        other => panic!("{other:?}"),
    }
    block_on(async {
        let mut agent = group.world.agent(second.address, "node1", None).await;
        agent.reach(revision).await;
        agent.plug("web-0", [10, 244, 1, 7].into()).await;
        let mut other = group.world.agent(first.address, "node2", None).await;
        other.reach(revision).await;
        while other.endpoints().is_empty() {
            other.reach(Revision(other.revision.0 + 1)).await;
        }
        assert_eq!(other.endpoints(), [std::net::Ipv4Addr::from([10, 244, 1, 7])]);
        agent.reach(other.revision).await;
        agent.acknowledge().await;
        other.acknowledge().await;
        // Whoever is asked knows of both: the third has no agent at all.
        for operator in group.running.values() {
            let socket = operator.socket.clone();
            let waited = tokio::task::spawn_blocking(move || {
                support::ask(
                    &socket,
                    Request::Wait { revision: None, timeout_ms: 9000, node: None },
                )
            });
            match waited.await.unwrap() {
                Ok(Answer::Waited(waited)) => assert!(waited.enforced, "{waited:?}"),
                other => panic!("{other:?}"),
            }
            let Answer::Cluster(seen) = operator.ask(Request::Cluster { of: None }).unwrap() else {
                panic!()
            };
            let agents = seen.agents.iter().map(|node| (node.node.as_str(), node.operator));
            assert_eq!(agents.collect::<Vec<_>>(), [("node1", Some(2)), ("node2", Some(1))]);
        }
        // It moves; where it was is told.
        let mut moved = group.world.agent(first.address, "node1", None).await;
        moved.reach(agent.revision).await;
        agent.closed().await;
    });
}

#[test]
fn without_a_majority_nothing_is_accepted_nothing_old_is_shown_as_new_and_all_goes_on_after() {
    let mut group = Group::founded(2);
    let revision = group.apply(&[node(1), pod("web-0", "web", 1)]);
    group.join(2);
    group.agents_at(revision);
    group.stop(1);
    let follower = &group.running[&2];
    let asked =
        |request| ask_within(&follower.socket, request, Duration::from_secs(2)).unwrap_err();
    let refused: Failure = asked(Request::Apply { objects: vec![pod("db-0", "db", 1)] });
    assert_eq!(refused.kind, FailureKind::TryAgain, "{refused}");
    assert!(refused.message.contains("no operator leads"), "{refused}");
    let refused = asked(Request::Objects);
    assert!(refused.message.contains("most of the group's operators do not answer"), "{refused}");
    // What it is, it says; and agents are served.
    assert!(follower.revision() >= revision);
    block_on(async {
        group.world.agent(follower.address, "node1", None).await.reach(revision).await;
    });
    // Whoever has time is answered when there is a majority again.
    let socket = follower.socket.clone();
    let patient = thread::spawn(move || {
        support::ask(&socket, Request::Apply { objects: vec![pod("db-0", "db", 1)] })
    });
    thread::sleep(Duration::from_millis(300));
    group.start(1);
    match patient.join().unwrap() {
        Ok(Answer::Accepted { changed, .. }) => assert_eq!(changed, 1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_passed_on_to_a_leader_that_stands_still_ends_when_another_leads() {
    let mut group = Group::founded(3);
    group.apply(&[node(1)]);
    (2..=3).for_each(|member| group.join(member));
    let leader = group.leader();
    let other = *group.running.keys().find(|member| **member != leader).unwrap();
    // Who stands still hears no connection end: its peers notice by silence alone.
    let stands = group.running[&leader].pause();
    let socket = group.running[&other].socket.clone();
    let asked = Instant::now();
    let refused = support::ask(&socket, Request::Apply { objects: vec![pod("db-0", "db", 1)] });
    let failure = refused.unwrap_err();
    assert!(failure.message.contains(&format!("asked of member {leader}")), "{failure}");
    assert!(failure.message.contains("it may still be done"), "{failure}");
    assert!(asked.elapsed() < PATIENCE / 2, "{:?}", asked.elapsed());
    // Asked once more, it is done by who leads now.
    let again = support::ask(&socket, Request::Apply { objects: vec![pod("db-0", "db", 1)] });
    assert!(matches!(again, Ok(Answer::Accepted { .. })), "{again:?}");
    drop(stands);
}

#[test]
fn a_replica_that_lost_its_disk_comes_back_as_a_new_member_and_leadership_is_handed_over() {
    let mut group = Group::founded(4);
    // So much that the log was compacted: who joins is sent a snapshot.
    for number in 0..100 {
        group.apply(&[pod("web-0", &format!("{number:0>60000}"), 1)]);
    }
    let revision = group.apply(&[node(1)]);
    group.join(2);
    group.join(3);
    let told = group.agents_at(revision);
    assert!(told.iter().all(|told| told.len() == 100), "{:?}", told.iter().map(BTreeMap::len));
    let leader = group.leader();
    let to = if leader == 2 { 3 } else { 2 };
    let refused = group.running[&leader].ask(Request::Transfer { to: Some(9) }).unwrap_err();
    assert!(refused.message.contains("member 9 is none that votes"), "{refused}");
    assert_eq!(group.running[&leader].ask(Request::Transfer { to: Some(to) }), Ok(Answer::Done));
    eventually(|| (group.leader() == to).then_some(()));
    // Its successor has another number.
    group.stop(1);
    std::fs::remove_dir_all(group.world.dir.path().join("state-1")).unwrap();
    group.change(MemberChange::Remove { member: 1 });
    group.join(4);
    let revision = group.apply(&[node(2)]);
    assert_eq!(group.agents_at(revision).len(), 3);
    let members: Vec<u64> = group.seen_by(4).members.iter().map(|member| member.member).collect();
    assert_eq!(members, [2, 3, 4]);
}

#[test]
fn a_founder_that_lost_its_disk_founds_nothing_while_others_may_live() {
    let mut group = Group::founded(2);
    let revision = group.apply(&[node(1), pod("web-0", "web", 1)]);
    group.join(2);
    group.agents_at(revision);
    group.stop(1);
    let state = group.world.dir.path().join("state-1");
    std::fs::remove_dir_all(&state).unwrap();
    let mut config = group.config(1);
    let why = group.try_start(config.clone()).err().unwrap().to_string();
    assert!(why.contains("operators of generation 1 led this cluster"), "{why}");
    assert_eq!(group.store.founded().unwrap().unwrap().1.generation, 1);
    // Nobody else lives: then it does when it is told to.
    group.stop(2);
    config.peers.found_anew = true;
    let running = group.try_start(config).unwrap();
    group.running.insert(1, running);
    assert_eq!(group.agents_at(Revision::new(2, 1))[0].len(), 1);
}

/// What a member answers to whoever has this certificate and says this; none when it ends the connection.
fn greeted(group: &Group, identity: &tls::Identity, hello: &Hello) -> Option<PeerAnswer> {
    block_on(async {
        let mut stream = connected(group, identity).await?;
        said(&mut stream, &bytes_of(hello)).await.ok()?;
        Some(codec::decode(&heard(&mut stream).await.ok()?).unwrap())
    })
}

/// A connection to the first member.
async fn connected(group: &Group, identity: &tls::Identity) -> Option<ToMember<TcpStream>> {
    let connector = identity.connector().unwrap();
    tls::connect_to_member(&group.place(1).to_string(), 1, &connector).await.ok()
}

fn bytes_of(message: &impl serde::Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode_into(message, &mut bytes).unwrap();
    bytes
}

/// Says a frame.
async fn said(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> std::io::Result<()> {
    to.write_u32(bytes.len().try_into().unwrap()).await?;
    to.write_all(bytes).await?;
    to.flush().await
}

/// The next frame.
async fn heard(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = from.read_u32().await?;
    let mut bytes = vec![0; length.try_into().unwrap()];
    from.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// The second member's greeting of the first.
fn hello_of_2(address: String) -> Hello {
    let (from, to) = (MemberId(2), MemberId(1));
    let cluster = "blue".to_owned();
    Hello { version: PEER_VERSION, cluster, generation: 1, from, to, address }
}

/// Members connect to each other in their own time, and one may ask before it can be answered.
#[test]
fn an_answer_waits_for_the_connection_to_who_asked() {
    let group = Group::founded(2);
    let place = group.place(2);
    group.change(MemberChange::Add { member: 2, address: place.to_string() });
    let second = group.world.authority.identity("2.member.weft");
    block_on(async {
        let mut asks = connected(&group, &second).await.unwrap();
        said(&mut asks, &bytes_of(&hello_of_2(place.to_string()))).await.unwrap();
        heard(&mut asks).await.unwrap();
        let version = API_VERSION;
        let request = Request::Status;
        let call = Call { version, traceparent: None, caller: None, deadline_ms: None, request };
        let call = serde_json::to_vec(&call).unwrap();
        said(&mut asks, &encode(&Say::Ask { number: 7, call }).unwrap()).await.unwrap();
        // It is answered meanwhile, most likely.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let listener = tokio::net::TcpListener::bind(place).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let mut hears = second.acceptor().unwrap().accept(stream).await.unwrap();
        heard(&mut hears).await.unwrap();
        said(&mut hears, &bytes_of(&PeerAnswer::Welcome(PEER_VERSION))).await.unwrap();
        let answered = async {
            loop {
                match decode(&heard(&mut hears).await.unwrap()).unwrap() {
                    Say::Answer { number: 7, answer: Told::Reply(json) } => return json,
                    other => assert!(!matches!(other, Say::Answer { .. }), "{other:?}"),
                }
            }
        };
        let json = tokio::time::timeout(PATIENCE, answered).await.expect("an answer");
        let reply: Reply<Answer> = serde_json::from_slice(&json).unwrap();
        assert!(matches!(reply, Reply::Ok(Answer::Status(_))), "{reply:?}");
    });
}

/// | who is of the group | labels that an older release does not know of |
/// |---|---|
/// | one who was not heard of, or is of that release | make no identities yet; all else goes on |
/// | nobody but those who know of them | make identities, and that release has no part in the group any more |
#[test]
fn what_a_member_of_the_release_before_does_not_know_waits_until_it_is_upgraded() {
    let mut group = Group::of(2);
    let mut config = group.config(1);
    config.labels.labels = "!team".parse().unwrap();
    // What that release would have left, of a group whose second member is away.
    let (first, second) = (MemberId(1), MemberId(2));
    let mut members = Members::of_voters([(first, group.place(1).to_string())]);
    let learner = Member { address: group.place(2).to_string(), role: MemberRole::Learner };
    members.members.insert(second, learner);
    let state = ClusterState::of_version("blue", OLDEST).encode().unwrap();
    let fence = Fence { generation: 1, term: 1, ..Fence::default() };
    group.store.raise(&"blue".into(), None, fence).unwrap();
    std::fs::create_dir_all(&config.state_dir).unwrap();
    let mut disk = FileDisk::open(&config.state_dir.join("raft.redb")).unwrap();
    disk.found((1, first), &Saved::founding(members, state.into())).unwrap();
    drop(disk);
    let running = group.try_start(config).unwrap();
    group.running.insert(1, running);

    let of_team = |team: &str| {
        let Object::Pod(mut pod) = pod(team, "web", 1) else { panic!() };
        pod.labels.insert("team".to_owned(), team.to_owned());
        Object::Pod(pod)
    };
    let identities = || {
        let operator = &group.running[&1];
        block_on(async {
            let mut agent = group.world.agent(operator.address, "node1", None).await;
            agent.reach(operator.revision()).await;
            let of_pod = |delta: &Delta| match delta {
                Delta::WorkloadUpsert(workload) => Some(workload.identity),
                _ => None,
            };
            agent.holds.values().filter_map(of_pod).collect::<BTreeSet<Identity>>().len()
        })
    };
    group.apply(&[node(1), of_team("a"), of_team("b")]);
    assert_eq!(identities(), 2, "its labels are as they were, and it takes changes");
    let member = group.world.authority.identity("2.member.weft");
    let hello = |version| Hello { version, ..hello_of_2(group.place(2).to_string()) };
    // It speaks what it spoke before.
    assert_eq!(greeted(&group, &member, &hello(2)), Some(PeerAnswer::Welcome(2)));
    thread::sleep(3 * weft_operator::leader::TICK);
    group.apply(&[of_team("c")]);
    assert_eq!(identities(), 3);
    // Upgraded, it says what it knows.
    let welcome = PeerAnswer::Welcome(PEER_VERSION);
    assert_eq!(greeted(&group, &member, &hello(PEER_VERSION)), Some(welcome));
    eventually(|| (identities() == 1).then_some(()));
    let Some(PeerAnswer::Refused(why)) = greeted(&group, &member, &hello(2)) else { panic!() };
    assert!(why.contains("the group is of version 7, member 2 knows 6"), "{why}");
}

#[test]
fn members_say_the_version_of_the_log_that_they_know() {
    assert_eq!(PEER_VERSION, weft_state::VERSION);
}

#[test]
fn nobody_speaks_as_another_member() {
    let group = Group::founded(1);
    let hello = hello_of_2(String::new());
    let authority = &group.world.authority;
    let member = authority.identity("2.member.weft");
    assert_eq!(greeted(&group, &member, &hello), Some(PeerAnswer::Welcome(PEER_VERSION)));
    let other = Hello { from: MemberId(3), ..hello.clone() };
    let Some(PeerAnswer::Refused(why)) = greeted(&group, &member, &other) else { panic!() };
    assert!(why.contains("the certificate is member 2's"), "{why}");
    let later = Hello { generation: 2, ..hello.clone() };
    let Some(PeerAnswer::Refused(why)) = greeted(&group, &member, &later) else { panic!() };
    assert!(why.contains("generation 1, not 2"), "{why}");
    // An agent is no member, nor is anybody of another authority.
    assert_eq!(greeted(&group, &authority.identity("node1.node.weft"), &hello), None);
    let strangers = Authority::new(&group.world.dir.path().join("strangers"));
    assert_eq!(greeted(&group, &strangers.identity("2.member.weft"), &hello), None);
}
