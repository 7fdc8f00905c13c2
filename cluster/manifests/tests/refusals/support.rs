//! Manifests in short, and what is said of them.

use weft_manifests::{Manifests, parse};
use weft_types::Object;

pub(crate) fn errors(text: &str) -> Vec<String> {
    match parse("f.yaml", text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn good(text: &str) -> Manifests {
    parse("f.yaml", text).unwrap_or_else(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{}\nin\n{text}", lines.join("\n"))
    })
}

pub(crate) fn pods(manifests: &Manifests) -> Vec<String> {
    let pods = manifests.objects.iter().filter_map(|object| match object {
        Object::Pod(pod) => Some(pod.name.to_string()),
        _ => None,
    });
    pods.collect()
}

pub(crate) fn warnings(manifests: &Manifests) -> Vec<String> {
    manifests.warnings.iter().map(ToString::to_string).collect()
}

pub(crate) fn policy(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
    )
}

pub(crate) fn pod(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: []}}\n{more}\n---\n"
    )
}

pub(crate) fn deployment(name: &str, replicas: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: x}}}}\n  template: {{metadata: {{labels: {{app: x}}}}, spec: {{containers: []}}}}\n---\n"
    )
}
