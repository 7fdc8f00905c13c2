//! How an operator begins: the store and the log brought together, before anything is served.

use crate::{
    member::{Member, MemberError, Work},
    metrics::Metrics,
    sequencer::{Committed, NotOrdered, Sequenced, SequencerError, Ticket, Writer},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use weft_raft::{Config, Group, MemberId, Role, Saved, Term};
use weft_state::{ClusterState, CommandV1, EntryV1, Unreadable, adoption};
use weft_store::{Fence, MemberDisk, Store, StoreError};
use weft_types::{Delta, Identity, LabelSet, Revision};

/// A lone operator's number in its group.
const MEMBER: MemberId = MemberId(1);
/// What is proposed here; one thing at a time.
const TICKET: Ticket = 0;
/// The term of a group's first state; its first leader has the next.
const FOUNDING: Term = 1;

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
    /// Bytes of those entries.
    pub log_bytes: usize,
}

/// Why an operator does not begin.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The store or the disk failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is on the disk cannot be understood.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The group's member.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// Something that had to be in the log was not taken.
    #[error("begin: {0}")]
    Refused(#[from] NotOrdered),
    /// The only voter of a group is its leader; so there are others.
    #[error(
        "begin: raft.redb is of a group in which this operator is not the only voter. Remove raft.redb, and the cluster is founded anew from the store"
    )]
    NotAlone,
    /// An older release's file.
    #[error(
        "begin: {0} is the log of an older release, which this one does not read. Remove it, and the cluster is founded anew from the store: no number changes, and agents follow"
    )]
    OldRelease(PathBuf),
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
        "begin with raft.redb of generation {log} and a store of generation {store}: they are not of one life. Put the right store back; or remove raft.redb, and the cluster is founded anew from the store"
    )]
    Apart {
        /// The log's generation.
        log: u16,
        /// The store's; 0 when it holds no cluster.
        store: u16,
    },
    /// The log lacks something that was published.
    #[error(
        "begin with raft.redb, which knows term {log}, and a store that was written in term {store}: raft.redb is an older copy. Put the newer one back; or remove it, and the cluster is founded anew from the store"
    )]
    OldLog {
        /// The newest term in the log.
        log: Term,
        /// The newest in the store; a leader's log has it first.
        store: Term,
    },
    /// The store lacks something that was published.
    #[error(
        "begin: raft.redb names identity {number} and the store does not: it is an older copy. Put the newer store back; or remove raft.redb, and the cluster is founded anew from the store"
    )]
    OldStore {
        /// The number.
        number: Identity,
    },
    /// Generations are 16 bits.
    #[error("found the cluster anew: there is no generation after {0}")]
    NoGeneration(u16),
}

impl From<SequencerError> for FoundingError {
    fn from(error: SequencerError) -> Self {
        match error {
            SequencerError::Disk(error) => Self::Store(error),
            SequencerError::Member(error) => Self::Member(error),
        }
    }
}

/// Opens a cluster, founds one, or founds one anew from its store when the log is lost; this operator leads it then. What
/// the store has beyond the log is adopted: it was written by a change that did not come to its end.
pub fn begin(
    store: &mut dyn Store,
    mut disk: Box<dyn MemberDisk>,
    cluster: &str,
    metrics: Arc<Metrics>,
) -> Result<(Founded, Writer), FoundingError> {
    let before = match store.founded()? {
        Some((found, _)) if found != cluster => {
            return Err(FoundingError::OtherCluster { asked: cluster.to_owned(), found });
        }
        founded => founded.map(|(_, fence)| fence),
    };
    let before = match (before, disk.owner()?) {
        (before, None) => found(store, &mut *disk, cluster, before)?,
        (Some(fence), Some((log, _))) if log == fence.generation => fence,
        (fence, Some((log, _))) => {
            let store = fence.map_or(0, |fence| fence.generation);
            return Err(FoundingError::Apart { log, store });
        }
    };
    let (mut founded, mut writer) = recover(disk, before, metrics)?;
    let term = founded.lead(&mut writer)?;
    founded.fence = Fence { term, round: 0, ..before };
    store.raise(cluster, Some(before), founded.fence)?;
    let (identities, objects) = (store.identities()?, store.objects()?);
    nothing_is_missing(&founded.state, &identities)?;
    if let Some(command) = adoption(&founded.state, identities, objects) {
        founded.append(&mut writer, command)?;
    }
    Ok((founded, writer))
}

