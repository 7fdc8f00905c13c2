//! The embedded store: one file, where one operator is enough.

use crate::{
    Batch, Cluster, Fence, Store, StoreError, failed,
    keys::{
        CLUSTER, FENCE, GIVEN, IDENTITIES, OBJECTS, decode_fence, encode_fence, identity_key,
        object_key,
    },
    table::{File, decode, encode, get, put},
};
use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use std::path::Path;
use weft_types::{Identity, LabelSet, Object};

const TABLE: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("weft");

/// A redb file; a transaction that returned is on the disk.
#[derive(Debug)]
pub struct FileStore(File);

impl FileStore {
    /// Opens the file, or makes an empty one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let tables = |write: &WriteTransaction| write.open_table(TABLE).map(drop);
        Ok(Self(File::open(path, "open the store", tables)?))
    }

    fn list<T: DeserializeOwned>(
        &self,
        action: &'static str,
        prefix: &str,
    ) -> Result<Vec<(String, T)>, StoreError> {
        self.0.read(action, |read| {
            let table = read.open_table(TABLE).map_err(|e| failed(action, e))?;
            let mut all = Vec::new();
            for record in table.range(prefix..).map_err(|e| failed(action, e))? {
                let (key, value) = record.map_err(|e| failed(action, e))?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                all.push((key.value().to_owned(), decode(key.value(), value.value())?));
            }
            Ok(all)
        })
    }
}

impl Store for FileStore {
    fn founded(&self) -> Result<Option<(Cluster, Fence)>, StoreError> {
        let action = "read the fence";
        self.0.read(action, |read| {
            let table = read.open_table(TABLE).map_err(|e| failed(action, e))?;
            let cluster: Option<Cluster> = get(&table, action, CLUSTER)?;
            Ok(cluster.zip(fence(&table, action)?))
        })
    }

    fn raise(
        &mut self,
        cluster: &Cluster,
        before: Option<Fence>,
        after: Fence,
    ) -> Result<(), StoreError> {
        let action = "raise the fence";
        self.0.write(action, |write| {
            let mut table = write.open_table(TABLE).map_err(|e| failed(action, e))?;
            compare(&table, action, before)?;
            put(&mut table, action, CLUSTER, &encode(CLUSTER, cluster)?)?;
            put(&mut table, action, FENCE, &encode_fence(after)?)
        })
    }

    fn identities(&self) -> Result<Vec<(Identity, LabelSet)>, StoreError> {
        let all: Vec<(String, (Identity, LabelSet))> = self.list("list identities", IDENTITIES)?;
        Ok(all.into_iter().map(|(_, pair)| pair).collect())
    }

    fn given(&self) -> Result<Option<Identity>, StoreError> {
        let action = "read which number was given last";
        self.0.read(action, |read| {
            let table = read.open_table(TABLE).map_err(|e| failed(action, e))?;
            get(&table, action, GIVEN)
        })
    }

    fn objects(&self) -> Result<Vec<Object>, StoreError> {
        let all = self.list("list objects", OBJECTS)?;
        Ok(all.into_iter().map(|(_, object)| object).collect())
    }

    fn write(&mut self, fence: Fence, batch: &Batch) -> Result<(), StoreError> {
        let action = "write to the store";
        self.0.write(action, |write| {
            let mut table = write.open_table(TABLE).map_err(|e| failed(action, e))?;
            compare(&table, action, Some(fence))?;
            for number in &batch.forget {
                table.remove(identity_key(*number).as_str()).map_err(|e| failed(action, e))?;
            }
            if let Some(given) = &batch.given {
                put(&mut table, action, GIVEN, &encode(GIVEN, given)?)?;
            }
            for pair in &batch.identities {
                let key = identity_key(pair.0);
                let holder: Option<(Identity, LabelSet)> = get(&table, action, &key)?;
                if let Some((number, holder)) = holder.filter(|holder| holder != pair) {
                    return Err(StoreError::Taken { number, holder });
                }
                put(&mut table, action, &key, &encode(&key, pair)?)?;
            }
            for key in &batch.remove {
                table.remove(object_key(key).as_str()).map_err(|e| failed(action, e))?;
            }
            for object in &batch.put {
                let key = object_key(&object.key());
                put(&mut table, action, &key, &encode(&key, object)?)?;
            }
            put(&mut table, action, FENCE, &encode_fence(fence.after_a_write())?)
        })
    }
}

fn fence(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    action: &'static str,
) -> Result<Option<Fence>, StoreError> {
    let value = table.get(FENCE).map_err(|e| failed(action, e))?;
    value.map(|value| decode_fence(value.value())).transpose()
}

fn compare(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    action: &'static str,
    expected: Option<Fence>,
) -> Result<(), StoreError> {
    let found = fence(table, action)?;
    if found == expected {
        return Ok(());
    }
    Err(StoreError::Fenced { action, expected, found })
}
