//! Programs run on packets without a network (`BPF_PROG_TEST_RUN`): what they answer, and how long they take.
//!
//! The kernel does not make the packet new between repetitions, so a program that counts down the time
//! to live sees it fall; it follows no redirect, so the devices of paths need not exist.

use crate::{kernel::KernelError, maps::failed, programs::RealPrograms, sys};
use std::os::fd::{AsFd, OwnedFd};

/// `r0 = 0; exit`.
const EMPTY: [u64; 2] = [0xb7, 0x95];

/// What is run how often.
#[derive(Clone, Copy, Debug)]
pub struct Trial<'a> {
    /// The packet, from its Ethernet header on.
    pub packet: &'a [u8],
    /// The interface that it seems to come in at: one of the calling thread's network namespace.
    pub ifindex: u32,
    /// How many times in one call of the kernel.
    pub repeat: u32,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What the program returned the last time (`TC_ACT_…`).
    pub action: u32,
    /// Whole nanoseconds that one time took, on average.
    pub nanoseconds: u32,
    /// The packet afterwards.
    pub packet: Vec<u8>,
}

/// A loaded program that can be run.
#[derive(Debug)]
pub struct Runnable {
    program: OwnedFd,
    name: String,
}

impl Runnable {
    /// A classifier that lets every packet pass: what running any program costs at least.
    pub fn empty() -> Result<Self, KernelError> {
        Self::of("the empty program", &EMPTY)
    }

    /// A classifier of these instructions (`struct bpf_insn`, as numbers of this machine's byte order), called `name` in errors.
    pub fn of(name: &str, instructions: &[u64]) -> Result<Self, KernelError> {
        let program = sys::load_classifier(instructions);
        let program = program.map_err(failed(format!("load {name}")))?;
        Ok(Self { program, name: name.to_owned() })
    }

    /// Puts it in front of what comes in at an interface of the calling thread's network namespace, by TCX, for as long as
    /// what comes back is kept.
    pub fn attach(&self, ifindex: u32) -> Result<Attached, KernelError> {
        let link = sys::attach_ingress(self.program.as_fd(), ifindex);
        link.map(Attached).map_err(failed(format!("attach {} to interface {ifindex}", self.name)))
    }

    /// Runs it.
    pub fn run(&self, trial: Trial<'_>) -> Result<Ran, KernelError> {
        let Trial { packet, ifindex, repeat } = trial;
        sys::test_run(self.program.as_fd(), packet, ifindex, repeat)
            .map(|(action, nanoseconds, packet)| Ran { action, nanoseconds, packet })
            .map_err(failed(format!("run {} on a packet at interface {ifindex}", self.name)))
    }
}

/// A program that is in front of an interface until this is dropped.
#[derive(Debug)]
pub struct Attached(#[expect(dead_code, reason = "the link ends when it is closed")] OwnedFd);

impl RealPrograms {
    /// One of the programs, over the maps that it uses in earnest.
    pub fn runnable(&self, name: &str) -> Result<Runnable, KernelError> {
        Ok(Runnable { program: self.descriptor(name)?, name: name.to_owned() })
    }
}
