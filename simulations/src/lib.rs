//! A deterministic world: one thread, virtual time, one seed, in which the shipped cores run under faults.
//!
//! Operators are `weft_raft::Node`, `weft_state::ClusterState`, `weft_state::leadership` and `weft_operator`'s history; the
//! network, disks, the store, clients and agents are models. After every step invariants are checked, by id.

mod agent;
mod book;
mod client;
mod fault;
mod history;
mod invariant;
pub mod kernel;
mod linear;
mod numbers;
mod operator;
mod page;
mod pods;
mod policies;
mod release;
mod report;
mod sabotage;
mod scenario;
mod seeds;
mod sessions;
mod store;
mod story;
mod summary;
mod time;
mod told;
mod trace;
mod view;
mod words;
mod world;

pub use history::{Action, HistoryError, Operation, Outcome, read, write};
pub use invariant::Violation;
pub use linear::{Checked, HistoryFault, check};
pub use report::{Counts, Report};
pub use sabotage::Sabotage;
pub use scenario::{Extent, Scenario, ScenarioError, Size};
pub use seeds::run_each;
pub use summary::Summary;
pub use weft_types::Invariant;
pub use world::run;

/// For so long at least operators wait for a leader's sign of life before they elect another, as shipped.
pub const fn election_timeout() -> std::time::Duration {
    std::time::Duration::from_micros(world::ELECTION.0)
}
