//! A member of the group as its operator sees it: commands in, entries of the state out. Pure.
//!
//! | what happens | what is written | what is told |
//! |---|---|---|
//! | time passes | a vote, when it stands for election; of a lone voter its first entry too | nothing |
//! | commands are proposed | at the leader their entries, all at once | those that are not taken |
//! | a read is asked for | nothing | that all is told which was committed by then |
//! | a peer speaks | votes, entries, a leader's snapshot | what is committed, as far as it is on this disk |
//! | the state is given | the state, in the place of entries | nothing |
//! | writes are on the disk | nothing: what is committed is known by the entries | what they commit, and its role |
//!
//! So whatever was proposed together is durable by one write. What is to be sent may leave at once, before what is to be
//! written: the node keeps what vouches for a write.

use crate::sequencer::{Committed, NotOrdered, Proposed, Sequenced, Ticket};
use weft_raft::{
    Applied, Change, Config, Envelope, Input, MemberId, Node, NodeError, Output, Proposal, Saved,
    Status, Write,
};
use weft_state::{ClusterState, Unreadable, decode_entry, encode_entry};
use weft_types::{Invariant, Revision};

/// What a member is to do.
#[derive(Debug)]
pub enum Work {
    /// Put a command in order.
    Propose(Proposed),
    /// Have the encoded state after a revision stand for the entries up to it.
    Compact(Revision, Vec<u8>),
    /// A tick's time passed.
    Tick,
    /// A peer spoke, whose certificate names who the envelope is from.
    Hear(Envelope),
    /// What was last sent to a peer may not have arrived.
    Unreachable(MemberId),
    /// Tell when everything is told that was committed by now.
    Read(Ticket),
    /// Change the group; the leader alone does.
    Change(Ticket, Change),
    /// Let another voter lead: this one, or who is furthest.
    Transfer(Option<MemberId>),
}

/// What follows.
#[derive(Debug, Default)]
pub struct Turn {
    /// To be written, all or nothing; then [`Member::persisted`] of the last one's number.
    pub writes: Vec<Write>,
    /// To be sent, before or after the writes; what is lost is made up for.
    pub messages: Vec<Envelope>,
    /// To be told, in this order; none of it waits for the writes.
    pub told: Vec<Sequenced>,
}

/// Why a member cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Consensus.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// An entry that is committed, or a leader's snapshot, cannot be understood.
    #[error("apply log entry {index}: {problem}")]
    Entry {
        /// Its place.
        index: u64,
        /// What is wrong with it.
        problem: Unreadable,
    },
}

impl MemberError {
    /// What does not hold then; nothing where another release wrote what cannot be understood.
    pub const fn violates(&self) -> Option<Invariant> {
        match self {
            Self::Entry { problem, .. } if problem.other_release => None,
            Self::Node(_) | Self::Entry { .. } => Some(Invariant::NobodyFails),
        }
    }
}

/// The member.
pub struct Member {
    node: Node,
    generation: u16,
    /// A peer needs the state to go on.
    snapshot_wanted: bool,
}

impl Member {
    /// One with what was on its disk, of a cluster that was founded so many times. The state of the snapshot is what
    /// comes before everything that it tells.
    pub fn new(config: Config, generation: u16, saved: Saved) -> Result<Self, MemberError> {
        Ok(Self { node: Node::new(config, saved)?, generation, snapshot_wanted: false })
    }

    /// Does some work. What is proposed in it shares its writes.
    pub fn take(&mut self, work: Vec<Work>) -> Result<Turn, MemberError> {
        let (mut turn, mut proposals) = (Turn::default(), Vec::new());
        for work in work {
            match work {
                Work::Propose(Proposed { ticket, entry, only_in }) => match encode_entry(&entry) {
                    Ok(command) => proposals.push(Proposal { ticket, command, only_in }),
                    Err(error) => turn.refuse(ticket, error.into()),
                },
                Work::Compact(through, state) => {
                    self.step(Input::Compact(through.index(), state.into()), &mut turn)?;
                }
                Work::Tick => {
                    self.step(Input::Tick, &mut turn)?;
                    // Once a tick: it takes a while.
                    let wanted = self.snapshot_wanted.then_some(Sequenced::SnapshotWanted);
                    turn.told.extend(wanted);
                }
                Work::Hear(envelope) => self.step(Input::Message(envelope), &mut turn)?,
                Work::Unreachable(member) => self.step(Input::Unreachable(member), &mut turn)?,
                Work::Read(ticket) => self.step(Input::Read(ticket), &mut turn)?,
                Work::Change(ticket, change) => {
                    self.step(Input::Change(ticket, change), &mut turn)?;
                }
                Work::Transfer(to) => self.step(Input::Transfer(to), &mut turn)?,
            }
        }
        if !proposals.is_empty() {
            self.step(Input::Propose(proposals), &mut turn)?;
        }
        Ok(turn)
    }

