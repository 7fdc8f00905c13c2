//! What becomes of proposals. Each has one end: it is committed, or it is not in the log and never will be.
//!
//! A proposal belongs to the term that its proposer knew, and only that term's leader orders it. So once an entry of a
//! newer term is committed, what was not seen of older terms is nowhere. A follower says its proposals to the leader
//! until it sees them in the log, counted, so that each is ordered once and in its place.

use crate::{MemberId, Origin, PeerMessage, Term};
use std::collections::BTreeMap;

/// What a proposer knows its command by.
pub type Ticket = u64;

/// Proposals of one member that are not in the log yet.
const PENDING: usize = 16 << 10;
/// Commands said to a leader at once.
const FORWARDED: usize = 512;

/// Bits of a counting's number that are not the life's.
const COUNTINGS: u32 = 20;

/// A command to order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// What its end is told by.
    pub ticket: Ticket,
    /// The encoded command.
    pub command: Vec<u8>,
    /// When set, this member must lead in this very term: for what rests on the store as that leader knows it.
    pub only_in: Option<Term>,
}

/// Why a proposal is not in the log and never will be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is nobody to order it.
    #[error("the group has no leader now; try again")]
    NoLeader,
    /// It was for a term that is over, or of another leader.
    #[error("this operator does not lead in that term")]
    NotLeading,
    /// The leader changed before it was ordered.
    #[error("the leader changed; try again")]
    LeaderChanged,
    /// Too much waits.
    #[error("too much waits for the log; try again")]
    Busy,
    /// The group cannot be changed so.
    #[error("{0}")]
    Objection(String),
    /// It may be in the log: a snapshot took the place of the entries that would say.
    #[error("the log went on without this operator; whether it was done is not known")]
    Unknown,
}

/// This member's proposals, and those of others that it ordered.
pub(crate) struct Proposals {
    /// Which of this member's countings it is: greater in each life, and after each snapshot within one.
    counting: u64,
    term: Term,
    next: u64,
    pending: BTreeMap<(Term, u64), (Ticket, Vec<u8>)>,
    /// Of each member: its life, and the last of its proposals that is in the log of this term.
    ordered: BTreeMap<MemberId, (u64, u64)>,
    quiet_ticks: u16,
}

impl Proposals {
    pub(crate) fn new(life: u64) -> Self {
        let (pending, ordered) = (BTreeMap::new(), BTreeMap::new());
        let counting = life << COUNTINGS;
        Self { counting, term: 0, next: 1, pending, ordered, quiet_ticks: 0 }
    }

    /// Counting begins anew with each term.
    pub(crate) fn enter(&mut self, term: Term) {
        if self.term != term {
            self.term = term;
            self.next = 1;
            self.ordered.clear();
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= PENDING
    }

    /// Whose the next proposal is.
    pub(crate) fn origin(&mut self, member: MemberId) -> Origin {
        let sequence = self.next;
        self.next += 1;
        Origin { member, life: self.counting, sequence }
    }

    /// It is on its way; with its command when it must be said again until it is seen.
    pub(crate) fn expect(&mut self, origin: Origin, ticket: Ticket, command: Vec<u8>) {
        self.pending.insert((self.term, origin.sequence), (ticket, command));
    }

    /// It was not taken.
    pub(crate) fn forget(&mut self, origin: Origin) {
        self.pending.remove(&(self.term, origin.sequence));
    }

    /// An entry is committed: the ticket of this member's own.
    pub(crate) fn committed(
        &mut self,
        member: MemberId,
        term: Term,
        origin: &Origin,
    ) -> Option<Ticket> {
        if origin.member != member || origin.life != self.counting {
            return None;
        }
        self.quiet_ticks = 0;
        self.pending.remove(&(term, origin.sequence)).map(|(ticket, _)| ticket)
    }

    /// Those of terms before this one, which is committed in.
    pub(crate) fn lost(&mut self, term: Term) -> Vec<Ticket> {
        let later = self.pending.split_off(&(term, 0));
        let lost = std::mem::replace(&mut self.pending, later);
        lost.into_values().map(|(ticket, _)| ticket).collect()
    }

    /// All of them: what was committed is not known here. What the leader has not got of them it never will, so it must
    /// not wait for it: counting begins anew.
    pub(crate) fn unknown(&mut self) -> Vec<Ticket> {
        self.counting += 1;
        self.next = 1;
        std::mem::take(&mut self.pending).into_values().map(|(ticket, _)| ticket).collect()
    }

    /// Says pending proposals of this term to the leader, from a sequence on.
    pub(crate) fn forward(&self, from: u64) -> Option<PeerMessage> {
        let mut waiting = self.pending.range((self.term, from)..).take(FORWARDED).peekable();
        let ((term, first), _) = waiting.peek()?;
        let (term, first) = (*term, *first);
        let commands = waiting.map(|(_, (_, command))| command.clone()).collect();
        Some(PeerMessage::Propose { term, life: self.counting, first, commands })
    }

    /// Time passes: whether what waits is to be said again.
    pub(crate) fn tick(&mut self, patience: u16) -> bool {
        self.quiet_ticks += 1;
        let again = self.quiet_ticks >= patience;
        if again {
            self.quiet_ticks = 0;
        }
        again && !self.pending.is_empty()
    }

    /// The leader's part: which of another member's commands are next; none when some are missing before them.
    pub(crate) fn admit(
        &self,
        from: MemberId,
        life: u64,
        first: u64,
        commands: Vec<Vec<u8>>,
    ) -> Vec<(Origin, Vec<u8>)> {
        let last = match self.ordered.get(&from) {
            Some((known, _)) if *known > life => return Vec::new(),
            Some((known, last)) if *known == life => *last,
            _ => 0,
        };
        if first > last + 1 {
            return Vec::new();
        }
        let numbered = (first..).zip(commands).filter(|(sequence, _)| *sequence > last);
        let origin = |sequence| Origin { member: from, life, sequence };
        numbered.map(|(sequence, command)| (origin(sequence), command)).collect()
    }

    /// They are in the leader's log.
    pub(crate) fn admitted(&mut self, last: Origin) {
        self.ordered.insert(last.member, (last.life, last.sequence));
    }
}
