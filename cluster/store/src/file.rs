//! The embedded store: one file, where one operator is enough.

use crate::{Generation, LogEntry, Store, StoreError};
use bincode::config::standard;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;
use weft_types::{Identity, LabelSet};

/// Version byte before every value.
const VERSION: u8 = 1;
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const IDENTITIES: TableDefinition<'_, u32, &[u8]> = TableDefinition::new("identities");
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

/// A redb file; a transaction that returned is on the disk.
#[derive(Debug)]
pub struct FileStore {
    database: Database,
}

impl FileStore {
    /// Opens the file, or founds a cluster in it with generation 1.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let action = "open the store";
        let database = Database::create(path)
            .map_err(|e| failed(action, format!("{}: {e}", path.display())))?;
        let write = database.begin_write().map_err(|e| failed(action, e))?;
        {
            let mut meta = write.open_table(META).map_err(|e| failed(action, e))?;
            let founded = meta.get("generation").map_err(|e| failed(action, e))?.is_some();
            if !founded {
                meta.insert("generation", 1).map_err(|e| failed(action, e))?;
            }
            write.open_table(IDENTITIES).map_err(|e| failed(action, e))?;
            write.open_table(LOG).map_err(|e| failed(action, e))?;
        }
        write.commit().map_err(|e| failed(action, e))?;
        Ok(Self { database })
    }
}

impl Store for FileStore {
    fn generation(&self) -> Result<Generation, StoreError> {
        let action = "read the generation";
        let read = self.database.begin_read().map_err(|e| failed(action, e))?;
        let meta = read.open_table(META).map_err(|e| failed(action, e))?;
        let number = meta.get("generation").map_err(|e| failed(action, e))?.map(|n| n.value());
        let number = number.and_then(|n| u16::try_from(n).ok());
        number.map(Generation).ok_or_else(|| StoreError::Unreadable("the generation".to_owned()))
    }

    fn identities(&self) -> Result<Vec<(Identity, LabelSet)>, StoreError> {
        let action = "list identities";
        let read = self.database.begin_read().map_err(|e| failed(action, e))?;
        let table = read.open_table(IDENTITIES).map_err(|e| failed(action, e))?;
        let mut all = Vec::new();
        for record in table.iter().map_err(|e| failed(action, e))? {
            let (number, value) = record.map_err(|e| failed(action, e))?;
            let number = Identity(number.value());
            let labels = match value.value().split_first() {
                Some((&VERSION, bytes)) => {
                    bincode::serde::decode_from_slice(bytes, standard()).ok()
                }
                _ => None,
            };
            let (labels, _) =
                labels.ok_or_else(|| StoreError::Unreadable(format!("identity {number}")))?;
            all.push((number, labels));
        }
        Ok(all)
    }

    fn create_identities(&mut self, records: &[(Identity, LabelSet)]) -> Result<(), StoreError> {
        let action = "record identities";
        let write = self.database.begin_write().map_err(|e| failed(action, e))?;
        {
            let mut table = write.open_table(IDENTITIES).map_err(|e| failed(action, e))?;
            for (number, labels) in records {
                let mut value = vec![VERSION];
                value.extend(
                    bincode::serde::encode_to_vec(labels, standard())
                        .map_err(|e| failed(action, e))?,
                );
                let before =
                    table.insert(number.0, value.as_slice()).map_err(|e| failed(action, e))?;
                if before.is_some() {
                    return Err(failed(action, format!("number {number} is taken")));
                }
            }
        }
        write.commit().map_err(|e| failed(action, e))
    }

    fn log(&self) -> Result<Vec<LogEntry>, StoreError> {
        let action = "read the log";
        let read = self.database.begin_read().map_err(|e| failed(action, e))?;
        let table = read.open_table(LOG).map_err(|e| failed(action, e))?;
        let mut all = Vec::new();
        for entry in table.iter().map_err(|e| failed(action, e))? {
            let (index, value) = entry.map_err(|e| failed(action, e))?;
            let command = match value.value().split_first() {
                Some((&VERSION, bytes)) => bytes.to_vec(),
                _ => return Err(StoreError::Unreadable(format!("log entry {}", index.value()))),
            };
            all.push(LogEntry { index: index.value(), command });
        }
        Ok(all)
    }

    fn append(&mut self, entry: &LogEntry) -> Result<(), StoreError> {
        let action = "append to the log";
        let write = self.database.begin_write().map_err(|e| failed(action, e))?;
        {
            let mut table = write.open_table(LOG).map_err(|e| failed(action, e))?;
            let mut value = vec![VERSION];
            value.extend(&entry.command);
            table.insert(entry.index, value.as_slice()).map_err(|e| failed(action, e))?;
        }
        write.commit().map_err(|e| failed(action, e))
    }
}

fn failed(action: &'static str, problem: impl std::fmt::Display) -> StoreError {
    StoreError::Failed { action, problem: problem.to_string() }
}
