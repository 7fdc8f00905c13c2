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

/// What admission is told.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// Handshakes of agents under way at once; who comes beyond them comes again.
    #[arg(long, value_name = "HANDSHAKES", default_value_t = 512)]
    pub handshakes: usize,
    /// Of them from one address.
    #[arg(long, value_name = "HANDSHAKES", default_value_t = 16)]
    pub handshakes_of_one_peer: usize,
}

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
    config: Config,
}

/// A handshake that may go on; dropped when it is over.
#[derive(Debug)]
pub struct Admitted {
    under_way: Rc<RefCell<BTreeMap<IpAddr, usize>>>,
    peer: IpAddr,
}

impl Admission {
    /// Nobody yet.
    pub fn new(metrics: Arc<Metrics>, config: Config) -> Self {
        Self { under_way: Rc::default(), told: Rc::default(), metrics, config }
    }

    /// Whether one more from this peer may try.
    pub fn admit(&self, peer: IpAddr) -> Option<Admitted> {
        let mut under_way = self.under_way.borrow_mut();
        let all: usize = under_way.values().sum();
        let own = under_way.entry(peer).or_default();
        if all >= self.config.handshakes || *own >= self.config.handshakes_of_one_peer {
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
        let config: Config = weft_process::config::defaults();
        let admission = Admission::new(Arc::default(), config);
        let peer = |number: u16| {
            let [high, low] = number.to_be_bytes();
            IpAddr::from([10, 0, high, low])
        };
        let mut held: Vec<Admitted> =
            (0..config.handshakes_of_one_peer).filter_map(|_| admission.admit(peer(1))).collect();
        assert_eq!(held.len(), config.handshakes_of_one_peer);
        assert!(admission.admit(peer(1)).is_none());
        held.extend((2..1000).filter_map(|number| admission.admit(peer(number))));
        assert_eq!(held.len(), config.handshakes);
        assert!(admission.admit(peer(1000)).is_none());
        drop(held);
        assert!(admission.admit(peer(1)).is_some());
        assert!(admission.under_way.borrow().len() <= 1001);
    }
}
