//! Bodies of the traits of [`crate::kernel`] without a kernel, for tests.

mod events;
mod links;
mod maps;

pub use events::FakeEvents;
pub use links::{Attached, DEVICE, FakeLinks};
pub use maps::{FakeMaps, Rows, State};
