//! An operator: the shipped cores, and a disk.

use crate::{
    agent::{Content, News, Told},
    release::Release,
    sessions::Sessions,
    time::Micros,
    told::Part,
    view::{View, Views},
};
use std::{collections::BTreeMap, rc::Rc};
use weft_operator::{
    history::{History, Next},
    versions::Versions,
};
use weft_raft::{Config, Disk, MemberId, MemoryDisk, Node, Role, Term, Ticket};
use weft_state::{
    ClusterState,
    interests::Interests,
    leadership::{Leadership, Limits, RequestId},
    retirement::Grace,
};
use weft_types::{Cluster, Delta, Identity, LabelSet, Object, Revision, object::ObjectKey};

/// Bytes of changes that are kept for agents that are behind: few, so that some need a snapshot.
const HISTORY: usize = 64 << 10;
/// Bytes of commands after which a snapshot is made, unless the last one had more.
const LOG: usize = 16 << 10;

/// A member's place: what outlives its process, and the process while it runs.
pub(crate) struct Operator {
    pub(crate) member: MemberId,
    /// Greater in each life.
    pub(crate) life: u64,
    /// When this one began.
    pub(crate) began: Micros,
    pub(crate) disk: MemoryDisk,
    /// Which founding of the cluster its log is of.
    pub(crate) generation: u16,
    /// Whether a sync is under way.
    pub(crate) syncing: bool,
    /// Of its program.
    pub(crate) release: Release,
    /// Its disk is slow until then.
    pub(crate) slow_until: Micros,
    /// It is full until then.
    pub(crate) full_until: Micros,
    /// Ticks that it was, with something to write.
    pub(crate) refused: u8,
    /// It stands still until then.
    pub(crate) paused_until: Micros,
    /// Whether its machine has no power: nobody is told that its process does not run.
    pub(crate) dark: bool,
    pub(crate) running: Option<Running>,
}

/// A process.
pub(crate) struct Running {
    pub(crate) node: Node,
    generation: u16,
    pub(crate) state: ClusterState,
    pub(crate) index: u64,
    pub(crate) leadership: Leadership,
    pub(crate) history: History,
    /// Whom nodes have to know.
    interests: Interests,
    /// What it publishes: what its deltas have made of the last snapshot.
    pub(crate) view: Rc<View>,
    pub(crate) role: (Role, Term),
    /// Who asked what.
    pub(crate) requests: BTreeMap<RequestId, usize>,
    /// How often what agents said may have changed.
    pub(crate) words: u64,
    /// Bytes of commands since the newest snapshot.
    log_bytes: usize,
    /// Bytes of that.
    snapshot_bytes: usize,
    /// Agents that are connected, here and elsewhere.
    pub(crate) sessions: Sessions,
    /// What agents asked and is not answered yet: an agent has one question at a time.
    pub(crate) questions: BTreeMap<usize, Question>,
    /// Looks that wait until what was committed before them is applied, and what they are at.
    pub(crate) looks: BTreeMap<Ticket, Look>,
    /// Which version of the log other members know, as they said when they were last heard in this life.
    pub(crate) versions: Versions,
    /// Ticks of this life.
    pub(crate) ticks: u64,
    next_ticket: Ticket,
}

/// What follows what an agent holds?
#[derive(Clone, Copy)]
pub(crate) struct Question {
    pub(crate) number: u64,
    pub(crate) held: Option<Revision>,
    /// When it came.
    pub(crate) since: Micros,
}

/// Somebody looks at an object, and at the number of its label set.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    pub(crate) reader: usize,
    pub(crate) number: u64,
    pub(crate) key: ObjectKey,
}

/// What a look saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) object: Option<Object>,
    /// A pod's label set, and its number.
    pub(crate) numbered: Option<(LabelSet, Option<Identity>)>,
}

impl Operator {
    pub(crate) fn new(
        member: MemberId,
        (disk, generation): (MemoryDisk, u16),
        release: Release,
    ) -> Self {
        Self {
            member,
            generation,
            release,
            life: 0,
            began: Micros(0),
            disk,
            syncing: false,
            slow_until: Micros(0),
            full_until: Micros(0),
            refused: 0,
            paused_until: Micros(0),
            dark: false,
            running: None,
        }
    }

    /// A process begins, from what is on the disk.
    pub(crate) fn start(
        &mut self,
        (cluster, grace): (Cluster, Grace),
        seed: u64,
        views: &Views,
    ) -> Result<(), String> {
        self.life += 1;
        self.dark = false;
        let mut config = Config::new(self.member, self.life, seed);
        config.kept_entries = 64;
        config.chunk_bytes = 16 << 10;
        let Ok(recovered) = Node::recover(config, &self.disk);
        let (node, snapshot) = recovered.map_err(|error| error.to_string())?;
        let state = match snapshot.index {
            _ if !self.release.reads(&snapshot.state) && snapshot.index > 0 => {
                return Err("its release does not read its snapshot".to_owned());
            }
            0 => ClusterState::new(cluster.name.clone()),
            _ => ClusterState::decode(&snapshot.state).map_err(|error| error.to_string())?,
        };
        // A snapshot is larger than the default needs: a pause is shorter here than the real one.
        let limits = Limits { patience: 20, pause: 3, yields: 20, grace, ..Limits::default() };
        let generation = self.generation;
        let revision = |index| Revision::new(generation, index);
        let view = views.of_all(revision(snapshot.index), state.snapshot());
        let interests = Interests::new(state.snapshot());
        self.running = Some(Running {
            node,
            generation,
            state,
            index: snapshot.index,
            leadership: Leadership::new(cluster, generation, limits),
            history: History::new(revision(snapshot.index), HISTORY),
            interests,
            view,
            role: (Role::Follower(None), 0),
            requests: BTreeMap::new(),
            words: 0,
            log_bytes: 0,
            snapshot_bytes: snapshot.state.len(),
            sessions: Sessions::new(self.member),
            questions: BTreeMap::new(),
            looks: BTreeMap::new(),
            versions: Versions::default(),
            ticks: 0,
            next_ticket: 0,
        });
        Ok(())
    }

