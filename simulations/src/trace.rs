//! What happened in a run, as one number: the same seed gives the same.

use std::hash::Hasher;

/// FNV-1a of 64 bits: stable across releases of the compiler, as the standard library's hash is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace(u64);

impl Trace {
    pub(crate) const fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    pub(crate) fn add(&mut self, number: u64) {
        for byte in number.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    pub(crate) fn add_bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    pub(crate) fn hash(self) -> u64 {
        self.0
    }
}

/// Keys of what is published are hashed so too.
impl Hasher for Trace {
    fn write(&mut self, bytes: &[u8]) {
        self.add_bytes(bytes);
    }

    fn finish(&self) -> u64 {
        self.hash()
    }
}
