//! Tables of what comes and who is behind after it.

use super::*;

const R: fn(u64) -> Revision = |index| Revision::new(1, index);

fn name(name: &str) -> NodeName {
    NodeName(name.to_owned())
}

fn nodes(names: &[&str]) -> Nodes {
    let node =
        |n: &&str| Node { name: name(n), address: [172, 30, 0, 1].into(), pod_cidrs: Vec::new() };
    names.iter().map(|n| (name(n), node(n))).collect()
}

/// One that knows nobody.
fn progress<A>() -> Progress<A> {
    Progress::new(MemberId(1))
}

/// The node's agent joins once more.
fn join<A>(
    progress: &mut Progress<A>,
    node: &str,
    held: Option<Revision>,
    newest: Revision,
) -> Result<SessionId, NotJoined> {
    let node = name(node);
    let next = progress.nodes.get(&node).map_or(1, |known| known.row.session.0 + 1);
    progress.join(&node, SessionId(next), held, newest)?;
    Ok(SessionId(next))
}

/// The names of those that are behind.
fn behind(progress: &Progress<u8>, nodes: &Nodes, index: u64) -> Vec<String> {
    progress.behind(nodes, R(index), None).into_iter().map(|node| node.node).collect()
}

#[test]
fn what_an_agent_joins_with_is_its_acknowledgement() {
    let nodes = nodes(&["a", "b"]);
    let mut progress = progress::<u8>();
    join(&mut progress, "a", Some(R(5)), R(5)).expect("not ahead");
    assert_eq!(behind(&progress, &nodes, 5), ["b"], "b never joined");
    join(&mut progress, "b", Some(R(4)), R(5)).expect("not ahead");
    assert_eq!(behind(&progress, &nodes, 5), ["b"]);
    assert_eq!(behind(&progress, &nodes, 4), [""; 0]);
    // Built anew, it holds nothing, whatever it said before.
    join(&mut progress, "a", None, R(5)).expect("not ahead");
    assert_eq!(behind(&progress, &nodes, 1), ["a"]);
}

#[test]
fn an_agent_from_the_future_is_refused_and_changes_nothing() {
    let nodes = nodes(&["a"]);
    let mut progress = progress::<u8>();
    let session = join(&mut progress, "a", Some(R(5)), R(5)).expect("not ahead");
    for held in [R(6), Revision::new(2, 1)] {
        let refused = join(&mut progress, "a", Some(held), R(5)).expect_err("ahead");
        let text = refused.to_string();
        assert!(text.contains(&held.to_string()) && text.contains("raft.redb"), "{text}");
    }
    assert!(progress.is_current(&name("a"), session));
    assert_eq!(behind(&progress, &nodes, 5), [""; 0]);
}

#[test]
fn nobody_holds_what_there_is_not_yet() {
    let nodes = nodes(&["a"]);
    let mut progress = progress::<u8>();
    join(&mut progress, "a", None, R(5)).expect("not ahead");
    progress.acknowledge(&name("a"), R(900), R(5));
    assert_eq!(behind(&progress, &nodes, 6), ["a"]);
    assert_eq!(behind(&progress, &nodes, 5), [""; 0]);
}

#[test]
fn why_a_node_is_behind_is_told_until_it_no_longer_is() {
    let nodes = nodes(&["a", "b"]);
    let mut progress = progress::<u8>();
    for node in ["a", "b"] {
        join(&mut progress, node, Some(R(4)), R(6)).expect("not ahead");
    }
    progress.refuse(&name("a"), R(5), "no room");
    progress.refuse(&name("b"), R(5), &"é".repeat(2 * REASON_MAX));
    let problems = |progress: &Progress<u8>| -> Vec<Option<String>> {
        progress.behind(&nodes, R(9), None).into_iter().map(|node| node.problem).collect()
    };
    assert_eq!(problems(&progress), [Some("no room".to_owned()), Some("é".repeat(REASON_MAX))]);
    progress.acknowledge(&name("a"), R(4), R(6));
    assert!(problems(&progress)[0].is_some(), "what it held before is no news");
    progress.acknowledge(&name("a"), R(6), R(6));
    join(&mut progress, "b", None, R(6)).expect("not ahead");
    assert_eq!(problems(&progress), [None, None]);
}

