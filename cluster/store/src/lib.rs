//! The durable store of the operators.
