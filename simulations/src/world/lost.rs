//! What is lost for good: all disks of a group, or what the store had since its backup.

use super::{Event, GroupChange, World};
use crate::{Invariant, operator::Operator, release::Release, story::Condition, time::Micros};
use weft_operator::founding::{FoundingError, next_generation};
use weft_raft::{Disk, Group, MemberId, MemoryDisk, Saved};
use weft_store::Store;
use weft_types::{Delta, Revision};

/// From the end of a process whose store is an older copy to its next life.
const AGAIN: Micros = Micros::seconds(1);
/// The entry that a group's first state is.
const FIRST_ENTRY: u64 = 1;

impl World {
    /// All members end, and their disks are lost. Who was hit.
    pub(super) fn lose_group(&mut self, lasts: Micros) -> Vec<MemberId> {
        let members: Vec<MemberId> = self.operators.keys().copied().collect();
        for member in &members {
            self.kill(*member);
            self.operators.remove(member);
            self.story.became(self.now, *member, Condition::Gone);
            self.gone.insert(*member);
        }
        self.wanted.clear();
        self.after(lasts, Event::FoundAnew(members.len()));
        members
    }

    /// One member founds the next generation from the store; the others join it.
    pub(super) fn found_anew(&mut self, members: usize) {
        if self.store.down_until > self.now {
            let pause = Micros(self.store.down_until.0 - self.now.0);
            return self.after(pause, Event::FoundAnew(members));
        }
        let founder = self.new_member();
        let disk = match self.first_disk(founder) {
            Ok(disk) => disk,
            Err(error) => {
                let seen = format!("member {founder} does not found the cluster anew: {error}");
                return self.invariants.violated(Invariant::NobodyFails, self.now, seen);
            }
        };
        self.begins(founder, disk);
        for _ in 1..members {
            let member = self.new_member();
            let add = GroupChange::AddLearner(member, member.to_string());
            self.wanted.extend([add, GroupChange::Promote(member)]);
            self.begins(member, MemoryDisk::default());
        }
    }

    fn begins(&mut self, member: MemberId, disk: MemoryDisk) {
        let operator = Operator::new(member, (disk, self.generation), Release::Now);
        self.operators.insert(member, operator);
        self.start(member);
    }

    pub(super) fn new_member(&mut self) -> MemberId {
        let member = MemberId(self.next_member);
        self.next_member += 1;
        member
    }

    fn first_disk(&mut self, founder: MemberId) -> Result<MemoryDisk, FoundingError> {
        let cluster = self.cluster();
        let store = &mut self.store.contents;
        let before = store.founded()?.map(|(_, fence)| fence);
        let (fence, state) = next_generation(store, &cluster, before)?;
        self.generation = fence.generation;
        self.invariants.founded_anew(self.now, fence, state.identities());
        if self.has_kernels() {
            let published: Vec<Delta> = state.snapshot().collect();
            self.book.found_anew(Revision::new(self.generation, FIRST_ENTRY), &published);
        }
        let group = Group::of_voters([(founder, founder.to_string())]);
        let saved = Saved::founding(group, state.encode().unwrap_or_default().into());
        let mut disk = MemoryDisk::default();
        let Ok(()) = disk.write(&[saved.as_write()]);
        Ok(disk)
    }

    /// A leader whose store is an older copy ends, as the shipped shell does, and says so; its next life leads no better.
    pub(super) fn end_over_an_old_copy(&mut self, member: MemberId) {
        let Some(operator) = self.operators.get(&member) else { return };
        let (life, release) = (operator.life, operator.release);
        self.counts.copies += 1;
        self.after(Micros(0), Event::Stop(member, life, release, AGAIN));
    }
}
