//! A leader's life, step by step: what it asks of the store and the log, and what it answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::collections::BTreeMap;
use weft_state::{
    ClusterState, CommandV1, EntryV1, FILTERS, OLDEST, VERSION, encode_entry,
    leadership::{
        Ask, Change, Contents, Effect, Event, Fault, Leadership, Limits, SELDOM, Stored, Trouble,
        Verdict,
    },
    retirement::Grace,
};
use weft_types::{
    Batch, Cluster, Fence, Identity, IdentitySpace, LabelFilter, LabelSet, NamespacedName, Node,
    NodeName, Object, Revision, Source,
    object::{Namespace, Pod},
};

const GRACE: Grace = Grace { numbers: 10, nodes: 30, pause: 1, most: 8 };
const LIMITS: Limits = Limits {
    waiting: 4,
    transaction: 3,
    ordering: 2,
    patience: 3,
    pause: 1,
    yields: 6,
    grace: GRACE,
};

fn pod(name: &str, app: &str) -> Object {
    Object::Pod(Pod {
        name: NamespacedName::new("shop", name),
        labels: BTreeMap::from([("app".to_owned(), app.to_owned())]),
        service_account: "default".to_owned(),
        ports: Vec::new(),
        node: Some(NodeName("node1".to_owned())),
        address: None,
        command: Vec::new(),
    })
}

fn put(objects: &[Object]) -> Change {
    Change { put: objects.to_vec(), remove: Vec::new() }
}

fn fence(term: u64, round: u32) -> Fence {
    Fence { generation: 1, term, round, writes: 0 }
}

/// After some writes of the first round.
fn written(term: u64, writes: u64) -> Fence {
    Fence { writes, ..fence(term, 0) }
}

fn stored(identities: Vec<(Identity, LabelSet)>, objects: Vec<Object>) -> Stored {
    Stored::Contents(Contents { identities, given: None, objects })
}

/// Time passes; every operator has all of the log.
const TICK: Event = Event::Tick { everywhere: u64::MAX, known: 0 };

/// A leader, its state, and what of its effects was not looked at.
struct World {
    leader: Leadership,
    state: ClusterState,
    /// Index of its newest revision.
    index: u64,
    effects: Vec<Effect>,
}

impl World {
    fn new() -> Self {
        let leader = Leadership::new("blue", 1, LIMITS);
        Self { leader, state: ClusterState::new("blue"), index: 0, effects: Vec::new() }
    }

    fn step(&mut self, event: Event) {
        self.effects.extend(self.leader.step(&self.state, event));
    }

