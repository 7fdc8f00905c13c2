//! The kernel programs' concerns: parse, look up, judge, track, forward, tell.
//!
//! A hook's entry is three lines: context in, `hook::…`, `finish`. Only [`finish`] hands an action to the kernel.
#![no_std]

pub mod arp;
pub mod config;
pub mod event;
pub mod finish;
pub mod hook;
pub mod maps;
pub mod parse;
pub mod track;
pub mod world;

/// What a program does with a packet that it does not drop.
#[derive(Clone, Copy)]
pub enum Pass {
    /// The node's stack goes on.
    Stack,
    /// By this path.
    By(weft_abi::conntrack::Path),
    /// Back out of the interface it came from.
    Back,
}

/// Why a packet is dropped, with what its event tells.
#[derive(Clone, Copy)]
pub struct Dropped {
    /// The reason.
    pub reason: weft_abi::drop::DropReason,
    /// Whose policy decided, if one did.
    pub direction: u8,
    /// The class that decided.
    pub class: u32,
    /// Rules that decided: egress, ingress.
    pub rules: [u32; 2],
    /// Identities of source and destination of the packet.
    pub identities: [u32; 2],
}

impl Dropped {
    /// For a reason that is no policy's.
    #[inline(always)]
    pub fn bare(reason: weft_abi::drop::DropReason, direction: u8) -> Self {
        Self { reason, direction, class: 0, rules: [0; 2], identities: [0; 2] }
    }
}
