//! The transition function, step by step.

use super::*;

const WIRE: Wire = Wire { ifindex: 7, mac: [2, 0, 0, 0, 0, 1], mtu: Some(1500) };

fn pod() -> NamespacedName {
    NamespacedName::new("shop", "cart-0")
}

fn endpoints() -> Endpoints<&'static str> {
    let mut endpoints = Endpoints::default();
    endpoints.set_pod_cidrs(vec!["10.0.0.0/29".parse().unwrap()]);
    endpoints.set_workload(&pod(), Some(Identity(300)));
    endpoints
}

fn lasting(why: &str) -> Failure {
    Failure::Lasting(why.to_owned())
}

fn add(key: &'static str, caller: Caller) -> Event<&'static str> {
    Event::Add { key, pod: pod(), netns: format!("/run/netns/{key}"), adopt: None, caller }
}

fn settle(endpoints: &mut Endpoints<&'static str>) -> Vec<Effect<&'static str>> {
    let (version, _) = endpoints.in_tables();
    endpoints.step(Event::Settled { version })
}

fn plugged(endpoints: &mut Endpoints<&'static str>, key: &'static str) {
    let begun = endpoints.step(add(key, 1));
    assert!(matches!(begun[..], [Effect::Announce, Effect::Plug { .. }]), "{begun:?}");
    assert!(
        endpoints.announced().any(|(announced, _)| *announced == key),
        "while its link is made"
    );
    assert_eq!(endpoints.step(Event::Linked { key, wire: Ok(WIRE) }), [Effect::Settle]);
    assert!(matches!(settle(endpoints)[..], [Effect::Open { .. }]));
    let opened = endpoints.step(Event::Opened { key, result: Ok(()) });
    assert!(matches!(opened[..], [Effect::Added { caller: 1, .. }]), "{opened:?}");
}

#[test]
fn from_add_to_delete() {
    let mut endpoints = endpoints();
    plugged(&mut endpoints, "a");
    assert_eq!(endpoints.in_tables().1.len(), 1);
    assert_eq!(endpoints.step(Event::Delete { key: "a", caller: 2 }), [Effect::Settle]);
    assert_eq!(endpoints.in_tables().1.len(), 0, "out of the tables before its link goes");
    assert_eq!(settle(&mut endpoints), [Effect::Unplug { key: "a" }]);
    let gone = endpoints.step(Event::Unplugged { key: "a", result: Ok(()) });
    assert_eq!(gone, [Effect::Deleted { caller: 2 }]);
    assert_eq!(endpoints.iter().count(), 0);
}

#[test]
fn a_repeated_add_is_one_endpoint_with_two_answers() {
    let mut endpoints = endpoints();
    endpoints.step(add("a", 1));
    assert_eq!(endpoints.step(add("a", 2)), []);
    endpoints.step(Event::Linked { key: "a", wire: Ok(WIRE) });
    settle(&mut endpoints);
    let opened = endpoints.step(Event::Opened { key: "a", result: Ok(()) });
    assert_eq!(opened.len(), 2);
    // Once more, when it is long plugged: its link is looked for.
    let look = endpoints.step(add("a", 3));
    let is_asked = |endpoint: &Endpoint| endpoint.wire == Some(WIRE);
    assert!(matches!(&look[..], [Effect::Find { key: "a", endpoint }] if is_asked(endpoint)));
    let found = endpoints.step(Event::Found { key: "a", result: Ok(Presence::There) });
    assert!(matches!(found[..], [Effect::Added { caller: 3, .. }]), "{found:?}");
}

#[test]
fn a_repeated_add_that_comes_after_the_link_was_made_has_it_looked_for() {
    for (presence, is_there) in [(Presence::There, true), (Presence::Gone, false)] {
        let mut endpoints = endpoints();
        endpoints.step(add("a", 1));
        endpoints.step(Event::Linked { key: "a", wire: Ok(WIRE) });
        assert_eq!(endpoints.step(add("a", 2)), []);
        settle(&mut endpoints);
        let opened = endpoints.step(Event::Opened { key: "a", result: Ok(()) });
        assert!(matches!(opened[..], [Effect::Find { key: "a", .. }]), "{opened:?}");
        let found = endpoints.step(Event::Found { key: "a", result: Ok(presence) });
        let answered =
            matches!(found[..], [Effect::Added { caller: 1, .. }, Effect::Added { caller: 2, .. }]);
        assert_eq!(answered, is_there, "{found:?}");
    }
}

#[test]
fn nobody_is_plugged_while_what_no_file_tells_of_is_removed() {
    let mut endpoints = endpoints();
    let delete = |caller| Event::Delete { key: "a", caller };
    assert_eq!(endpoints.step(delete(1)), [Effect::Unplug { key: "a" }]);
    assert_eq!(endpoints.step(delete(2)), [], "once for both");
    let refused = endpoints.step(add("a", 3));
    assert!(
        matches!(refused[..], [Effect::Failed { caller: 3, why: Failure::Passing(_) }]),
        "{refused:?}"
    );
    let gone = endpoints.step(Event::Unplugged { key: "a", result: Ok(()) });
    assert_eq!(gone, [Effect::Deleted { caller: 1 }, Effect::Deleted { caller: 2 }]);
    plugged(&mut endpoints, "a");
}

#[test]
fn a_repeated_add_whose_link_went_makes_it_anew() {
    let mut endpoints = endpoints();
    plugged(&mut endpoints, "a");
    endpoints.step(add("a", 2));
    let gone = endpoints.step(Event::Found { key: "a", result: Ok(Presence::Gone) });
    assert!(
        matches!(
            gone[..],
            [Effect::Failed { caller: 2, why: Failure::Passing(_) }, Effect::Settle]
        ),
        "{gone:?}"
    );
    assert_eq!(settle(&mut endpoints), [Effect::Unplug { key: "a" }]);
    assert_eq!(endpoints.step(Event::Unplugged { key: "a", result: Ok(()) }), []);
    plugged(&mut endpoints, "a");
    // Whether it is there may be unknown: nothing is taken away then.
    endpoints.step(add("a", 3));
    let unknown = endpoints.step(Event::Found { key: "a", result: Err(lasting("netlink")) });
    assert_eq!(unknown, [Effect::Failed { caller: 3, why: lasting("netlink") }]);
    assert_eq!(endpoints.get(&"a").unwrap().phase, Phase::Ready);
}

#[test]
fn a_container_is_one_pod_s_in_one_namespace() {
    let mut endpoints = endpoints();
    plugged(&mut endpoints, "a");
    let elsewhere =
        Event::Add { key: "a", pod: pod(), netns: "/run/netns/b".into(), adopt: None, caller: 2 };
    let refused = endpoints.step(elsewhere);
    assert!(
        matches!(&refused[..], [Effect::Failed { why: Failure::Lasting(why), .. }] if why.contains("/run/netns/a")),
        "{refused:?}"
    );
}

#[test]
fn a_delete_beside_an_add_ends_both() {
    let mut endpoints = endpoints();
    endpoints.step(add("a", 1));
    assert_eq!(endpoints.step(Event::Delete { key: "a", caller: 2 }), []);
    let linked = endpoints.step(Event::Linked { key: "a", wire: Ok(WIRE) });
    assert!(matches!(linked[..], [Effect::Failed { caller: 1, .. }, Effect::Settle]));
    assert_eq!(settle(&mut endpoints), [Effect::Unplug { key: "a" }]);
    let gone = endpoints.step(Event::Unplugged { key: "a", result: Ok(()) });
    assert_eq!(gone, [Effect::Deleted { caller: 2 }]);
}

#[test]
fn a_pod_that_goes_while_it_is_plugged_is_not_there_afterwards() {
    let mut endpoints = endpoints();
    endpoints.step(add("a", 1));
    endpoints.set_workload(&pod(), None);
    let linked = endpoints.step(Event::Linked { key: "a", wire: Ok(WIRE) });
    assert_eq!(linked, [Effect::Unplug { key: "a" }, Effect::Announce]);
    assert_eq!(endpoints.in_tables().1.len(), 0, "no packet has its identity");
    assert_eq!(endpoints.announced().count(), 0, "and nobody is told that it has");
    let gone = endpoints.step(Event::Unplugged { key: "a", result: Ok(()) });
    assert!(matches!(gone[..], [Effect::Failed { caller: 1, why: Failure::Passing(_) }]));
    // One that is plugged goes on until it is deleted.
    endpoints.set_workload(&pod(), Some(Identity(300)));
    plugged(&mut endpoints, "a");
    endpoints.set_workload(&pod(), None);
    assert_eq!(endpoints.in_tables().1.len(), 1);
}

#[test]
fn a_link_that_fails_is_undone_and_said() {
    let mut endpoints = endpoints();
    endpoints.step(add("a", 1));
    let failed = endpoints.step(Event::Linked { key: "a", wire: Err(lasting("no netns")) });
    assert_eq!(failed, [Effect::Unplug { key: "a" }, Effect::Announce]);
    let gone = endpoints.step(Event::Unplugged { key: "a", result: Ok(()) });
    assert_eq!(gone, [Effect::Failed { caller: 1, why: lasting("no netns") }]);
    assert_eq!(endpoints.iter().count(), 0);
}

#[test]
fn what_cannot_be_removed_is_tried_again() {
    let mut endpoints = endpoints();
    plugged(&mut endpoints, "a");
    endpoints.step(Event::Delete { key: "a", caller: 2 });
    settle(&mut endpoints);
    let stuck = endpoints.step(Event::Unplugged { key: "a", result: Err(lasting("busy")) });
    assert_eq!(stuck, [Effect::Failed { caller: 2, why: lasting("busy") }]);
    assert!(matches!(endpoints.step(add("a", 3))[..], [Effect::Failed { caller: 3, .. }]));
    assert_eq!(endpoints.step(Event::Retry), [Effect::Unplug { key: "a" }]);
    assert_eq!(endpoints.step(Event::Unplugged { key: "a", result: Ok(()) }), []);
    assert_eq!(endpoints.iter().count(), 0);
}

#[test]
fn an_older_settlement_does_not_count() {
    let mut endpoints = endpoints();
    endpoints.step(add("a", 1));
    let (before, _) = endpoints.in_tables();
    endpoints.step(Event::Linked { key: "a", wire: Ok(WIRE) });
    assert_eq!(endpoints.step(Event::Settled { version: before }), []);
}

#[test]
fn freed_addresses_rest_and_the_last_one_is_found() {
    let mut endpoints = endpoints();
    let mut given = Vec::new();
    // 10.0.0.0/29 has .1 to .6; .1 is the network's own.
    for _ in 0..5 {
        plugged(&mut endpoints, "a");
        given.push(endpoints.get(&"a").unwrap().address.octets()[3]);
        endpoints.step(Event::Delete { key: "a", caller: 2 });
        settle(&mut endpoints);
        endpoints.step(Event::Unplugged { key: "a", result: Ok(()) });
    }
    assert_eq!(given, [2, 3, 4, 5, 6]);
    for key in ["a", "b", "c", "d", "e"] {
        plugged(&mut endpoints, key);
    }
    assert!(matches!(endpoints.step(add("f", 9))[..], [Effect::Failed { caller: 9, .. }]));
}

#[test]
fn a_relabelled_pod_is_settled_anew() {
    let mut endpoints = endpoints();
    plugged(&mut endpoints, "a");
    let (before, _) = endpoints.in_tables();
    endpoints.set_workload(&pod(), Some(Identity(301)));
    let (after, tables) = endpoints.in_tables();
    assert!(after > before && tables[0].1.identity == Identity(301));
    // Its file says the old identity until it is written.
    let outdated = endpoints.outdated();
    assert!(matches!(&outdated[..], [("a", e)] if e.identity == Identity(301)), "{outdated:?}");
    assert_eq!(endpoints.step(Event::Retry), [Effect::Settle], "as long as it could not be");
    endpoints.remembered(&"a");
    assert_eq!(endpoints.outdated(), []);
    assert_eq!(endpoints.step(Event::Retry), []);
}

#[test]
fn a_pod_relabelled_on_its_way_in_is_remembered_with_its_last_identity() {
    let mut endpoints = endpoints();
    endpoints.step(add("a", 1));
    endpoints.step(Event::Linked { key: "a", wire: Ok(WIRE) });
    settle(&mut endpoints);
    endpoints.set_workload(&pod(), Some(Identity(301)));
    assert_eq!(endpoints.outdated(), [], "its file is being written");
    let opened = endpoints.step(Event::Opened { key: "a", result: Ok(()) });
    assert!(matches!(opened[..], [Effect::Added { .. }, Effect::Settle]), "{opened:?}");
    assert_eq!(endpoints.outdated().len(), 1);
    endpoints.step(Event::Delete { key: "a", caller: 2 });
    assert_eq!(endpoints.outdated(), [], "who leaves is forgotten");
}

#[test]
fn what_keeps_pods_out_is_said() {
    let mut endpoints = endpoints();
    assert_eq!(endpoints.obstacle(), None);
    endpoints.set_pod_cidrs(Vec::new());
    let Some(Failure::Passing(why)) = endpoints.obstacle() else { panic!() };
    assert!(why.contains("no prefix"), "{why}");
    let refused = endpoints.step(add("a", 1));
    assert_eq!(refused, [Effect::Failed { caller: 1, why: Failure::Passing(why) }]);
}

#[test]
fn an_endpoint_whose_record_was_lost_keeps_its_address_and_is_named_by_others() {
    let mut endpoints = endpoints();
    let before = Endpoint {
        pod: NamespacedName::new("?", "wl1"),
        netns: String::new(),
        id: 7,
        address: [10, 0, 1, 2].into(),
        identity: Identity(300),
        adopted: false,
        wire: Some(WIRE),
        phase: Phase::Ready,
    };
    endpoints.recover("lost", before);
    endpoints.set_workload(&pod(), Some(Identity(301)));
    endpoints.name(&"lost", &pod());
    let named = endpoints.get(&"lost").unwrap();
    assert_eq!((&named.pod, named.identity), (&pod(), Identity(301)));
    assert_eq!(endpoints.outdated().len(), 1, "relabelled meanwhile");
    // Another does not get its address; and it goes as any other does.
    plugged(&mut endpoints, "b");
    assert_ne!(endpoints.get(&"b").unwrap().address, Ipv4Addr::from([10, 0, 1, 2]));
    let effects = endpoints.step(Event::Delete { key: "lost", caller: 9 });
    assert_eq!(effects, [Effect::Settle]);
}

/// ADD of a pod whose link another plugin made, and gave this address.
fn adopt(key: &'static str, last: u8, caller: Caller) -> Event<&'static str> {
    let address = Some([10, 0, 0, last].into());
    Event::Add { key, pod: pod(), netns: format!("/run/netns/{key}"), adopt: address, caller }
}

#[test]
fn a_link_that_another_plugin_made_keeps_its_address() {
    let mut endpoints = endpoints();
    let begun = endpoints.step(adopt("a", 5, 1));
    let is_so = |e: &Endpoint| e.adopted && e.address == Ipv4Addr::new(10, 0, 0, 5);
    assert!(
        matches!(&begun[..], [Effect::Announce, Effect::Plug { endpoint, .. }] if is_so(endpoint)),
        "{begun:?}"
    );
    // Its address is nobody else's, and the next free one is the first all the same.
    plugged(&mut endpoints, "b");
    let address = |key| endpoints.get(&key).map(|endpoint| endpoint.address);
    assert_eq!(address("b"), Some([10, 0, 0, 2].into()));
}

#[test]
fn an_address_that_cannot_be_found_here_is_refused() {
    let mut endpoints = endpoints();
    plugged(&mut endpoints, "a");
    for (last, why) in [(9, "not of this node's 10.0.0.0/29"), (2, "which pod shop/cart-0 has")] {
        let refused = endpoints.step(adopt("b", last, 2));
        assert!(
            matches!(&refused[..], [Effect::Failed { caller: 2, why: Failure::Lasting(it) }] if it.contains(why)),
            "{refused:?}"
        );
    }
    // The container that is plugged has another address by now: it is not that.
    let refused = endpoints.step(adopt("a", 5, 3));
    assert!(
        matches!(&refused[..], [Effect::Failed { why: Failure::Lasting(_), .. }]),
        "{refused:?}"
    );
    endpoints.set_pod_cidrs(Vec::new());
    let later = endpoints.step(adopt("b", 5, 4));
    assert!(matches!(&later[..], [Effect::Failed { why: Failure::Passing(_), .. }]), "{later:?}");
}
