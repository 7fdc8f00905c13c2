//! The pure cores of the agent: endpoint, identity, policy, ipam, ipcache, mapsync, flow.
