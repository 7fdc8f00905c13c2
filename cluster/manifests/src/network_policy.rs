//! NetworkPolicy: every default made explicit, refused where the API server would refuse it.

use crate::{
    check,
    finding::{Sink, quoted},
};
use ipnet::IpNet;
use k8s_openapi::{
    api::networking::v1::{IPBlock, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec},
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use weft_types::{
    LabelFilter, NamespacedName, Policy, Selector, Source,
    label::key,
    policy::{IpBlock, Isolation, Peer, Peers, PolicyId, PolicyKind, Port, Ports, Rule},
    selector::Requirement,
};

/// Converts a policy. What is wrong goes to the sink; then the result is not for use.
pub(crate) fn policy(
    name: NamespacedName,
    spec: NetworkPolicySpec,
    filter: &LabelFilter,
    sink: &mut Sink<'_>,
) -> Policy {
    Reader { namespace: name.namespace.clone(), filter, sink }.policy(name, spec)
}

struct Reader<'a, 'b> {
    namespace: String,
    filter: &'a LabelFilter,
    sink: &'a mut Sink<'b>,
}

impl Reader<'_, '_> {
    fn policy(mut self, name: NamespacedName, spec: NetworkPolicySpec) -> Policy {
        let (isolates_ingress, isolates_egress) = self.directions(&spec);
        let mut subject = vec![in_namespace(&self.namespace)];
        let pods = spec.pod_selector.unwrap_or_default();
        subject.extend(self.pod_labels(&pods, "spec.podSelector"));
        let mut ingress = Vec::new();
        for (at, rule) in spec.ingress.into_iter().flatten().enumerate() {
            let at = format!("spec.ingress[{at}]");
            let peers = self.peers(rule.from, &format!("{at}.from"));
            ingress.push(Rule { peers, ports: self.ports(rule.ports, &format!("{at}.ports")) });
        }
        let mut egress = Vec::new();
        for (at, rule) in spec.egress.into_iter().flatten().enumerate() {
            let at = format!("spec.egress[{at}]");
            let peers = self.peers(rule.to, &format!("{at}.to"));
            egress.push(Rule { peers, ports: self.ports(rule.ports, &format!("{at}.ports")) });
        }
        let isolation = |isolates: bool, rules| {
            if isolates { Isolation::Isolated(rules) } else { Isolation::Open }
        };
        Policy {
            id: PolicyId { kind: PolicyKind::NetworkPolicy, name },
            subject: Selector::new(subject),
            ingress: isolation(isolates_ingress, ingress),
            egress: isolation(isolates_egress, egress),
        }
    }

    /// Which directions it isolates: as said, else ingress always and egress when it has rules.
    fn directions(&mut self, spec: &NetworkPolicySpec) -> (bool, bool) {
        let has_rules = |count: Option<usize>| count.is_some_and(|count| count > 0);
        let egress_rules = has_rules(spec.egress.as_ref().map(Vec::len));
        let types = spec.policy_types.as_deref().unwrap_or_default();
        if types.is_empty() {
            return (true, egress_rules);
        }
        if types.len() > 2 {
            self.sink.error("spec.policyTypes", "must not have more than two");
        }
        for (at, other) in types.iter().enumerate() {
            if !matches!(other.as_str(), "Ingress" | "Egress") {
                let problem = format!("{} is not Ingress or Egress", quoted(other));
                self.sink.error(&format!("spec.policyTypes[{at}]"), problem);
            }
        }
        let names = |name: &str| types.iter().any(|t| t == name);
        let ingress_rules = has_rules(spec.ingress.as_ref().map(Vec::len));
        for (name, field, has) in
            [("Ingress", "spec.ingress", ingress_rules), ("Egress", "spec.egress", egress_rules)]
        {
            if has && !names(name) {
                self.sink
                    .warning(field, format!("has no effect: policyTypes does not name {name}"));
            }
        }
        (names("Ingress"), names("Egress"))
    }

    fn peers(&mut self, list: Option<Vec<NetworkPolicyPeer>>, at: &str) -> Peers {
        let list = list.unwrap_or_default();
        if list.is_empty() {
            return Peers::Anyone;
        }
        let peers = list.into_iter().enumerate();
        Peers::Only(peers.filter_map(|(n, item)| self.peer(item, &format!("{at}[{n}]"))).collect())
    }

    fn peer(&mut self, peer: NetworkPolicyPeer, at: &str) -> Option<Peer> {
        if peer.ip_block.is_some()
            && (peer.pod_selector.is_some() || peer.namespace_selector.is_some())
        {
            self.sink.error(at, "ipBlock stands alone: it cannot be combined with selectors");
        }
        if let Some(block) = &peer.ip_block {
            return self.ip_block(block, &format!("{at}.ipBlock")).map(Peer::Block);
        }
        if peer.pod_selector.is_none() && peer.namespace_selector.is_none() {
            self.sink.error(at, "is empty: it needs podSelector, namespaceSelector or ipBlock");
            return None;
        }
        let mut all = match peer.namespace_selector {
            None => vec![in_namespace(&self.namespace)],
            Some(selector) => {
                // Only pods are in a namespace.
                let exists =
                    Requirement::Exists { source: Source::K8s, key: key::NAMESPACE.to_owned() };
                let spell = |name: &str| format!("{}.{name}", key::NAMESPACE_LABELS);
                let at = format!("{at}.namespaceSelector");
                let mut all = self.requirements(&selector, &at, spell);
                all.push(exists);
                all
            }
        };
        if let Some(selector) = peer.pod_selector {
            all.extend(self.pod_labels(&selector, &format!("{at}.podSelector")));
        }
        Some(Peer::Pods(Selector::new(all)))
    }

    fn pod_labels(&mut self, selector: &LabelSelector, at: &str) -> Vec<Requirement> {
        self.requirements(selector, at, str::to_owned)
    }

    fn requirements(
        &mut self,
        selector: &LabelSelector,
        at: &str,
        spell: impl Fn(&str) -> String,
    ) -> Vec<Requirement> {
        let source = Source::K8s;
        let mut all = Vec::new();
        for (name, value) in selector.match_labels.iter().flatten() {
            let field = format!("{at}.matchLabels.{name}");
            self.key(name, &spell(name), &field);
            self.sink.check(&field, value, check::label_value);
            all.push(Requirement::In { source, key: spell(name), values: vec![value.clone()] });
        }
        for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
            let at = format!("{at}.matchExpressions[{index}]");
            let key = spell(&expression.key);
            self.key(&expression.key, &key, &format!("{at}.key"));
            let mut values = expression.values.clone().unwrap_or_default();
            for (n, value) in values.iter().enumerate() {
                self.sink.check(&format!("{at}.values[{n}]"), value, check::label_value);
            }
            values.sort();
            values.dedup();
            let operator = expression.operator.as_str();
            let wants_values = match operator {
                "In" | "NotIn" => true,
                "Exists" | "DoesNotExist" => false,
                other => {
                    let problem =
                        format!("{} is not In, NotIn, Exists or DoesNotExist", quoted(other));
                    self.sink.error(&format!("{at}.operator"), problem);
                    continue;
                }
            };
            if wants_values == values.is_empty() {
                let problem = if wants_values { "must not be empty" } else { "must be empty" };
                let field = format!("{at}.values");
                self.sink.error(&field, format!("{problem} for operator {operator}"));
            }
            all.push(match operator {
                "In" => Requirement::In { source, key, values },
                "NotIn" => Requirement::NotIn { source, key, values },
                "Exists" => Requirement::Exists { source, key },
                _ => Requirement::Absent { source, key },
            });
        }
        all
    }

    /// Checks a selector's key, and that an identity can have the label at all.
    fn key(&mut self, written: &str, label: &str, field: &str) {
        self.sink.check(field, written, check::label_key);
        if !self.filter.keeps(Source::K8s, label) || reserved(written) {
            let problem = format!(
                "no identity has the label {written}: the label filter drops it, so no pod is told apart by it"
            );
            self.sink.warning(field, problem);
        }
    }

    fn ip_block(&mut self, block: &IPBlock, at: &str) -> Option<IpBlock> {
        let cidr = self.cidr(&block.cidr, &format!("{at}.cidr"));
        let mut except = Vec::new();
        for (index, text) in block.except.iter().flatten().enumerate() {
            let field = format!("{at}.except[{index}]");
            let Some(inner) = self.cidr(text, &field) else { continue };
            if cidr.is_some_and(|cidr| !cidr.contains(&inner) || cidr == inner) {
                let problem = format!("{text} does not lie strictly within {}", block.cidr);
                self.sink.error(&field, problem);
            }
            except.push(inner);
        }
        Some(IpBlock { cidr: cidr?, except })
    }

    fn cidr(&mut self, text: &str, field: &str) -> Option<IpNet> {
        let Ok(net) = text.parse::<IpNet>() else {
            self.sink.error(field, format!("{} is not a CIDR, as 10.0.0.0/8 is", quoted(text)));
            return None;
        };
        let plain = net.trunc();
        if plain != net {
            self.sink.warning(field, format!("{text} is read as {plain}"));
        }
        Some(plain)
    }

    fn ports(&mut self, list: Option<Vec<NetworkPolicyPort>>, at: &str) -> Ports {
        let list = list.unwrap_or_default();
        if list.is_empty() {
            return Ports::All;
        }
        let ports = list.into_iter().enumerate();
        Ports::Only(ports.filter_map(|(n, item)| self.port(item, &format!("{at}[{n}]"))).collect())
    }

    fn port(&mut self, port: NetworkPolicyPort, at: &str) -> Option<Port> {
        let field = |name: &str| format!("{at}.{name}");
        let protocol = check::protocol(port.protocol.as_deref());
        if protocol.is_none() {
            let text = port.protocol.unwrap_or_default();
            let problem = format!("{} is not TCP, UDP or SCTP", quoted(&text));
            self.sink.error(&field("protocol"), problem);
        }
        match (port.port, port.end_port) {
            (None, last) => {
                if last.is_some() {
                    self.sink.error(&field("endPort"), "needs port");
                }
                protocol.map(Port::Protocol)
            }
            (Some(IntOrString::String(name)), last) => {
                if last.is_some() {
                    self.sink.error(&field("endPort"), "needs a port number, not a name");
                }
                self.sink.check(&field("port"), &name, check::port_name);
                Some(Port::Named { protocol: protocol?, name })
            }
            (Some(IntOrString::Int(first)), last) => {
                let mut number = |n: i32, name: &str| {
                    let port = check::port_number(n);
                    if port.is_none() {
                        self.sink.error(&field(name), format!("{n} is not from 1 to 65535"));
                    }
                    port
                };
                let first = number(first, "port");
                let last = last.map_or(first, |last| number(last, "endPort"));
                let (first, last) = (first?, last?);
                if last < first {
                    self.sink.error(&field("endPort"), format!("{last} is below port, {first}"));
                }
                Some(Port::Range { protocol: protocol?, first, last })
            }
        }
    }
}

fn in_namespace(namespace: &str) -> Requirement {
    Requirement::In {
        source: Source::K8s,
        key: key::NAMESPACE.to_owned(),
        values: vec![namespace.to_owned()],
    }
}

/// Keys that only the system sets: on a pod they are nobody's.
fn reserved(key: &str) -> bool {
    key == key::NAMESPACE || key.starts_with("io.cilium.k8s.")
}
