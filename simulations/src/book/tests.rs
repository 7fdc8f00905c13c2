//! What explains a verdict, and what does not.

use super::*;
use weft_types::{Label, PodEndpoint, Source, Workload, policy::PolicyKind};

const WEB: Identity = Identity(256);
const DB: Identity = Identity(257);

fn node(name: &str) -> NodeName {
    NodeName(name.to_owned())
}

fn labels(app: &str) -> LabelSet {
    let (key, value) = ("app".to_owned(), app.to_owned());
    LabelSet::from_iter([Label { source: Source::K8s, key, value }])
}

fn pod(name: &str, at: &str, identity: Identity) -> Delta {
    let name = NamespacedName::new("sim", name);
    Delta::WorkloadUpsert(Workload { name, node: node(at), identity })
}

fn isolation(id: &str) -> Policy {
    let name = NamespacedName::new("sim", id);
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, name };
    let (ingress, egress) = (Isolation::Isolated(Vec::new()), Isolation::Open);
    Policy { id, subject: Selector::default(), ingress, egress }
}

/// A web pod here and a database elsewhere; from revision 5 on nobody reaches anybody.
fn book() -> Book {
    let mut book = Book::default();
    let known = [(WEB, "web"), (DB, "db")].map(|(it, app)| Delta::IdentityUpsert(it, labels(app)));
    book.take(Revision(1), &known);
    book.take(Revision(2), &[pod("a", "here", WEB)]);
    let name = NamespacedName::new("sim", "b");
    let (address, node) = ([10, 0, 2, 1].into(), node("there"));
    let endpoint = PodEndpoint { name, address, identity: DB, node };
    book.take(Revision(3), &[Delta::EndpointUpsert(endpoint)]);
    book.take(Revision(5), &[Delta::PolicyUpsert(isolation("p"))]);
    book
}

fn explains(since: u64, is_let: bool) -> bool {
    book().explains(&Judged {
        node: &node("here"),
        since: Revision(since),
        direction: Direction::Ingress,
        own: WEB,
        peer: None,
        peer_at: [10, 0, 2, 1].into(),
        protocol: 6,
        port: 80,
        is_let,
    })
}

#[test]
fn a_verdict_is_of_what_was_acknowledged_or_of_what_came_after() {
    assert!(explains(4, true) && explains(4, false), "either is on its way");
    assert!(!explains(5, true) && explains(5, false), "the old one is over");
}

#[test]
fn a_pod_may_be_what_it_was_only_where_it_may_have_ended() {
    let mut book = book();
    let may_be = |book: &Book, number, since| {
        let name = NamespacedName::new("sim", "a");
        book.may_be((&node("here"), &name), number, Revision(since))
    };
    book.take(Revision(6), &[pod("a", "here", DB)]);
    assert!(may_be(&book, WEB, 5) && may_be(&book, DB, 5));
    assert!(!may_be(&book, WEB, 6));
    book.take(Revision(7), &[pod("a", "there", DB)]);
    assert!(may_be(&book, WEB, 6), "it was told of the end alone");
}
