//! What is on a node of pods that are gone: said, so that nothing leaks unseen.
//!
//! | on the node | of | left over |
//! |---|---|---|
//! | a link | no endpoint | yes |
//! | a pin | neither an endpoint's link nor any link that is there | yes |
//! | a file | no endpoint | yes |
//! | an endpoint that is ready | its link is gone | yes: its network namespace went, and no DEL came |
//! | an endpoint that is stuck | – | yes: its link or file cannot be removed |
//! | a DEL in the queue | – | yes: it is being tried again |
//!
//! Endpoints come and go while one looks. So there are two looks, before and after the endpoints were asked for: what is on its
//! way in is not in the first, what is on its way out not in the second.

use crate::endpoint::{Endpoint, Phase};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};
use weft_types::NamespacedName;

/// What is on the node of pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Host sides of pods' links, by name, and their indices.
    pub links: BTreeMap<String, u32>,
    /// Indices of interfaces that pins of programs' links are for.
    pub pins: BTreeSet<u32>,
    /// Endpoints' files, by the names of their links.
    pub files: BTreeSet<String>,
    /// How many DELs wait.
    pub deletes: usize,
}

/// Something that is left over; its words are for an administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// A link.
    Link(String),
    /// Pins for an interface.
    Pins(u32),
    /// A file.
    File(String),
    /// An endpoint whose link is gone.
    Unlinked(NamespacedName, Ipv4Addr),
    /// An endpoint that cannot be removed.
    Stuck(NamespacedName, Ipv4Addr),
    /// So many DELs.
    Deletes(usize),
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "left over: ")?;
        match self {
            Self::Link(link) => {
                write!(f, "link {link} is no endpoint's; a restart of the agent removes it")
            }
            Self::Pins(ifindex) => {
                write!(
                    f,
                    "pins for interface {ifindex}, which is gone; a restart of the agent removes them"
                )
            }
            Self::File(name) => {
                write!(
                    f,
                    "the file of endpoint {name}, which is none; a restart of the agent removes it"
                )
            }
            Self::Unlinked(pod, address) => {
                write!(
                    f,
                    "pod {pod} at {address}: its link went with its network namespace; CNI DEL or GC frees the address"
                )
            }
            Self::Stuck(pod, address) => {
                write!(
                    f,
                    "pod {pod} at {address} could not be removed; it is tried again, and the agent's log says why"
                )
            }
            Self::Deletes(count) => {
                write!(f, "{count} queued DELs; they are tried again, and the agent's log says why")
            }
        }
    }
}

