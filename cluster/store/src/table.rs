//! Values with a version, in a redb file.

use crate::{StoreError, failed, unreadable};
use redb::{
    Database, ReadTransaction, ReadableDatabase, ReadableTable, Table, TableError, WriteTransaction,
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    cell::RefCell,
    fmt,
    path::{Path, PathBuf},
};
use weft_types::codec;

/// Version byte before every value.
const VERSION: u8 = 1;

/// A file with tables. It is opened anew after an error: redb takes nothing more then.
pub(crate) struct File {
    path: PathBuf,
    action: &'static str,
    tables: Tables,
    database: RefCell<Option<Database>>,
}

/// What makes the tables of a file.
type Tables = fn(&WriteTransaction) -> Result<(), TableError>;

impl File {
    /// Opens the file, or makes an empty one; with these tables.
    pub(crate) fn open(
        path: &Path,
        action: &'static str,
        tables: Tables,
    ) -> Result<Self, StoreError> {
        let database = RefCell::new(Some(opened(path, action, tables)?));
        Ok(Self { path: path.to_owned(), action, tables, database })
    }

    /// Looks at one moment of it.
    pub(crate) fn read<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|database| work(&database.begin_read().map_err(|error| failed(action, error))?))
    }

    /// Changes it, all or nothing; durable when this returns.
    pub(crate) fn write<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(|database| {
            let write = database.begin_write().map_err(|error| failed(action, error))?;
            let done = work(&write)?;
            commit(write, action)?;
            Ok(done)
        })
    }

    fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => opened(&self.path, self.action, self.tables)?,
        };
        let done = work(&database);
        if !matches!(done, Err(StoreError::Failed { .. } | StoreError::Ambiguous { .. })) {
            self.database.replace(Some(database));
        }
        done
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).finish_non_exhaustive()
    }
}

fn opened(path: &Path, action: &'static str, tables: Tables) -> Result<Database, StoreError> {
    let database = Database::create(path)
        .map_err(|error| failed(action, format!("{}: {error}", path.display())))?;
    let write = database.begin_write().map_err(|error| failed(action, error))?;
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

/// From here on a failure leaves open whether it was done.
fn commit(write: WriteTransaction, action: &'static str) -> Result<(), StoreError> {
    let ambiguous =
        |error: redb::CommitError| StoreError::Ambiguous { action, problem: error.to_string() };
    write.commit().map_err(ambiguous)
}

pub(crate) fn encode(what: &str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    encode_as(VERSION, what, value)
}

pub(crate) fn encode_as(
    version: u8,
    what: &str,
    value: &impl Serialize,
) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![version];
    codec::encode_into(value, &mut bytes).map_err(|e| unreadable(what, e.to_string()))?;
    Ok(bytes)
}

pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    let newer = |e| unreadable(what, format!("{e}; was it written by a newer program?"));
    codec::decode(body(what, bytes)?).map_err(newer)
}

/// What follows the version.
pub(crate) fn body<'a>(what: &str, bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => Ok(body),
        _ => Err(unreadable_version(what, VERSION, bytes)),
    }
}

/// Why bytes that are not of the one version that is known are not read.
pub(crate) fn unreadable_version(what: &str, known: u8, bytes: &[u8]) -> StoreError {
    let problem = match bytes.first() {
        Some(version) if *version < known => {
            format!(
                "it is of version {version}, this program knows {known} alone: found the cluster in an empty store"
            )
        }
        Some(version) => {
            format!("it is of version {version}, this program knows {known}: use a newer program")
        }
        None => "it is empty".to_owned(),
    };
    unreadable(what, problem)
}

/// Bytes with their version.
pub(crate) fn versioned(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(body.len() + 1);
    bytes.push(VERSION);
    bytes.extend(body);
    bytes
}
