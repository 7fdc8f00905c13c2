//! What every process of Weft begins with: its configuration, its logs, its trace.
//!
//! A trace begins with a call (CLI, CNI) and goes on through sockets, actors and pushes to the map write. Its
//! id is the request id that every line of every process carries.

pub mod config;
pub mod interrupt;
pub mod logs;
pub mod otlp;
pub mod trace;
pub mod version;