#[test]
fn a_superseded_session_has_no_say() {
    let mut progress = progress::<u8>();
    let first = join(&mut progress, "a", None, R(5)).expect("not ahead");
    let second = join(&mut progress, "a", None, R(5)).expect("not ahead");
    assert!(!progress.is_current(&name("a"), first));
    progress.leave(&name("a"), first, R(5));
    assert!(progress.is_current(&name("a"), second));
    progress.leave(&name("a"), second, R(5));
    assert!(!progress.of(&name("a")).connected);
}

#[test]
fn a_wait_ends_when_all_nodes_hold_it() {
    let nodes = nodes(&["a", "b"]);
    let mut progress = progress();
    for node in ["a", "b"] {
        join(&mut progress, node, None, R(5)).expect("not ahead");
    }
    progress.wait(R(5), None, 1);
    progress.wait(R(5), Some([name("a")].into()), 2);
    progress.wait(R(4), None, 3);
    assert!(progress.settle(&nodes).is_empty());
    progress.acknowledge(&name("a"), R(5), R(5));
    let answers = |settled: Vec<(u8, Waited)>| -> Vec<u8> {
        assert!(settled.iter().all(|(_, waited)| waited.enforced));
        settled.into_iter().map(|(answer, _)| answer).collect()
    };
    assert_eq!(answers(progress.settle(&nodes)), [2]);
    progress.acknowledge(&name("b"), R(4), R(5));
    assert_eq!(answers(progress.settle(&nodes)), [3]);
    progress.acknowledge(&name("b"), R(5), R(5));
    assert_eq!(answers(progress.settle(&nodes)), [1]);
    assert_eq!(progress.waiters(), 0);
}

#[test]
fn the_time_of_one_is_not_the_time_of_another() {
    let nodes = nodes(&["a"]);
    let mut progress = progress();
    join(&mut progress, "a", None, R(5)).expect("not ahead");
    let first = progress.wait(R(5), None, 1);
    let second = progress.wait(R(5), None, 2);
    let (answer, waited) = progress.expire(first, &nodes).expect("it waits");
    assert_eq!((answer, waited.enforced, waited.behind.len()), (1, false, 1));
    assert!(progress.expire(first, &nodes).is_none());
    progress.acknowledge(&name("a"), R(5), R(5));
    assert_eq!(progress.settle(&nodes).len(), 1);
    assert!(progress.expire(second, &nodes).is_none());
}

#[test]
fn a_node_that_leaves_or_comes_is_counted() {
    let mut progress = progress();
    join(&mut progress, "a", Some(R(5)), R(5)).expect("not ahead");
    progress.wait(R(5), None, 1);
    assert!(progress.settle(&nodes(&["a", "b"])).is_empty());
    progress.nodes_changed();
    assert_eq!(progress.settle(&nodes(&["a"])).len(), 1);
    // One that was registered while it waited, after the others held it.
    progress.wait(R(5), None, 2);
    assert!(progress.settle(&nodes(&["a", "c"])).is_empty());
}

#[test]
fn an_agent_that_is_rebuilt_while_one_waits_is_behind() {
    let nodes = nodes(&["a", "b"]);
    let mut progress = progress();
    join(&mut progress, "a", Some(R(5)), R(5)).expect("not ahead");
    join(&mut progress, "b", None, R(5)).expect("not ahead");
    progress.wait(R(5), None, 1);
    assert!(progress.settle(&nodes).is_empty());
    join(&mut progress, "a", None, R(5)).expect("not ahead");
    progress.acknowledge(&name("b"), R(5), R(5));
    assert!(progress.settle(&nodes).is_empty(), "a holds nothing");
    progress.acknowledge(&name("a"), R(5), R(5));
    assert_eq!(progress.settle(&nodes).len(), 1);
}

/// Two operators, each of which knows what the other told last.
struct Two {
    first: Progress<u8>,
    second: Progress<u8>,
    told: [Option<u64>; 2],
}

impl Two {
    fn new() -> Self {
        let (first, second) = (Progress::new(MemberId(1)), Progress::new(MemberId(2)));
        Self { first, second, told: [None; 2] }
    }

    /// Each tells the other; sessions that are superseded at each.
    fn tell(&mut self) -> [Vec<NodeName>; 2] {
        let (from_first, first_told) = self.first.since(self.told[0]);
        let (from_second, second_told) = self.second.since(self.told[1]);
        self.told = [Some(first_told), Some(second_told)];
        [self.first.hear(MemberId(2), from_second), self.second.hear(MemberId(1), from_first)]
    }
}

