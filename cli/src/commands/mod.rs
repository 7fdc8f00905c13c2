//! Subcommands, one file each.

pub(crate) mod endpoint;
pub(crate) mod policy;
pub(crate) mod policy_validate;
pub(crate) mod policy_wait;
pub(crate) mod status;
