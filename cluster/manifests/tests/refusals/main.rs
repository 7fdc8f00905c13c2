//! What is wrong with manifests is said, all of it, each with its place; what is silently wrong too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod anything;
mod kinds;
mod support;

use support::{errors, good, pods, policy, warnings};

/// A policy's spec, and what is wrong with it: the field below `spec.` and the beginning of the problem.
#[test]
fn policies_are_refused_as_the_api_server_refuses_them() {
    let block = |block: &str| format!("{{ingress: [{{from: [{{ipBlock: {block}}}]}}]}}");
    let port = |port: &str| format!("{{ingress: [{{ports: [{port}]}}]}}");
    let select = |selector: &str| format!("{{podSelector: {selector}}}");
    let expression = |e: &str| select(&format!("{{matchExpressions: [{e}]}}"));
    let cidr = "ingress[0].from[0].ipBlock.cidr";
    let except = "ingress[0].from[0].ipBlock.except[0]";
    let values = "podSelector.matchExpressions[0].values";
    let cases = [
        (block("{cidr: 10.0.0.0}"), cidr, "\"10.0.0.0\" is not a CIDR"),
        (block("{cidr: 10.0.0.0/33}"), cidr, "\"10.0.0.0/33\" is not a CIDR"),
        (block("{cidr: ''}"), cidr, "\"\" is not a CIDR"),
        (block("{except: [10.0.0.0/8]}"), cidr, "\"\" is not a CIDR"),
        (
            block("{cidr: 10.0.0.0/8, except: [10.0.0.0/8]}"),
            except,
            "10.0.0.0/8 does not lie strictly",
        ),
        (
            block("{cidr: 10.0.0.0/8, except: [11.0.0.0/9]}"),
            except,
            "11.0.0.0/9 does not lie strictly",
        ),
        (
            block("{cidr: 10.0.0.0/8, except: [0.0.0.0/0]}"),
            except,
            "0.0.0.0/0 does not lie strictly",
        ),
        (
            block("{cidr: 10.0.0.0/8, except: ['fd00::/8']}"),
            except,
            "fd00::/8 does not lie strictly",
        ),
        (block("{cidr: 10.0.0.0/8, except: [x]}"), except, "\"x\" is not a CIDR"),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}]}]}".to_owned(),
            "ingress[0].from[0]",
            "ipBlock stands alone",
        ),
        ("{egress: [{to: [{}]}]}".to_owned(), "egress[0].to[0]", "is empty"),
        ("{ingress: [{from: [null]}]}".to_owned(), "ingress[0].from[0]", "invalid type: null"),
        (port("{port: 0}"), "ingress[0].ports[0].port", "0 is not from 1 to 65535"),
        (port("{port: 65536}"), "ingress[0].ports[0].port", "65536 is not from 1 to 65535"),
        (port("{port: 99999999999}"), "ingress[0].ports[0].port", "invalid value"),
        (
            port("{port: '80'}"),
            "ingress[0].ports[0].port",
            "\"80\" is a port name without a letter",
        ),
        (port("{port: Http}"), "ingress[0].ports[0].port", "\"Http\" is no port name"),
        (
            port("{port: a-sixteen-letter}"),
            "ingress[0].ports[0].port",
            "\"a-sixteen-letter\" is no",
        ),
        (port("{port: 80, endPort: 79}"), "ingress[0].ports[0].endPort", "79 is below port, 80"),
        (port("{port: 80, endPort: 65536}"), "ingress[0].ports[0].endPort", "65536 is not from 1"),
        (port("{port: http, endPort: 80}"), "ingress[0].ports[0].endPort", "needs a port number"),
        (port("{endPort: 80}"), "ingress[0].ports[0].endPort", "needs port"),
        (
            port("{protocol: tcp}"),
            "ingress[0].ports[0].protocol",
            "\"tcp\" is not TCP, UDP or SCTP",
        ),
        (
            port("{protocol: ICMP}"),
            "ingress[0].ports[0].protocol",
            "\"ICMP\" is not TCP, UDP or SCTP",
        ),
        (
            "{policyTypes: [ingress]}".to_owned(),
            "policyTypes[0]",
            "\"ingress\" is not Ingress or Egress",
        ),
        (
            "{policyTypes: [Ingress, Egress, Ingress]}".to_owned(),
            "policyTypes",
            "must not have more than two",
        ),
        (select("{matchLabels: {-a: b}}"), "podSelector.matchLabels.-a", "\"-a\" is no label key"),
        (select("{matchLabels: {a: -b}}"), "podSelector.matchLabels.a", "\"-b\" is no label value"),
        (select("{matchLabels: {a: 1}}"), "podSelector.matchLabels.a", "invalid type: integer `1`"),
        (select("{matchLabels: {a: yes}}"), "podSelector.matchLabels.a", "invalid type: boolean"),
        (expression("{key: a, operator: In}"), values, "must not be empty for operator In"),
        (
            expression("{key: a, operator: NotIn, values: []}"),
            values,
            "must not be empty for operator NotIn",
        ),
        (
            expression("{key: a, operator: Exists, values: [b]}"),
            values,
            "must be empty for operator Exists",
        ),
        (
            expression("{key: a, operator: DoesNotExist, values: [b]}"),
            values,
            "must be empty for operator DoesNotExist",
        ),
        (
            expression("{key: a, operator: Gt, values: ['1']}"),
            "podSelector.matchExpressions[0].operator",
            "\"Gt\" is not In, NotIn, Exists or DoesNotExist",
        ),
        (
            expression("{key: a, operator: In, values: [b, -c]}"),
            "podSelector.matchExpressions[0].values[1]",
            "\"-c\" is no label value",
        ),
        (
            expression("{key: '', operator: Exists}"),
            "podSelector.matchExpressions[0].key",
            "\"\" is no label key",
        ),
        (
            "{podSelectors: {}}".to_owned(),
            "podSelectors",
            "is a field that the Kubernetes API does not know",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, excepts: []}}]}]}".to_owned(),
            "ingress[0].from[0].ipBlock.excepts",
            "is a field that the Kubernetes API does not know",
        ),
    ];
    for (spec, field, problem) in cases {
        let found = errors(&policy(&spec));
        let expected =
            format!("f.yaml: document 1 (NetworkPolicy shop/p): spec.{field}: {problem}");
        assert_eq!(found.len(), 1, "{spec}: {found:#?}");
        assert!(found[0].starts_with(&expected), "{spec}: {} is not {expected}", found[0]);
    }
}

