//! Addresses and ports as they stand in packets: network byte order is a type here.

abi! {
    /// An IPv4 address in network byte order, as it stands in a packet. A word, since the kernel programs read, compare
    /// and hash it as one.
    pub struct Addr4 [4] {
        /// The four bytes as a number of the *network's* order; never compare it with a host number.
        0 => pub be: u32,
    }
}

impl Addr4 {
    /// The address with these four bytes, most significant first.
    pub const fn new(octets: [u8; 4]) -> Self {
        Self { be: u32::from_ne_bytes(octets) }
    }

    /// The four bytes, most significant first.
    pub const fn octets(self) -> [u8; 4] {
        self.be.to_ne_bytes()
    }

    /// As a number of the host's order.
    pub const fn to_host(self) -> u32 {
        u32::from_be(self.be)
    }
}

abi! {
    /// A transport port in network byte order, as it stands in a packet.
    pub struct NetPort [2] {
        /// The two bytes as a number of the *network's* order; never compare it with a host number.
        0 => pub be: u16,
    }
}

impl NetPort {
    /// From a number of the host's order.
    pub const fn from_host(port: u16) -> Self {
        Self { be: port.to_be() }
    }

    /// As a number of the host's order.
    pub const fn to_host(self) -> u16 {
        u16::from_be(self.be)
    }
}

abi! {
    /// An address of either family: an IPv4 address stands in the first four bytes, zeroes after it.
    /// Values are shared by the IPv4 and IPv6 variants of a map; keys are not.
    pub struct Addr [16] {
        /// Network byte order, in words.
        0 => pub be: [u32; 4],
    }
}

impl Addr {
    /// An IPv4 address, padded with zeroes.
    pub const fn from4(addr: Addr4) -> Self {
        Self { be: [addr.be, 0, 0, 0] }
    }

    /// The IPv4 address in the first four bytes.
    pub const fn to4(self) -> Addr4 {
        let [be, ..] = self.be;
        Addr4 { be }
    }
}
