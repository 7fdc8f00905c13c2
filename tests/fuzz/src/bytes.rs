//! Bytes as a target takes them apart.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next byte; zero where there is none.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// The next two, the most significant first.
    pub fn number(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// One of these by the next byte.
    pub fn one_of<T: Copy>(&mut self, these: &[T]) -> T {
        these[usize::from(self.byte()) % these.len()]
    }

    /// A count up to this by the next byte.
    pub fn up_to(&mut self, most: u8) -> u8 {
        self.byte() % (most + 1)
    }

    /// Whether something is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts between bytes 255, which no UTF-8 text has; those that are missing are empty.
    pub fn parts<const N: usize>(self) -> [&'a [u8]; N] {
        let mut parts = self.0.splitn(N, |byte| *byte == u8::MAX);
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }
}
