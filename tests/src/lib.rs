//! Network-namespace fixtures and end-to-end suites.

pub mod oracle;