    /// The write of this number, and all before it, are on the disk.
    pub fn persisted(&mut self, number: u64) -> Result<Turn, MemberError> {
        let mut turn = Turn::default();
        self.step(Input::Persisted(number), &mut turn)?;
        Ok(turn)
    }

    /// For people and programs that look.
    pub fn status(&self) -> Status {
        self.node.status()
    }

    fn step(&mut self, input: Input, turn: &mut Turn) -> Result<(), MemberError> {
        let output = self.node.step(input)?;
        // Who is of the group is in the status.
        let Output { writes, messages, applied, refused, reads, role, snapshot_wanted, .. } =
            output;
        turn.writes.extend(writes);
        turn.messages.extend(messages);
        for applied in applied {
            self.apply(applied, turn)?;
        }
        refused.into_iter().for_each(|(ticket, refusal)| turn.refuse(ticket, refusal.into()));
        turn.told.extend(reads.into_iter().map(Sequenced::Readable));
        turn.told.extend(role.map(|(role, term)| Sequenced::Role(role, term)));
        self.snapshot_wanted = snapshot_wanted;
        Ok(())
    }

    fn apply(&self, applied: Applied, turn: &mut Turn) -> Result<(), MemberError> {
        let revision = |index| Revision::new(self.generation, index);
        match applied {
            Applied::Command(weft_raft::Committed { index, ticket, command, .. }) => {
                let unreadable = |problem| MemberError::Entry { index, problem };
                let entry = Some(decode_entry(&command).map_err(unreadable)?);
                let (revision, size) = (revision(index), command.len());
                turn.commit(Committed { revision, ticket, size, entry });
            }
            Applied::Noop(index) => turn.commit(Committed::of_the_group(revision(index), None)),
            Applied::Change(index, ticket) => {
                turn.commit(Committed::of_the_group(revision(index), ticket));
            }
            Applied::State(index, state) => {
                let unreadable = |problem| MemberError::Entry { index, problem };
                let state = ClusterState::decode(&state).map_err(unreadable)?;
                turn.told.push(Sequenced::Restored(revision(index), Box::new(state)));
            }
        }
        Ok(())
    }
}

impl Turn {
    fn commit(&mut self, entry: Committed) {
        match self.told.last_mut() {
            Some(Sequenced::Committed(entries)) => entries.push(entry),
            _ => self.told.push(Sequenced::Committed(vec![entry])),
        }
    }

