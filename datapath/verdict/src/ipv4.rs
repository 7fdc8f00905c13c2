//! What forwarding changes in an IPv4 header.

/// The header's checksum once its time to live is one less (RFC 1624), both as they stand in the packet.
#[inline(always)]
pub const fn checksum_after_hop(checksum: u16) -> u16 {
    // The time to live is the first byte of its word, so the sum's complement grows by one in that byte.
    let sum = checksum as u32 + 0x0100_u16.to_be() as u32;
    // The carry goes around; a checksum of all ones is written as its other form, which no header has.
    ((sum + (sum >= 0xffff) as u32) & 0xffff) as u16
}
