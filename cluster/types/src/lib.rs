//! The shared vocabulary: identity, labels, selectors, policy, node, workload, revision.
//!
//! Types here are owned, ordered and serialisable; they do no I/O and know no clock. They travel in
//! bincode, so no type skips or renames fields by value.

pub mod codec;
pub mod delta;
pub mod identity;
pub mod identity_labels;
pub mod invariant;
pub mod label;
pub mod label_filter;
pub mod name;
pub mod node;
pub mod object;
pub mod packed;
pub mod policy;
pub mod record;
pub mod revision;
pub mod selector;
pub mod trace;
pub mod workload;

pub use delta::Delta;
pub use identity::{Identity, IdentitySpace};
pub use invariant::Invariant;
pub use label::{Label, LabelSet, Source};
pub use label_filter::LabelFilter;
pub use name::{NamespacedName, NodeName};
pub use node::Node;
pub use object::Object;
pub use policy::Policy;
pub use record::{Batch, Cluster, Fence};
pub use revision::Revision;
pub use selector::Selector;
pub use trace::TraceContext;
pub use workload::{PodEndpoint, Workload};
