//! A packet's headers, read once into a [`Tuple`]; nobody else reads packet bytes.

use crate::fragment;
use aya_ebpf::programs::TcContext;
use core::mem::offset_of;
use weft_abi::{
    address::{Addr4, NetPort},
    conntrack::ECHO_PORT,
    drop::DropReason,
};
use weft_verdict::{
    conntrack::{ICMP, ICMP_ECHO, ICMP_ECHO_REPLY, SCTP, TCP, TUPLE_ZERO, Tuple, UDP},
    fragment::{Piece, piece},
    related, sctp,
};

/// Bytes of an Ethernet header.
pub const ETH: usize = 14;
/// EtherType of IPv4.
pub const ETH_P_IP: u16 = 0x0800;
/// EtherType of ARP.
pub const ETH_P_ARP: u16 = 0x0806;
const IP_MIN: usize = size_of::<Ipv4>();

/// An IPv4 header without options.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ipv4 {
    /// Version and length in words.
    version: u8,
    tos: u8,
    length: u16,
    id: u16,
    /// Flags and offset in network byte order.
    fragment: u16,
    ttl: u8,
    protocol: u8,
    checksum: u16,
    source: Addr4,
    destination: Addr4,
}

/// The head of TCP.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tcp {
    ports: Ports,
    numbers: [u32; 2],
    offset: u8,
    flags: u8,
}

/// The head of SCTP, and the type of its first chunk.
#[repr(C)]
#[derive(Clone, Copy)]
struct Sctp {
    ports: Ports,
    tag: u32,
    checksum: u32,
    chunk: u8,
}

/// What TCP, UDP and SCTP begin with.
#[repr(C)]
#[derive(Clone, Copy)]
struct Ports {
    source: NetPort,
    destination: NetPort,
}

/// The head of ICMP.
#[repr(C)]
#[derive(Clone, Copy)]
struct Icmp {
    kind: u8,
    code: u8,
    checksum: u16,
    /// Of an echo.
    id: NetPort,
    sequence: u16,
}

/// A packet's tuple and what forwarding needs of its header.
#[derive(Clone, Copy)]
pub struct Packet {
    /// The tuple.
    pub tuple: Tuple,
    /// Time to live.
    pub ttl: u8,
    /// ICMP type and code.
    pub icmp: [u8; 2],
    /// Which piece of its datagram it is.
    pub piece: Piece,
}

impl Packet {
    /// Of a packet that could not be read.
    pub const UNREAD: Self = Self { tuple: TUPLE_ZERO, ttl: 0, icmp: [0; 2], piece: Piece::Whole };
}

/// The packet's EtherType, in host order.
#[inline(always)]
pub fn ethertype(ctx: &TcContext) -> u16 {
    // SAFETY: the context of a running program.
    u16::from_be(unsafe { (*ctx.skb.skb).protocol } as u16)
}

/// What a packet is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The flow that its own ends name.
    Flow,
    /// A packet that did not arrive, which it quotes.
    Error,
}

/// Reads IPv4 and the transport header's ports into `packet`.
#[inline(always)]
pub fn ipv4(ctx: &TcContext, packet: &mut Packet) -> Result<Subject, DropReason> {
    let ip: Ipv4 = read(ctx, ETH).ok_or(DropReason::Truncated)?;
    let header = usize::from(ip.version & 0x0f) * 4;
    if ip.version >> 4 != 4 || header < IP_MIN {
        return Err(DropReason::InvalidPacket);
    }
    let tuple = &mut packet.tuple;
    packet.ttl = ip.ttl;
    tuple.protocol = ip.protocol;
    tuple.source = ip.source;
    tuple.destination = ip.destination;
    packet.piece = piece(u16::from_be(ip.fragment), ip.protocol);
    match packet.piece {
        Piece::Whole | Piece::First => ends(ctx, packet, header),
        Piece::Later => fragment::resolve(ctx, packet).map(|()| Subject::Flow),
        Piece::Overlapping => Err(DropReason::InvalidPacket),
    }
}

