//! The oracle is itself held to what the API's documentation says.

use super::*;

/// web and db in `a`, web in `b`; nodes n1 (a's pods) and n2.
const CLUSTER: &str = r"
{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {team: red}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: b}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1}, status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, status: {addresses: [{type: InternalIP, address: 192.168.0.2}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: a, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 80}, {name: dns, protocol: UDP, containerPort: 53}]}]}
status: {podIP: 10.0.1.1}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: a, labels: {app: db}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.0.1.2}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: b, labels: {app: web}}
spec: {nodeName: n2, containers: [{name: c}]}
status: {podIP: 10.0.2.1}
";

fn endpoint(name: &str) -> Endpoint {
    match (name.parse(), name.contains('/')) {
        (Ok(address), _) => Endpoint::External(address),
        (_, true) => Endpoint::Pod(name.to_owned()),
        (_, false) => Endpoint::Node(name.to_owned()),
    }
}

/// `spec` is a policy in namespace `a`; each line of `expected` is `from to PROTOCOL/port yes|no`.
#[track_caller]
fn check(spec: &str, expected: &str) {
    let mut oracle = Oracle::parse(CLUSTER).expect("a cluster");
    let policy = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: a}}, spec: {spec}}}"
    );
    oracle.add(&policy).expect("a policy");
    for line in expected.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (protocol, number) = words[2].split_once('/').expect("PROTOCOL/port");
        let port = Port { protocol: protocol.to_owned(), number: number.parse().unwrap() };
        let answer = oracle.judge(&endpoint(words[0]), &endpoint(words[1]), &port).unwrap();
        assert_eq!(answer.allowed(), words[3] == "yes", "{line} under {spec}: {answer:?}");
    }
}

#[test]
fn without_a_policy_about_it_a_pod_is_open() {
    check(
        "{podSelector: {matchLabels: {app: none}}}",
        "a/web a/db TCP/1 yes\n8.8.8.8 a/db TCP/1 yes",
    );
}

#[test]
fn an_isolated_pod_is_closed_but_to_its_own_node_and_itself() {
    check(
        "{podSelector: {matchLabels: {app: db}}}",
        "a/web a/db TCP/1 no
             8.8.8.8 a/db TCP/1 no
             n2 a/db TCP/1 no
             n1 a/db TCP/1 yes
             a/db a/db TCP/1 yes
             a/db a/web TCP/1 yes",
    );
}

#[test]
fn types_default_to_ingress_and_to_egress_with_rules() {
    check("{podSelector: {}}", "a/web b/web TCP/1 yes\nb/web a/web TCP/1 no");
    check("{podSelector: {}, egress: []}", "a/web b/web TCP/1 yes");
    check(
        "{podSelector: {}, policyTypes: [Egress]}",
        "a/web b/web TCP/1 no\nb/web a/web TCP/1 yes",
    );
    check(
        "{podSelector: {}, egress: [{to: [{podSelector: {}}]}]}",
        "a/web b/web TCP/1 no\nb/web a/web TCP/1 no",
    );
    check("{podSelector: {}, policyTypes: [Egress], ingress: []}", "b/web a/web TCP/1 yes");
}

#[test]
fn an_empty_rule_is_everyone_and_no_rule_nobody() {
    check("{podSelector: {}, ingress: [{}]}", "8.8.8.8 a/web TCP/1 yes\n8.8.8.8 a/web ICMP/8 yes");
    check("{podSelector: {}, ingress: [{from: [], ports: []}]}", "8.8.8.8 a/web TCP/1 yes");
    check("{podSelector: {}, ingress: []}", "8.8.8.8 a/web TCP/1 no");
    check(
        "{podSelector: {}, ingress: [{ports: [{}]}]}",
        "8.8.8.8 a/web TCP/1 yes\n8.8.8.8 a/web UDP/1 no\n8.8.8.8 a/web ICMP/8 no",
    );
}

#[test]
fn selectors_of_peers() {
    check(
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}",
        "a/web a/db TCP/1 yes\nb/web a/db TCP/1 no\n10.0.1.1 a/db TCP/1 no",
    );
    check(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}",
        "b/web a/db TCP/1 yes\nn2 a/db TCP/1 no\n8.8.8.8 a/db TCP/1 no",
    );
    check(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: web}}}]}]}",
        "a/web a/db TCP/1 yes\nb/web a/db TCP/1 no\na/db a/web TCP/1 no",
    );
    check(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}, {podSelector: {matchLabels: {app: none}}}]}]}",
        "a/db a/web TCP/1 yes\nb/web a/db TCP/1 no",
    );
    check(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: kubernetes.io/metadata.name, operator: NotIn, values: [a]}]}}]}]}",
        "b/web a/db TCP/1 yes\na/web a/db TCP/1 no",
    );
    check(
        "{podSelector: {matchExpressions: [{key: app, operator: DoesNotExist}]}}",
        "b/web a/db TCP/1 yes",
    );
}

#[test]
fn blocks_are_literal() {
    check(
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/16, except: [10.0.2.0/24]}}]}]}",
        "a/web a/db TCP/1 yes\nb/web a/db TCP/1 no\n10.0.3.3 a/db TCP/1 yes\nn2 a/db TCP/1 no",
    );
    check(
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 192.168.0.2/32}}]}]}",
        "n2 a/db TCP/1 yes\nb/web a/db TCP/1 no",
    );
}

#[test]
fn ports_by_number_range_and_name() {
    check(
        "{podSelector: {}, ingress: [{ports: [{port: 80, endPort: 90}, {protocol: SCTP, port: 7}]}]}",
        "b/web a/db TCP/79 no\nb/web a/db TCP/80 yes\nb/web a/db TCP/90 yes\nb/web a/db TCP/91 no
             b/web a/db UDP/80 no\nb/web a/db SCTP/7 yes",
    );
    check(
            "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}, {port: dns}]}]}",
            "a/db a/web TCP/80 yes\na/db a/web TCP/8080 no\na/web a/db TCP/8080 yes
             a/db b/web TCP/80 no\na/db a/web UDP/53 no\na/db a/web TCP/53 no\na/db 8.8.8.8 TCP/80 no",
        );
    check(
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.0.1.1/32}}], ports: [{port: http}]}]}",
        "a/db a/web TCP/80 yes\na/web a/db TCP/8080 no",
    );
}
