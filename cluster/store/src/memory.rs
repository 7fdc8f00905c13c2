//! A store in memory, for simulations: it refuses what the file refuses (`tests/alike.rs` compares them).

use crate::{Batch, Cluster, Fence, Store, StoreError};
use std::collections::BTreeMap;
use weft_types::{Identity, LabelSet, Object, object::ObjectKey};

/// Whether a store compares the fence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Comparing {
    /// As every store must.
    #[default]
    Always,
    /// Broken on purpose, to see that it is noticed.
    Never,
}

/// What a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    cluster: Option<(Cluster, Fence)>,
    identities: BTreeMap<Identity, LabelSet>,
    given: Option<Identity>,
    objects: BTreeMap<ObjectKey, Object>,
    comparing: Comparing,
}

impl MemoryStore {
    /// An empty one.
    pub fn new(comparing: Comparing) -> Self {
        Self { comparing, ..Self::default() }
    }

    /// The label set of a number.
    pub fn label_set(&self, number: Identity) -> Option<&LabelSet> {
        self.identities.get(&number)
    }

    /// An object by its key.
    pub fn object(&self, key: &ObjectKey) -> Option<&Object> {
        self.objects.get(key)
    }

    fn fence(&self) -> Option<Fence> {
        self.cluster.as_ref().map(|(_, fence)| *fence)
    }

    fn compare(&self, action: &'static str, expected: Option<Fence>) -> Result<(), StoreError> {
        let found = self.fence();
        match self.comparing {
            Comparing::Always if found != expected => {
                Err(StoreError::Fenced { action, expected, found })
            }
            Comparing::Always | Comparing::Never => Ok(()),
        }
    }
}

impl Store for MemoryStore {
    fn founded(&self) -> Result<Option<(Cluster, Fence)>, StoreError> {
        Ok(self.cluster.clone())
    }

    fn raise(
        &mut self,
        cluster: &Cluster,
        before: Option<Fence>,
        after: Fence,
    ) -> Result<(), StoreError> {
        self.compare("raise the fence", before)?;
        self.cluster = Some((cluster.clone(), after));
        Ok(())
    }

    fn identities(&self) -> Result<Vec<(Identity, LabelSet)>, StoreError> {
        Ok(self.identities.iter().map(|(number, labels)| (*number, labels.clone())).collect())
    }

    fn given(&self) -> Result<Option<Identity>, StoreError> {
        Ok(self.given)
    }

    fn objects(&self) -> Result<Vec<Object>, StoreError> {
        let mut objects: Vec<(String, &Object)> =
            self.objects.iter().map(|(key, object)| (key.to_string(), object)).collect();
        objects.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(objects.into_iter().map(|(_, object)| object.clone()).collect())
    }

    fn write(&mut self, fence: Fence, batch: &Batch) -> Result<(), StoreError> {
        self.compare("write to the store", Some(fence))?;
        let stays = |number: &Identity| !batch.forget.contains(number);
        for (number, labels) in batch.identities.iter().filter(|(number, _)| stays(number)) {
            if let Some(holder) = self.identities.get(number).filter(|holder| *holder != labels) {
                return Err(StoreError::Taken { number: *number, holder: holder.clone() });
            }
        }
        batch.forget.iter().for_each(|number| drop(self.identities.remove(number)));
        self.given = batch.given.or(self.given);
        self.identities.extend(batch.identities.iter().cloned());
        batch.remove.iter().for_each(|key| drop(self.objects.remove(key)));
        self.objects.extend(batch.put.iter().map(|object| (object.key(), object.clone())));
        if let Some((_, held)) = self.cluster.as_mut().filter(|(_, held)| *held == fence) {
            *held = fence.after_a_write();
        }
        Ok(())
    }
}
