//! Subcommands, one file each.

pub(crate) mod policy;
pub(crate) mod policy_validate;