    /// The only thing that is asked of the store.
    #[track_caller]
    fn ask(&mut self) -> (u64, Ask) {
        let effects = std::mem::take(&mut self.effects);
        match effects.as_slice() {
            [Effect::Store(operation, ask)] => (*operation, ask.clone()),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn answer(&mut self, expected: &Ask, answer: Result<Stored, Trouble>) {
        let (operation, ask) = self.ask();
        assert_eq!(&ask, expected);
        self.step(Event::Stored(operation, answer));
    }

    #[track_caller]
    fn proposal(&mut self) -> (u64, Fence, CommandV1) {
        let effects = std::mem::take(&mut self.effects);
        match effects.as_slice() {
            [Effect::Propose(ticket, fence, command)] => (*ticket, *fence, command.clone()),
            other => panic!("{other:?}"),
        }
    }

    /// A proposal, and what is asked of the store after it.
    #[track_caller]
    fn both(&mut self) -> ((u64, Fence, CommandV1), (u64, Ask)) {
        let mut effects = std::mem::take(&mut self.effects);
        assert_eq!(effects.len(), 2, "{effects:?}");
        let ask = effects.split_off(1);
        self.effects = effects;
        let proposal = self.proposal();
        self.effects = ask;
        (proposal, self.ask())
    }

    /// From an election to serving, over a store that holds this.
    #[track_caller]
    fn serve(
        &mut self,
        term: u64,
        before: Option<Fence>,
        identities: Vec<(Identity, LabelSet)>,
        objects: Vec<Object>,
    ) {
        self.step(Event::Led(term));
        let round = before.filter(|f| f.term == term).map_or(0, |f| f.round + 1);
        self.fenced(before, fence(term, round));
        self.answer(&Ask::List, Ok(stored(identities, objects)));
    }

    #[track_caller]
    fn fenced(&mut self, before: Option<Fence>, after: Fence) {
        let founded = before.map(|fence| ("blue".into(), fence));
        self.answer(&Ask::Founded, Ok(Stored::Founded(founded)));
        self.answer(&Ask::Raise(before, after), Ok(Stored::Done));
    }

    fn order(&mut self, (ticket, fence, command): &(u64, Fence, CommandV1)) {
        let (fence, command) = (Some(*fence), command.clone());
        self.state.apply_entry(&EntryV1 { trace: None, command, fence });
        self.index += 1;
        self.step(Event::Ordered(*ticket, Revision::new(1, self.index)));
    }

    fn answers(&mut self) -> Vec<(u64, Verdict)> {
        let effects = std::mem::take(&mut self.effects);
        let answer = |effect| match effect {
            Effect::Answer(request, verdict) => (request, verdict),
            other => panic!("{other:?}"),
        };
        effects.into_iter().map(answer).collect()
    }
}

#[test]
fn a_change_is_in_the_store_then_in_the_log_then_answered() {
    let mut world = World::new();
    world.step(Event::Asked(1, put(&[pod("a", "a")])));
    assert_eq!(world.answers(), [(1, Verdict::NotLeading)]);
    world.serve(5, None, vec![], vec![]);
    world.step(Event::Asked(2, put(&[pod("a", "web")])));
    let (operation, ask) = world.ask();
    let Ask::Write(by, batch) = ask else { panic!("{ask:?}") };
    assert_eq!((by, batch.put.len()), (fence(5, 0), 1));
    assert_eq!(batch.identities[0].0, Identity(256));
    // Meanwhile more is wanted; it waits, and shares what comes next.
    world.step(Event::Asked(3, put(&[pod("b", "db")])));
    world.step(Event::Asked(4, put(&[pod("c", "web")])));
    assert!(world.effects.is_empty());
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    // While the one is put in order the next goes to the store.
    let (first, (operation, ask)) = world.both();
    assert_eq!(first.1, written(5, 1), "in this term and no other, and the store has it");
    let Ask::Write(_, batch) = ask else { panic!("{ask:?}") };
    assert_eq!(
        (batch.identities.len(), batch.put.len()),
        (1, 2),
        "web is about to have its number"
    );
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    let second = world.proposal();
    world.order(&first);
    assert_eq!(world.answers(), [(2, Verdict::Done)]);
    world.order(&second);
    assert_eq!(world.answers(), [(3, Verdict::Done), (4, Verdict::Done)]);
    assert_eq!(world.state.workloads().len(), 3);
    // What is so already needs neither.
    world.step(Event::Asked(5, put(&[pod("c", "web")])));
    assert_eq!(world.answers(), [(5, Verdict::Done)]);
}

#[test]
fn a_label_set_has_a_number_when_somebody_asks_and_the_same_one_for_all_who_ask() {
    let mut world = World::new();
    world.serve(1, None, vec![], vec![]);
    let set = |app: &str| {
        let mut labels = LabelSet::new();
        labels.insert(Source::K8s, "app", app);
        labels
    };
    world.step(Event::Number(1, set("web")));
    let (operation, ask) = world.ask();
    assert_eq!(ask, Ask::Write(fence(1, 0), numbers(&[(256, set("web"))])));
    // One of them waits for the first's number, and those after it wait with it.
    world.step(Event::Number(2, set("db")));
    world.step(Event::Number(3, set("web")));
    world.step(Event::Number(4, set("queue")));
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    let (first, (operation, ask)) = world.both();
    assert_eq!(ask, Ask::Write(written(1, 1), numbers(&[(257, set("db"))])));
    world.order(&first);
    assert_eq!(world.answers(), [(1, Verdict::Done)]);
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    let (second, (operation, ask)) = world.both();
    assert_eq!(ask, Ask::Write(written(1, 2), numbers(&[(258, set("queue"))])));
    world.order(&second);
    assert_eq!(world.answers(), [(2, Verdict::Done)]);
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    let third = world.proposal();
    world.order(&third);
    assert_eq!(world.answers(), [(3, Verdict::Done), (4, Verdict::Done)]);
    assert_eq!(world.state.identities().len(), 3);
    // One that has a number is answered at once.
    world.step(Event::Number(5, set("web")));
    assert_eq!(world.answers(), [(5, Verdict::Done)]);
}

fn numbers(pairs: &[(u32, LabelSet)]) -> Batch {
    let identities = pairs.iter().map(|(number, labels)| (Identity(*number), labels.clone()));
    Batch { identities: identities.collect(), ..Batch::default() }
}

#[test]
fn what_depends_on_what_is_under_way_waits_for_it() {
    let namespace =
        Object::Namespace(Namespace { name: "shop".to_owned(), labels: BTreeMap::new() });
    let node = |number: u8| {
        let (name, address) = (NodeName(format!("node{number}")), [172, 30, 0, number].into());
        Object::Node(Node { name, address, pod_cidrs: vec![] })
    };
    let (a, b) = (pod("a", "web"), pod("b", "web"));
    let gone = Change { put: vec![], remove: vec![a.clone()] };
    let cases = [
        (put(std::slice::from_ref(&a)), put(&[pod("a", "db")]), "the same pod"),
        (put(std::slice::from_ref(&a)), gone, "it is removed"),
        (put(std::slice::from_ref(&a)), put(std::slice::from_ref(&namespace)), "its namespace"),
        (put(&[namespace]), put(std::slice::from_ref(&b)), "a pod of that namespace"),
        (put(&[node(1)]), put(&[node(2)]), "nodes"),
    ];
    for (first, second, why) in cases {
        let mut world = World::new();
        world.serve(1, None, vec![], vec![]);
        world.step(Event::Asked(1, first));
        let (operation, _) = world.ask();
        world.step(Event::Asked(2, second));
        // What would not have to wait does not go before it.
        world.step(Event::Asked(3, put(&[pod("c", "c")])));
        world.step(Event::Stored(operation, Ok(Stored::Done)));
        let proposal = world.proposal();
        assert_eq!(world.leader.under_way().collect::<Vec<_>>(), [1], "{why}");
        world.order(&proposal);
        let effects = std::mem::take(&mut world.effects);
        assert!(matches!(effects[1], Effect::Store(_, Ask::Write(..))), "{why}: {effects:?}");
    }
}

#[test]
fn as_many_commands_are_put_in_order_at_once_as_the_limit_says() {
    let mut world = World::new();
    world.serve(1, None, vec![], vec![]);
    let mut proposals = Vec::new();
    for request in 1..=2 {
        world.step(Event::Asked(request, put(&[pod(&format!("p{request}"), "web")])));
        let (operation, _) = world.ask();
        world.step(Event::Stored(operation, Ok(Stored::Done)));
        proposals.push(world.proposal());
    }
    world.step(Event::Asked(3, put(&[pod("p3", "web")])));
    assert!(world.effects.is_empty(), "{:?}", world.effects);
    world.order(&proposals[0]);
    let effects = std::mem::take(&mut world.effects);
    assert!(matches!(effects[1], Effect::Store(_, Ask::Write(..))), "{effects:?}");
}

#[test]
fn trouble_of_one_command_puts_all_of_them_back_in_their_order() {
    for refused in [true, false] {
        let mut world = World::new();
        world.serve(1, None, vec![], vec![]);
        world.step(Event::Asked(1, put(&[pod("a", "web")])));
        let (operation, ask) = world.ask();
        let Ask::Write(_, first) = ask else { panic!("{ask:?}") };
        world.step(Event::Asked(2, put(&[pod("b", "db")])));
        world.step(Event::Stored(operation, Ok(Stored::Done)));
        let (proposal, (operation, _)) = world.both();
        if refused {
            world.step(Event::Refused(proposal.0));
        } else {
            world.step(Event::Stored(operation, Err(Trouble::Ambiguous)));
        }
        assert!(!world.leader.is_serving());
        (0..2).for_each(|_| world.step(TICK));
        world.fenced(Some(written(1, 1)), fence(1, 1));
        if !refused {
            // It comes while the store is asked: nobody is answered by it, for nobody waits in it.
            world.state.apply(&proposal.2);
            let asked = std::mem::take(&mut world.effects);
            world.step(Event::Ordered(proposal.0, Revision::new(1, 9)));
            assert!(world.effects.is_empty(), "{:?}", world.effects);
            world.effects = asked;
        }
        world.answer(&Ask::List, Ok(stored(first.identities, first.put)));
        if refused {
            let adoption = world.proposal();
            world.order(&adoption);
        }
        // The first is so by now, the second is written anew.
        let (operation, ask) = world.ask();
        let Ask::Write(_, batch) = ask else { panic!("{ask:?}") };
        assert_eq!((batch.identities[0].0, batch.put.len()), (Identity(257), 1), "{refused}");
        world.step(Event::Stored(operation, Ok(Stored::Done)));
        let proposal = world.proposal();
        world.order(&proposal);
        assert_eq!(world.answers(), [(1, Verdict::Done), (2, Verdict::Done)], "{refused}");
        assert_eq!(world.state.identities().len(), 2);
    }
}

#[test]
fn what_the_store_has_and_the_log_has_not_is_adopted_before_anything_is_served() {
    let mut world = World::new();
    let mut labels = ClusterState::new("blue");
    labels.apply(&CommandV1::Desire {
        put: vec![pod("a", "web")],
        remove: vec![],
        identities: vec![],
    });
    let set = labels.unnumbered(&[], &[]).pop_first().unwrap();
    world.step(Event::Led(2));
    world.step(Event::Asked(1, put(&[pod("b", "db")])));
    world.fenced(Some(fence(1, 3)), fence(2, 0));
    let contents = stored(vec![(Identity(300), set.clone())], vec![pod("a", "web")]);
    world.answer(&Ask::List, Ok(contents));
    let proposal = world.proposal();
    assert!(!world.leader.is_serving());
    world.order(&proposal);
    assert_eq!(world.state.identities()[&set], Identity(300));
    let (_, ask) = world.ask();
    let Ask::Write(_, batch) = ask else { panic!("{ask:?}") };
    assert_eq!(batch.identities[0].0, Identity(301), "after all that the store holds");
}

#[test]
fn a_pod_that_was_adopted_without_a_number_gets_one_and_nobody_has_to_ask() {
    let mut world = World::new();
    world.serve(2, Some(fence(1, 0)), vec![], vec![pod("a", "web")]);
    let adoption = world.proposal();
    world.order(&adoption);
    assert!(world.state.workloads().is_empty());
    let (operation, ask) = world.ask();
    let Ask::Write(_, batch) = ask else { panic!("{ask:?}") };
    assert_eq!((batch.identities.len(), batch.put.len()), (1, 0));
    // What comes meanwhile waits: whether its labels have a number is not known yet.
    world.step(Event::Asked(1, put(&[pod("b", "web")])));
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    let numbers = world.proposal();
    world.order(&numbers);
    assert_eq!(world.state.workloads().len(), 1);
    let (_, ask) = world.ask();
    let Ask::Write(_, batch) = ask else { panic!("{ask:?}") };
    assert_eq!((batch.identities.len(), batch.put.len()), (0, 1));
}

#[test]
fn what_became_of_a_write_is_not_guessed() {
    for trouble in [Trouble::Ambiguous, Trouble::Failed, Trouble::Fenced, Trouble::Taken] {
        let mut world = World::new();
        world.serve(1, None, vec![], vec![]);
        world.step(Event::Asked(1, put(&[pod("a", "web")])));
        let (operation, ask) = world.ask();
        let Ask::Write(_, batch) = ask else { panic!("{ask:?}") };
        world.step(Event::Stored(operation, Err(trouble)));
        assert!(world.effects.is_empty() && !world.leader.is_serving());
        world.step(TICK);
        world.step(TICK);
        // With the next round nothing of it can arrive any more; here it had.
        world.fenced(Some(fence(1, 0)), fence(1, 1));
        let contents = stored(batch.identities.clone(), batch.put.clone());
        world.answer(&Ask::List, Ok(contents));
        let proposal = world.proposal();
        world.order(&proposal);
        assert_eq!(world.answers(), [(1, Verdict::Done)]);
        assert_eq!(world.state.identities().len(), 1, "{trouble:?}");
    }
}

#[test]
fn a_store_that_says_nothing_is_asked_again_and_its_late_answer_is_nobodys() {
    let mut world = World::new();
    world.serve(1, None, vec![], vec![]);
    world.step(Event::Asked(1, put(&[pod("a", "web")])));
    let (late, _) = world.ask();
    (0..7).for_each(|_| world.step(TICK));
    let (operation, ask) = world.ask();
    assert_eq!(ask, Ask::Founded);
    world.step(Event::Stored(late, Ok(Stored::Done)));
    assert!(world.effects.is_empty(), "{:?}", world.effects);
    let founded = Some(("blue".into(), fence(1, 0)));
    world.step(Event::Stored(operation, Ok(Stored::Founded(founded))));
    assert_eq!(world.ask().1, Ask::Raise(Some(fence(1, 0)), fence(1, 1)));
}

/// Ticks until another member is to lead, while the store fails whatever it is asked.
fn until_it_yields(world: &mut World) -> u32 {
    for ticks in 1..=1000 {
        world.step(TICK);
        for effect in std::mem::take(&mut world.effects) {
            match effect {
                Effect::Store(operation, _) => {
                    world.step(Event::Stored(operation, Err(Trouble::Failed)));
                }
                Effect::Yield => return ticks,
                Effect::Propose(..) | Effect::Answer(..) => panic!("{effect:?}"),
            }
        }
    }
    panic!("it goes on for ever");
}

#[test]
fn whom_the_store_fails_lets_another_lead_and_seldom_where_it_failed_from_the_beginning() {
    let mut world = World::new();
    world.serve(1, None, vec![], vec![]);
    world.step(Event::Asked(1, put(&[pod("a", "web")])));
    let (operation, _) = world.ask();
    world.step(Event::Stored(operation, Err(Trouble::Ambiguous)));
    assert_eq!(until_it_yields(&mut world), LIMITS.yields);
    // Nobody was there to take it: again, after as long.
    assert_eq!(until_it_yields(&mut world), LIMITS.yields);

    // Elected anew, it has not had one answer.
    world.step(Event::Led(2));
    let (operation, _) = world.ask();
    world.step(Event::Stored(operation, Err(Trouble::Failed)));
    assert_eq!(until_it_yields(&mut world), LIMITS.yields * SELDOM);

    // One that answers again, be it that another wrote, does not fail it.
    let mut world = World::new();
    world.step(Event::Led(3));
    let (operation, _) = world.ask();
    world.step(Event::Stored(operation, Err(Trouble::Failed)));
    (0..LIMITS.pause + 1).for_each(|_| world.step(TICK));
    world.fenced(None, fence(3, 0));
    world.answer(&Ask::List, Ok(stored(vec![], vec![])));
    (0..LIMITS.yields * SELDOM).for_each(|_| world.step(TICK));
    assert_eq!(world.effects, []);
}

#[test]
fn what_the_log_refused_is_adopted_from_the_store() {
    let mut world = World::new();
    world.serve(1, None, vec![], vec![]);
    world.step(Event::Asked(1, put(&[pod("a", "web")])));
    let (operation, ask) = world.ask();
    let Ask::Write(_, batch) = ask else { panic!("{ask:?}") };
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    let (ticket, ..) = world.proposal();
    world.step(Event::Refused(ticket));
    (0..2).for_each(|_| world.step(TICK));
    world.fenced(Some(written(1, 1)), fence(1, 1));
    world.answer(&Ask::List, Ok(stored(batch.identities, batch.put)));
    let proposal = world.proposal();
    world.order(&proposal);
    assert_eq!(world.answers(), [(1, Verdict::Done)]);
}

#[test]
fn who_leads_no_more_asks_and_answers_nothing() {
    let mut world = World::new();
    world.serve(1, None, vec![], vec![]);
    world.step(Event::Asked(1, put(&[pod("a", "web")])));
    let (operation, _) = world.ask();
    world.step(Event::Asked(2, put(&[pod("b", "web")])));
    world.step(Event::Deposed);
    assert_eq!(world.answers(), [(1, Verdict::Unknown), (2, Verdict::NotLeading)]);
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    (0..20).for_each(|_| world.step(TICK));
    assert!(world.effects.is_empty());
    // One that finds a newer leader's fence is that too.
    world.step(Event::Led(2));
    let founded = Some(("blue".into(), fence(3, 0)));
    world.answer(&Ask::Founded, Ok(Stored::Founded(founded)));
    assert!(world.effects.is_empty() && !world.leader.is_serving());
}

#[test]
fn a_store_that_is_not_the_right_one_is_said() {
    let space = IdentitySpace::new(4, 3).unwrap();
    let cases = [
        (Some(("red".into(), fence(1, 0))), Fault::OtherCluster("red".to_owned())),
        (
            Some((Cluster { name: "blue".to_owned(), space }, fence(1, 0))),
            Fault::OtherSpace { store: space, asked: IdentitySpace::default() },
        ),
        (
            Some(("blue".into(), Fence { generation: 2, term: 1, round: 0, writes: 0 })),
            Fault::Apart { store: 2, log: 1 },
        ),
    ];
    for (founded, fault) in cases {
        let mut world = World::new();
        world.step(Event::Led(1));
        world.answer(&Ask::Founded, Ok(Stored::Founded(founded)));
        assert_eq!(world.leader.fault(), Some(&fault));
    }
    let mut world = World::new();
    world.serve(1, None, vec![], vec![]);
    world.step(Event::Asked(1, put(&[pod("a", "web")])));
    let (operation, _) = world.ask();
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    let proposal = world.proposal();
    world.order(&proposal);
    assert_eq!(world.answers(), [(1, Verdict::Done)]);
    // Of the right fence, and somebody took a number out of it.
    world.serve(2, Some(written(1, 1)), vec![], vec![]);
    assert_eq!(world.leader.fault(), Some(&Fault::OldStore(Identity(256))));
}

/// A leader that has written once, and whose log has that or has it not yet.
fn that_wrote(is_in_the_log: bool) -> World {
    let mut world = World::new();
    world.serve(1, None, vec![], vec![]);
    world.step(Event::Asked(1, put(&[pod("a", "web")])));
    let (operation, _) = world.ask();
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    let proposal = world.proposal();
    if is_in_the_log {
        world.order(&proposal);
        assert_eq!(world.answers(), [(1, Verdict::Done)]);
    }
    world
}

#[test]
fn of_a_store_that_lacks_a_write_nothing_is_adopted() {
    let cases = [
        (None, "it is empty"),
        (Some(fence(1, 0)), "the same leader's, before it wrote"),
        (Some(Fence { term: 0, ..written(1, 9) }), "an earlier leader's"),
    ];
    for (store, why) in cases {
        let known = written(1, 1);
        let behind = Fault::Behind { store, known };
        let founded = store.map(|fence| ("blue".into(), fence));
        // What this leader knows by itself, and what the next one knows by the log.
        for is_in_the_log in [true, false] {
            let mut world = that_wrote(is_in_the_log);
            if is_in_the_log {
                world.leader = Leadership::new("blue", 1, LIMITS);
            }
            world.step(Event::Led(1));
            world.answer(&Ask::Founded, Ok(Stored::Founded(founded.clone())));
            assert_eq!(world.leader.fault(), Some(&behind), "{why}, {is_in_the_log}");
            // It is not even fenced.
            let asked = |effect: &Effect| matches!(effect, Effect::Store(..) | Effect::Propose(..));
            assert!(!world.effects.iter().any(asked), "{why}: {:?}", world.effects);
        }
    }
}

#[test]
fn a_store_that_is_ahead_of_the_log_is_no_older_copy_whatever_became_of_a_write() {
    for at in [written(1, 1), written(1, 2), fence(1, 7), fence(2, 0)] {
        let mut world = that_wrote(true);
        world.step(Event::Led(3));
        world.fenced(Some(at), fence(3, 0));
        assert_eq!(world.ask().1, Ask::List, "{at}");
    }
}

#[test]
fn whoever_finds_another_fence_than_it_read_reads_it_again() {
    let mut world = World::new();
    world.step(Event::Led(2));
    world.answer(&Ask::Founded, Ok(Stored::Founded(Some(("blue".into(), written(1, 4))))));
    // The leader before it had one write under way.
    world.answer(&Ask::Raise(Some(written(1, 4)), fence(2, 0)), Err(Trouble::Fenced));
    assert!(
        world.effects.is_empty(),
        "a store that refuses each time is not asked without a pause"
    );
    world.step(TICK);
    world.fenced(Some(written(1, 5)), fence(2, 0));
    assert_eq!(world.ask().1, Ask::List);
}

#[test]
fn more_than_a_transaction_takes_goes_in_several_numbers_first() {
    let mut world = World::new();
    world.serve(1, None, vec![], vec![]);
    let namespace =
        Object::Namespace(Namespace { name: "shop".to_owned(), labels: BTreeMap::new() });
    let pods = ["a", "b", "c"].map(|name| pod(name, name));
    world.step(Event::Asked(1, put(&[pods.to_vec(), vec![namespace]].concat())));
    let mut written = Vec::new();
    while let [Effect::Store(operation, Ask::Write(_, batch))] = world.effects.as_slice() {
        let (operation, batch) = (*operation, batch.clone());
        written.push((batch.identities.len(), batch.put.len()));
        world.effects.clear();
        world.step(Event::Stored(operation, Ok(Stored::Done)));
    }
    assert_eq!(written, [(3, 0), (0, 3), (0, 1)]);
    let proposal = world.proposal();
    world.order(&proposal);
    assert_eq!(world.answers(), [(1, Verdict::Done)]);
}

#[test]
fn another_filter_of_labels_has_its_numbers_in_the_store_first_and_a_command_of_its_own() {
    let mut world = World::new();
    world.serve(1, None, vec![], vec![]);
    world.step(Event::Asked(1, put(&[pod("a", "web")])));
    let filter: LabelFilter = "!app".parse().unwrap();
    // It waits its turn, and what is wanted after it does not go before it.
    world.step(Event::Filter(2, filter.clone()));
    world.step(Event::Asked(3, put(&[pod("b", "db")])));
    assert_eq!(world.leader.under_way().collect::<Vec<_>>(), [1]);
    let (operation, _) = world.ask();
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    let proposal = world.proposal();
    world.order(&proposal);
    let effects = std::mem::take(&mut world.effects);
    let [Effect::Answer(1, Verdict::Done), Effect::Store(operation, Ask::Write(_, batch))] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    let numbers: Vec<u32> = batch.identities.iter().map(|(number, _)| number.0).collect();
    assert_eq!((numbers, batch.put.len()), (vec![257], 0), "the set without the label");
    assert_eq!(world.leader.under_way().collect::<Vec<_>>(), [2]);
    world.step(Event::Stored(*operation, Ok(Stored::Done)));
    let proposal = world.proposal();
    assert!(matches!(&proposal.2, CommandV1::FilterLabels { .. }));
    world.order(&proposal);
    assert_eq!(world.state.labels(), &filter);
    let effects = std::mem::take(&mut world.effects);
    assert_eq!(effects[0], Effect::Answer(2, Verdict::Done));
    let Effect::Store(operation, Ask::Write(_, batch)) = &effects[1] else { panic!("{effects:?}") };
    assert_eq!((batch.identities.len(), batch.put.len()), (0, 1), "it has that set's number");
    world.step(Event::Stored(*operation, Ok(Stored::Done)));
    let proposal = world.proposal();
    world.order(&proposal);
    assert_eq!(world.answers(), [(3, Verdict::Done)]);
    // The same again is so already.
    world.step(Event::Filter(4, filter));
    assert_eq!(world.answers(), [(4, Verdict::Done)]);
}

/// | every member is known to know | the group's version is raised | another filter of labels |
/// |---|---|---|
/// | nothing, or what the group has | no | has to wait for it |
/// | something newer | by an entry of its own | is taken then |
#[test]
fn what_older_members_do_not_know_waits_until_there_are_none() {
    let mut world = World::new();
    world.state = ClusterState::of_version("blue", OLDEST);
    world.serve(1, None, vec![], vec![]);
    let filter: LabelFilter = "!app".parse().unwrap();
    for known in [0, OLDEST] {
        world.step(Event::Tick { everywhere: u64::MAX, known });
        assert_eq!(world.effects, []);
        world.step(Event::Filter(1, filter.clone()));
        assert_eq!(world.answers(), [(1, Verdict::TooOld(FILTERS))]);
    }
    // What is there already is no change.
    world.step(Event::Filter(2, LabelFilter::default()));
    assert_eq!(world.answers(), [(2, Verdict::Done)]);
    // Beside nothing, and once: what is under way is brought to its end first.
    world.step(Event::Asked(3, put(&[pod("a", "web")])));
    let (operation, _) = world.ask();
    world.step(Event::Tick { everywhere: u64::MAX, known: VERSION });
    world.step(Event::Asked(4, put(&[pod("b", "web")])));
    assert_eq!(world.effects, []);
    world.step(Event::Stored(operation, Ok(Stored::Done)));
    let proposal = world.proposal();
    world.order(&proposal);
    let effects = std::mem::take(&mut world.effects);
    let [Effect::Answer(3, Verdict::Done), Effect::Propose(ticket, fence, command)] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    let raise = (*ticket, *fence, command.clone());
    let entry = EntryV1 { trace: None, command: command.clone(), fence: None };
    assert_eq!(entry.command, CommandV1::Raise(VERSION));
    assert_eq!(encode_entry(&entry).unwrap()[0], VERSION, "older members do not read it");
    world.step(Event::Tick { everywhere: u64::MAX, known: VERSION });
    assert_eq!(world.effects, []);
    assert_eq!(world.state.encode().unwrap()[0], OLDEST);
    world.order(&raise);
    assert_eq!((world.state.version(), world.state.encode().unwrap()[0]), (VERSION, VERSION));
    assert_eq!(ClusterState::decode(&world.state.encode().unwrap()).unwrap(), world.state);
    let (_, ask) = world.ask();
    assert!(matches!(ask, Ask::Write(..)), "{ask:?}");
    // A member of an older release comes back: the group's version stays.
    world.step(Event::Tick { everywhere: u64::MAX, known: OLDEST });
    world.step(Event::Filter(5, filter));
    assert_eq!(world.effects, []);
}

#[test]
fn what_waits_is_bounded() {
    let mut world = World::new();
    world.step(Event::Led(1));
    world.effects.clear();
    for request in 0..6 {
        world.step(Event::Asked(request, put(&[pod("a", "web")])));
    }
    assert_eq!(world.answers(), [(4, Verdict::Busy), (5, Verdict::Busy)]);
}
