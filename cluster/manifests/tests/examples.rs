//! The examples that the documents and `make lab` use say what they claim to say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test"
)]

use std::path::Path;
use weft_types::{Object, policy::Isolation};

fn example(name: &str) -> Vec<Object> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples").join(name);
    weft_manifests::read(&[path]).unwrap_or_else(|errors| panic!("{errors:?}")).objects
}

#[test]
fn the_shop_brings_what_the_denying_policy_is_about() {
    let objects = example("shop.yaml");
    let pods: Vec<_> = objects
        .iter()
        .filter_map(|object| match object {
            Object::Pod(pod) => Some(pod.name.to_string()),
            _ => None,
        })
        .collect();
    for pod in ["shop/frontend-0", "shop/cart-0"] {
        assert!(pods.iter().any(|name| name == pod), "{pod} is not in {pods:?}");
    }
    assert!(objects.iter().any(|object| matches!(object, Object::Policy(_))));
}

#[test]
fn the_denying_policy_isolates_the_egress_that_the_shop_leaves_open() {
    let objects = example("deny.yaml");
    let policy = objects
        .iter()
        .find_map(|object| match object {
            Object::Policy(policy) => Some(policy),
            _ => None,
        })
        .expect("a policy");
    assert_eq!(policy.ingress, Isolation::Open);
    assert_eq!(policy.egress, Isolation::Isolated(Vec::new()));
}

#[test]
fn what_no_document_says_of_a_namespace_is_told_apart() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n\
                apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: a}\n\
                spec: {replicas: 2, selector: {}, template: {spec: {containers: []}}}\n---\n\
                apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: none, namespace: b}\n\
                spec: {replicas: 0, selector: {}, template: {spec: {containers: []}}}\n---\n\
                apiVersion: v1\nkind: Pod\nmetadata: {name: one, namespace: c}\nspec: {containers: []}\n";
    let manifests = weft_manifests::parse("x", text).unwrap();
    assert_eq!(manifests.implied.iter().map(String::as_str).collect::<Vec<_>>(), ["c"]);
    let controllers: Vec<(String, usize)> =
        manifests.controllers.iter().map(|c| (c.to_string(), c.pods.len())).collect();
    let expected = [("Deployment a/web".to_owned(), 2), ("Deployment b/none".to_owned(), 0)];
    assert_eq!(controllers, expected);
}
