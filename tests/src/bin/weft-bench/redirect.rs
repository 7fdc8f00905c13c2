//! The least that a program in front of a pod's link can be: it looks at where a packet goes, and redirects it.
//!
//! No policy, no connection tracking, no hop, no events, no maps: what such a program gains over the kernel's own routing
//! is the most that any fabric of this kind can on this machine.

use std::net::Ipv4Addr;
use weft_datapath::{
    kernel::KernelError,
    run::{Attached, Runnable},
};

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// Into the pod behind this interface.
    Pod(u32),
    /// By a device to a neighbour of it.
    Device(u32, Ipv4Addr),
}

/// Redirects what comes in at an interface of the calling thread's namespace; what is for none of these addresses passes.
pub(crate) fn attach(ifindex: u32, ways: &[(Ipv4Addr, Leave)]) -> Result<Attached, KernelError> {
    Runnable::of("a program that only redirects", &program(ways))?.attach(ifindex)
}

/// `struct bpf_insn` (linux/bpf.h): operation, registers, offset, immediate.
const fn instruction(operation: u8, [to, from]: [u8; 2], offset: i16, immediate: i32) -> u64 {
    let [a, b] = offset.to_le_bytes();
    let [c, d, e, f] = immediate.to_le_bytes();
    u64::from_le_bytes([operation, to | from << 4, a, b, c, d, e, f])
}

const MOVE: u8 = 0xbf;
const SET: u8 = 0xb7;
const SET_32: u8 = 0xb4;
const ADD: u8 = 0x07;
const STORE_32: u8 = 0x62;
/// A word of the packet into register 0, in host order; a packet that is too short ends the program with 0, `TC_ACT_OK`.
const LOAD_PACKET_32: u8 = 0x20;
const SKIP_UNLESS_EQUAL: u8 = 0x5d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
/// Numbers of the helpers.
const REDIRECT_NEIGH: i32 = 152;
const REDIRECT_PEER: i32 = 155;
/// Where an IPv4 packet says whom it is for.
const DESTINATION: i32 = 14 + 16;
/// The stack's end.
const FRAME: u8 = 10;
/// Where the packet's context is kept; `LOAD_PACKET_32` wants it there.
const CONTEXT: u8 = 6;
/// `struct bpf_redir_neigh`: a family and 16 bytes of address.
const NEIGHBOUR: i32 = 20;
const AF_INET: i32 = 2;

fn program(ways: &[(Ipv4Addr, Leave)]) -> Vec<u64> {
    let mut all = vec![
        instruction(MOVE, [CONTEXT, 1], 0, 0),
        instruction(LOAD_PACKET_32, [0, 0], 0, DESTINATION),
    ];
    for (address, leave) in ways {
        let body = leave.instructions();
        let past = i16::try_from(body.len()).unwrap_or(i16::MAX);
        all.push(instruction(SET_32, [1, 0], 0, u32::from(*address).cast_signed()));
        all.push(instruction(SKIP_UNLESS_EQUAL, [0, 1], past, 0));
        all.extend(body);
    }
    all.extend([instruction(SET, [0, 0], 0, 0), instruction(EXIT, [0, 0], 0, 0)]);
    all
}

impl Leave {
    fn instructions(self) -> Vec<u64> {
        let set = |register, number: i32| instruction(SET, [register, 0], 0, number);
        let call = |helper| [instruction(CALL, [0, 0], 0, helper), instruction(EXIT, [0, 0], 0, 0)];
        match self {
            Self::Pod(ifindex) => {
                let mut all = vec![set(1, ifindex.cast_signed()), set(2, 0)];
                all.extend(call(REDIRECT_PEER));
                all
            }
            Self::Device(ifindex, neighbour) => {
                let neighbour = i32::from_ne_bytes(neighbour.octets());
                let words = [AF_INET, neighbour, 0, 0, 0];
                let mut all: Vec<u64> = (-NEIGHBOUR..0)
                    .step_by(4)
                    .zip(words)
                    .map(|(at, word)| {
                        instruction(STORE_32, [FRAME, 0], i16::try_from(at).unwrap_or(0), word)
                    })
                    .collect();
                all.extend([
                    set(1, ifindex.cast_signed()),
                    instruction(MOVE, [2, FRAME], 0, 0),
                    instruction(ADD, [2, 0], 0, -NEIGHBOUR),
                    set(3, NEIGHBOUR),
                    set(4, 0),
                ]);
                all.extend(call(REDIRECT_NEIGH));
                all
            }
        }
    }
}
