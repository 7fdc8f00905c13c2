//! What every store answers as: the one in memory, by random steps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "what suites share; each uses its part"
)]

use proptest::prelude::{Strategy, any, prop_oneof};
use std::collections::BTreeMap;
use weft_store::{Batch, Comparing, Fence, MemoryStore, Store, StoreError};
use weft_types::{Identity, LabelSet, Object, Source, object::Namespace};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Raise(bool, Fence),
    Write(bool, Vec<(u32, u8)>, Vec<u8>, Vec<u8>),
    Forget(bool, Vec<u32>, Option<u32>, Vec<(u32, u8)>),
    Reopen,
}

fn fence() -> impl Strategy<Value = Fence> {
    (1_u16..3, 1_u64..4, 0_u32..2).prop_map(|(generation, term, round)| Fence {
        generation,
        term,
        round,
        writes: 0,
    })
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let few = || proptest::collection::vec(0_u8..4, 0..3);
    let pairs = || proptest::collection::vec((256_u32..259, 0_u8..3), 0..3);
    let numbers = proptest::collection::vec(256_u32..259, 0..3);
    prop_oneof![
        (any::<bool>(), fence()).prop_map(|(right, after)| Step::Raise(right, after)),
        (any::<bool>(), pairs(), few(), few())
            .prop_map(|(right, pairs, put, gone)| Step::Write(right, pairs, put, gone)),
        (any::<bool>(), numbers, proptest::option::of(256_u32..259), pairs())
            .prop_map(|(right, gone, given, pairs)| Step::Forget(right, gone, given, pairs)),
        proptest::strategy::Just(Step::Reopen),
    ]
}

pub(crate) fn labels(app: u8) -> LabelSet {
    let mut labels = LabelSet::new();
    labels.insert(Source::K8s, "app", app.to_string());
    labels
}

pub(crate) fn namespace(name: impl ToString) -> Object {
    Object::Namespace(Namespace { name: name.to_string(), labels: BTreeMap::new() })
}

/// Each number once.
fn numbered(pairs: Vec<(u32, u8)>) -> Vec<(Identity, LabelSet)> {
    let pairs: BTreeMap<_, _> =
        pairs.into_iter().map(|(number, app)| (Identity(number), labels(app))).collect();
    pairs.into_iter().collect()
}

/// What an answer is, without its words.
fn kind(answer: Result<(), StoreError>) -> Result<(), std::mem::Discriminant<StoreError>> {
    answer.map_err(|error| std::mem::discriminant(&error))
}

/// Takes a store and the model through the same steps; whatever they are asked, they answer alike.
pub(crate) fn answers_as_the_model<S: Store>(steps: Vec<Step>, open: impl Fn() -> S) {
    let mut memory = MemoryStore::new(Comparing::Always);
    let mut real = open();
    let other = Fence { generation: 9, term: 9, round: 9, writes: 9 };
    for step in steps {
        let fence = memory.founded().unwrap().map(|(_, fence)| fence);
        match step {
            Step::Raise(right, after) => {
                let before = if right { fence } else { Some(other) };
                let answer = real.raise(&"blue".into(), before, after);
                assert_eq!(kind(answer), kind(memory.raise(&"blue".into(), before, after)));
            }
            Step::Write(right, pairs, put, gone) => {
                let fence = fence.filter(|_| right).unwrap_or(other);
                let batch = Batch {
                    identities: numbered(pairs),
                    put: put.into_iter().map(namespace).collect(),
                    remove: gone.into_iter().map(|name| namespace(name).key()).collect(),
                    ..Batch::default()
                };
                let answer = real.write(fence, &batch);
                assert_eq!(kind(answer), kind(memory.write(fence, &batch)));
            }
            Step::Forget(right, gone, given, pairs) => {
                let fence = fence.filter(|_| right).unwrap_or(other);
                let batch = Batch {
                    identities: numbered(pairs),
                    forget: gone.into_iter().map(Identity).collect(),
                    given: given.map(Identity),
                    ..Batch::default()
                };
                let answer = real.write(fence, &batch);
                assert_eq!(kind(answer), kind(memory.write(fence, &batch)));
            }
            Step::Reopen => {
                drop(real);
                real = open();
            }
        }
        assert_eq!(real.founded().unwrap(), memory.founded().unwrap());
        assert_eq!(real.identities().unwrap(), memory.identities().unwrap());
        assert_eq!(real.given().unwrap(), memory.given().unwrap());
        assert_eq!(real.objects().unwrap(), memory.objects().unwrap());
    }
}
