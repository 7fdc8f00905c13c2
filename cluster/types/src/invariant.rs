//! What must hold, by id: what the simulator checks after every step, and operators and agents count where they can see it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What must hold. Its id is its name, in reports as in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Invariant {
    /// One label set has one number, and a number one label set, until it is free.
    OneNumber,
    /// No number is given again within the grace, or while a node has it.
    NoReuse,
    /// A term has at most one leader.
    OneLeader,
    /// What is committed at a place in the log is the same at every member.
    OneLog,
    /// The log names no number that the store does not hold.
    StoreFirst,
    /// The store takes nothing of a deposed leader.
    NoStaleWrite,
    /// What was answered stays so.
    NothingLost,
    /// An agent never goes back.
    NeverBack,
    /// Operators and agents that are at one revision know the same.
    OneState,
    /// When all is well again everybody agrees: operators, store, agents.
    Converges,
    /// Whatever clients asked and were answered can have happened one operation after another, each within its time.
    Linearizable,
    /// No member gives up.
    NobodyFails,
    /// A pod that its node knows starts, whoever is away; one that it does not know is to try again.
    PodsStart,
    /// No endpoint enforces an older revision than its node acknowledged.
    AsAcknowledged,
    /// Whatever is away, nobody asks more often for it than a healthy system would bear.
    NoStorm,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
