//! Who writes the store: label sets get their numbers and objects their place before a command names them.

use crate::metrics::Metrics;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use weft_store::{Batch, Fence, Store, StoreError};
use weft_types::{Identity, LabelSet, Object};

/// What the store holds.
pub type Contents = (Vec<(Identity, LabelSet)>, Vec<Object>);

/// The one writer of the store in this process.
pub struct Allocator {
    store: Box<dyn Store>,
    fence: Fence,
    next: u32,
    /// Numbers that were given out and are not known to be in the log: a label set keeps its own, and
    /// nobody else gets it, whatever became of the write.
    assigned: BTreeMap<LabelSet, Identity>,
    torn: bool,
    metrics: Arc<Metrics>,
}

impl Allocator {
    /// Over a store that this operator has fenced.
    pub fn new(
        store: Box<dyn Store>,
        fence: Fence,
        metrics: Arc<Metrics>,
    ) -> Result<Self, StoreError> {
        let highest = store.identities()?.into_iter().map(|(number, _)| number.0).max();
        let next = highest.map_or(Identity::CLUSTER_MIN, |number| number.saturating_add(1));
        Ok(Self { store, fence, next, assigned: BTreeMap::new(), torn: false, metrics })
    }

    /// Makes a change durable, with a number for each label set that is new with it. Blocks for a disk.
    pub fn record(
        &mut self,
        put: &[Object],
        remove: &[Object],
        sets: BTreeSet<LabelSet>,
    ) -> Result<Vec<(Identity, LabelSet)>, StoreError> {
        let identities =
            sets.into_iter().map(|labels| self.number(labels)).collect::<Result<Vec<_>, _>>()?;
        let remove = remove.iter().map(Object::key).collect();
        let batch = Batch { identities, put: put.to_vec(), remove };
        // Until the log has it too, the store may be ahead.
        self.torn = true;
        let written = self.metrics.timed("store_write", || self.store.write(self.fence, &batch));
        match written {
            Ok(()) => {}
            Err(ambiguous @ StoreError::Ambiguous { .. }) => {
                tracing::warn!("{ambiguous}: reading it back");
                if !self.store.holds(&batch)? {
                    return Err(ambiguous);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(batch.identities)
    }

    /// The log has the last change, and with it these numbers.
    pub fn settled(&mut self, identities: &[(Identity, LabelSet)]) {
        self.torn = false;
        for (_, labels) in identities {
            self.assigned.remove(labels);
        }
    }

    /// Whether the store may be ahead of the log: a change came to no end.
    pub fn is_torn(&self) -> bool {
        self.torn
    }

    /// Every number in the store, and every object.
    pub fn contents(&self) -> Result<Contents, StoreError> {
        Ok((self.store.identities()?, self.store.objects()?))
    }

    fn number(&mut self, labels: LabelSet) -> Result<(Identity, LabelSet), StoreError> {
        if let Some(number) = self.assigned.get(&labels) {
            return Ok((*number, labels));
        }
        let number = Identity(self.next);
        if number.0 > Identity::CLUSTER_MAX {
            return Err(StoreError::Failed {
                action: "allocate an identity",
                problem: "every number of the cluster is taken".to_owned(),
            });
        }
        self.next += 1;
        self.assigned.insert(labels.clone(), number);
        Ok((number, labels))
    }
}
