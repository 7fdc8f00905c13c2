//! What is wrong with manifests is said, all of it, each with its place; what is silently wrong too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use proptest::prelude::*;
use weft_manifests::{Manifests, parse};
use weft_types::Object;

fn errors(text: &str) -> Vec<String> {
    match parse("f.yaml", text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

fn good(text: &str) -> Manifests {
    parse("f.yaml", text).unwrap_or_else(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{}\nin\n{text}", lines.join("\n"))
    })
}

fn pods(manifests: &Manifests) -> Vec<String> {
    let pods = manifests.objects.iter().filter_map(|object| match object {
        Object::Pod(pod) => Some(pod.name.to_string()),
        _ => None,
    });
    pods.collect()
}

fn warnings(manifests: &Manifests) -> Vec<String> {
    manifests.warnings.iter().map(ToString::to_string).collect()
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: shop}}\nspec: {spec}\n"
    )
}

fn pod(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: []}}\n{more}\n---\n"
    )
}

fn deployment(name: &str, replicas: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  \
         selector: {{matchLabels: {{app: x}}}}\n  template: {{metadata: {{labels: {{app: x}}}}, spec: {{containers: []}}}}\n---\n"
    )
}

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
fn kinds_that_are_no_kinds_are_refused_and_those_of_others_are_skipped() {
    let head = |version: &str, kind: &str| {
        format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: a}}\n")
    };
    for (version, kind, problem) in [
        (
            "extensions/v1beta1",
            "NetworkPolicy",
            "apiVersion: a NetworkPolicy is of networking.k8s.io/v1",
        ),
        ("v1", "NetworkPolicy", "apiVersion: a NetworkPolicy is of networking.k8s.io/v1"),
        ("networking.k8s.io/v1beta1", "NetworkPolicy", "apiVersion: a NetworkPolicy is of"),
        ("v1", "Deployment", "apiVersion: a Deployment is of apps/v1, not of \"v1\""),
        ("apps/v1", "Pod", "apiVersion: a Pod is of v1"),
        ("v2", "Pod", "apiVersion: a Pod is of v1"),
        (
            "networking.k8s.io/v1",
            "networkpolicy",
            "kind: networking.k8s.io/v1 has no kind \"networkpolicy\"; NetworkPolicy",
        ),
        ("networking.k8s.io/v1", "NetworkPolcy", "kind: networking.k8s.io/v1 has no kind"),
        ("v1", "Podd", "kind: v1 has no kind"),
    ] {
        let found = errors(&head(version, kind));
        assert_eq!(found.len(), 1, "{version} {kind}: {found:?}");
        assert!(found[0].contains(&format!("): {problem}")), "{version} {kind}: {found:?}");
    }
    for (version, kind) in [
        ("v1", "ConfigMap"),
        ("batch/v1", "Job"),
        ("networking.k8s.io/v1", "Ingress"),
        ("metrics.example.org/v1", "Node"),
        ("kustomize.config.k8s.io/v1beta1", "Kustomization"),
    ] {
        let manifests = good(&head(version, kind));
        assert_eq!(manifests.skipped.get(kind), Some(&1), "{version} {kind}");
        assert_eq!(warnings(&manifests), [""; 0]);
    }
    // A policy that is not enforced is not only counted.
    let manifests = good(&head("cilium.io/v2", "CiliumNetworkPolicy"));
    assert_eq!(
        warnings(&manifests),
        [
            "f.yaml: document 1 (CiliumNetworkPolicy default/a): is not enforced: Weft reads NetworkPolicy alone"
        ]
    );
}

#[test]
fn one_object_twice_is_refused_with_both_places() {
    let text = pod("a", "") + &pod("b", "") + &pod("a", "");
    assert_eq!(
        errors(&text),
        ["f.yaml: document 3 (Pod default/a): is there twice: f.yaml: document 1 has it too"]
    );
    // Pods that controllers make count too; the same name in another namespace, or of another kind, does not.
    let text = deployment("web", "2") + &pod("web-1", "");
    assert_eq!(
        errors(&text),
        [
            "f.yaml: document 2 (Pod default/web-1): makes pod default/web-1, which f.yaml: document 1 makes too"
        ]
    );
    let text = deployment("web", "1")
        + &pod("web", "")
        + &policy("{}")
        + "---\n"
        + "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: b}\nspec: {containers: []}\n";
    assert_eq!(pods(&good(&text)), ["default/web-0", "default/web", "b/web"]);
}

