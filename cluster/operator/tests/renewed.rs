//! Certificates are renewed without a restart: files are written anew, and the next connection is made with them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod support;

use std::path::Path;
use support::{Agent, Authority, World, block_on, node, pod};
use weft_wire::{credentials::Credentials, tls::Identity};

/// Puts a file in the place of another, as whoever renews certificates does.
fn replace(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn copy(from: &Path, to: &Path) {
    replace(to, &std::fs::read(from).unwrap());
}

#[test]
fn an_operator_takes_a_new_authority_and_shows_its_new_certificate_and_loses_no_session() {
    let world = World::new();
    let config = world.config();
    let operator = support::Running::start(config.clone()).unwrap();
    let (revision, _) = operator.apply(vec![node(1), node(2)]);
    let next = Authority::new(&world.dir.path().join("next"));
    let stranger = next.identity("node2.node.weft");
    block_on(async {
        let mut agent = world.agent(operator.address, "node1", None).await;
        agent.reach(revision).await;
        assert!(Agent::greet(&stranger, operator.address, "node2", None).await.is_err());
        // Both authorities are trusted for a while; then certificates are of the next one.
        let (ca, certificate, key) = next.issue("operator.weft");
        let mut both = std::fs::read(&config.ca).unwrap();
        both.extend(std::fs::read(&ca).unwrap());
        replace(&config.ca, &both);
        let (_, own, own_key) = next.issue("node2.node.weft");
        let renewed = Identity::read(&config.ca, &own, &own_key).unwrap();
        let mut second = Agent::greet(&renewed, operator.address, "node2", None).await.unwrap();
        second.reach(revision).await;
        // A certificate without its key is no certificate: what was before is used until the key is there.
        copy(&certificate, &config.cert);
        let mut third = world.agent(operator.address, "node1", None).await;
        third.reach(revision).await;
        copy(&key, &config.key);
        // Who trusts the next authority alone connects now.
        let mut second = Agent::greet(&stranger, operator.address, "node2", None).await.unwrap();
        second.reach(revision).await;
        // Sessions that stand go on.
        let (revision, _) = operator.apply(vec![pod("web-0", "web", 1)]);
        second.reach(revision).await;
        third.reach(revision).await;
        drop(agent);
    });
}

#[test]
fn what_cannot_be_used_at_the_start_is_an_error_and_later_it_is_not_used() {
    let world = World::new();
    let (ca, certificate, key) = world.authority.issue("node1.node.weft");
    assert!(Credentials::read(&ca, &certificate, &world.dir.path().join("none")).is_err());
    let credentials = Credentials::read(&ca, &certificate, &key).unwrap();
    let before = credentials.connector();
    let same = || std::ptr::eq(&**credentials.connector().config(), &**before.config());
    assert!(same());
    let bytes = std::fs::read(&key).unwrap();
    replace(&key, b"nothing");
    assert!(same());
    std::fs::remove_file(&key).unwrap();
    assert!(same());
    replace(&key, &bytes);
    assert!(!same(), "they are read again, though they say the same");
}
