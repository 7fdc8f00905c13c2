//! The endpoints of a node: from CNI ADD to DEL, as one transition function. Slow work is an effect whose end comes back as an event.
//!
//! ```text
//!            Add               Linked            Settled            Opened
//!  (absent) ─────▶ Plugging ───────▶ Settling ────────▶ Opening ────────▶ Ready
//!                     │ Linked(Err), or Delete meanwhile  │ Delete         │ Delete
//!                     ▼                                   ▼                ▼
//!                 Unplugging ◀───────── Settled ─────── Leaving ◀──────────┘
//!                     │ Unplugged(Ok): gone       Unplugged(Err): Stuck, tried again by Delete or Retry
//! ```
//! The kernel's tables hold who is in Settling, Opening or Ready: rows come before a link carries packets and go before it does.
//! Other nodes are told of who is in Plugging, too: they learn the address while the link is made.

mod machine;
#[cfg(test)]
mod tests;

pub use machine::Endpoints;

use std::net::Ipv4Addr;
use weft_types::{Identity, NamespacedName};

/// Who waits for an answer; given by the shell.
pub type Caller = u64;

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The same may succeed later without anyone's help.
    Passing(String),
    /// It fails until someone changes something.
    Lasting(String),
}

/// The two ends of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// Index of the host side.
    pub ifindex: u32,
    /// The pod's hardware address.
    pub mac: [u8; 6],
    /// MTU of both ends, as they were made; none where that is not known any more.
    pub mtu: Option<u32>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The pod.
    pub pod: NamespacedName,
    /// Path of its network namespace.
    pub netns: String,
    /// Its number on this node.
    pub id: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its identity.
    pub identity: Identity,
    /// Whether another CNI plugin made its link and gave its address: the link was taken over.
    pub adopted: bool,
    /// Its link, once there is one.
    pub wire: Option<Wire>,
    /// Where in its life it is.
    pub phase: Phase,
}

/// Where in its life an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its link is being made.
    Plugging,
    /// Its link is made; the tables are being written.
    Settling,
    /// The tables hold it; its link is being set up.
    Opening,
    /// Packets flow.
    Ready,
    /// It is being taken out of the tables.
    Leaving,
    /// Its link is being removed.
    Unplugging,
    /// Its link could not be removed.
    Stuck,
}

impl Phase {
    /// As people know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plugging | Self::Settling | Self::Opening => "creating",
            Self::Ready => "ready",
            Self::Leaving | Self::Unplugging => "disconnecting",
            Self::Stuck => "stuck",
        }
    }

    /// Whether the kernel's tables are to hold it.
    pub fn is_in_tables(self) -> bool {
        matches!(self, Self::Settling | Self::Opening | Self::Ready)
    }
}

/// Whether an endpoint's link is where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    There,
    /// It went with its network namespace.
    Gone,
}

/// What happens.
#[allow(missing_docs, reason = "the fields are what their names say; `key` is the attachment")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<K> {
    /// CNI ADD; `adopt` is the address of a link that is there, made by another plugin.
    Add { key: K, pod: NamespacedName, netns: String, adopt: Option<Ipv4Addr>, caller: Caller },
    /// CNI DEL.
    Delete { key: K, caller: Caller },
    /// The end of [`Effect::Plug`].
    Linked { key: K, wire: Result<Wire, Failure> },
    /// The kernel's tables hold what [`Endpoints::in_tables`] was when this version was taken.
    Settled { version: u64 },
    /// The end of [`Effect::Open`].
    Opened { key: K, result: Result<(), Failure> },
    /// The end of [`Effect::Find`].
    Found { key: K, result: Result<Presence, Failure> },
    /// The end of [`Effect::Unplug`].
    Unplugged { key: K, result: Result<(), Failure> },
    /// Try again what is stuck, and files that could not be written.
    Retry,
}

/// What is to be done.
#[allow(missing_docs, reason = "the fields are what their names say; `key` is the attachment")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<K> {
    /// Say who is plugged, or about to be ([`Endpoints::announced`]).
    Announce,
    /// Remember the endpoint durably, then make its link, or take it over.
    Plug { key: K, endpoint: Endpoint },
    /// Write the tables; report [`Event::Settled`].
    Settle,
    /// Remember the endpoint with its link, then set it up.
    Open { key: K, endpoint: Endpoint },
    /// See whether the link of an endpoint that is plugged is there.
    Find { key: K, endpoint: Endpoint },
    /// Remove the link, then forget the endpoint durably.
    Unplug { key: K },
    /// Answer an ADD.
    Added { caller: Caller, endpoint: Endpoint },
    /// Answer a DEL.
    Deleted { caller: Caller },
    /// Answer either with a failure.
    Failed { caller: Caller, why: Failure },
}
