//! Values with a version, in a redb file.

use crate::{StoreError, failed, unreadable};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableError, WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};
use std::path::Path;
use weft_types::codec;

/// Version byte before every value.
const VERSION: u8 = 1;

/// Opens the file, or makes an empty one; with these tables.
pub(crate) fn open(
    path: &Path,
    action: &'static str,
    tables: impl FnOnce(&WriteTransaction) -> Result<(), TableError>,
) -> Result<Database, StoreError> {
    let database = Database::create(path)
        .map_err(|error| failed(action, format!("{}: {error}", path.display())))?;
    let write = begin_write(&database, action)?;
    tables(&write).map_err(|error| failed(action, error))?;
    commit(write, action)?;
    Ok(database)
}

/// The value of a key of words.
pub(crate) fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    action: &'static str,
    key: &str,
) -> Result<Option<T>, StoreError> {
    let value = table.get(key).map_err(|error| failed(action, error))?;
    value.map(|value| decode(key, value.value())).transpose()
}

/// Writes the value of a key of words.
pub(crate) fn put(
    table: &mut Table<'_, &'static str, &'static [u8]>,
    action: &'static str,
    key: &str,
    value: &[u8],
) -> Result<(), StoreError> {
    table.insert(key, value).map(drop).map_err(|error| failed(action, error))
}

pub(crate) fn begin_read(
    database: &Database,
    action: &'static str,
) -> Result<ReadTransaction, StoreError> {
    database.begin_read().map_err(|error| failed(action, error))
}

pub(crate) fn begin_write(
    database: &Database,
    action: &'static str,
) -> Result<WriteTransaction, StoreError> {
    database.begin_write().map_err(|error| failed(action, error))
}

/// From here on a failure leaves open whether it was done.
pub(crate) fn commit(write: WriteTransaction, action: &'static str) -> Result<(), StoreError> {
    let ambiguous =
        |error: redb::CommitError| StoreError::Ambiguous { action, problem: error.to_string() };
    write.commit().map_err(ambiguous)
}

pub(crate) fn encode(what: &str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![VERSION];
    codec::encode_into(value, &mut bytes).map_err(|e| unreadable(what, e.to_string()))?;
    Ok(bytes)
}

pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    codec::decode(body(what, bytes)?).map_err(|e| unreadable(what, e.to_string()))
}

/// What follows the version.
pub(crate) fn body<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((version, _)) => Err(unreadable(what, format!("it is of version {version}"))),
        None => Err(unreadable(what, "it is empty")),
    }
}

/// Bytes with their version.
pub(crate) fn versioned(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 1);
    bytes.push(VERSION);
    bytes.extend(body);
    bytes
}
