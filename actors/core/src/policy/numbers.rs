//! Numbers that the kernel's entries carry: of rule sets and of the prefixes that policies name.

use ipnet::Ipv4Net;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use weft_types::{Identity, policy::RuleId};

/// The rules behind each rule number. Whoever holds a copy keeps what it said; a new one is made when a number is.
pub type RuleNames = Arc<BTreeMap<u32, Arc<BTreeSet<RuleId>>>>;

/// Rule sets and their numbers. A number is made of what it stands for, so that an agent that starts anew
/// gives the same ones and finds its classes in the kernel unchanged.
#[derive(Clone, Debug, Default)]
pub(super) struct RuleNumbers {
    by_rules: BTreeMap<Arc<BTreeSet<RuleId>>, u32>,
    by_number: RuleNames,
}

impl RuleNumbers {
    /// The number of a set, never 0.
    pub(super) fn of(&mut self, rules: &BTreeSet<RuleId>) -> u32 {
        if let Some(number) = self.by_rules.get(rules) {
            return *number;
        }
        let mut number = hash(rules);
        // Two sets of one hash are rare; the later takes the next free number.
        while number == 0 || self.by_number.contains_key(&number) {
            number = number.wrapping_add(1);
        }
        let rules = Arc::new(rules.clone());
        self.by_rules.insert(Arc::clone(&rules), number);
        Arc::make_mut(&mut self.by_number).insert(number, rules);
        number
    }

    /// The set of a number.
    pub(super) fn rules(&self, number: u32) -> Option<&BTreeSet<RuleId>> {
        self.by_number.get(&number).map(Arc::as_ref)
    }

    /// All of them.
    pub(super) fn names(&self) -> &RuleNames {
        &self.by_number
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Forgets all but these.
    pub(super) fn retain(&mut self, used: &BTreeSet<u32>) {
        Arc::make_mut(&mut self.by_number).retain(|number, _| used.contains(number));
        self.by_rules.retain(|_, number| used.contains(number));
    }
}

/// FNV-1a over the rules as they are spelled: the same in every version, which std's hasher is not.
fn hash(rules: &BTreeSet<RuleId>) -> u32 {
    let text: Vec<String> = rules.iter().map(ToString::to_string).collect();
    let hash = text
        .join("\n")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let folded = (hash >> 32) ^ (hash & 0xffff_ffff);
    u32::try_from(folded).unwrap_or(u32::MAX)
}

/// Prefixes and their node-local identities. A number is not given to another prefix until all others of
/// the range were.
#[derive(Clone, Debug)]
pub(super) struct PrefixNumbers {
    by_prefix: BTreeMap<Ipv4Net, u32>,
    by_number: BTreeMap<u32, Ipv4Net>,
    next: u32,
}

impl Default for PrefixNumbers {
    fn default() -> Self {
        let (by_prefix, by_number) = Default::default();
        Self { by_prefix, by_number, next: Identity::LOCAL_MIN }
    }
}

impl PrefixNumbers {
    /// The number of a prefix; it keeps the one that it had.
    pub(super) fn of(&mut self, prefix: Ipv4Net) -> u32 {
        if let Some(number) = self.by_prefix.get(&prefix) {
            return *number;
        }
        while self.by_number.contains_key(&self.next) {
            self.advance();
        }
        let number = self.next;
        self.advance();
        self.insert(prefix, number);
        number
    }

    fn advance(&mut self) {
        self.next =
            if self.next < Identity::LOCAL_MAX { self.next + 1 } else { Identity::LOCAL_MIN };
    }

    fn insert(&mut self, prefix: Ipv4Net, number: u32) {
        self.by_prefix.insert(prefix, number);
        self.by_number.insert(number, prefix);
    }

    /// Numbers that were given in an earlier life.
    pub(super) fn seed(&mut self, given: &BTreeMap<Ipv4Net, u32>) {
        for (prefix, number) in given {
            self.insert(*prefix, *number);
            if *number >= self.next {
                self.next = *number;
                self.advance();
            }
        }
    }

    /// The prefix of a number.
    pub(super) fn prefix(&self, number: u32) -> Option<Ipv4Net> {
        self.by_number.get(&number).copied()
    }

    /// Forgets prefixes outside `kept` once they are most of what is known.
    pub(super) fn sweep(&mut self, kept: &BTreeMap<Ipv4Net, u32>) {
        if self.by_prefix.len() > 2 * kept.len() + 4096 {
            self.by_prefix.retain(|prefix, _| kept.contains_key(prefix));
            self.by_number.retain(|_, prefix| kept.contains_key(prefix));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_types::{
        NamespacedName,
        policy::{Direction, PolicyId, PolicyKind},
    };

    fn rules(indexes: &[u32]) -> BTreeSet<RuleId> {
        let policy =
            PolicyId { kind: PolicyKind::NetworkPolicy, name: NamespacedName::new("a", "p") };
        let rule = |index| RuleId { policy: policy.clone(), direction: Direction::Ingress, index };
        indexes.iter().copied().map(rule).collect()
    }

    #[test]
    fn rule_numbers_do_not_depend_on_who_came_first() {
        let (mut one, mut other) = (RuleNumbers::default(), RuleNumbers::default());
        let (a, b) = (rules(&[0]), rules(&[0, 1]));
        let first = (one.of(&a), one.of(&b));
        let second = (other.of(&b), other.of(&a));
        assert_eq!(first, (second.1, second.0));
        assert_ne!(first.0, first.1);
        assert_eq!(one.rules(first.1), Some(&b));
    }

    #[test]
    fn prefixes_keep_their_numbers_and_new_ones_get_others() {
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        let mut numbers = PrefixNumbers::default();
        numbers.seed(&BTreeMap::from([(net("10.0.0.0/8"), Identity::LOCAL_MIN + 5)]));
        assert_eq!(numbers.of(net("11.0.0.0/8")), Identity::LOCAL_MIN + 6);
        assert_eq!(numbers.of(net("10.0.0.0/8")), Identity::LOCAL_MIN + 5);
        numbers.seed(&BTreeMap::from([(net("12.0.0.0/8"), Identity::LOCAL_MAX)]));
        assert_eq!(numbers.of(net("13.0.0.0/8")), Identity::LOCAL_MIN, "round the range");
        assert_eq!(numbers.prefix(Identity::LOCAL_MAX), Some(net("12.0.0.0/8")));
    }
}