#[test]
fn a_dump_of_a_cluster_counts_its_pods_once() {
    let owned = |kind: &str, name: &str, by: &str, owner: &str, spec: &str, version: &str| {
        format!(
            "- apiVersion: {version}\n  kind: {kind}\n  metadata:\n    name: {name}\n    namespace: shop\n    labels: {{app: web, pod-template-hash: 7d9}}\n    \
             ownerReferences: [{{apiVersion: apps/v1, kind: {by}, name: {owner}, uid: u, controller: true}}]\n  spec: {spec}\n"
        )
    };
    let template = "template: {metadata: {labels: {app: web}}, spec: {containers: []}}";
    let deployment = format!(
        "- apiVersion: apps/v1\n  kind: Deployment\n  metadata: {{name: web, namespace: shop}}\n  \
         spec: {{replicas: 2, selector: {{matchLabels: {{app: web}}}}, {template}}}\n"
    );
    let set = owned(
        "ReplicaSet",
        "web-7d9",
        "Deployment",
        "web",
        &format!("{{replicas: 2, selector: {{matchLabels: {{app: web}}}}, {template}}}"),
        "apps/v1",
    );
    let a = owned("Pod", "web-7d9-a", "ReplicaSet", "web-7d9", "{containers: []}", "v1");
    let b = owned("Pod", "web-7d9-b", "ReplicaSet", "web-7d9", "{containers: []}", "v1");
    let list = |items: &[&String]| {
        let items: String = items.iter().map(|item| item.as_str()).collect();
        format!("apiVersion: v1\nkind: List\nitems:\n{items}")
    };
    let both = ["shop/web-7d9-a", "shop/web-7d9-b"];
    assert_eq!(pods(&good(&list(&[&deployment, &set, &a, &b]))), both);
    assert_eq!(
        pods(&good(&list(&[&b, &deployment, &a]))),
        ["shop/web-7d9-b", "shop/web-7d9-a"],
        "no ReplicaSet"
    );
    assert_eq!(
        pods(&good(&list(&[&set, &deployment]))),
        ["shop/web-7d9-0", "shop/web-7d9-1"],
        "no Pods"
    );
    assert_eq!(pods(&good(&list(&[&deployment]))), ["shop/web-0", "shop/web-1"]);
    assert!(good(&list(&[&deployment, &set, &a])).controllers.is_empty());
}

#[test]
fn typed_lists_say_the_kind_of_their_items() {
    let text = "apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: a}, spec: {containers: []}}, {metadata: {name: a}, spec: {containers: []}}]\n";
    assert_eq!(
        errors(text),
        [
            "f.yaml: document 1 (Pod default/a): items[1]: is there twice: f.yaml: document 1, items[0] has it too"
        ]
    );
}

#[test]
fn what_is_no_endpoint_is_none() {
    let text = pod("run", "status: {phase: Running, podIP: 10.0.0.1}")
        + &pod("done", "status: {phase: Succeeded, podIP: 10.0.0.1}")
        + &pod("dead", "status: {phase: Failed}")
        + "apiVersion: v1\nkind: Pod\nmetadata: {name: host}\nspec: {containers: [], hostNetwork: true}\n---\n"
        + "apiVersion: v1\nkind: Node\nmetadata: {name: w}\nstatus: {addresses: [{type: Hostname, address: w}, {type: InternalIP, address: 'fd00::1'}]}\n---\n"
        + "apiVersion: v1\nkind: Node\nmetadata: {name: m}\nspec: {podCIDRs: ['fd01::/64', 10.1.0.0/24]}\n\
           status: {addresses: [{type: InternalIP, address: 'fd00::2'}, {type: InternalIP, address: 10.9.0.2}]}\n";
    let manifests = good(&text);
    assert_eq!(pods(&manifests), ["default/run"]);
    let skipped: Vec<String> = manifests.skipped.iter().map(|(k, n)| format!("{k}: {n}")).collect();
    assert_eq!(skipped, ["Node (no address): 1", "Pod (ended): 2", "Pod (host network): 1"]);
    let nodes: Vec<_> = manifests
        .objects
        .iter()
        .filter_map(|object| match object {
            Object::Node(node) => {
                Some((node.name.0.clone(), node.address.to_string(), node.pod_cidrs.len()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(nodes, [("m".to_owned(), "10.9.0.2".to_owned(), 1)]);
    assert_eq!(
        warnings(&manifests),
        [
            "f.yaml: document 5 (Node w): status.addresses: has no IPv4 InternalIP: the node is left out"
        ]
    );
}

#[test]
fn addresses_of_pods_are_ipv4_and_their_own() {
    let address = |status: &str| {
        let manifests = good(&pod("a", &format!("status: {status}")));
        let Some(Object::Pod(pod)) = manifests.objects.first() else { panic!("no pod") };
        (pod.address.map(|a| a.to_string()), manifests.warnings.len())
    };
    assert_eq!(address("{podIP: 10.0.0.1}"), (Some("10.0.0.1".to_owned()), 0));
    assert_eq!(
        address("{podIP: 'fd00::1', podIPs: [{ip: 'fd00::1'}, {ip: 10.0.0.1}]}"),
        (Some("10.0.0.1".to_owned()), 0)
    );
    assert_eq!(address("{podIP: 'fd00::1'}"), (None, 1));
    assert_eq!(address("{podIP: ''}"), (None, 0));
    assert_eq!(
        errors(&pod("a", "status: {podIP: 10.0.0.300}")),
        ["f.yaml: document 1 (Pod default/a): status.podIP: \"10.0.0.300\" is not an IP address"]
    );
    let two = pod("a", "status: {podIP: 10.0.0.1}") + &pod("b", "status: {podIP: 10.0.0.1}");
    assert_eq!(
        errors(&two),
        [
            "f.yaml: document 2 (Pod default/b): status.podIP: 10.0.0.1 is the address of pod default/a too"
        ]
    );
}

#[test]
fn absurd_numbers_of_pods_are_refused() {
    let replicas = |text: &str| errors(&deployment("web", text));
    assert!(
        replicas("-1")[0].ends_with("(Deployment default/web): spec.replicas: must not be below 0")
    );
    assert!(replicas("2147483647")[0].contains("spec.replicas: asks for 2147483647 pods"));
    assert!(replicas("10001")[0].contains("more than the 10000 of a file set"));
    assert_eq!(pods(&good(&deployment("web", "0"))), [""; 0]);
    let many: String = (0..11).map(|n| deployment(&format!("web{n}"), "1000")).collect();
    let found = errors(&many);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(
        found[0].contains("document 11 (Deployment default/web10): spec.replicas"),
        "{found:#?}"
    );
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
