//! Why a packet was dropped. Numbers are Hubble's `flow.DropReason`, so that its clients name them.

macro_rules! reasons {
    ($( $(#[$meta:meta])* $name:ident = $number:literal, $text:literal; )*) => {
        /// A reason to drop a packet; each is counted and has an event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $( $(#[$meta])* $name = $number, )* }

        impl DropReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$( Self::$name, )*];

            /// The reason with this number, if this version knows it.
            pub const fn from_number(number: u8) -> Option<Self> {
                match number { $( $number => Some(Self::$name), )* _ => None }
            }

            /// Hubble's words for it.
            pub const fn text(self) -> &'static str {
                match self { $( Self::$name => $text, )* }
            }

            /// Its number on the wire and in counters.
            pub const fn number(self) -> u8 {
                self as u8
            }
        }
    };
}

reasons! {
    /// A pod sent from an address that is not its own, or the network sent from one of ours.
    InvalidSourceIp = 132, "Invalid source ip";
    /// No rule allows it.
    PolicyDenied = 133, "Policy denied";
    /// A header that contradicts itself.
    InvalidPacket = 134, "Invalid packet";
    /// Shorter than its headers say.
    Truncated = 135, "CT: Truncated or invalid header";
    /// A transport protocol that cannot be judged by port.
    UnknownL4 = 142, "Unknown L4 protocol";
    /// Neither IPv4 nor ARP.
    UnsupportedL3 = 139, "Unsupported L3 protocol";
    /// An address of ours that no endpoint has.
    UnroutableIp = 151, "Stale or unroutable IP";
    /// The kernel had no memory for the flow: the table of the unanswered makes room by itself.
    FlowTableFull = 155, "CT: Map insertion failed";
    /// An ICMP error about a packet of no flow.
    UnknownFlow = 163, "Unknown connection tracking state";
    /// A later IP fragment, and nothing is known of the first.
    FirstFragmentUnknown = 175, "First logical datagram fragment not found";
    /// A rule denies it.
    PolicyDeny = 181, "Policy denied by denylist";
    /// Its time to live ended here.
    TtlExceeded = 196, "TTL exceeded";
    /// The endpoint's policy is not in the kernel yet.
    EndpointNotReady = 203, "Endpoint policy program not available";
    /// The kernel refused to change or forward the packet.
    WriteFailed = 141, "Error writing to packet";
}
