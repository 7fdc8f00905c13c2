//! How an operator begins: the store and the log brought together, before anything is served.

use std::collections::BTreeMap;
use weft_state::{
    ClusterState, CommandV1, EntryV1, Unreadable, adoption, decode_entry, encode_entry,
};
use weft_store::{Fence, Log, LogEntry, Recovered, Store, StoreError};
use weft_types::{Delta, Identity, LabelSet, Revision};

/// What an operator begins with.
pub struct Founded {
    /// The fence that this operator wrote.
    pub fence: Fence,
    /// The state after every entry.
    pub state: ClusterState,
    /// Its revision.
    pub revision: Revision,
    /// What the entries after the snapshot changed, for agents that come back.
    pub replayed: Vec<(Revision, Vec<Delta>)>,
}

/// Why an operator does not begin.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The store or the log failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is in the log cannot be understood.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The store is another cluster's.
    #[error(
        "serve cluster {asked}: the state folder is of cluster {found}; start with --cluster {found}, or give this one a folder of its own"
    )]
    OtherCluster {
        /// The name on the command line.
        asked: String,
        /// The name in the store.
        found: String,
    },
    /// The two files do not belong together.
    #[error(
        "begin with log.redb of generation {log} and a store of generation {store}: they are not of one life. Put the right store back; or remove log.redb, and the cluster is founded anew from the store"
    )]
    Apart {
        /// The log's generation.
        log: u16,
        /// The store's; 0 when it holds no cluster.
        store: u16,
    },
    /// The store lacks something that was published.
    #[error(
        "begin: log.redb names identity {number} and the store does not: it is an older copy. Put the newer store back; or remove log.redb, and the cluster is founded anew from the store"
    )]
    OldStore {
        /// The number.
        number: Identity,
    },
    /// Generations are 16 bits.
    #[error("found the cluster anew: there is no generation after {0}")]
    NoGeneration(u16),
}

/// Opens a cluster, founds one, or founds one anew from its store when the log is lost. What the store
/// has beyond the log is adopted: it was written by a change that did not come to its end.
pub fn begin(
    store: &mut dyn Store,
    log: &mut dyn Log,
    cluster: &str,
) -> Result<Founded, FoundingError> {
    let founded = store.founded()?;
    if let Some((found, _)) = founded.as_ref().filter(|(found, _)| found != cluster) {
        return Err(FoundingError::OtherCluster {
            asked: cluster.to_owned(),
            found: found.clone(),
        });
    }
    let before = founded.map(|(_, fence)| fence);
    let recovered = log.recover()?;
    let generation = match (before, &recovered) {
        (None, None) => 1,
        (Some(fence), None) => {
            let lost = fence.generation;
            lost.checked_add(1).ok_or(FoundingError::NoGeneration(lost))?
        }
        (Some(fence), Some(log)) if log.generation == fence.generation => fence.generation,
        (fence, Some(log)) => {
            let store = fence.map_or(0, |fence| fence.generation);
            return Err(FoundingError::Apart { log: log.generation, store });
        }
    };
    let fence = Fence { generation, term: before.map_or(1, |fence| fence.term + 1), round: 0 };
    store.raise(cluster, before, fence)?;
    let mut founded = match recovered {
        Some(recovered) => replay(fence, recovered)?,
        None => found(fence, store, log, cluster)?,
    };
    let (identities, objects) = (store.identities()?, store.objects()?);
    nothing_is_missing(&founded.state, &identities)?;
    if let Some(command) = adoption(&founded.state, identities, objects) {
        founded.append(log, command)?;
    }
    Ok(founded)
}

impl Founded {
    /// Adds an entry, durable when this returns.
    pub fn append(&mut self, log: &mut dyn Log, command: CommandV1) -> Result<(), FoundingError> {
        let index = self.revision.index() + 1;
        let entry = EntryV1 { trace: None, command };
        log.append(&[LogEntry { index, command: encode_entry(&entry)? }])?;
        self.take(index, &entry);
        Ok(())
    }

    fn take(&mut self, index: u64, entry: &EntryV1) {
        self.revision = Revision::new(self.fence.generation, index);
        self.replayed.push((self.revision, self.state.apply(&entry.command)));
    }
}

fn replay(fence: Fence, recovered: Recovered) -> Result<Founded, FoundingError> {
    let mut founded = Founded {
        fence,
        state: ClusterState::decode(&recovered.snapshot)?,
        revision: Revision::new(fence.generation, recovered.index),
        replayed: Vec::new(),
    };
    for entry in recovered.entries {
        founded.take(entry.index, &decode_entry(&entry.command)?);
    }
    Ok(founded)
}

/// A new log, from what the store holds.
fn found(
    fence: Fence,
    store: &dyn Store,
    log: &mut dyn Log,
    cluster: &str,
) -> Result<Founded, FoundingError> {
    let mut state = ClusterState::new(cluster);
    if let Some(command) = adoption(&state, store.identities()?, store.objects()?) {
        state.apply(&command);
    }
    log.found(fence.generation, &state.encode()?)?;
    let revision = Revision::new(fence.generation, 0);
    Ok(Founded { fence, state, revision, replayed: Vec::new() })
}

fn nothing_is_missing(
    state: &ClusterState,
    stored: &[(Identity, LabelSet)],
) -> Result<(), FoundingError> {
    let stored: BTreeMap<Identity, &LabelSet> = stored.iter().map(|(n, l)| (*n, l)).collect();
    match state.identities().iter().find(|(labels, n)| stored.get(n) != Some(labels)) {
        Some((_, number)) => Err(FoundingError::OldStore { number: *number }),
        None => Ok(()),
    }
}
