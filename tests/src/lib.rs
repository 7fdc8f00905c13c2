//! Network-namespace fixtures and end-to-end suites.

pub mod cni;
pub mod lab;
pub mod load;
pub mod oracle;
pub mod sandbox;
pub mod seed;
pub mod timeline;