#[test]
fn what_the_api_server_takes_is_taken() {
    for spec in [
        "{}",
        "{podSelector: {}, ingress: [], egress: []}",
        "{podSelector: {matchExpressions: [{key: a, operator: In, values: [b, '']}]}}",
        "{ingress: [{}], policyTypes: [Ingress, Egress]}",
        "{ingress: [{from: [], ports: []}]}",
        "{egress: [{to: [{ipBlock: {cidr: 'fd00::/8', except: ['fd00::/9']}}]}]}",
        "{egress: [{ports: [{port: 1, endPort: 65535, protocol: SCTP}, {port: web}, {protocol: UDP}]}]}",
        "{ingress: [{from: [{podSelector: {}, namespaceSelector: {}}]}]}",
        "{policyTypes: [Egress]}",
    ] {
        assert_eq!(warnings(&good(&policy(spec))), [""; 0], "{spec}");
    }
    let known = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, creationTimestamp: null, uid: x, managedFields: []}\n\
                 spec:\n  containers: [{name: c, image: i, volumeMounts: [{name: v, mountPath: /v}]}]\n  \
                 volumes: [{name: v, configMap: {name: m, defaultMode: 0644}}]\n  tolerations: [{operator: Exists}]\n";
    assert_eq!(pods(&good(known)), ["default/a"]);
}

#[test]
fn all_errors_of_all_documents_are_said() {
    let text = "# comment\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: A_b, labels: {x y: z}}\nspec: {containers: [], bogus: 1}\n\
                ---\na: [\n---\n\
                apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\n\
                spec:\n  podSelector: {matchLabels: {a: 1}}\n  policyTypes: [5, Egres]\n  ingress: [{ports: [{port: [], protocol: TCP}, {port: 0}]}]\n\
                ---\n{}\n---\nkind: Pod\napiVersion: v1\nmetadata: {name: ok}\nspec: {containers: []}\n";
    let found = errors(text);
    let places: Vec<&str> = found
        .iter()
        .map(|line| {
            let line = line.strip_prefix("f.yaml: ").unwrap();
            line.rsplit_once(": ").unwrap().0
        })
        .collect();
    for expected in [
        "document 1 (Pod default/A_b): metadata.name",
        "document 1 (Pod default/A_b): metadata.labels",
        "document 1 (Pod default/A_b): spec.bogus",
        "document 2: line 8",
        "document 3 (NetworkPolicy default/p): spec.podSelector.matchLabels.a",
        "document 3 (NetworkPolicy default/p): spec.policyTypes[0]",
        "document 3 (NetworkPolicy default/p): spec.policyTypes[1]",
        "document 3 (NetworkPolicy default/p): spec.ingress[0].ports[0].port",
        "document 3 (NetworkPolicy default/p): spec.ingress[0].ports[1].port",
        "document 4: is no Kubernetes object",
    ] {
        assert!(
            places.iter().any(|place| place.starts_with(expected)),
            "{expected} is not in {found:#?}"
        );
    }
    assert_eq!(found.len(), 10, "{found:#?}");
}