#[test]
fn each_operator_answers_for_the_agents_of_all() {
    let nodes = nodes(&["a", "b"]);
    let mut two = Two::new();
    two.first.join(&name("a"), SessionId(7), Some(R(4)), R(5)).expect("new");
    two.second.join(&name("b"), SessionId(3), Some(R(5)), R(5)).expect("new");
    two.first.wait(R(5), None, 1);
    two.second.wait(R(5), None, 2);
    two.tell();
    assert!(two.first.settle(&nodes).is_empty() && two.second.settle(&nodes).is_empty());
    two.first.acknowledge(&name("a"), R(5), R(5));
    two.tell();
    assert_eq!(two.first.settle(&nodes).len(), 1);
    assert_eq!(two.second.settle(&nodes).len(), 1);
    // What did not change is not told again.
    assert_eq!(two.first.since(two.told[0]).0.rows, []);
    assert_eq!(
        (two.second.of(&name("a")).operator, two.second.sessions_of(MemberId(1))),
        (Some(1), 1)
    );
}

#[test]
fn an_agent_that_moves_is_where_it_came_last_whatever_is_told_late() {
    let mut two = Two::new();
    two.first.join(&name("a"), SessionId(7), Some(R(4)), R(5)).expect("new");
    // It is cut off from the first, which does not know that yet, and built anew.
    two.second.join(&name("a"), SessionId(8), None, R(5)).expect("new");
    let late = two.first.since(None).0;
    assert_eq!(two.tell(), [vec![name("a")], vec![]]);
    assert!(!two.first.is_current(&name("a"), SessionId(7)));
    two.first.leave(&name("a"), SessionId(7), R(5));
    two.second.hear(MemberId(1), late);
    two.tell();
    for progress in [&two.first, &two.second] {
        let of = progress.of(&name("a"));
        assert_eq!((of.connected, of.operator, of.acknowledged), (true, Some(2), None));
    }
    // A number that was used is used by nobody else.
    let stale = two.first.join(&name("a"), SessionId(8), None, R(5)).expect_err("used");
    assert_eq!(stale, NotJoined::Stale(SessionId(8), SessionId(8)));
}

#[test]
fn who_comes_back_without_what_it_knew_has_no_agents() {
    let mut two = Two::new();
    two.first.join(&name("a"), SessionId(7), Some(R(4)), R(5)).expect("new");
    two.first.join(&name("b"), SessionId(7), Some(R(4)), R(5)).expect("new");
    two.first.leave(&name("b"), SessionId(7), R(6));
    two.tell();
    two.first = Progress::new(MemberId(1));
    two.first.join(&name("c"), SessionId(1), None, R(5)).expect("new");
    two.told = [None; 2];
    two.tell();
    let left = |node: &str| two.second.nodes[&name(node)].row.left;
    assert_eq!((left("a"), left("b"), left("c")), (Some(Revision(u64::MAX)), Some(R(6)), None));
    assert_eq!(two.second.of(&name("a")).acknowledged, Some(R(4)), "its kernel holds what it held");
}

#[test]
fn the_agents_of_who_is_taken_out_of_the_group_are_not_connected() {
    let mut progress = progress::<u8>();
    let row = Row { session: SessionId(3), left: None, held: Some(R(5)), refused: None };
    let rows = Rows { all: true, rows: vec![(name("a"), row)] };
    progress.hear(MemberId(2), rows);
    let connected = |progress: &Progress<u8>| progress.of(&name("a")).connected;
    assert!(connected(&progress), "nobody knows the group yet");
    progress.members_are(&BTreeSet::from([MemberId(1), MemberId(2)]));
    assert!(connected(&progress));
    progress.news();
    progress.members_are(&BTreeSet::from([MemberId(1)]));
    assert!(!connected(&progress) && progress.sessions_of(MemberId(2)) == 0);
    let apart = |progress: &Progress<u8>| progress.apart(["a", "b"].map(name));
    assert_eq!(apart(&progress), (BTreeSet::new(), ["a", "b"].map(name).to_vec()));
    let seen = Seen { session: 3, holds: Some(R(5)), connected: false };
    assert_eq!(progress.news(), [(name("a"), seen)], "who counts references hears of it");
    assert_eq!(progress.of(&name("a")).acknowledged, Some(R(5)), "what it holds it holds");
    // A group that is known late changes nothing for good.
    progress.members_are(&BTreeSet::from([MemberId(1), MemberId(2)]));
    assert!(connected(&progress));
    assert_eq!(apart(&progress), (BTreeSet::from([name("a")]), vec![name("b")]));
}
