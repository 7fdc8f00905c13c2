//! Addresses and ports as they stand in packets: network byte order is a type here.

abi! {
    /// An IPv4 address in network byte order, as it stands in a packet.
    pub struct Addr4 [4] {
        /// The four bytes, most significant first.
        0 => pub octets: [u8; 4],
    }
}

impl Addr4 {
    /// The address with these four bytes.
    pub const fn new(octets: [u8; 4]) -> Self {
        Self { octets }
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
        /// Network byte order.
        0 => pub octets: [u8; 16],
    }
}

impl Addr {
    /// An IPv4 address, padded with zeroes.
    pub const fn from4(addr: Addr4) -> Self {
        let [a, b, c, d] = addr.octets;
        Self { octets: [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] }
    }

    /// The IPv4 address in the first four bytes.
    pub const fn to4(self) -> Addr4 {
        let [a, b, c, d, ..] = self.octets;
        Addr4 { octets: [a, b, c, d] }
    }
}
