//! No text makes it panic.

use proptest::prelude::*;
use weft_manifests::parse;

/// YAML that looks like a manifest here and there.
fn yaml() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("80".to_owned()),
        Just("-1".to_owned()),
        Just("10.0.0.0/8".to_owned()),
        Just("In".to_owned()),
        Just("v1".to_owned()),
        Just("Pod".to_owned()),
        Just("NetworkPolicy".to_owned()),
        Just("networking.k8s.io/v1".to_owned()),
        "[a-z]{0,3}",
    ];
    let key = prop::sample::select(vec![
        "apiVersion",
        "kind",
        "metadata",
        "name",
        "namespace",
        "labels",
        "spec",
        "status",
        "podSelector",
        "matchLabels",
        "matchExpressions",
        "operator",
        "values",
        "key",
        "ingress",
        "egress",
        "from",
        "to",
        "ports",
        "port",
        "endPort",
        "protocol",
        "ipBlock",
        "cidr",
        "except",
        "policyTypes",
        "items",
        "containers",
        "podIP",
        "replicas",
        "template",
        "selector",
        "x",
    ]);
    scalar.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|items| format!("[{}]", items.join(", "))),
            prop::collection::btree_map(key.clone(), inner, 0..6).prop_map(|map| {
                let fields: Vec<String> =
                    map.into_iter().map(|(k, v)| format!("{k}: {v}")).collect();
                format!("{{{}}}", fields.join(", "))
            }),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), lines in "([-a-z:{}\\[\\]\"'|>&*!%#,? \t]{0,12}\n){0,12}") {
        drop(parse("x", &text));
        drop(parse("x", &lines));
    }

    #[test]
    fn no_document_makes_it_panic(spec in yaml(), metadata in yaml(), status in yaml()) {
        for (version, kind) in [
            ("networking.k8s.io/v1", "NetworkPolicy"), ("v1", "Pod"), ("v1", "Node"), ("v1", "Namespace"),
            ("apps/v1", "Deployment"), ("apps/v1", "ReplicaSet"), ("v1", "List"), ("v1", "PodList"),
        ] {
            let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {metadata}\nspec: {spec}\nstatus: {status}\nitems: [{spec}]\n");
            drop(parse("x", &text));
            let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\nstatus: {status}\n");
            if let Err(errors) = parse("x", &text) {
                prop_assert!(errors.iter().all(|error| error.document == 1 && !error.problem.is_empty()));
            }
        }
    }
}
