//! Who may try: bounded handshakes, in all and of one peer, and a refusal logged once however often it comes.

use crate::metrics::{Metrics, Refusal};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

/// Handshakes under way at once.
const HANDSHAKES: usize = 512;
/// Of them from one address.
const OF_ONE_PEER: usize = 16;
/// The same peer's same refusal is logged again after this.
const QUIET: Duration = Duration::from_secs(60);
/// Refusals that are remembered.
const REMEMBERED: usize = 4096;

/// Admits handshakes.
#[derive(Clone, Debug)]
pub struct Admission {
    under_way: Rc<RefCell<BTreeMap<IpAddr, usize>>>,
    told: Rc<RefCell<BTreeMap<(IpAddr, Refusal), Instant>>>,
    metrics: Arc<Metrics>,
}

/// A handshake that may go on; dropped when it is over.
#[derive(Debug)]
pub struct Admitted {
    under_way: Rc<RefCell<BTreeMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl Admission {
    /// Nobody yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { under_way: Rc::default(), told: Rc::default(), metrics }
    }

    /// Whether one more from this peer may try.
    pub fn admit(&self, peer: IpAddr) -> Option<Admitted> {
        let mut under_way = self.under_way.borrow_mut();
        let all: usize = under_way.values().sum();
        let own = under_way.entry(peer).or_default();
        if all >= HANDSHAKES || *own >= OF_ONE_PEER {
            return None;
        }
        *own += 1;
        Some(Admitted { under_way: Rc::clone(&self.under_way), peer })
    }

    /// Counts a refusal, and logs it if this is the first for some time.
    pub fn refuse(&self, peer: IpAddr, refusal: Refusal, why: &str) {
        self.metrics.refuse(refusal);
        let now = Instant::now();
        let mut told = self.told.borrow_mut();
        if told.len() >= REMEMBERED {
            told.retain(|_, at| now.duration_since(*at) < QUIET);
        }
        let due = |at: &Instant| now.duration_since(*at) >= QUIET;
        if told.len() < REMEMBERED && told.get(&(peer, refusal)).is_none_or(due) {
            told.insert((peer, refusal), now);
            tracing::warn!(%peer, ?refusal, "session refused: {why}");
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let mut under_way = self.under_way.borrow_mut();
        match under_way.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = under_way.remove(&self.peer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_does_not_take_every_place() {
        let admission = Admission::new(Arc::default());
        let peer = |number: u16| IpAddr::from([10, 0, (number >> 8) as u8, number as u8]);
        let mut held: Vec<Admitted> =
            (0..OF_ONE_PEER).filter_map(|_| admission.admit(peer(1))).collect();
        assert_eq!(held.len(), OF_ONE_PEER);
        assert!(admission.admit(peer(1)).is_none());
        held.extend((2..1000).filter_map(|number| admission.admit(peer(number))));
        assert_eq!(held.len(), HANDSHAKES);
        assert!(admission.admit(peer(1000)).is_none());
        drop(held);
        assert!(admission.admit(peer(1)).is_some());
        assert!(admission.under_way.borrow().len() <= 1001);
    }
}