    fn refuse(&mut self, ticket: Ticket, why: NotOrdered) {
        self.told.push(Sequenced::Refused(ticket, why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_raft::{Group, MemberId, Role};
    use weft_state::{ClusterState, CommandV1, EntryV1};
    use weft_types::Identity;

    fn begun(saved: Saved) -> Member {
        Member::new(Config::new(MemberId(1), 1, 1), 7, saved).expect("it begins")
    }

    fn founding() -> Saved {
        let state = ClusterState::new("blue").encode().expect("short");
        Saved::founding(Group::of_voters([(MemberId(1), String::new())]), state.into())
    }

    fn unplug(ticket: Ticket) -> Work {
        let command = CommandV1::Retire(vec![Identity(256)]);
        Work::Propose(Proposed {
            ticket,
            entry: EntryV1 { trace: None, command, fence: None },
            only_in: None,
        })
    }

    /// Writes that it made, and what it told, with each turn.
    fn run(
        member: &mut Member,
        saved: &mut Saved,
        work: Vec<Work>,
    ) -> Vec<(usize, Vec<Sequenced>)> {
        let mut turns = Vec::new();
        let mut turn = member.take(work).expect("it goes on");
        loop {
            let last = turn.writes.last().map(|write| write.number);
            turn.writes.iter().for_each(|write| saved.take(write));
            turns.push((turn.writes.len(), turn.told));
            let Some(last) = last else { return turns };
            turn = member.persisted(last).expect("it goes on");
        }
    }

    fn lead(member: &mut Member, saved: &mut Saved) -> Vec<Sequenced> {
        for _ in 0..40 {
            let turns = run(member, saved, vec![Work::Tick]);
            let told: Vec<Sequenced> = turns.into_iter().flat_map(|(_, told)| told).collect();
            if told.iter().any(|told| matches!(told, Sequenced::Role(Role::Leader, _))) {
                return told;
            }
        }
        panic!("a lone voter leads");
    }

    #[test]
    fn a_lone_voter_leads_and_its_first_entry_is_a_revision_without_a_command() {
        let mut saved = founding();
        let mut member = begun(saved.clone());
        let told = lead(&mut member, &mut saved);
        let committed = told.iter().find_map(|told| match told {
            Sequenced::Committed(entries) => Some(entries),
            _ => None,
        });
        let [first] = committed.expect("something is").as_slice() else { panic!("{told:?}") };
        assert_eq!((first.revision, &first.entry), (Revision::new(7, 2), &None));
        assert_eq!(saved.vote.term, 2);
        // Time alone writes nothing.
        for _ in 0..100 {
            let turns = run(&mut member, &mut saved, vec![Work::Tick]);
            assert!(matches!(turns.as_slice(), [(0, told)] if told.is_empty()), "{turns:?}");
        }
    }

    #[test]
    fn what_is_proposed_together_is_committed_by_one_write_and_again_after_a_restart() {
        let mut saved = founding();
        let mut member = begun(saved.clone());
        lead(&mut member, &mut saved);
        let turns = run(&mut member, &mut saved, (1..=100).map(unplug).collect());
        let [(1, before), (0, after)] = turns.as_slice() else { panic!("{turns:?}") };
        assert!(before.is_empty(), "nothing is told before it is durable");
        let [Sequenced::Committed(entries)] = after.as_slice() else { panic!("{after:?}") };
        let tickets: Vec<Option<Ticket>> = entries.iter().map(|entry| entry.ticket).collect();
        assert_eq!(tickets, (1..=100).map(Some).collect::<Vec<_>>());
        assert_eq!(entries.last().map(|e| e.revision), Some(Revision::new(7, 102)));
        assert_eq!(saved.entries.len(), 101);
        // Another life has them before it leads, and they are nobody's.
        let mut member = begun(saved.clone());
        let told = lead(&mut member, &mut saved);
        let entries = told.into_iter().flat_map(|told| match told {
            Sequenced::Committed(entries) => entries,
            _ => Vec::new(),
        });
        let entries: Vec<Committed> = entries.collect();
        assert!(entries.iter().all(|entry| entry.ticket.is_none()));
        assert_eq!(entries.iter().filter(|entry| entry.entry.is_some()).count(), 100);
        assert_eq!(entries.last().map(|e| e.revision), Some(Revision::new(7, 103)));
    }

    #[test]
    fn a_state_stands_for_the_entries_up_to_it_and_costs_no_write_of_its_own() {
        let mut saved = founding();
        let mut member = begun(saved.clone());
        lead(&mut member, &mut saved);
        run(&mut member, &mut saved, (1..=10).map(unplug).collect());
        let work = vec![Work::Compact(Revision::new(7, 8), vec![1, 2, 3]), unplug(11)];
        let turns = run(&mut member, &mut saved, work);
        assert!(matches!(turns.as_slice(), [(2, _), (0, _)]), "{turns:?}");
        assert_eq!((saved.snapshot.index, &*saved.snapshot.state), (8, [1, 2, 3].as_slice()));
        let left: Vec<u64> = saved.entries.iter().map(|entry| entry.index).collect();
        assert_eq!(left, (9..=13).collect::<Vec<_>>());
    }

    #[test]
    fn who_does_not_lead_refuses() {
        let mut member = begun(founding());
        let turn = member.take(vec![unplug(1)]).expect("it goes on");
        let [Sequenced::Refused(1, why)] = turn.told.as_slice() else { panic!("{:?}", turn.told) };
        assert!(why.to_string().contains("no leader"), "{why}");
        assert!(turn.writes.is_empty());
    }
}
