//! The CNI plugin: kubelet's calls handed to the node agent.
fn main() {}
