//! An operator whose store is a real etcd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

#[path = "../../store/tests/real_etcd/mod.rs"]
mod real_etcd;
mod support;

use clap::Parser;
use real_etcd::{Etcd, eventually};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};
use support::{Authority, PATIENCE, Running, World, ask_within, node, pod};
use weft_api::{
    operator::{Answer, Request},
    transport::{Client, Options},
};
use weft_operator::config::Config;
use weft_store::Store;

fn identities(operator: &Running) -> BTreeMap<u32, Vec<String>> {
    match operator.ask(Request::Identities) {
        Ok(Answer::Identities(rows)) => {
            rows.into_iter().map(|row| (row.identity, row.labels)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_in_etcd_outlives_the_operators_folder() {
    let etcd = Etcd::of(1);
    drop(etcd.answering("/weft/"));
    let world = World::new();
    let over = |world: &World| Config { etcd: etcd.endpoints(), ..world.config() };
    let operator = Running::start(over(&world)).unwrap();
    operator.apply(vec![node(1), pod("web-0", "web", 1), pod("db-0", "db", 1)]);
    let before = identities(&operator);
    assert_eq!(before.len(), 2);
    assert!(!world.store().exists(), "there is one store");
    operator.stop();
    // Another machine, with nothing but the endpoints.
    let other = World::new();
    let operator = Running::start(over(&other)).unwrap();
    assert_eq!(operator.revision().generation(), 2, "a new log is another generation");
    assert_eq!(identities(&operator), before);
    operator.stop();
    // Another cluster sees nothing of it.
    let third = World::new();
    let green = Config { cluster: "green".to_owned(), ..over(&third) };
    let operator = Running::start(green).unwrap();
    assert_eq!(identities(&operator), BTreeMap::new());
}

#[test]
fn without_etcd_nothing_is_acknowledged_and_what_was_is_there() {
    let mut etcd = Etcd::of(1);
    drop(etcd.answering("/weft/"));
    let world = World::new();
    let config = Config { etcd: etcd.endpoints(), ..world.config() };
    let operator = Running::start(config).unwrap();
    let (revision, _) = operator.apply(vec![node(1), pod("web-0", "web", 1)]);
    let before = identities(&operator);
    etcd.kill(0);
    let request = Request::Apply { objects: vec![pod("new-0", "new", 1)] };
    let refused = ask_within(&operator.socket, request, Duration::from_secs(7));
    let why = refused.unwrap_err().message;
    // The write, or what was read after it.
    assert!(why.contains("change the cluster: it was not done in time: "), "{why}");
    assert!(why.contains("write to the store: ") || why.contains("read the fence: "), "{why}");
    // What is there is served on.
    assert_eq!((operator.revision(), identities(&operator)), (revision, before.clone()));
    etcd.start(0);
    eventually(|| operator.ask(Request::Apply { objects: vec![pod("new-0", "new", 1)] }).ok());
    let after = identities(&operator);
    assert_eq!(after.len(), 2);
    assert!(before.iter().all(|(number, labels)| after.get(number) == Some(labels)));
}

/// What was acknowledged after the backup, and what the restored etcd has no more: a pod with a number of its own, and
/// one whose labels had theirs before.
#[test]
fn an_etcd_that_was_restored_from_an_older_backup_is_said_and_nothing_is_given_twice_or_taken_back()
{
    for (lost, numbers) in [(pod("db-0", "db", 1), 2), (pod("web-1", "web", 1), 1)] {
        let mut etcd = Etcd::of(1);
        drop(etcd.answering("/weft/"));
        let world = World::new();
        let endpoints = etcd.endpoints();
        let config = || Config { etcd: endpoints.clone(), ..world.config() };
        let operator = Running::start(config()).unwrap();
        operator.apply(vec![node(1), pod("web-0", "web", 1)]);
        let old = etcd.back_up();
        eventually(|| operator.ask(Request::Apply { objects: vec![lost.clone()] }).ok());
        let before = identities(&operator);
        assert_eq!(before.len(), numbers);
        let newest = etcd.back_up();
        etcd.restore(&old);
        // The leader has the fence that the backup has, but for what it wrote since.
        let request = Request::Apply { objects: vec![pod("new-0", "new", 1)] };
        let mut client = Client::connect(&operator.socket, PATIENCE).unwrap();
        let answer = client.call(request, Options::within(PATIENCE));
        assert!(!matches!(answer, Ok(Answer::Accepted { .. })), "{answer:?}");
        let why = operator.ended();
        assert!(why.contains("the store is an older copy. It went back from"), "{why}");
        // So does whoever knows of it by the log alone, however often it begins.
        for _ in 0..2 {
            let why = eventually(|| Running::start(config()).err().map(|why| why.to_string()));
            assert!(why.contains("the store is an older copy"), "{why}");
        }
        let store = etcd.answering("/weft/blue/");
        assert_eq!(store.identities().unwrap().len(), 1, "nothing was given or taken back");
        // With the newer one all is there.
        drop(store);
        etcd.restore(&newest);
        drop(etcd.answering("/weft/"));
        let operator = Running::start(config()).unwrap();
        assert_eq!(identities(&operator), before);
        let objects = operator.ask(Request::Objects);
        assert!(matches!(&objects, Ok(Answer::Objects(all)) if all.contains(&lost)), "{objects:?}");
        operator.apply(vec![pod("new-0", "new", 1)]);
        assert_eq!(identities(&operator).len(), numbers + 1);
    }
}

#[test]
fn etcd_by_tls_knows_who_asks_and_is_known() {
    let world = World::new();
    let (ca, certificate, key) = world.authority.issue_also("etcd.weft", &["127.0.0.1"]);
    let etcd = Etcd::of_by(1, Some([ca.clone(), certificate, key]));
    let (_, own, own_key) = world.authority.issue("operator.weft");
    let with = |ca: Option<&Path>, certificate: bool| {
        let mut config = Config { etcd: etcd.endpoints(), ..world.config() };
        config.etcd_tls.etcd_ca = ca.map(Path::to_owned);
        config.etcd_tls.etcd_cert = certificate.then(|| own.clone());
        config.etcd_tls.etcd_key = certificate.then(|| own_key.clone());
        config
    };
    // Without the authority nothing is tried; of another authority nothing is believed; without a certificate nothing is told.
    let why = |config: Config| Running::start(config).err().unwrap().to_string();
    let refused = why(with(None, false));
    assert!(refused.contains("--etcd-ca"), "{refused}");
    let strangers = Authority::new(&world.dir.path().join("strangers"));
    let (other, ..) = strangers.issue("etcd.weft");
    let refused = why(with(Some(&other), true));
    assert!(refused.contains("etcd at https:"), "{refused}");
    let refused = why(with(Some(&ca), false));
    assert!(refused.contains("etcd at https:"), "{refused}");
    let plain = Config { etcd: vec!["http://127.0.0.1:1".to_owned()], ..with(Some(&ca), true) };
    let refused = why(plain);
    assert!(refused.contains("all members are named as https"), "{refused}");
    let operator = eventually(|| Running::start(with(Some(&ca), true)).ok());
    operator.apply(vec![node(1), pod("web-0", "web", 1)]);
    assert_eq!(identities(&operator).len(), 1);
}

/// Authority, certificate and key of a member and of its client.
type Files = [PathBuf; 5];

/// As an authority in a folder issues them.
fn issued(folder: &Path) -> Files {
    let authority = Authority::new(folder);
    let (ca, certificate, key) = authority.issue_also("etcd.weft", &["127.0.0.1"]);
    let (_, own, own_key) = authority.issue("operator.weft");
    [ca, certificate, key, own, own_key]
}

#[test]
fn certificates_of_etcd_and_to_it_are_renewed_and_the_operator_goes_on() {
    let world = World::new();
    let files = issued(&world.dir.path().join("etcd"));
    let [ca, certificate, key, own, own_key] = files.clone();
    let mut etcd = Etcd::of_by(1, Some([ca.clone(), certificate, key]));
    let mut config = Config { etcd: etcd.endpoints(), ..world.config() };
    config.etcd_tls.etcd_ca = Some(ca);
    config.etcd_tls.etcd_cert = Some(own.clone());
    config.etcd_tls.etcd_key = Some(own_key);
    let operator = eventually(|| Running::start(config.clone()).ok());
    operator.apply(vec![node(1), pod("web-0", "web", 1)]);
    // What cannot be used is not, while it is not whole.
    let before = std::fs::read(&own).unwrap();
    std::fs::write(&own, "nothing").unwrap();
    operator.apply(vec![pod("db-0", "db", 1)]);
    etcd.kill(0);
    let request = Request::Apply { objects: vec![pod("new-0", "new", 1)] };
    let why = ask_within(&operator.socket, request, Duration::from_secs(7)).unwrap_err().message;
    assert!(why.contains("renewed certificates cannot be used"), "{why}");
    etcd.start(0);
    std::fs::write(&own, before).unwrap();
    // Of another authority all, and nobody takes the one before.
    let next = issued(&world.dir.path().join("next"));
    for (file, renewed) in files.iter().zip(next) {
        std::fs::copy(renewed, file).unwrap();
    }
    etcd.kill(0);
    etcd.start(0);
    eventually(|| operator.ask(Request::Apply { objects: vec![pod("new-0", "new", 1)] }).ok());
    assert_eq!(identities(&operator).len(), 3);
}

#[test]
fn what_is_said_of_its_tls_without_an_etcd_is_no_setting() {
    let world = World::new();
    let ca = world.dir.path().join("keys/ca.pem");
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    let keys = |name: &str| world.dir.path().join("keys").join(name);
    let (cert, key) = (keys("operator.weft.pem"), keys("operator.weft.key"));
    let all = [flag("ca", &ca), flag("cert", &cert), flag("key", &key), flag("etcd-ca", &ca)];
    let words = ["weft-operator".to_owned()].into_iter().chain(all);
    let refused = Config::try_parse_from(words.clone()).unwrap_err().to_string();
    assert!(refused.contains("--etcd <URL>"), "{refused}");
    let with = words.chain(["--etcd=https://127.0.0.1:2379".to_owned()]);
    assert!(Config::try_parse_from(with).is_ok());
}
