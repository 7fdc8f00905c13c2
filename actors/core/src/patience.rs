//! How long an agent waits, and the simulator's with it.

use std::time::Duration;

/// Before an agent goes to an operator again; twice as long each time until one takes it.
pub const BACK_OFF: Duration = Duration::from_millis(100);
/// For an ADD's pod to become known while no operator is there to tell of it.
pub const ALONE: Duration = Duration::from_secs(1);
