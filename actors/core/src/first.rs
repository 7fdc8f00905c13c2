//! The first packet that was judged under each revision: where the trace of a change ends.

use std::collections::BTreeMap;

/// Epochs that are remembered, of either kind: a revision of which so many newer ones passed without a packet has none.
const EPOCHS: usize = 64;

/// Traces `T` that wait for a packet `P`.
///
/// An epoch is realised once, and judged under any number of times; either may be told first. A packet of a later epoch ends an
/// earlier one's traces too: what was changed then holds now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firsts<P, T> {
    waiting: BTreeMap<u64, Vec<T>>,
    seen: BTreeMap<u64, P>,
}

/// A packet, and the traces that end with it by their epochs.
pub type Ended<P, T> = (P, Vec<(u64, T)>);

impl<P, T> Default for Firsts<P, T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), seen: BTreeMap::new() }
    }
}

impl<P: Clone, T> Firsts<P, T> {
    /// From this epoch on the kernel holds what these traces brought.
    pub fn realised(&mut self, epoch: u64, traces: Vec<T>) -> Option<Ended<P, T>> {
        if traces.is_empty() {
            return None;
        }
        if let Some((_, packet)) = self.seen.range(epoch..).next() {
            return Some((
                packet.clone(),
                traces.into_iter().map(|trace| (epoch, trace)).collect(),
            ));
        }
        self.waiting.insert(epoch, traces);
        if self.waiting.len() > EPOCHS {
            self.waiting.pop_first();
        }
        None
    }

    /// A packet was judged in this epoch. Of a hundred thousand of an epoch only the first costs more than a look.
    pub fn judged(&mut self, epoch: u64, packet: impl FnOnce() -> P) -> Option<Ended<P, T>> {
        if self.seen.contains_key(&epoch) {
            return None;
        }
        let packet = packet();
        self.seen.insert(epoch, packet.clone());
        if self.seen.len() > EPOCHS {
            self.seen.pop_first();
        }
        let later = self.waiting.split_off(&epoch.saturating_add(1));
        let ended = std::mem::replace(&mut self.waiting, later);
        let ended: Vec<(u64, T)> = ended
            .into_iter()
            .flat_map(|(epoch, traces)| traces.into_iter().map(move |trace| (epoch, trace)))
            .collect();
        (!ended.is_empty()).then_some((packet, ended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `r3a`: epoch 3 is realised for trace a; `j3`: a packet is judged in epoch 3. What ends, as `packet:trace…`.
    fn run(script: &str) -> String {
        let mut firsts = Firsts::<usize, char>::default();
        let mut told = Vec::new();
        for (at, step) in script.split(' ').enumerate() {
            let epoch = u64::from(step.as_bytes()[1] - b'0');
            let traces: Vec<char> = step.chars().skip(2).collect();
            let ended = match &step[..1] {
                "r" => firsts.realised(epoch, traces),
                _ => firsts.judged(epoch, || at),
            };
            told.extend(ended.map(|(packet, traces)| {
                let traces: String =
                    traces.iter().map(|(epoch, trace)| format!("{epoch}{trace}")).collect();
                format!("{packet}:{traces}")
            }));
        }
        told.join(" ")
    }

    #[test]
    fn a_trace_ends_with_the_first_packet_of_its_epoch_or_a_later_one() {
        for (script, told) in [
            ("r1a j1 j1 j1", "1:1a"),
            ("j0 r1a j0 j0 j1", "4:1a"),
            ("r1ab j1", "1:1a1b"),
            ("r1a r2b j1 j2", "2:1a 3:2b"),
            ("r1a r3b j2 j2 j3", "2:1a 4:3b"),
            ("r1a r2b j4", "2:1a2b"),
            // The kernel may tell of an epoch before the agent knows what it stands for.
            ("j1 j1 r1a", "0:1a"),
            ("j2 r1a r2b", "0:1a 0:2b"),
            ("j1 r2a j1 j2", "3:2a"),
            ("r1 j1", ""),
            ("r1a", ""),
        ] {
            assert_eq!(run(script), told, "{script}");
        }
    }

    #[test]
    fn a_change_that_no_packet_follows_is_forgotten_in_the_end() {
        let mut firsts = Firsts::<(), u64>::default();
        for epoch in 0..1000 {
            assert_eq!(firsts.realised(epoch, vec![epoch]), None);
        }
        let (_, ended) = firsts.judged(1000, || ()).unwrap();
        assert_eq!((ended.len(), ended[0].0), (EPOCHS, 1000 - EPOCHS as u64));
        for epoch in 1001..2000 {
            assert_eq!(firsts.judged(epoch, || ()), None);
        }
        assert_eq!(firsts.seen.len(), EPOCHS);
    }
}
