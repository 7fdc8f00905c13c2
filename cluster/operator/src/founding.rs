//! How an operator begins: the store and the log brought together, before anything is served.

use crate::{
    member::{Member, MemberError, Work},
    metrics::Metrics,
    peers,
    sequencer::{Committed, Sequenced, SequencerError, Writer},
};
use std::{path::PathBuf, sync::Arc, thread, time::Duration};
use weft_raft::{Body, Config, Group, MemberId, Role, Saved, Term};
use weft_state::{
    ClusterState, EntryV1, Unreadable, adoption,
    interests::{Change, Interests},
};
use weft_store::{Fence, MemberDisk, Store, StoreError};
use weft_types::{Cluster, Identity, IdentitySpace, Invariant, Revision};

/// The term of a group's first state; its first leader has the next.
const FOUNDING: Term = 1;
/// Times that the store is asked what an operator begins with: a member of etcd that hangs, or that elects, is passed over.
const ATTEMPTS: u32 = 3;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(500);

/// What an operator begins with.
pub struct Founded {
    /// The term in which this operator leads, if it is alone; else its group will say.
    pub led: Option<Term>,
    /// The state after every entry.
    pub state: ClusterState,
    /// Its revision.
    pub revision: Revision,
    /// Whom each node has to know of it.
    pub interests: Interests,
    /// What the entries after the snapshot changed, for agents that come back.
    pub replayed: Vec<(Revision, Vec<Change>)>,
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
    /// The store's cluster has other numbers.
    #[error(
        "allocate identities of cluster {asked}: this one was founded with {found}, which is for good; start with --cluster-number {} --cluster-bits {}",
        found.cluster(),
        found.bits()
    )]
    OtherSpace {
        /// On the command line.
        asked: IdentitySpace,
        /// In the store.
        found: IdentitySpace,
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
    /// The disk is another operator's.
    #[error(
        "begin as member {asked}: raft.redb is member {found}'s; start with --member {found}, or give this one a folder of its own"
    )]
    OtherMember {
        /// The number on the command line.
        asked: MemberId,
        /// Whose the disk is.
        found: MemberId,
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
    /// The store lacks writes that were answered.
    #[error(
        "begin: the store is an older copy. It went back from {known} to {}, so it lacks what was acknowledged since. Put the newer one back; or found the cluster anew from this one, without what it lacks: stop every operator, remove raft.redb of each, start one (with --found-anew if it has --peer-listen) and have the others --join it",
        store.map_or("nothing".to_owned(), |store| store.to_string())
    )]
    Behind {
        /// The store's fence; none when it holds no cluster.
        store: Option<Fence>,
        /// What its fence was, as the log or this operator knows.
        known: Fence,
    },
    /// The store lacks something that was published.
    #[error(
        "begin: raft.redb names identity {number} and the store does not: it is an older copy. Put the newer store back; or remove raft.redb, and the cluster is founded anew from the store"
    )]
    OldStore {
        /// The number.
        number: Identity,
    },
    /// Its disk is lost, and others of its group may not be.
    #[error(
        "begin without raft.redb: operators of generation {0} led this cluster. While most of them live, take this one out of their group (weft cluster member remove NUMBER) and start it as a new member (weft cluster member add, then --member with a new number and --join); if none of them lives, --found-anew founds the cluster anew from the store"
    )]
    GroupMayLive(u16),
    /// There is no group to be a member of.
    #[error(
        "join the operators' group: the store holds no cluster yet. Start the operator that founds it first, or have this one ask the same store (--etcd)"
    )]
    NothingToJoin,
    /// Generations are 16 bits.
    #[error("found the cluster anew: there is no generation after {0}")]
    NoGeneration(u16),
}

impl FoundingError {
    /// What does not hold then; nothing where a disk or a store fails, or what was asked for does not fit.
    pub const fn violates(&self) -> Option<Invariant> {
        match self {
            Self::Behind { .. } | Self::OldStore { .. } => Some(Invariant::StoreFirst),
            Self::OldLog { .. } => Some(Invariant::NobodyFails),
            Self::Member(error) => error.violates(),
            Self::Unreadable(error) if !error.other_release => Some(Invariant::NobodyFails),
            Self::Store(_)
            | Self::OldRelease(_)
            | Self::Unreadable(_)
            | Self::OtherCluster { .. }
            | Self::OtherSpace { .. }
            | Self::Apart { .. }
            | Self::OtherMember { .. }
            | Self::GroupMayLive(_)
            | Self::NothingToJoin
            | Self::NoGeneration(_) => None,
        }
    }
}

impl From<SequencerError> for FoundingError {
    fn from(error: SequencerError) -> Self {
        match error {
            SequencerError::Disk(error) => Self::Store(error),
            SequencerError::Member(error) => Self::Member(error),
        }
    }
}

