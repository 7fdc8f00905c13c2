//! Who puts commands in order and makes them durable. Raft stands behind this interface later.

use weft_state::{ClusterState, CommandV1, EntryV1, decode_entry, encode_entry};
use weft_store::{Generation, LogEntry, Store, StoreError};
use weft_types::{Delta, Identity, LabelSet, Revision};

/// Orders commands: what [`Sequencer::propose`] returns is committed and survives every process.
pub trait Sequencer: Send {
    /// Makes numbers for label sets durable, before any command names them.
    fn allocate(&mut self, sets: Vec<LabelSet>) -> Result<Vec<(Identity, LabelSet)>, StoreError>;
    /// Commits a command and applies it.
    fn propose(&mut self, command: &CommandV1) -> Result<(Revision, Vec<Delta>), StoreError>;
    /// The state after every committed command.
    fn state(&self) -> &ClusterState;
    /// The revision of that state.
    fn revision(&self) -> Revision;
}

/// One operator alone: its store's log is the order.
pub struct LocalSequencer<S> {
    store: S,
    state: ClusterState,
    generation: Generation,
    index: u64,
    next_identity: u32,
    reserved: std::collections::BTreeMap<LabelSet, Identity>,
}

impl<S: Store> LocalSequencer<S> {
    /// Replays what the store holds.
    pub fn open(store: S, cluster: &str) -> Result<Self, StoreError> {
        let mut state = ClusterState::new(cluster);
        let mut index = 0;
        for entry in store.log()? {
            let decoded = decode_entry(&entry.command)
                .map_err(|_| StoreError::Unreadable(format!("log entry {}", entry.index)))?;
            state.apply(&decoded.command);
            index = entry.index;
        }
        let records = store.identities()?;
        let highest = records.iter().map(|(number, _)| number.0).max();
        Ok(Self {
            generation: store.generation()?,
            state,
            index,
            next_identity: highest.map_or(Identity::CLUSTER_MIN, |number| number + 1),
            // A number that no log entry names yet is adopted: its label set gets it when it comes again.
            reserved: records.into_iter().map(|(number, labels)| (labels, number)).collect(),
            store,
        })
    }
}

impl<S: Store> Sequencer for LocalSequencer<S> {
    fn allocate(&mut self, sets: Vec<LabelSet>) -> Result<Vec<(Identity, LabelSet)>, StoreError> {
        let mut numbered = Vec::with_capacity(sets.len());
        let mut fresh = Vec::new();
        for labels in sets {
            if let Some(number) = self.reserved.get(&labels) {
                numbered.push((*number, labels));
                continue;
            }
            let number = Identity(self.next_identity);
            if number.0 > Identity::CLUSTER_MAX {
                return Err(StoreError::Failed {
                    action: "allocate an identity",
                    problem: "every number of the cluster is taken".to_owned(),
                });
            }
            self.next_identity += 1;
            fresh.push((number, labels));
        }
        if !fresh.is_empty() {
            self.store.create_identities(&fresh)?;
        }
        self.reserved.extend(fresh.iter().map(|(number, labels)| (labels.clone(), *number)));
        numbered.extend(fresh);
        Ok(numbered)
    }

    fn propose(&mut self, command: &CommandV1) -> Result<(Revision, Vec<Delta>), StoreError> {
        let bytes =
            encode_entry(&EntryV1 { trace: None, command: command.clone() }).map_err(|e| {
                StoreError::Failed { action: "encode a command", problem: e.to_string() }
            })?;
        self.store.append(&LogEntry { index: self.index + 1, command: bytes })?;
        self.index += 1;
        let deltas = self.state.apply(command);
        Ok((self.revision(), deltas))
    }

    fn state(&self) -> &ClusterState {
        &self.state
    }

    fn revision(&self) -> Revision {
        Revision::new(self.generation.0, self.index)
    }
}