/// What is left over, by two looks and the endpoints there were between them, by the names of their links.
pub fn leftovers<'e>(
    before: &Look,
    endpoints: impl IntoIterator<Item = (&'e str, &'e Endpoint)>,
    after: &Look,
) -> Vec<Leftover> {
    let endpoints: BTreeMap<&str, &Endpoint> = endpoints.into_iter().collect();
    let is_nobodys = |name: &&String| !endpoints.contains_key(name.as_str());
    let links = before.links.keys().filter(|name| after.links.contains_key(*name));
    let files = before.files.intersection(&after.files);
    let indices: BTreeSet<u32> =
        before.links.values().chain(after.links.values()).copied().collect();
    let wired = endpoints.values().filter_map(|endpoint| endpoint.wire.map(|wire| wire.ifindex));
    let in_use: BTreeSet<u32> = wired.chain(indices.iter().copied()).collect();
    let pins = before.pins.intersection(&after.pins).filter(|ifindex| !in_use.contains(ifindex));
    let mut found: Vec<Leftover> = links.filter(is_nobodys).cloned().map(Leftover::Link).collect();
    found.extend(pins.copied().map(Leftover::Pins));
    found.extend(files.filter(is_nobodys).cloned().map(Leftover::File));
    found.extend(endpoints.values().filter_map(|endpoint| {
        let who = || (endpoint.pod.clone(), endpoint.address);
        let is_there = endpoint.wire.is_some_and(|wire| indices.contains(&wire.ifindex));
        match endpoint.phase {
            Phase::Ready if !is_there => Some(Leftover::Unlinked(who().0, who().1)),
            Phase::Stuck => Some(Leftover::Stuck(who().0, who().1)),
            Phase::Ready
            | Phase::Plugging
            | Phase::Settling
            | Phase::Opening
            | Phase::Leaving
            | Phase::Unplugging => None,
        }
    }));
    let waiting = before.deletes.min(after.deletes);
    found.extend((waiting > 0).then_some(Leftover::Deletes(waiting)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Wire;
    use weft_types::Identity;

    fn look(links: &[(&str, u32)], pins: &[u32], files: &[&str], deletes: usize) -> Look {
        Look {
            links: links.iter().map(|(name, ifindex)| ((*name).to_owned(), *ifindex)).collect(),
            pins: pins.iter().copied().collect(),
            files: files.iter().map(|name| (*name).to_owned()).collect(),
            deletes,
        }
    }

    fn endpoint(ifindex: Option<u32>, phase: Phase) -> Endpoint {
        Endpoint {
            pod: NamespacedName::new("shop", "cart"),
            netns: "/run/netns/cart".to_owned(),
            id: 1,
            address: [10, 0, 1, 5].into(),
            identity: Identity(300),
            adopted: false,
            wire: ifindex.map(|ifindex| Wire { ifindex, mac: [2; 6], mtu: None }),
            phase,
        }
    }

    #[test]
    fn a_node_whose_endpoints_have_all_that_is_there_has_nothing_left_over() {
        let (ready, plugging) = (endpoint(Some(4), Phase::Ready), endpoint(None, Phase::Plugging));
        // One on its way in has a link, its file and its pins before anyone knows the link's index.
        let all = look(&[("a", 4), ("b", 5)], &[4, 5], &["a", "b"], 0);
        assert_eq!(leftovers(&all, [("a", &ready), ("b", &plugging)], &all), []);
    }

    #[test]
    fn what_nobody_has_is_left_over() {
        let ready = endpoint(Some(4), Phase::Ready);
        let all = look(&[("a", 4), ("b", 5)], &[4, 5, 6], &["a", "b", "c"], 2);
        let file = |name: &str| Leftover::File(name.to_owned());
        assert_eq!(
            leftovers(&all, [("a", &ready)], &all),
            [
                Leftover::Link("b".to_owned()),
                Leftover::Pins(6),
                file("b"),
                file("c"),
                Leftover::Deletes(2)
            ]
        );
    }

    #[test]
    fn an_endpoint_without_its_link_is_told_and_one_that_is_stuck() {
        let who = || (NamespacedName::new("shop", "cart"), Ipv4Addr::new(10, 0, 1, 5));
        let nothing = Look::default();
        let told = |phase, ifindex| {
            let endpoint = endpoint(Some(4), phase);
            let look = look(&[("a", ifindex)], &[], &[], 0);
            leftovers(&look, [("a", &endpoint)], &look)
        };
        assert_eq!(told(Phase::Ready, 4), []);
        assert_eq!(told(Phase::Ready, 7), [Leftover::Unlinked(who().0, who().1)], "another's");
        assert_eq!(told(Phase::Stuck, 4), [Leftover::Stuck(who().0, who().1)]);
        assert_eq!(told(Phase::Leaving, 4), []);
        let ready = endpoint(Some(4), Phase::Ready);
        let unlinked = leftovers(&nothing, [("a", &ready)], &nothing);
        assert!(unlinked[0].to_string().contains("shop/cart at 10.0.1.5"), "{}", unlinked[0]);
    }

    #[test]
    fn what_comes_or_goes_while_one_looks_is_not_left_over() {
        let some = look(&[("a", 4)], &[4], &["a"], 1);
        let ready = endpoint(Some(4), Phase::Ready);
        assert_eq!(
            leftovers(&Look::default(), [], &some),
            [],
            "came after the endpoints were asked for"
        );
        assert_eq!(leftovers(&some, [], &Look::default()), [], "went before");
        assert_eq!(leftovers(&some, [("a", &ready)], &Look::default()), [], "its DEL is under way");
    }
}
