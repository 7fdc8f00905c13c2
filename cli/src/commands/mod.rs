//! Subcommands, one file each.

pub(crate) mod cluster;
pub(crate) mod completion;
pub(crate) mod endpoint;
pub(crate) mod flow_filters;
pub(crate) mod flow_source;
pub(crate) mod flows;
pub(crate) mod identity;
pub(crate) mod listing;
pub(crate) mod map;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod policy_explain;
pub(crate) mod policy_list;
pub(crate) mod policy_matrix;
pub(crate) mod policy_offline;
pub(crate) mod policy_validate;
pub(crate) mod policy_wait;
pub(crate) mod policy_words;
pub(crate) mod status;
