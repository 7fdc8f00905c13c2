//! ClusterState, the replicated state machine: commands in, deltas out.
