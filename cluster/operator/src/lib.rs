//! The operator: sources, identity allocation, publishing, garbage collection.
