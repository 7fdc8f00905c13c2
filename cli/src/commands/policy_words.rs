//! Rules in words.

use crate::commands::policy_offline::{Endpoint, Origin};
use weft_types::{
    Policy, Selector,
    label::key,
    policy::{Direction, IpBlock, Isolation, Peer, Peers, Port, Ports, Rule, RuleId},
    selector::Requirement,
};

/// `name (address)`; an address alone where that is its name.
pub(crate) fn endpoint(Endpoint { name, address, origin, .. }: &Endpoint) -> String {
    match origin {
        Origin::Given if *name == address.to_string() => name.clone(),
        Origin::Given => format!("{name} ({address})"),
        Origin::Assumed => format!("{name} ({address} assumed)"),
    }
}

/// What a rule of a policy allows: `to TCP/80 from pods with app=web in namespace shop`.
pub(crate) fn rule(policy: &Policy, id: &RuleId) -> Option<String> {
    let (isolation, preposition) = match id.direction {
        Direction::Ingress => (&policy.ingress, "from"),
        Direction::Egress => (&policy.egress, "to"),
    };
    let Isolation::Isolated(rules) = isolation else { return None };
    let Rule { peers, ports } = rules.get(usize::try_from(id.index).ok()?)?;
    Some(format!("{} {preposition} {}", ports_words(ports), peers_words(peers)))
}

fn ports_words(ports: &Ports) -> String {
    let port = |port: &Port| match port {
        Port::Protocol(protocol) => format!("{protocol}"),
        Port::Range { protocol, first, last } if first == last => format!("{protocol}/{first}"),
        Port::Range { protocol, first, last } => format!("{protocol}/{first}-{last}"),
        Port::Named { protocol, name } => format!("{protocol} port named {name:?}"),
    };
    match ports {
        Ports::All => "every port".to_owned(),
        Ports::Only(ports) => either(ports.iter().map(port)),
    }
}

fn peers_words(peers: &Peers) -> String {
    let peer = |peer: &Peer| match peer {
        Peer::Pods(selector) => format!("pods {}", selector_words(selector)),
        Peer::Block(block) => block_words(block),
    };
    match peers {
        Peers::Anyone => "anyone".to_owned(),
        Peers::Only(peers) => either(peers.iter().map(peer)),
    }
}

fn block_words(block: &IpBlock) -> String {
    if block.except.is_empty() {
        return block.cidr.to_string();
    }
    let except: Vec<String> = block.except.iter().map(ToString::to_string).collect();
    format!("{} without {}", block.cidr, except.join(", "))
}

fn selector_words(selector: &Selector) -> String {
    let words: Vec<String> = selector.requirements().iter().filter_map(requirement).collect();
    if words.is_empty() { "of every namespace".to_owned() } else { words.join(" and ") }
}

fn requirement(requirement: &Requirement) -> Option<String> {
    Some(match requirement {
        Requirement::In { key: name, values, .. } if name == key::NAMESPACE => {
            format!("in namespace {}", values.join(" or "))
        }
        // Every pod is in a namespace; the requirement keeps out what is no pod.
        Requirement::Exists { key: name, .. } if name == key::NAMESPACE => return None,
        Requirement::In { key, values, .. } => format!("{}={}", label(key), values.join("|")),
        Requirement::NotIn { key, values, .. } => {
            format!("{} not {}", label(key), values.join("|"))
        }
        Requirement::Exists { key, .. } => format!("{} set", label(key)),
        Requirement::Absent { key, .. } => format!("{} not set", label(key)),
    })
}

/// A label's key as the manifest spells it.
fn label(name: &str) -> String {
    let of_namespace = name.strip_prefix(key::NAMESPACE_LABELS).and_then(|k| k.strip_prefix('.'));
    of_namespace.map_or_else(|| format!("with {name}"), |key| format!("whose namespace has {key}"))
}

fn either(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { "nobody".to_owned() } else { words.join(", or ") }
}
