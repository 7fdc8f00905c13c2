//! What a policy class says of one peer, protocol and port.

use weft_abi::{
    address::NetPort,
    policy::{DENY, PolicyEntry, PolicyKey},
};

/// A policy class's trie.
pub trait Class {
    /// The entry with the longest prefix of this key.
    fn entry(&self, key: &PolicyKey) -> Option<&PolicyEntry>;
}

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// [`weft_abi::policy::INGRESS`] or [`weft_abi::policy::EGRESS`].
    pub direction: u8,
    /// The peer's identity; 0 when it is not known.
    pub identity: u32,
    /// Node-local identity of the longest policy prefix around the peer's address; 0 for none.
    pub cidr: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port; for ICMP, its type.
    pub port: NetPort,
}

/// A class's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rule with this number allows it.
    Allow {
        /// Rule number; 0 for the entry of a direction in which nothing isolates.
        rule: u32,
    },
    /// The rule with this number denies it.
    Deny {
        /// Rule number.
        rule: u32,
    },
    /// Nothing matches: the class is isolated from it.
    NoMatch,
}

/// Looks up the peer's identity, anyone, and the prefix around the peer's address; the highest
/// precedence decides, and of equal ones a deny.
#[inline(always)]
pub fn judge<C: Class>(class: &C, query: &Query) -> Verdict {
    let mut best: Option<&PolicyEntry> = None;
    if query.identity != 0 {
        best = stronger(best, look_up(class, query, query.identity));
    }
    best = stronger(best, look_up(class, query, 0));
    if query.cidr != 0 {
        best = stronger(best, look_up(class, query, query.cidr));
    }
    match best {
        None => Verdict::NoMatch,
        Some(entry) if entry.flags & DENY != 0 => Verdict::Deny { rule: entry.rule },
        Some(entry) => Verdict::Allow { rule: entry.rule },
    }
}

#[inline(always)]
fn look_up<'c, C: Class>(class: &'c C, query: &Query, identity: u32) -> Option<&'c PolicyEntry> {
    class.entry(&PolicyKey {
        identity,
        direction: query.direction,
        protocol: query.protocol,
        port: query.port,
    })
}

/// The entry that decides of two that match.
#[inline(always)]
fn stronger<'e>(
    best: Option<&'e PolicyEntry>,
    next: Option<&'e PolicyEntry>,
) -> Option<&'e PolicyEntry> {
    match (best, next) {
        (Some(best), Some(next)) => {
            let denies = next.flags & DENY != 0 && best.flags & DENY == 0;
            let wins =
                next.precedence > best.precedence || (next.precedence == best.precedence && denies);
            Some(if wins { next } else { best })
        }
        (best, None) => best,
        (None, next) => next,
    }
}
