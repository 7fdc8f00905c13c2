//! Ports of rules as trie prefixes.

use weft_types::{LabelSet, Source, label::key, policy::Protocol};

/// A run of ports as a prefix: its first port and how many leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortPrefix {
    pub(super) first: u16,
    pub(super) bits: u32,
}

/// The fewest prefixes that cover `first..=last`.
pub(super) fn range(first: u16, last: u16) -> Vec<PortPrefix> {
    let (mut at, end) = (u32::from(first), u32::from(last));
    let mut prefixes = Vec::new();
    while at <= end {
        // The largest aligned block that starts here and does not pass the end.
        let mut size = if at == 0 { 1 << 16 } else { 1 << at.trailing_zeros().min(16) };
        while at + size - 1 > end {
            size /= 2;
        }
        let first = u16::try_from(at).unwrap_or(u16::MAX);
        prefixes.push(PortPrefix { first, bits: 16 - size.trailing_zeros() });
        at += size;
    }
    prefixes
}

/// The port that a pod with these labels calls `name`, if its protocol agrees.
pub(super) fn named(labels: &LabelSet, name: &str, protocol: Protocol) -> Option<u16> {
    labels.get(Source::Gen, key::PORTS)?.split(';').find_map(|port| {
        let (port_name, number) = port.split_once('=')?;
        let (port_protocol, number) = number.split_once('/')?;
        (port_name == name && port_protocol == protocol.as_str()).then(|| number.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_covered_exactly() {
        for (first, last) in
            [(1, 1), (0, 65535), (80, 443), (1, 65535), (1023, 1025), (65535, 65535)]
        {
            let prefixes = range(first, last);
            for port in 0..=65535u16 {
                let covered = prefixes
                    .iter()
                    .filter(|p| p.bits == 0 || (port ^ p.first) >> (16 - p.bits) == 0)
                    .count();
                assert_eq!(
                    covered,
                    usize::from((first..=last).contains(&port)),
                    "{first}-{last}: {port}"
                );
            }
        }
    }

    #[test]
    fn a_name_counts_only_with_its_protocol() {
        let mut labels = LabelSet::new();
        labels.insert(Source::Gen, key::PORTS, "dns=UDP/53;web=TCP/80");
        assert_eq!(named(&labels, "web", Protocol::Tcp), Some(80));
        assert_eq!(named(&labels, "web", Protocol::Udp), None);
        assert_eq!(named(&labels, "we", Protocol::Tcp), None);
    }
}
