//! The weft command: admin commands, flows, the lab.
fn main() {}
