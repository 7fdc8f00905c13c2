//! Bodies of the traits of [`crate::kernel`] without a kernel, for tests.

mod events;
mod maps;

pub use events::FakeEvents;
pub use maps::{FakeMaps, Rows, State};