/// A new group, whose first state is what the store holds; the fence that the store has then. The store is told first:
/// what ends in between is founded once more.
fn found(
    store: &mut dyn Store,
    disk: &mut dyn MemberDisk,
    cluster: &str,
    before: Option<Fence>,
) -> Result<Fence, FoundingError> {
    let lost = before.map_or(0, |fence| fence.generation);
    let generation = lost.checked_add(1).ok_or(FoundingError::NoGeneration(lost))?;
    let fence = Fence { generation, term: FOUNDING, round: 0 };
    store.raise(cluster, before, fence)?;
    let mut state = ClusterState::new(cluster);
    if let Some(command) = adoption(&state, store.identities()?, store.objects()?) {
        state.apply(&command);
    }
    // It has no peers who would have to reach it.
    let group = Group::of_voters([(MEMBER, String::new())]);
    disk.found((generation, MEMBER), &Saved::founding(group, state.encode()?.into()))?;
    Ok(fence)
}

fn config(life: u64) -> Config {
    Config::new(MEMBER, life, MEMBER.0)
}

/// The member in another life, and the state of its snapshot; before anything is written.
fn recover(
    mut disk: Box<dyn MemberDisk>,
    fence: Fence,
    metrics: Arc<Metrics>,
) -> Result<(Founded, Writer), FoundingError> {
    let saved = disk.recover()?.unwrap_or_default();
    if saved.vote.term < fence.term {
        return Err(FoundingError::OldLog { log: saved.vote.term, store: fence.term });
    }
    let founded = Founded {
        fence,
        state: ClusterState::decode(&saved.snapshot.state)?,
        revision: Revision::new(fence.generation, saved.snapshot.index),
        replayed: Vec::new(),
        log_bytes: 0,
    };
    let member = Member::new(config(disk.begin_life()?), fence.generation, saved)?;
    Ok((founded, Writer::new(member, disk, metrics)))
}

impl Founded {
    /// Adds an entry, durable when this returns.
    pub fn append(&mut self, writer: &mut Writer, command: CommandV1) -> Result<(), FoundingError> {
        let work = Work::Propose(TICKET, EntryV1 { trace: None, command });
        self.carry_out(writer, work).map(drop)
    }

    /// Has the member lead, with everything that was committed before in the state: a lone voter needs nobody for that,
    /// and no time.
    fn lead(&mut self, writer: &mut Writer) -> Result<Term, FoundingError> {
        for _ in 0..2 * config(0).election_ticks {
            if let Some((Role::Leader, term)) = self.carry_out(writer, Work::Tick)? {
                return Ok(term);
            }
        }
        Err(FoundingError::NotAlone)
    }

    /// What the member has become by it, if anything.
    fn carry_out(
        &mut self,
        writer: &mut Writer,
        work: Work,
    ) -> Result<Option<(Role, Term)>, FoundingError> {
        let mut all = Vec::new();
        writer.carry_out(vec![work], |told| all.push(told))?;
        let mut turned = None;
        for told in all {
            match told {
                Sequenced::Committed(entries) => entries.into_iter().for_each(|e| self.take(e)),
                Sequenced::Refused(_, why) => return Err(why.into()),
                Sequenced::Role(role, term) => turned = Some((role, term)),
            }
        }
        Ok(turned)
    }

    fn take(&mut self, committed: Committed) {
        let Committed { revision, size, entry, .. } = committed;
        let deltas = entry.map(|entry| self.state.apply(&entry.command)).unwrap_or_default();
        self.revision = revision;
        self.log_bytes += size;
        self.replayed.push((revision, deltas));
    }
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
