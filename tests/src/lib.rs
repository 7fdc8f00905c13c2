//! Network-namespace fixtures and end-to-end suites.

pub mod lab;
pub mod oracle;
pub mod sandbox;