/// Opens a cluster, founds one, founds one anew from its store when the log is lost, or begins to be a member of the group
/// that there is. An operator that is alone leads then; what it does with the store is [`crate::leading`]'s.
pub fn begin(
    store: &mut dyn Store,
    mut disk: Box<dyn MemberDisk>,
    cluster: &Cluster,
    peers: &peers::Config,
    metrics: Arc<Metrics>,
) -> Result<(Founded, Writer), FoundingError> {
    let before = match founded(store)? {
        Some((found, _)) if found.name != cluster.name => {
            let asked = cluster.name.clone();
            return Err(FoundingError::OtherCluster { asked, found: found.name });
        }
        Some((found, _)) if found.space != cluster.space => {
            return Err(FoundingError::OtherSpace { asked: cluster.space, found: found.space });
        }
        founded => founded.map(|(_, fence)| fence),
    };
    let asked = peers.id();
    let fence = match (before, disk.owner()?) {
        (_, Some((_, found))) if found != asked => {
            return Err(FoundingError::OtherMember { asked, found });
        }
        (Some(fence), Some((log, _))) if log == fence.generation => fence,
        (fence, Some((log, _))) => {
            let store = fence.map_or(0, |fence| fence.generation);
            return Err(FoundingError::Apart { log, store });
        }
        (Some(fence), None) if peers.join => {
            disk.found((fence.generation, asked), &Saved::default())?;
            fence
        }
        (None, None) if peers.join => return Err(FoundingError::NothingToJoin),
        (Some(led), None) if led.term > FOUNDING && peers.may_have_others() => {
            return Err(FoundingError::GroupMayLive(led.generation));
        }
        (before, None) => found(store, &mut *disk, (cluster, peers), before)?,
    };
    recover(disk, (&cluster.name, fence), peers.id(), metrics)
}

/// What the store says of the cluster. A read changes nothing, so it is repeated when it fails.
fn founded(store: &dyn Store) -> Result<Option<(Cluster, Fence)>, StoreError> {
    for attempt in 1..ATTEMPTS {
        match store.founded() {
            Err(error @ StoreError::Failed { .. }) => {
                tracing::warn!(attempt, "{error}; it is tried again");
                thread::sleep(PAUSE);
            }
            answer => return answer,
        }
    }
    store.founded()
}

/// A new group, whose first state is what the store holds; the fence that the store has then. The store is told first:
/// what ends in between is founded once more.
fn found(
    store: &mut dyn Store,
    disk: &mut dyn MemberDisk,
    (cluster, peers): (&Cluster, &peers::Config),
    before: Option<Fence>,
) -> Result<Fence, FoundingError> {
    let (fence, state) = next_generation(store, cluster, before)?;
    let group = Group::of_voters([(peers.id(), peers.address())]);
    let owner = (fence.generation, peers.id());
    disk.found(owner, &Saved::founding(group, state.encode()?.into()))?;
    Ok(fence)
}

/// The next generation over a store that has a fence: that of the generation, which the store has then, and its first state,
/// which is what the store holds.
pub fn next_generation(
    store: &mut dyn Store,
    cluster: &Cluster,
    before: Option<Fence>,
) -> Result<(Fence, ClusterState), FoundingError> {
    let lost = before.map_or(0, |fence| fence.generation);
    let generation = lost.checked_add(1).ok_or(FoundingError::NoGeneration(lost))?;
    let fence = Fence { generation, term: FOUNDING, ..Fence::default() };
    store.raise(cluster, before, fence)?;
    let mut state = ClusterState::new(&cluster.name);
    if let Some(command) = adoption(&state, store.identities()?, store.objects()?) {
        state.apply_entry(&EntryV1 { trace: None, command, fence: Some(fence) });
    }
    Ok((fence, state))
}

/// The member in another life, and as far as it knows what is committed; nothing is written if it cannot be.
fn recover(
    mut disk: Box<dyn MemberDisk>,
    (cluster, fence): (&str, Fence),
    member: MemberId,
    metrics: Arc<Metrics>,
) -> Result<(Founded, Writer), FoundingError> {
    let saved = disk.recover()?.unwrap_or_default();
    let alone = is_alone(&saved, member);
    if alone && saved.vote.term < fence.term {
        return Err(FoundingError::OldLog { log: saved.vote.term, store: fence.term });
    }
    let state = match saved.snapshot.index {
        0 => ClusterState::new(cluster),
        _ => ClusterState::decode(&saved.snapshot.state)?,
    };
    let mut founded = Founded {
        led: None,
        interests: Interests::new(state.snapshot()),
        state,
        revision: Revision::new(fence.generation, saved.snapshot.index),
        replayed: Vec::new(),
        log_bytes: 0,
    };
    let config = Config::new(member, disk.begin_life()?, member.0);
    let member = Member::new(config, fence.generation, saved)?;
    let mut writer = Writer::new(member, disk, metrics);
    founded.tick(&mut writer)?;
    // A lone voter needs nobody to lead, and no time.
    for _ in 0..2 * config.election_ticks {
        if alone && founded.led.is_none() {
            founded.tick(&mut writer)?;
        }
    }
    Ok((founded, writer))
}

/// Whether nobody else was ever of its group, since the snapshot.
fn is_alone(saved: &Saved, member: MemberId) -> bool {
    let changes = saved.entries.iter().any(|entry| matches!(entry.body, Body::Change(..)));
    saved.snapshot.group.members.keys().eq([&member]) && !changes
}

impl Founded {
    fn tick(&mut self, writer: &mut Writer) -> Result<(), FoundingError> {
        let mut committed = Vec::new();
        writer.carry_out(vec![Work::Tick], |told| match told {
            Sequenced::Committed(entries) => committed.extend(entries),
            Sequenced::Role(Role::Leader, term) => self.led = Some(term),
            // Nothing is proposed here, and nobody is heard.
            Sequenced::Role(..)
            | Sequenced::Refused(..)
            | Sequenced::Restored(..)
            | Sequenced::SnapshotWanted
            | Sequenced::Readable(_) => {}
        })?;
        committed.into_iter().for_each(|entry| self.take(entry));
        Ok(())
    }

    fn take(&mut self, committed: Committed) {
        let Committed { revision, size, entry, .. } = committed;
        let deltas = entry.map(|entry| self.state.apply_entry(&entry)).unwrap_or_default();
        self.revision = revision;
        self.log_bytes += size;
        self.replayed.push((revision, self.interests.take(deltas)));
    }
}
