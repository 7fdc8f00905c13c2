//! A packet's headers, read once into a [`Tuple`]; nobody else reads packet bytes.

use aya_ebpf::programs::TcContext;
use weft_abi::{
    address::{Addr4, NetPort},
    conntrack::ECHO_PORT,
    drop::DropReason,
};
use weft_verdict::conntrack::{
    ICMP, ICMP_ECHO, ICMP_ECHO_REPLY, SCTP, TCP, TUPLE_ZERO, Tuple, UDP,
};

/// Bytes of an Ethernet header.
pub const ETH: usize = 14;
/// EtherType of IPv4.
pub const ETH_P_IP: u16 = 0x0800;
/// EtherType of ARP.
pub const ETH_P_ARP: u16 = 0x0806;
const IP_MIN: usize = 20;

/// A packet's tuple and what forwarding needs of its header.
#[derive(Clone, Copy)]
pub struct Packet {
    /// The tuple.
    pub tuple: Tuple,
    /// Time to live.
    pub ttl: u8,
    /// ICMP type and code.
    pub icmp: [u8; 2],
}

impl Packet {
    /// Of a packet that could not be read.
    pub const UNREAD: Self = Self { tuple: TUPLE_ZERO, ttl: 0, icmp: [0; 2] };
}

/// The packet's EtherType, in host order.
#[inline(always)]
pub fn ethertype(ctx: &TcContext) -> u16 {
    // SAFETY: the context of a running program.
    u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16)
}

/// Reads IPv4 and the transport header's ports into `packet`.
#[inline(always)]
pub fn ipv4(ctx: &TcContext, packet: &mut Packet) -> Result<(), DropReason> {
    let ip: [u8; IP_MIN] = ctx.load(ETH).map_err(|_| DropReason::Truncated)?;
    let header = usize::from(ip[0] & 0x0f) * 4;
    if ip[0] >> 4 != 4 || header < IP_MIN {
        return Err(DropReason::InvalidPacket);
    }
    let tuple = &mut packet.tuple;
    packet.ttl = ip[8];
    tuple.protocol = ip[9];
    tuple.source = Addr4::new([ip[12], ip[13], ip[14], ip[15]]);
    tuple.destination = Addr4::new([ip[16], ip[17], ip[18], ip[19]]);
    // More fragments, or an offset: not the first and only one.
    if u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0 {
        return Err(DropReason::Fragment);
    }
    let at = ETH + header;
    match tuple.protocol {
        TCP => {
            let tcp: [u8; 14] = ctx.load(at).map_err(|_| DropReason::Truncated)?;
            ports(tuple, [tcp[0], tcp[1], tcp[2], tcp[3]]);
            tuple.tcp_flags = tcp[13];
        }
        UDP | SCTP => ports(tuple, ctx.load(at).map_err(|_| DropReason::Truncated)?),
        ICMP => {
            let icmp: [u8; 8] = ctx.load(at).map_err(|_| DropReason::Truncated)?;
            packet.icmp = [icmp[0], icmp[1]];
            tuple.policy_port = NetPort::from_host(u16::from(icmp[0]));
            let id = NetPort { be: u16::from_ne_bytes([icmp[4], icmp[5]]) };
            let asked = NetPort::from_host(ECHO_PORT);
            (tuple.source_port, tuple.destination_port) = match icmp[0] {
                ICMP_ECHO => (id, asked),
                ICMP_ECHO_REPLY => (asked, id),
                _ => (tuple.policy_port, NetPort::zeroed()),
            };
        }
        _ => return Err(DropReason::UnknownL4),
    }
    Ok(())
}

#[inline(always)]
fn ports(tuple: &mut Tuple, bytes: [u8; 4]) {
    tuple.source_port = NetPort { be: u16::from_ne_bytes([bytes[0], bytes[1]]) };
    tuple.destination_port = NetPort { be: u16::from_ne_bytes([bytes[2], bytes[3]]) };
    tuple.policy_port = tuple.destination_port;
}
