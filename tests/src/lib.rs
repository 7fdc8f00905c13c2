//! Network-namespace fixtures and end-to-end suites.
