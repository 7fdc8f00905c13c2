//! Revisions order everything that operators publish.

use serde::{Deserialize, Serialize};
use std::{fmt, num::ParseIntError, str::FromStr};

/// (generation of the store, index of the last applied entry), ordered as one number: the upper 16
/// bits are the generation, the lower 48 the index.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Revision(pub u64);

impl Revision {
    /// Before everything.
    pub const ZERO: Self = Self(0);
    const INDEX_BITS: u32 = 48;
    const INDEX_MASK: u64 = (1 << Self::INDEX_BITS) - 1;

    /// From a generation and an index; the index must fit 48 bits (281 trillion entries).
    pub const fn new(generation: u16, index: u64) -> Self {
        Self((generation as u64) << Self::INDEX_BITS | (index & Self::INDEX_MASK))
    }

    /// The store's generation.
    pub const fn generation(self) -> u16 {
        (self.0 >> Self::INDEX_BITS) as u16
    }

    /// The index within the generation.
    pub const fn index(self) -> u64 {
        self.0 & Self::INDEX_MASK
    }
}

impl fmt::Display for Revision {
    /// `GENERATION.INDEX`, as people read and type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.generation(), self.index())
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    /// `GENERATION.INDEX`, or the bare 64-bit number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('.') {
            Some((generation, index)) => Ok(Self::new(generation.parse()?, index.parse()?)),
            None => Ok(Self(text.parse()?)),
        }
    }
}
