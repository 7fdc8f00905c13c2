//! Which objects there are, how many, under what names and addresses.

use crate::support::{deployment, errors, good, pod, pods, policy, warnings};
use weft_types::Object;

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
