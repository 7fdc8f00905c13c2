//! A pod starts when the nodes that have to know its address have it (invariant W6 of the design), or soon after.

use super::Endpoints;
use crate::runtime::{Life, Serve, request};
use std::{collections::BTreeMap, net::Ipv4Addr};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use weft_core::endpoint::Endpoint;
use weft_types::NodeName;
use weft_wire::SPREAD_MAX;

/// Whose addresses operators were just told of.
#[derive(Default)]
pub(super) struct Spreads(BTreeMap<Ipv4Addr, (oneshot::Sender<Vec<NodeName>>, Spreading)>);

/// One that waits, or none.
#[derive(Default)]
pub(super) struct Spreading(Option<(Instant, oneshot::Receiver<Vec<NodeName>>)>);

impl Spreads {
    /// Operators are told of an address now.
    pub(super) fn begin(&mut self, address: Ipv4Addr) {
        let (tell, told) = oneshot::channel();
        let now = Instant::now();
        let is_waited_for =
            |waiting: &Spreading| waiting.0.as_ref().is_none_or(|(until, _)| *until > now);
        self.0.retain(|_, (tell, waiting)| !tell.is_closed() && is_waited_for(waiting));
        let until = now + SPREAD_MAX;
        self.0.insert(address, (tell, Spreading(Some((until, told)))));
    }

    /// What is to be waited for; nothing where no operator was told.
    pub(super) fn of(&mut self, address: Ipv4Addr) -> Spreading {
        let waiting = self.0.get_mut(&address).map(|(_, waiting)| std::mem::take(waiting));
        waiting.unwrap_or_default()
    }

    fn end(&mut self, address: Ipv4Addr, behind: Vec<NodeName>) {
        if let Some((tell, _)) = self.0.remove(&address) {
            // Its time may be over.
            drop(tell.send(behind));
        }
    }
}

impl Spreading {
    pub(super) async fn wait(self, endpoint: &Endpoint) {
        let Some((until, told)) = self.0 else { return };
        let (pod, address) = (&endpoint.pod, endpoint.address);
        match timeout_at(until, told).await {
            Ok(Ok(behind)) if behind.is_empty() => {}
            Ok(Ok(behind)) => {
                let nodes: Vec<String> = behind.into_iter().map(|node| node.0).collect();
                let nodes = nodes.join(", ");
                tracing::warn!(%pod, %address, nodes, "plugged before these nodes know its address");
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(%pod, %address, "plugged before an operator said who knows its address");
            }
        }
    }
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
