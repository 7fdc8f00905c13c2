//! The newest flows, for readers who come when they like: each reads from its own place, and is told what it missed.

use std::{collections::VecDeque, sync::Arc};

/// A ring of the newest; the oldest makes room. Each has a number that none before it had, over restarts of its owner too.
#[derive(Clone, Debug)]
pub struct Recent<T> {
    kept: VecDeque<Arc<T>>,
    capacity: usize,
    next: u64,
}

/// Where to read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// So many of the newest, then all that come.
    Newest(u64),
    /// From this number on.
    At(u64),
}

/// A part of the ring, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// How many were gone between the place asked for and the first of these.
    pub lost: u64,
    /// What is there.
    pub items: Vec<Arc<T>>,
    /// Where to read on.
    pub next: u64,
    /// The number that the next to come will have.
    pub end: u64,
}

impl<T> Recent<T> {
    /// An empty ring; `next` is the number of the first to come.
    pub fn new(capacity: usize, next: u64) -> Self {
        Self { kept: VecDeque::with_capacity(capacity), capacity, next }
    }

    /// Adds the newest.
    pub fn push(&mut self, item: T) {
        if self.kept.len() >= self.capacity {
            self.kept.pop_front();
        }
        if self.capacity > 0 {
            self.kept.push_back(Arc::new(item));
        }
        self.next += 1;
    }

    /// The number that the next to come will have.
    pub fn end(&self) -> u64 {
        self.next
    }

    /// Reads at most so many.
    pub fn read(&self, place: Place, most: usize) -> Page<T> {
        let first = self.next - self.kept.len() as u64;
        let wanted = match place {
            Place::Newest(count) => self.next - count.min(self.kept.len() as u64),
            // A place that is yet to come is a mistake that does no harm.
            Place::At(number) => number.min(self.next),
        };
        let from = wanted.max(first);
        let skip = usize::try_from(from - first).unwrap_or(usize::MAX);
        let items: Vec<_> = self.kept.iter().skip(skip).take(most).cloned().collect();
        let next = from + items.len() as u64;
        Page { lost: from - wanted, items, next, end: self.next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filled(capacity: usize, count: u64) -> Recent<u64> {
        let mut recent = Recent::new(capacity, 0);
        (0..count).for_each(|n| recent.push(n));
        recent
    }

    fn read(recent: &Recent<u64>, place: Place, most: usize) -> (u64, Vec<u64>, u64) {
        let page = recent.read(place, most);
        (page.lost, page.items.iter().map(|n| **n).collect(), page.next)
    }

    #[test]
    fn a_reader_who_is_overtaken_is_told_how_much_it_missed() {
        let recent = filled(4, 10);
        assert_eq!(read(&recent, Place::At(0), 2), (6, vec![6, 7], 8));
        assert_eq!(read(&recent, Place::At(8), 9), (0, vec![8, 9], 10));
        assert_eq!(read(&recent, Place::At(10), 9), (0, vec![], 10));
        assert_eq!(read(&recent, Place::At(99), 9), (0, vec![], 10));
    }

    #[test]
    fn the_newest_are_what_is_there() {
        let recent = filled(4, 10);
        assert_eq!(read(&recent, Place::Newest(2), 9), (0, vec![8, 9], 10));
        assert_eq!(read(&recent, Place::Newest(99), 9), (0, vec![6, 7, 8, 9], 10));
        assert_eq!(read(&recent, Place::Newest(0), 9), (0, vec![], 10));
        assert_eq!(read(&filled(4, 0), Place::Newest(9), 9), (0, vec![], 0));
    }

    #[test]
    fn numbers_go_on_where_a_life_before_ended() {
        let mut recent = Recent::new(4, 7);
        recent.push(7);
        assert_eq!(read(&recent, Place::At(3), 9), (4, vec![7], 8), "it missed 3, 4, 5 and 6");
    }

    proptest! {
        /// Whoever reads on, however slowly, gets each flow in its order or has it counted as lost.
        #[test]
        fn every_flow_is_read_or_lost(
            capacity in 0_usize..8,
            turns in prop::collection::vec((0_u64..12, 1_usize..6), 1..40),
        ) {
            let mut recent = Recent::new(capacity, 0);
            let (mut pushed, mut place) = (0, 0);
            for (count, most) in turns {
                for _ in 0..count {
                    recent.push(pushed);
                    pushed += 1;
                }
                let (lost, items, next) = read(&recent, Place::At(place), most);
                let expected: Vec<u64> = (place + lost..next).collect();
                prop_assert_eq!(items, expected);
                prop_assert_eq!(recent.end(), pushed);
                place = next;
            }
        }
    }
}
