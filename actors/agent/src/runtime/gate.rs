//! What keeps an actor that was replaced, and wakes up later, from changing anything.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Open as long as the incarnation it was made for is the one that counts.
#[derive(Clone, Debug)]
pub struct Gate {
    current: Arc<AtomicU64>,
    mine: u64,
}

impl Gate {
    /// For one incarnation.
    pub fn new(current: Arc<AtomicU64>, mine: u64) -> Self {
        Self { current, mine }
    }

    /// A gate that nobody closes, for what is not supervised.
    pub fn always() -> Self {
        Self::new(Arc::new(AtomicU64::new(0)), 0)
    }

    /// Whether effects may pass.
    pub fn is_open(&self) -> bool {
        self.current.load(Ordering::Acquire) == self.mine
    }
}
