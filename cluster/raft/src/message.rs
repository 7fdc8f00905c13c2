//! What members say to each other, in bytes: a version, then bincode. `tests/golden.txt` holds some.

use crate::{Entry, Group, Index, MemberId, Term};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use weft_types::codec;

/// Version of the messages here, the first byte of each. A member tells its highest when it connects, and speaks the lower of the two.
pub const PEER_VERSION: u8 = 7;
/// The oldest that is spoken with a peer. A frame carries the version that first had its message: as yet the oldest has all.
pub const OLDEST_PEER: u8 = 2;

/// A message with its ends. Who receives it compares `from` with the peer's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Who speaks.
    pub from: MemberId,
    /// To whom.
    pub to: MemberId,
    /// What.
    pub message: PeerMessage,
}

/// What one member says to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// Consensus.
    Raft(RaftMessage),
    /// Commands for the leader of a term to order, by the proposer's life and its sequence from `first` on. Said again until
    /// they are seen in the log; the leader takes each once and in order.
    Propose {
        /// The leader's term.
        term: Term,
        /// The proposer's life.
        life: u64,
        /// Sequence of the first command.
        first: u64,
        /// The commands.
        commands: Vec<Vec<u8>>,
    },
    /// A part of a snapshot.
    Chunk(Chunk),
    /// A part was taken, all before `offset` are.
    ChunkTaken {
        /// The snapshot's index.
        index: Index,
        /// Bytes that are there.
        offset: u64,
    },
}

/// A part of a snapshot. The next one is sent when this is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The sender's term.
    pub leader_term: Term,
    /// The last entry that the snapshot contains.
    pub index: Index,
    /// That entry's term.
    pub term: Term,
    /// The members after that entry.
    pub group: Group,
    /// Bytes of the whole.
    pub total: u64,
    /// Where these are.
    pub offset: u64,
    /// They.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// What a message of consensus is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Entries.
    Append,
    /// They were taken, or not.
    AppendResponse,
    /// A candidate asks for a vote.
    RequestVote,
    /// The answer.
    RequestVoteResponse,
    /// The leader lives.
    Heartbeat,
    /// Heard.
    HeartbeatResponse,
    /// Stand for election now.
    TimeoutNow,
    /// A follower asks what is committed.
    ReadIndex,
    /// The answer.
    ReadIndexResponse,
    /// Who would stand asks whether it could win.
    RequestPreVote,
    /// The answer.
    RequestPreVoteResponse,
}

/// A message of consensus, field by field as tikv's `raft` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMessage {
    /// What it is.
    pub kind: Kind,
    /// The sender's term; 0 where it does not matter.
    pub term: Term,
    /// Term of the entry at `index`.
    pub log_term: Term,
    /// The entry before the first one here, or the last one there.
    pub index: Index,
    /// What is committed.
    pub commit: Index,
    /// Its term.
    pub commit_term: Term,
    /// Whether it was refused.
    pub reject: bool,
    /// Where to go on.
    pub reject_hint: Index,
    /// Asks for a snapshot of at least this index.
    pub request_snapshot: Index,
    /// Given back with the answer.
    #[serde(with = "serde_bytes")]
    pub context: Vec<u8>,
    /// Entries, from `index` + 1 on.
    pub entries: Vec<Entry>,
}

/// What whoever connects says first. These bytes are the same in every version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The highest version it speaks.
    pub version: u8,
    /// The cluster.
    pub cluster: String,
    /// Which life of the cluster its log is of.
    pub generation: u16,
    /// Who it is; its certificate names it too.
    pub from: MemberId,
    /// Whom it takes the other side for.
    pub to: MemberId,
    /// Where it is reached, for one that does not know its group yet.
    pub address: String,
}

/// What is answered to a [`Hello`]. These bytes are the same in every version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Messages may follow, of this version.
    Welcome(u8),
    /// None may; and why.
    Refused(String),
}

impl Hello {
    /// What a member of the same cluster and generation answers.
    pub fn answer(&self, cluster: &str, generation: u16, member: MemberId) -> Answer {
        let why = if self.cluster != cluster {
            format!("this operator is of cluster {cluster}, not {}", self.cluster)
        } else if self.generation != generation {
            format!("this operator's log is of generation {generation}, not {}", self.generation)
        } else if self.to != member {
            format!("this operator is member {member}, not {}", self.to)
        } else if self.version < OLDEST_PEER {
            format!(
                "it speaks version {}, this operator {OLDEST_PEER} to {PEER_VERSION}",
                self.version
            )
        } else {
            return Answer::Welcome(self.version.min(PEER_VERSION));
        };
        Answer::Refused(why)
    }
}

/// Bytes that are no message of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Of another version.
    #[error(
        "a peer speaks version {0}, this member {OLDEST_PEER} to {PEER_VERSION}: their releases are too far apart"
    )]
    Version(u8),
    /// Not a message.
    #[error("a peer's message cannot be read: {0}")]
    Unreadable(String),
}

/// The bytes of an [`Envelope`], or of whatever else members say that has one inside.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, Malformed> {
    let mut bytes = vec![OLDEST_PEER];
    codec::encode_into(message, &mut bytes).map_err(|e| Malformed::Unreadable(e.0))?;
    Ok(bytes)
}

/// It from its bytes.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match bytes.split_first() {
        Some((OLDEST_PEER..=PEER_VERSION, body)) => {
            codec::decode(body).map_err(|error| Malformed::Unreadable(error.0))
        }
        Some((version, _)) => Err(Malformed::Version(*version)),
        None => Err(Malformed::Unreadable("it is empty".to_owned())),
    }
}
