//! NetworkPolicy: every default made explicit, refused where the API server would refuse it.

use crate::{document::missing, workload::protocol};
use ipnet::IpNet;
use k8s_openapi::{
    api::networking::v1::{
        IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use weft_types::{
    NamespacedName, Policy, Selector, Source,
    label::key,
    policy::{IpBlock, Isolation, Peer, Peers, PolicyId, PolicyKind, Port, Ports, Protocol, Rule},
    selector::Requirement,
};

type Problems = Vec<(String, String)>;

/// Converts a policy.
pub(crate) fn policy(object: NetworkPolicy) -> Result<Policy, Problems> {
    let name = object.metadata.name.ok_or_else(|| missing("metadata.name"))?;
    let namespace = object.metadata.namespace.unwrap_or_else(|| "default".to_owned());
    let spec = object.spec.unwrap_or_default();
    let (isolates_ingress, isolates_egress) = directions(&spec)?;
    let mut subject = in_namespace(&namespace);
    let pods = spec.pod_selector.unwrap_or_default();
    subject.extend(requirements(&pods, "spec.podSelector", String::clone)?);
    let mut ingress = Vec::new();
    for (at, rule) in spec.ingress.into_iter().flatten().enumerate() {
        let at = format!("spec.ingress[{at}]");
        ingress.push(Rule {
            peers: peers(rule.from, &namespace, &format!("{at}.from"))?,
            ports: ports(rule.ports, &format!("{at}.ports"))?,
        });
    }
    let mut egress = Vec::new();
    for (at, rule) in spec.egress.into_iter().flatten().enumerate() {
        let at = format!("spec.egress[{at}]");
        egress.push(Rule {
            peers: peers(rule.to, &namespace, &format!("{at}.to"))?,
            ports: ports(rule.ports, &format!("{at}.ports"))?,
        });
    }
    let isolation = |isolates: bool, rules| {
        if isolates { Isolation::Isolated(rules) } else { Isolation::Open }
    };
    Ok(Policy {
        id: PolicyId {
            kind: PolicyKind::NetworkPolicy,
            name: NamespacedName::new(namespace, name),
        },
        subject: Selector::new(subject),
        ingress: isolation(isolates_ingress, ingress),
        egress: isolation(isolates_egress, egress),
    })
}

/// Which directions the policy isolates: as said, else ingress always and egress when it has rules.
fn directions(spec: &NetworkPolicySpec) -> Result<(bool, bool), Problems> {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    if types.is_empty() {
        return Ok((true, spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())));
    }
    if let Some(other) = types.iter().find(|t| !matches!(t.as_str(), "Ingress" | "Egress")) {
        let problem = format!("{other:?} is not Ingress or Egress");
        return Err(vec![("spec.policyTypes".to_owned(), problem)]);
    }
    let has = |name: &str| types.iter().any(|t| t == name);
    Ok((has("Ingress"), has("Egress")))
}

fn peers(
    list: Option<Vec<NetworkPolicyPeer>>,
    namespace: &str,
    at: &str,
) -> Result<Peers, Problems> {
    let list = list.unwrap_or_default();
    if list.is_empty() {
        return Ok(Peers::Anyone);
    }
    list.into_iter()
        .enumerate()
        .map(|(index, item)| peer(item, namespace, &format!("{at}[{index}]")))
        .collect::<Result<_, _>>()
        .map(Peers::Only)
}

fn peer(peer: NetworkPolicyPeer, namespace: &str, at: &str) -> Result<Peer, Problems> {
    match (peer.ip_block, peer.namespace_selector, peer.pod_selector) {
        (Some(block), None, None) => ip_block(&block, &format!("{at}.ipBlock")).map(Peer::Block),
        (Some(_), _, _) => Err(vec![(
            at.to_owned(),
            "ipBlock stands alone: it cannot be combined with selectors".to_owned(),
        )]),
        (None, None, None) => Err(vec![(
            at.to_owned(),
            "is empty: it needs podSelector, namespaceSelector or ipBlock".to_owned(),
        )]),
        (None, namespaces, pods) => {
            let mut all = match namespaces {
                None => in_namespace(namespace),
                Some(selector) => {
                    // Only pods are in a namespace.
                    let mut all = vec![Requirement::Exists {
                        source: Source::K8s,
                        key: key::NAMESPACE.to_owned(),
                    }];
                    let spell = |name: &String| format!("{}.{name}", key::NAMESPACE_LABELS);
                    all.extend(requirements(&selector, &format!("{at}.namespaceSelector"), spell)?);
                    all
                }
            };
            if let Some(selector) = pods {
                all.extend(requirements(&selector, &format!("{at}.podSelector"), String::clone)?);
            }
            Ok(Peer::Pods(Selector::new(all)))
        }
    }
}

fn in_namespace(namespace: &str) -> Vec<Requirement> {
    vec![Requirement::In {
        source: Source::K8s,
        key: key::NAMESPACE.to_owned(),
        values: vec![namespace.to_owned()],
    }]
}

fn requirements(
    selector: &LabelSelector,
    at: &str,
    spell: impl Fn(&String) -> String,
) -> Result<Vec<Requirement>, Problems> {
    let source = Source::K8s;
    let mut all: Vec<Requirement> = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(name, value)| Requirement::In {
            source,
            key: spell(name),
            values: vec![value.clone()],
        })
        .collect();
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let at = format!("{at}.matchExpressions[{index}]");
        let key = spell(&expression.key);
        let mut values = expression.values.clone().unwrap_or_default();
        values.sort();
        values.dedup();
        let wants_values = matches!(expression.operator.as_str(), "In" | "NotIn");
        if wants_values == values.is_empty() {
            let problem = if wants_values { "must not be empty" } else { "must be empty" };
            let operator = &expression.operator;
            return Err(vec![(
                format!("{at}.values"),
                format!("{problem} for operator {operator}"),
            )]);
        }
        all.push(match expression.operator.as_str() {
            "In" => Requirement::In { source, key, values },
            "NotIn" => Requirement::NotIn { source, key, values },
            "Exists" => Requirement::Exists { source, key },
            "DoesNotExist" => Requirement::Absent { source, key },
            other => {
                let problem = format!("{other:?} is not In, NotIn, Exists or DoesNotExist");
                return Err(vec![(format!("{at}.operator"), problem)]);
            }
        });
    }
    Ok(all)
}