    /// The process ends in order: what it wrote is durable, where there is room for it.
    pub(crate) fn stop(&mut self, now: Micros) -> Option<Running> {
        if self.full_until <= now {
            self.disk.sync(usize::MAX);
        }
        self.kill()
    }

    /// The process ends without a word, and what was not synced is lost. What it was.
    pub(crate) fn kill(&mut self) -> Option<Running> {
        self.disk.crash();
        self.syncing = false;
        self.paused_until = Micros(0);
        self.refused = 0;
        self.running.take()
    }

    pub(crate) fn leads(&self) -> Option<Term> {
        let running = self.running.as_ref()?;
        matches!(running.role.0, Role::Elected | Role::Leader).then_some(running.role.1)
    }

    /// All that is durable, for who looks from outside.
    pub(crate) fn has_disk(&self) -> bool {
        let Ok(saved) = self.disk.recover();
        saved.is_some()
    }
}

impl Running {
    /// What it is at.
    pub(crate) fn revision(&self) -> Revision {
        self.at(self.index)
    }

    /// Which revision an entry of its log is.
    pub(crate) fn at(&self, index: u64) -> Revision {
        Revision::new(self.generation, index)
    }

    /// A leader's snapshot, of so many bytes, takes the place of the state.
    pub(crate) fn restore(&mut self, index: u64, state: ClusterState, bytes: usize, views: &Views) {
        self.history = History::new(self.at(index), HISTORY);
        self.view = views.of_all(self.at(index), state.snapshot());
        self.interests = Interests::new(state.snapshot());
        (self.index, self.state) = (index, state);
        self.words += 1;
        (self.log_bytes, self.snapshot_bytes) = (0, bytes);
    }

    /// It is at another revision, to which these deltas lead, and where others may know something; `bytes` of a command did
    /// that.
    pub(crate) fn advance(
        &mut self,
        index: u64,
        deltas: Vec<Delta>,
        bytes: usize,
        there: Option<&Rc<View>>,
    ) {
        self.index = index;
        self.log_bytes += bytes;
        let told: Vec<Rc<Delta>> = deltas.iter().cloned().map(Rc::new).collect();
        match there.filter(|there| self.view.leads_to(there, &told).is_some()) {
            Some(there) => self.view = Rc::clone(there),
            None if told.is_empty() => {}
            None => {
                let view = Rc::make_mut(&mut self.view);
                told.iter().for_each(|delta| view.apply(delta));
            }
        }
        let changes = self.interests.take(deltas);
        self.history.push(self.at(index), changes, None);
    }

    /// The bytes of a snapshot, when one is wanted or the log is as long as the last one: as in the shipped shell, its
    /// cost is that of the entries that it replaces.
    pub(crate) fn snapshot(&mut self, wanted: bool) -> Option<Vec<u8>> {
        if !wanted && self.log_bytes < LOG.max(self.snapshot_bytes) {
            return None;
        }
        let bytes = self.state.encode().ok()?;
        (self.log_bytes, self.snapshot_bytes) = (0, bytes.len());
        Some(bytes)
    }

    /// Tickets of the leader's own commands are odd, those of agents' words even.
    pub(crate) fn ticket_of_leader(ticket: u64) -> Ticket {
        2 * ticket + 1
    }

    /// For agents' words, and looks.
    pub(crate) fn ticket_of_agent(&mut self) -> Ticket {
        self.next_ticket += 2;
        self.next_ticket
    }

    /// What somebody sees who looks at an object.
    pub(crate) fn see(&self, key: &ObjectKey) -> Seen {
        let object = self.state.object(key);
        let labels = match key {
            ObjectKey::Pod(name) => self.state.label_set(name),
            ObjectKey::Namespace(_) | ObjectKey::Node(_) | ObjectKey::Policy(_) => None,
        };
        let numbered = labels.map(|labels| {
            let number = self.state.identities().get(&labels).copied();
            (labels, number)
        });
        Seen { object, numbered }
    }

    /// What the shipped view of its session tells an agent that holds a revision.
    pub(crate) fn part(&mut self, agent: usize, held: Option<Revision>) -> Option<Part> {
        let (view, scope) = self.sessions.view(agent)?;
        let next = held.map_or(Next::Snapshot, |held| self.history.after(held));
        let (state, interests) = (&self.state, &self.interests);
        let deltas = match &next {
            Next::Nothing => view.advance(&[], state, interests),
            Next::Run(run) => view.advance(&*run.changes, state, interests),
            Next::Snapshot => view.whole(state, interests),
        };
        Some(Part { scope: *scope, is_whole: matches!(next, Next::Snapshot), deltas })
    }

    /// What an agent that holds a revision is told.
    pub(crate) fn tell(&mut self, held: Option<Revision>) -> Told {
        let news = |revision, content| Told::News(News::new(revision, content));
        let (at, view) = (self.revision(), Rc::clone(&self.view));
        let snapshot = || news(at, Content::Everything(view));
        let Some(held) = held else { return snapshot() };
        match self.history.after(held) {
            Next::Nothing => Told::Nothing,
            Next::Snapshot => snapshot(),
            // As long as a frame may be, whatever it is that an agent has to know.
            Next::Run(run) => {
                let deltas = run.changes.iter().map(|change| Rc::new(change.delta.clone()));
                news(run.revision, Content::Since(deltas.collect()))
            }
        }
    }
}
