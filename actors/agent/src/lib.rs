//! The node agent: actors around the cores, supervision, the local API socket.
