//! A change costs what it changes: among five hundred policies and as many classes, what the engine resolves anew is
//! counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

use weft_core::policy::{Engine, Work};
use weft_types::{
    Identity, LabelSet, NamespacedName, Policy, Selector, Source,
    label::key,
    policy::{Isolation, Peer, Peers, PolicyId, PolicyKind, Ports, Rule},
    selector::Requirement,
};

const APPS: u32 = 500;

fn labels(app: u32) -> LabelSet {
    let mut set = LabelSet::new();
    set.insert(Source::K8s, key::NAMESPACE, "a");
    set.insert(Source::K8s, "app", format!("app{app}"));
    set
}

fn selects(app: u32) -> Selector {
    let (key, values) = ("app".to_owned(), vec![format!("app{app}")]);
    Selector::new(vec![Requirement::In { source: Source::K8s, key, values }])
}

/// Who may call an app: another, or nobody.
fn policy(app: u32, caller: Option<u32>) -> Policy {
    let name = NamespacedName::new("a", format!("p{app}"));
    let peers = |app| Peers::Only(vec![Peer::Pods(selects(app))]);
    let rules = caller.map(|app| Rule { peers: peers(app), ports: Ports::All });
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, name };
    let ingress = Isolation::Isolated(rules.into_iter().collect());
    Policy { id, subject: selects(app), ingress, egress: Isolation::Open }
}

/// What a change makes an engine resolve, and how many steps it says.
fn cost(engine: &mut Engine, change: impl FnOnce(&mut Engine)) -> (Work, usize) {
    let before = engine.work();
    change(engine);
    let steps = engine.commit().steps.len();
    let after = engine.work();
    let (classes, peers) = (after.classes - before.classes, after.peers - before.peers);
    (Work { classes, peers }, steps)
}

#[test]
fn a_change_costs_what_it_changes() {
    let mut engine = Engine::default();
    let (number, stranger) = (|app: u32| Identity(1000 + app), Identity(900));
    let whole = cost(&mut engine, |engine| {
        for app in 0..APPS {
            engine.upsert_identity(number(app), labels(app));
            engine.hold(number(app));
            engine.upsert_policy(policy(app, Some((app + 1) % APPS)));
        }
    });
    assert_eq!(whole, (Work { classes: u64::from(APPS), peers: 0 }, 1), "each class once");

    let work = |classes, peers| Work { classes, peers };
    let comes = cost(&mut engine, |engine| engine.upsert_identity(stranger, labels(7)));
    assert_eq!(comes, (work(0, 1), 1), "one more caller of app 6");
    let moves = cost(&mut engine, |engine| engine.upsert_identity(stranger, labels(9)));
    assert_eq!(moves, (work(0, 2), 1), "of app 8, and no more of app 6");
    let plugged = cost(&mut engine, |engine| engine.hold(stranger));
    assert_eq!(plugged, (work(1, 0), 1), "its own class");
    let twice = cost(&mut engine, |engine| engine.upsert_identity(stranger, labels(9)));
    assert_eq!(twice, (work(0, 0), 0), "nothing new");
    let closed = cost(&mut engine, |engine| engine.upsert_policy(policy(3, None)));
    assert_eq!(closed, (work(1, 0), 1), "the class of app 3");
    let gone = cost(&mut engine, |engine| engine.delete_policy(&policy(3, None).id));
    assert_eq!(gone, (work(1, 0), 1), "the class of app 3");
    let leaves = cost(&mut engine, |engine| engine.release(stranger));
    assert_eq!(leaves, (work(0, 0), 1), "its class goes");
}
