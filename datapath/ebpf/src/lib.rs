//! The kernel programs' concerns: parse, look up, judge, track, forward, tell.
//!
//! A hook's entry is three lines: context in, `hook::…`, `finish`. Only [`finish`] hands an action to the kernel.
#![no_std]

pub mod arp;
pub mod config;
pub mod count;
pub mod event;
pub mod finish;
pub mod fragment;
pub mod hook;
pub mod maps;
pub mod parse;
pub mod related;
pub mod table;
pub mod track;
pub mod world;

/// What a program does with a packet that it does not drop.
#[derive(Clone, Copy)]
pub enum Pass {
    /// The node's stack goes on.
    Stack,
    /// By the path in the scratch.
    ByPath,
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

/// Runs a hook: reads, decides, and lets [`finish`] act.
#[inline(always)]
pub fn run(
    ctx: &aya_ebpf::programs::TcContext,
    hook: impl Fn(
        &aya_ebpf::programs::TcContext,
        &mut maps::Scratch,
        &mut parse::Packet,
    ) -> Result<Pass, Dropped>,
    point: u8,
    direction: u8,
) -> i32 {
    // An array of one always has its entry; the verifier wants it said.
    let Some(scratch) = maps::scratch() else { return aya_ebpf::bindings::TC_ACT_SHOT };
    let mut packet = parse::Packet::UNREAD;
    let result = hook(ctx, scratch, &mut packet);
    finish::finish(ctx, scratch, &packet, result, point, direction)
}
