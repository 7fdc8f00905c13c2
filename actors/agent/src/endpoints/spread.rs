//! A pod starts when the nodes that have to know its address have it (invariant W6 of the design), or soon after.

use super::Endpoints;
use crate::{
    metrics::{Counts, Early},
    runtime::{Life, Serve, request},
};
use std::{collections::BTreeMap, net::Ipv4Addr};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use weft_core::endpoint::Endpoint;
use weft_types::NodeName;
use weft_wire::SPREAD_MAX;

/// Nodes that `weft status` names of those that did not know a pod; the log has all.
const NAMED: usize = 8;

/// Where a waiting ADD hears who does not know its pod yet.
type Tell = oneshot::Sender<Vec<NodeName>>;

/// Whose addresses operators were just told of, until somebody waits for it or need not any more.
#[derive(Default)]
pub(super) struct Spreads(BTreeMap<Ipv4Addr, (Option<Tell>, Spreading)>);

/// One that waits, or none.
#[derive(Default)]
pub(super) struct Spreading(Option<(Instant, oneshot::Receiver<Vec<NodeName>>)>);

/// Who knows a pod when its ADD ends.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    /// Every node that has to, or no operator was told of it.
    ByAll,
    /// These do not.
    NotBy(Vec<NodeName>),
    /// No operator said in time.
    Unheard,
}

impl Spreads {
    /// Operators are told of an address now.
    pub(super) fn begin(&mut self, address: Ipv4Addr) {
        let (tell, told) = oneshot::channel();
        let now = Instant::now();
        // Whoever's ADD ended otherwise is not waited for. What was told is kept until its ADD asks.
        self.0.retain(|_, (tell, waiting)| match &waiting.0 {
            Some((until, _)) => *until > now,
            None => tell.as_ref().is_some_and(|tell| !tell.is_closed()),
        });
        let until = now + SPREAD_MAX;
        self.0.insert(address, (Some(tell), Spreading(Some((until, told)))));
    }

    /// What is to be waited for; nothing where no operator was told.
    pub(super) fn of(&mut self, address: Ipv4Addr) -> Spreading {
        let waiting = self.0.get_mut(&address).map(|(_, waiting)| std::mem::take(waiting));
        waiting.unwrap_or_default()
    }

    fn end(&mut self, address: Ipv4Addr, behind: Vec<NodeName>) {
        if let Some(tell) = self.0.get_mut(&address).and_then(|(tell, _)| tell.take()) {
            // Its time may be over.
            drop(tell.send(behind));
        }
    }
}

impl Spreading {
    /// Waits as long as is left, and says who does not know the pod: the log of each, metrics how many, status the last.
    pub(super) async fn wait(self, endpoint: &Endpoint, counts: &Counts) {
        let (pod, address) = (&endpoint.pod, endpoint.address);
        match self.known().await {
            Known::ByAll => {}
            Known::NotBy(nodes) => {
                let names: Vec<&str> = nodes.iter().map(|node| node.0.as_str()).collect();
                let names = names.join(", ");
                tracing::warn!(%pod, %address, nodes = names, "plugged before these nodes know its address");
                counts.add_early(
                    Early::Behind,
                    format!("{pod} ({address}) was plugged before {} knew it", some(&nodes)),
                );
            }
            Known::Unheard => {
                tracing::warn!(%pod, %address, "plugged before an operator said who knows its address");
                counts.add_early(
                    Early::Unheard,
                    format!("{pod} ({address}) was plugged before an operator said who knew it"),
                );
            }
        }
    }

    async fn known(self) -> Known {
        let Some((until, told)) = self.0 else { return Known::ByAll };
        // What was told is looked at first, however late it is.
        match timeout_at(until, told).await {
            Ok(Ok(behind)) if behind.is_empty() => Known::ByAll,
            Ok(Ok(behind)) => Known::NotBy(behind),
            Ok(Err(_)) | Err(_) => Known::Unheard,
        }
    }
}

/// The first of these, and how many more there are.
fn some(nodes: &[NodeName]) -> String {
    let (named, more) = nodes.split_at(nodes.len().min(NAMED));
    let named: Vec<&str> = named.iter().map(|node| node.0.as_str()).collect();
    let more = match more.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", named.join(", "))
}

/// These nodes alone do not know an address yet that operators were told of.
pub struct Spread {
    /// The address.
    pub address: Ipv4Addr,
    /// They.
    pub behind: Vec<NodeName>,
}
request!(Spread => ());

impl Serve<Spread> for Endpoints {
    async fn serve(&mut self, Spread { address, behind }: Spread, _: &Life<Self>) {
        self.spreads.end(address, behind);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::advance;

    #[test]
    fn of_many_nodes_the_first_are_named() {
        let nodes = |count| (1..=count).map(|n| NodeName(format!("n{n}"))).collect::<Vec<_>>();
        assert_eq!(some(&nodes(2)), "n1, n2");
        assert_eq!(some(&nodes(8)), "n1, n2, n3, n4, n5, n6, n7, n8");
        assert_eq!(some(&nodes(10)), "n1, n2, n3, n4, n5, n6, n7, n8 and 2 more");
    }

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 7);
    const LATER: Duration = Duration::from_millis(1);

    fn node2() -> Vec<NodeName> {
        vec![NodeName("node2".into())]
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_told_while_the_link_was_made_is_not_lost_however_long_that_took() {
        let mut spreads = Spreads::default();
        spreads.begin(ADDRESS);
        spreads.end(ADDRESS, node2());
        // Another ADD begins meanwhile, which tidies.
        spreads.begin(Ipv4Addr::new(10, 0, 0, 8));
        advance(SPREAD_MAX + LATER).await;
        assert_eq!(spreads.of(ADDRESS).known().await, Known::NotBy(node2()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_longer_than_that() {
        let mut spreads = Spreads::default();
        spreads.begin(ADDRESS);
        let begun = Instant::now();
        assert_eq!(spreads.of(ADDRESS).known().await, Known::Unheard);
        let taken = begun.elapsed();
        assert!(taken >= SPREAD_MAX && taken <= SPREAD_MAX + LATER * 2, "{taken:?}");
        // Once it is asked for again there is nothing to be waited for, and what was given up goes.
        assert_eq!(spreads.of(ADDRESS).known().await, Known::ByAll);
        spreads.begin(Ipv4Addr::new(10, 0, 0, 8));
        assert_eq!(spreads.0.len(), 1);
    }
}