#[test]
fn what_is_likely_not_meant_is_warned_of() {
    for (spec, field, problem) in [
        (
            "{podSelector: {matchLabels: {pod-template-hash: x}}}",
            "podSelector.matchLabels.pod-template-hash",
            "no identity has",
        ),
        (
            "{ingress: [{from: [{podSelector: {matchExpressions: [{key: kubernetes.io/x, operator: Exists}]}}]}]}",
            "ingress[0].from[0].podSelector.matchExpressions[0].key",
            "no identity has",
        ),
        (
            "{ingress: [{from: [{podSelector: {matchLabels: {io.kubernetes.pod.namespace: x}}}]}]}",
            "ingress[0].from[0].podSelector.matchLabels.io.kubernetes.pod.namespace",
            "no identity has",
        ),
        (
            "{egress: [{to: [{namespaceSelector: {matchLabels: {a.beta.kubernetes.io: x}}}]}]}",
            "egress[0].to[0].namespaceSelector.matchLabels.a.beta.kubernetes.io",
            "no identity has",
        ),
        ("{policyTypes: [Ingress], egress: [{}]}", "egress", "has no effect"),
        ("{policyTypes: [Egress], ingress: [{}]}", "ingress", "has no effect"),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.1.2.3/8}}]}]}",
            "ingress[0].from[0].ipBlock.cidr",
            "10.1.2.3/8 is read as 10.0.0.0/8",
        ),
    ] {
        let found = warnings(&good(&policy(spec)));
        let expected =
            format!("f.yaml: document 1 (NetworkPolicy shop/p): spec.{field}: {problem}");
        assert_eq!(found.len(), 1, "{spec}: {found:#?}");
        assert!(found[0].starts_with(&expected), "{spec}: {} is not {expected}", found[0]);
    }
    let metadata = "{ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: x}}}]}]}";
    assert_eq!(warnings(&good(&policy(metadata))), [""; 0]);
}

#[test]
fn names_are_checked() {
    for (text, field) in [
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}\n",
            "(Namespace a.b): metadata.name",
        ),
        (
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}\n",
            "(Namespace a): metadata.namespace",
        ),
        ("apiVersion: v1\nkind: Namespace\n", "(Namespace): metadata.name"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\nspec: {containers: []}\n",
            "(Pod): metadata.name",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: A}\nspec: {containers: []}\n",
            "(Pod A/a): metadata.namespace",
        ),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n", "(Pod default/a): spec"),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{ports: [{containerPort: 0}]}]}\n",
            "containers[0].ports[0].containerPort",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{ports: [{containerPort: 1, name: HTTP}]}]}\n",
            "containers[0].ports[0].name",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{ports: [{containerPort: 1, protocol: Tcp}]}]}\n",
            "containers[0].ports[0].protocol",
        ),
        (
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{ports: [{containerPort: 1, name: a}, {containerPort: 2, name: a}]}]}\n",
            "containers[0].ports[1].name",
        ),
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {selector: {matchLabels: {app: a}}, template: {metadata: {labels: {app: b}}, spec: {containers: []}}}\n",
            "spec.selector.matchLabels.app",
        ),
    ] {
        let found = errors(text);
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].contains(field), "{}: {field}", found[0]);
    }
}

#[test]
fn a_finding_is_one_line_whatever_the_manifest_says() {
    let found = errors(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: \"a\\nb\\e[31m\"}\nspec: {\"x\\ny\": 1, containers: []}\n",
    );
    assert!(!found.is_empty());
    for line in found {
        assert!(!line.contains(|c: char| c.is_control()), "{line:?}");
    }
}

#[test]
fn files_that_are_too_long_or_no_text_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let read = |path: &std::path::Path| {
        let errors = weft_manifests::read(&[path]).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(read(dir.path()).contains("has no .yaml, .yml or .json file in it"));
    assert!(read(&dir.path().join("none.yaml")).contains("none.yaml: cannot be read"));
    std::fs::write(dir.path().join("a.yaml"), [b'a', 0xff]).unwrap();
    assert!(read(dir.path()).contains("a.yaml: is no text: byte 1 is not UTF-8"));
    assert!(read(std::path::Path::new("/dev/zero")).contains("/dev/zero: is longer than 16 MiB"));
}

#[test]
fn json_is_read_as_yaml_is() {
    let text = "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"a\"},\"spec\":{\"containers\":[]}}\n\
                {\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"b\"},\"spec\":{\"containers\":[]}}\n";
    assert_eq!(pods(&good(text)), ["default/a", "default/b"]);
}
