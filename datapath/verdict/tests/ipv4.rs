//! The checksum of a forwarded header, by the whole sum of RFC 1071.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use proptest::prelude::*;
use weft_verdict::ipv4::checksum_after_hop;

fn sum(header: &[u8; 20]) -> u32 {
    let sum =
        header.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u32>();
    let folded = (sum & 0xffff) + (sum >> 16);
    (folded & 0xffff) + (folded >> 16)
}

proptest! {
    #[test]
    fn a_right_checksum_stays_right(mut header: [u8; 20], ttl in 1_u8..) {
        (header[0], header[8], header[10], header[11]) = (0x45, ttl, 0, 0);
        let right = !u16::try_from(sum(&header)).unwrap();
        header[10..12].copy_from_slice(&right.to_be_bytes());
        let after = checksum_after_hop(u16::from_ne_bytes([header[10], header[11]]));
        header[8] -= 1;
        header[10..12].copy_from_slice(&after.to_ne_bytes());
        prop_assert_eq!(sum(&header), 0xffff);
    }
}
