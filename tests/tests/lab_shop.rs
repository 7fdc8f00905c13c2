//! The main path, whole: YAML → operator → push → actors → maps → packets, with real pods and connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a test")]

use std::path::Path;
use weft_tests::lab::{Lab, example, is_root};

#[test]
fn root_the_shop_talks_as_its_policies_say() {
    if !is_root() {
        return;
    }
    let lab = Lab::up("shop", &[&example("shop.yaml")]);
    the_shop_talks(&lab);
    nothing_is_left_of(lab);
}

/// As on kernels that have no TCX.
#[test]
fn root_the_shop_talks_over_clsact_and_outlives_an_agent() {
    if !is_root() {
        return;
    }
    let clsact = ("WEFT_AGENT_ATTACHMENT", "clsact");
    let lab = Lab::up_with("clsact", &[&example("shop.yaml")], &[clsact]);
    let filters = lab
        .does(&["node", "exec", "node1", "--", "tc", "filter", "show", "dev", "eth0", "ingress"]);
    assert!(filters.contains("from_net"), "{filters}");
    the_shop_talks(&lab);
    lab.does(&["agent", "kill", "--node", "node1"]);
    assert_eq!(lab.reaches("shop/frontend-0", "shop/cart-0", "TCP", 8080), Some(true));
    assert_eq!(lab.reaches("shop/frontend-0", "shop/db-0", "TCP", 5432), Some(false));
    nothing_is_left_of(lab);
}

fn the_shop_talks(lab: &Lab) {
    let rows = lab.probe(&[]);
    let verdict = |from: &str, to: &str, port: u64| {
        rows.get(&(from.to_owned(), to.to_owned(), "TCP".to_owned(), port)).copied()
    };
    for from in ["shop/frontend-0", "shop/frontend-1"] {
        assert_eq!(verdict(from, "shop/cart-0", 8080), Some(true), "{from}");
        assert_eq!(verdict(from, "shop/cart-1", 8080), Some(true), "{from}");
        assert_eq!(verdict(from, "shop/cart-0", 9100), Some(false), "{from}");
        assert_eq!(verdict(from, "shop/db-0", 5432), Some(false), "{from}");
        assert_eq!(verdict(from, "monitoring/scraper", 9090), Some(true), "{from}");
    }
    assert_eq!(verdict("shop/cart-1", "shop/db-0", 5432), Some(true));
    assert_eq!(verdict("shop/cart-0", "shop/frontend-0", 8080), Some(false));
    assert_eq!(verdict("monitoring/scraper", "shop/cart-1", 9100), Some(true));
    assert_eq!(verdict("monitoring/scraper", "shop/cart-1", 8080), Some(false));

    // A policy that denies is in the kernels before apply returns.
    lab.change(
        "apply",
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, \
         metadata: {name: closed, namespace: monitoring}, spec: {podSelector: {}}}",
    );
    assert_eq!(lab.reaches("shop/frontend-0", "monitoring/scraper", "TCP", 9090), Some(false));
    // And so is its end.
    lab.does(&["delete", "networkpolicy", "monitoring/closed"]);
    assert_eq!(lab.reaches("shop/frontend-0", "monitoring/scraper", "TCP", 9090), Some(true));
}

fn nothing_is_left_of(lab: Lab) {
    let (name, dir) = (lab.name.clone(), lab.dir());
    drop(lab);
    let prefix = format!("weft-{name}-");
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let left: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|entry| entry.starts_with(&prefix))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(!Path::new(&dir).exists());
}
