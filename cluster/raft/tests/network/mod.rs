//! Members on disks that lose what was not synced, and a network that does what a test says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use weft_raft::{
    Applied, Config, Disk, Envelope, Group, Input, MemberId, MemoryDisk, Node, Output, Proposal,
    Refusal, Role, Saved, Term, Ticket, decode, encode,
};

/// One member, and what it was told.
pub(crate) struct Peer {
    pub(crate) node: Node,
    pub(crate) disk: MemoryDisk,
    pub(crate) life: u64,
    /// Commands in their order; what came with a snapshot is among them.
    pub(crate) applied: Vec<String>,
    pub(crate) index: u64,
    pub(crate) committed: BTreeSet<Ticket>,
    pub(crate) refused: BTreeMap<Ticket, Refusal>,
    pub(crate) reads: BTreeSet<Ticket>,
    pub(crate) role: (Role, Term),
    /// While set, writes stay unsynced.
    pub(crate) stuck_disk: bool,
}

pub(crate) struct Network {
    pub(crate) peers: BTreeMap<MemberId, Peer>,
    pub(crate) wire: VecDeque<Envelope>,
    /// Whether a message is lost.
    pub(crate) loses: Box<dyn FnMut(&Envelope) -> bool>,
    pub(crate) sent: u64,
    pub(crate) chunk_bytes: u32,
}

pub(crate) fn id(number: u64) -> MemberId {
    MemberId(number)
}

/// A state is its commands, one a line.
fn encode_state(applied: &[String]) -> std::sync::Arc<[u8]> {
    applied.join("\n").into_bytes().into()
}

