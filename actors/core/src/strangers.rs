//! Flows with pods that this node was not told of: they wait a moment, while operators are asked who that is. Pure.
//!
//! | an event | becomes |
//! |---|---|
//! | with nobody unknown, or somebody who was asked for before, while none waits | a flow at once |
//! | with somebody unknown | one that waits; who it is is asked |
//! | any, while one waits | one that waits, so that flows stay in their order |
//! | all that wait, once everybody is known, or when their time is over, or when they are too many | flows |

use std::{collections::VecDeque, net::Ipv4Addr, time::Duration};
use weft_abi::event::Event;

/// How long a flow waits: an operator answers within some milliseconds, and names are not worth more.
const PATIENCE: Duration = Duration::from_millis(250);
/// How many wait at most.
const HELD_MAX: usize = 4096;
/// How many addresses are asked for; the oldest are forgotten. Operators take as many.
const ASKED_MAX: usize = 1024;

/// Flows that wait, and addresses that were asked for.
#[derive(Debug, Default)]
pub struct Strangers {
    held: Vec<Event>,
    /// Whom they wait for, and until when.
    waits: Option<(Vec<Ipv4Addr>, Duration)>,
    asked: VecDeque<Ipv4Addr>,
}

impl Strangers {
    /// An event between these addresses, of which `is_stranger` tells whether they are pods' that nobody was told of; it
    /// comes back when it does not wait. Time is that of any clock that goes on.
    pub fn meet(
        &mut self,
        event: Event,
        ends: [Ipv4Addr; 2],
        now: Duration,
        is_stranger: impl Fn(Ipv4Addr) -> bool,
    ) -> Option<Event> {
        for end in ends {
            if is_stranger(end) && !self.asked.contains(&end) {
                self.asked.push_back(end);
                if self.asked.len() > ASKED_MAX {
                    self.asked.pop_front();
                }
                let (whom, _) = self.waits.get_or_insert((Vec::new(), now + PATIENCE));
                whom.push(end);
            }
        }
        if self.waits.is_none() {
            return Some(event);
        }
        self.held.push(event);
        None
    }

    /// Those that do not wait any more, in their order.
    pub fn ripe(&mut self, now: Duration, is_stranger: impl Fn(Ipv4Addr) -> bool) -> Vec<Event> {
        let over = self.waits.take_if(|(whom, until)| {
            whom.retain(|address| is_stranger(*address));
            whom.is_empty() || now >= *until || self.held.len() >= HELD_MAX
        });
        over.map(|_| std::mem::take(&mut self.held)).unwrap_or_default()
    }

    /// Whether any waits.
    pub fn wait(&self) -> bool {
        self.waits.is_some()
    }

    /// Addresses that operators are to be asked for, the newest last.
    pub fn asked(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        self.asked.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn event(number: u64) -> Event {
        Event { time: number, ..Event::default() }
    }

    fn ends(last: [u8; 2]) -> [Ipv4Addr; 2] {
        last.map(|last| [10, 244, 2, last].into())
    }

    fn times(events: &[Event]) -> Vec<u64> {
        events.iter().map(|event| event.time).collect()
    }

    #[test]
    fn flows_wait_in_their_order_until_everybody_is_known() {
        let mut strangers = Strangers::default();
        let unknown = |unknown: u8| move |address| ends([unknown, unknown]).contains(&address);
        let known = |_| false;
        assert!(strangers.meet(event(1), ends([1, 2]), MS(0), known).is_some());
        assert!(strangers.meet(event(2), ends([1, 9]), MS(0), unknown(9)).is_none());
        assert!(strangers.meet(event(3), ends([1, 2]), MS(1), unknown(9)).is_none());
        assert_eq!(strangers.asked().collect::<Vec<_>>(), [ends([9, 9])[0]]);
        assert!(strangers.ripe(MS(2), unknown(9)).is_empty());
        assert_eq!(times(&strangers.ripe(MS(3), known)), [2, 3]);
        assert!(!strangers.wait());
        assert!(strangers.meet(event(4), ends([1, 9]), MS(4), known).is_some());
    }

    #[test]
    fn nobody_is_waited_for_longer_than_a_moment_nor_twice() {
        let mut strangers = Strangers::default();
        let unknown = |_| true;
        assert!(strangers.meet(event(1), ends([1, 2]), MS(0), unknown).is_none());
        assert!(strangers.ripe(PATIENCE - MS(1), unknown).is_empty());
        assert_eq!(times(&strangers.ripe(PATIENCE, unknown)), [1]);
        assert!(strangers.meet(event(2), ends([1, 2]), PATIENCE, unknown).is_some());
        // One more does not make the others wait anew.
        assert!(strangers.meet(event(3), ends([3, 3]), MS(1000), unknown).is_none());
        assert!(strangers.meet(event(4), ends([4, 4]), MS(1200), unknown).is_none());
        assert_eq!(times(&strangers.ripe(MS(1250), unknown)), [3, 4]);
    }

    #[test]
    fn what_waits_and_what_was_asked_is_bounded() {
        let mut strangers = Strangers::default();
        let unknown = |_| true;
        for number in 0..HELD_MAX {
            let address = Ipv4Addr::from(u32::try_from(number).expect("small"));
            assert!(strangers.meet(event(1), [address; 2], MS(0), unknown).is_none());
        }
        assert_eq!(strangers.ripe(MS(0), unknown).len(), HELD_MAX);
        assert_eq!(strangers.asked().count(), ASKED_MAX);
    }
}