/// Reads the transport header.
#[inline(always)]
fn ends(ctx: &TcContext, packet: &mut Packet, header: usize) -> Result<Subject, DropReason> {
    let tuple = &mut packet.tuple;
    match tuple.protocol {
        TCP => {
            let tcp: Tcp = transport(ctx, header)?;
            ports(tuple, tcp.ports);
            tuple.control = tcp.flags;
        }
        SCTP => {
            let sctp: Sctp = transport(ctx, header)?;
            ports(tuple, sctp.ports);
            tuple.control = sctp::control(sctp.chunk);
        }
        UDP => ports(tuple, transport(ctx, header)?),
        ICMP => {
            let icmp: Icmp = transport(ctx, header)?;
            packet.icmp = [icmp.kind, icmp.code];
            echo(tuple, icmp);
            if related::is_error(icmp.kind) {
                return Ok(Subject::Error);
            }
        }
        _ => return Err(DropReason::UnknownL4),
    }
    Ok(Subject::Flow)
}

/// The datagram's identification, as it stands in the packet. Only fragments are asked for it.
#[inline(always)]
pub fn id(ctx: &TcContext) -> u16 {
    ctx.load(ETH + offset_of!(Ipv4, id)).unwrap_or(0)
}

/// The packet that an ICMP error quotes: its IPv4 header and eight bytes more (RFC 792). Of a later fragment that is no
/// transport header, and nobody reports those (RFC 1122 §3.2.2).
#[inline(always)]
pub fn quoted(ctx: &TcContext) -> Result<Tuple, DropReason> {
    let first: u8 = ctx.load(ETH).map_err(|_| DropReason::Truncated)?;
    let at = ETH + usize::from(first & 0x0f) * 4 + size_of::<Icmp>();
    let ip: Ipv4 = ctx.load(at).map_err(|_| DropReason::Truncated)?;
    let header = usize::from(ip.version & 0x0f) * 4;
    if ip.version >> 4 != 4 || header < IP_MIN {
        return Err(DropReason::InvalidPacket);
    }
    if matches!(piece(u16::from_be(ip.fragment), ip.protocol), Piece::Later | Piece::Overlapping) {
        return Err(DropReason::UnknownFlow);
    }
    let (source, destination, protocol) = (ip.source, ip.destination, ip.protocol);
    let mut tuple = Tuple { source, destination, protocol, ..TUPLE_ZERO };
    let at = at + header;
    match protocol {
        TCP | UDP | SCTP => {
            ports(&mut tuple, ctx.load(at).map_err(|_| DropReason::Truncated)?);
        }
        ICMP => echo(&mut tuple, ctx.load(at).map_err(|_| DropReason::Truncated)?),
        _ => return Err(DropReason::UnknownFlow),
    }
    Ok(tuple)
}

/// The ends of an ICMP packet, as its flow's key says.
#[inline(always)]
fn echo(tuple: &mut Tuple, icmp: Icmp) {
    tuple.policy_port = NetPort::from_host(u16::from(icmp.kind));
    let asked = NetPort::from_host(ECHO_PORT);
    (tuple.source_port, tuple.destination_port) = match icmp.kind {
        ICMP_ECHO => (icmp.id, asked),
        ICMP_ECHO_REPLY => (asked, icmp.id),
        _ => (tuple.policy_port, NetPort::zeroed()),
    };
}

#[inline(always)]
fn ports(tuple: &mut Tuple, ports: Ports) {
    tuple.source_port = ports.source;
    tuple.destination_port = ports.destination;
    tuple.policy_port = ports.destination;
}

/// The transport header behind an IPv4 header of this length. Options are rare, and a place that the verifier
/// knows is read without a call.
#[inline(always)]
fn transport<T: Copy>(ctx: &TcContext, header: usize) -> Result<T, DropReason> {
    let found =
        if header == IP_MIN { read(ctx, ETH + IP_MIN) } else { ctx.load(ETH + header).ok() };
    found.ok_or(DropReason::Truncated)
}

/// A header: straight from the packet's linear part, or by a helper where it is not there.
#[inline(always)]
fn read<T: Copy>(ctx: &TcContext, at: usize) -> Option<T> {
    match linear::<T>(ctx, at) {
        // SAFETY: inside the packet; headers are aligned as this architecture's loads demand, since the kernel puts
        // the IP header at a multiple of four.
        Some(header) => Some(unsafe { *header }),
        None => ctx.load(at).ok(),
    }
}

/// A place in the packet's linear part, if it is there whole.
#[inline(always)]
pub fn linear<T>(ctx: &TcContext, at: usize) -> Option<*mut T> {
    let (start, end) = (ctx.data(), ctx.data_end());
    if start + at + size_of::<T>() > end {
        return None;
    }
    Some((start + at) as *mut T)
}