fn decode_state(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

impl Network {
    /// A new group of so many voters.
    pub(crate) fn of(count: u64) -> Self {
        let mut network = Self {
            peers: BTreeMap::new(),
            wire: VecDeque::new(),
            loses: Box::new(|_| false),
            sent: 0,
            chunk_bytes: 16,
        };
        let group = Group::of_voters((1..=count).map(|n| (id(n), format!("10.0.0.{n}:4901"))));
        for number in 1..=count {
            let mut disk = MemoryDisk::default();
            disk.write(&[Saved::founding(group.clone(), [].into()).as_write()]).unwrap();
            network.start(id(number), disk, 1);
        }
        network
    }

    /// Starts a member from its disk.
    pub(crate) fn start(&mut self, member: MemberId, disk: MemoryDisk, life: u64) {
        let mut config = Config::new(member, life, member.0);
        config.chunk_bytes = self.chunk_bytes;
        config.kept_entries = 0;
        let (node, snapshot) = Node::recover(config, &disk).unwrap().unwrap();
        let applied = decode_state(&snapshot.state);
        let peer = Peer {
            node,
            disk,
            life,
            applied,
            index: snapshot.index,
            committed: BTreeSet::new(),
            refused: BTreeMap::new(),
            reads: BTreeSet::new(),
            role: (Role::Follower(None), 0),
            stuck_disk: false,
        };
        self.peers.insert(member, peer);
    }

    /// The power of a member fails; it comes back with what was synced.
    pub(crate) fn restart(&mut self, member: MemberId) {
        let mut peer = self.peers.remove(&member).unwrap();
        peer.disk.crash();
        self.start(member, peer.disk, peer.life + 1);
    }

    pub(crate) fn peer(&mut self, member: MemberId) -> &mut Peer {
        self.peers.get_mut(&member).unwrap()
    }

    /// One input, and all that a shell does about it.
    pub(crate) fn step(&mut self, member: MemberId, input: Input) {
        let output = self.peer(member).node.step(input).unwrap();
        self.carry_out(member, output);
    }

    fn carry_out(&mut self, member: MemberId, output: Output) {
        for envelope in output.messages {
            self.sent += 1;
            // As it travels.
            let envelope = decode(&encode(&envelope).unwrap()).unwrap();
            if !(self.loses)(&envelope) {
                self.wire.push_back(envelope);
            }
        }
        let peer = self.peer(member);
        for applied in output.applied {
            match applied {
                Applied::Command(command) => {
                    assert!(command.index > peer.index);
                    peer.index = command.index;
                    peer.committed.extend(command.ticket);
                    peer.applied.push(String::from_utf8(command.command).unwrap());
                }
                Applied::Noop(index) => {
                    assert!(index > peer.index);
                    peer.index = index;
                }
                Applied::Change(index, ticket) => {
                    assert!(index > peer.index);
                    peer.index = index;
                    peer.committed.extend(ticket);
                }
                Applied::State(index, state) => {
                    (peer.index, peer.applied) = (index, decode_state(&state));
                }
            }
        }
        peer.refused.extend(output.refused);
        peer.reads.extend(output.reads);
        peer.role = output.role.unwrap_or(peer.role);
        let wanted = output.snapshot_wanted.then(|| (peer.index, encode_state(&peer.applied)));
        peer.disk.accept(output.writes);
        if !peer.stuck_disk {
            self.sync(member);
        }
        if let Some((index, state)) = wanted {
            self.step(member, Input::Compact(index, state));
        }
    }

    /// What a member wrote becomes durable.
    pub(crate) fn sync(&mut self, member: MemberId) {
        let peer = self.peer(member);
        if let Some(number) = peer.disk.sync(usize::MAX) {
            self.step(member, Input::Persisted(number));
        }
    }

    pub(crate) fn compact(&mut self, member: MemberId) {
        let peer = self.peer(member);
        let (index, state) = (peer.index, encode_state(&peer.applied));
        self.step(member, Input::Compact(index, state));
    }

    /// Delivers until nothing is on its way.
    pub(crate) fn deliver(&mut self) {
        while let Some(envelope) = self.wire.pop_front() {
            if self.peers.contains_key(&envelope.to) {
                self.step(envelope.to, Input::Message(envelope));
            }
        }
    }

    /// Lets time pass for everybody.
    pub(crate) fn run(&mut self, ticks: usize) {
        for _ in 0..ticks {
            let members: Vec<MemberId> = self.peers.keys().copied().collect();
            for member in members {
                self.step(member, Input::Tick);
            }
            self.deliver();
        }
    }

    /// Until somebody leads everybody; who.
    pub(crate) fn elect(&mut self) -> MemberId {
        self.elect_among(&self.peers.keys().copied().collect::<Vec<_>>())
    }

    /// Until one of these leads all of these.
    pub(crate) fn elect_among(&mut self, members: &[MemberId]) -> MemberId {
        for _ in 0..200 {
            self.run(1);
            let leads = |m: &&MemberId| self.peers[*m].role.0 == Role::Leader;
            if let Some(leader) = members.iter().find(leads).copied() {
                let term = self.peers[&leader].role.1;
                let follows = |m: &MemberId| {
                    *m == leader || self.peers[m].role == (Role::Follower(Some(leader)), term)
                };
                if members.iter().all(follows) {
                    return leader;
                }
            }
        }
        panic!("nobody leads after 200 ticks");
    }

    /// Proposes one command.
    pub(crate) fn propose(&mut self, member: MemberId, ticket: Ticket, command: &str) {
        self.propose_in(member, ticket, command, None);
    }

    pub(crate) fn propose_in(
        &mut self,
        member: MemberId,
        ticket: Ticket,
        command: &str,
        only_in: Option<Term>,
    ) {
        let command = command.as_bytes().to_vec();
        self.step(member, Input::Propose(vec![Proposal { ticket, command, only_in }]));
    }

    /// Cuts these off from all others.
    pub(crate) fn cut_off(&mut self, members: &[MemberId]) {
        let cut: BTreeSet<MemberId> = members.iter().copied().collect();
        self.wire.clear();
        self.loses = Box::new(move |e| cut.contains(&e.from) != cut.contains(&e.to));
    }

    pub(crate) fn heal(&mut self) {
        self.loses = Box::new(|_| false);
    }

    #[track_caller]
    pub(crate) fn all_applied(&self, commands: &[&str]) {
        for (member, peer) in &self.peers {
            assert_eq!(peer.applied, commands, "member {member}");
        }
    }
}