fn ip_block(block: &IPBlock, at: &str) -> Result<IpBlock, Problems> {
    let parse = |text: &str, field: String| {
        text.parse::<IpNet>()
            .map(|net| net.trunc())
            .map_err(|_| vec![(field, format!("{text:?} is not a CIDR"))])
    };
    let cidr = parse(&block.cidr, format!("{at}.cidr"))?;
    let mut except = Vec::new();
    for (index, text) in block.except.iter().flatten().enumerate() {
        let field = format!("{at}.except[{index}]");
        let inner = parse(text, field.clone())?;
        if !cidr.contains(&inner) || cidr == inner {
            return Err(vec![(field, format!("{text} must lie strictly within {}", block.cidr))]);
        }
        except.push(inner);
    }
    Ok(IpBlock { cidr, except })
}

fn ports(list: Option<Vec<NetworkPolicyPort>>, at: &str) -> Result<Ports, Problems> {
    let list = list.unwrap_or_default();
    if list.is_empty() {
        return Ok(Ports::All);
    }
    list.into_iter()
        .enumerate()
        .map(|(index, item)| port(item, &format!("{at}[{index}]")))
        .collect::<Result<_, _>>()
        .map(Ports::Only)
}

fn port(port: NetworkPolicyPort, at: &str) -> Result<Port, Problems> {
    let field = |name: &str| format!("{at}.{name}");
    let protocol = protocol(port.protocol.as_deref()).map_err(|p| vec![(field("protocol"), p)])?;
    match (port.port, port.end_port) {
        (None, None) => Ok(Port::Protocol(protocol)),
        (None, Some(_)) => Err(vec![(field("endPort"), "needs port".to_owned())]),
        (Some(IntOrString::String(_)), Some(_)) => {
            Err(vec![(field("endPort"), "needs a port number, not a name".to_owned())])
        }
        (Some(IntOrString::String(name)), None) => named(protocol, name, field("port")),
        (Some(IntOrString::Int(first)), last) => {
            let number = |n: i32, name: &str| {
                u16::try_from(n)
                    .ok()
                    .filter(|n| *n > 0)
                    .ok_or_else(|| vec![(field(name), "must be from 1 to 65535".to_owned())])
            };
            let first_port = number(first, "port")?;
            let last_port = number(last.unwrap_or(first), "endPort")?;
            if last_port < first_port {
                return Err(vec![(field("endPort"), "must not be below port".to_owned())]);
            }
            Ok(Port::Range { protocol, first: first_port, last: last_port })
        }
    }
}

/// A port's name: IANA service name, as the API server checks it.
fn named(protocol: Protocol, name: String, field: String) -> Result<Port, Problems> {
    let shaped = (1..=15).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && name.bytes().any(|b| b.is_ascii_lowercase())
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--");
    if shaped {
        Ok(Port::Named { protocol, name })
    } else {
        Err(vec![(field, format!("{name:?} is not a port name (at most 15 of a-z, 0-9, -)"))])
    }
}
