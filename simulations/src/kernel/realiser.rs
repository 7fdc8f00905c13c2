//! The process that makes a kernel hold what its agent was told: what waits, what is under way, and what the kernel is known to
//! hold.

use super::{
    Kernel,
    maps::{Maps, Refused},
    shell::{Advance, Inside, Shell},
};
use crate::{pods::Pods, sabotage::Sabotage, told::Kept};
use std::{
    collections::BTreeMap,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};
use weft_types::{Delta, NodeName, Revision, delta::DeltaKey};

/// A run of the shell that has not ended.
type Run = Pin<Box<dyn Future<Output = (Shell, Result<(), Refused>)>>>;

/// Of a node's agent, what realises.
pub(crate) struct Realiser {
    node: NodeName,
    kernel: Kernel,
    sabotage: Sabotage,
    process: Process,
    /// Counts runs, over all lives.
    pub(crate) turn: u64,
    /// What was told and is not begun.
    changes: BTreeMap<DeltaKey, Delta>,
    /// As of this revision.
    told: Option<Revision>,
    /// What the run under way is to reach.
    target: Option<Revision>,
    /// Who is in the tables, as of a version of that.
    inside: (Option<u64>, Inside),
    /// Whether the last run failed.
    failed: bool,
    /// What the kernel holds, as this node has said or is to say.
    acknowledged: Option<Revision>,
}

enum Process {
    Idle(Box<Shell>),
    Busy(Run),
    Dead,
}

/// What became of a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// There is more to write.
    More,
    /// All is written; or nothing is under way.
    Done,
    /// The kernel refused something: it is tried again in a while.
    Failed,
}

impl Realiser {
    /// Of a node whose kernel holds nothing, `turn` after those of lives before.
    pub(crate) fn new(node: NodeName, turn: u64, sabotage: Sabotage) -> Self {
        let kernel = Kernel::default();
        let shell = Shell::new(node.clone(), kernel.clone(), sabotage);
        Self {
            node,
            kernel,
            sabotage,
            process: Process::Idle(Box::new(shell)),
            turn,
            changes: BTreeMap::new(),
            told: None,
            target: None,
            inside: (None, Inside::default()),
            failed: false,
            acknowledged: None,
        }
    }

    /// The same of a node that comes back with nothing.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.node.clone(), self.turn + 1, self.sabotage)
    }

    /// What packets meet.
    pub(crate) fn maps(&self) -> std::cell::Ref<'_, Maps> {
        self.kernel.maps()
    }

    /// What the kernel holds, as this node has said or is to say.
    pub(crate) const fn acknowledged(&self) -> Option<Revision> {
        self.acknowledged
    }

    /// The node was told what leads to a revision.
    pub(crate) fn take(&mut self, revision: Revision, changes: Vec<Delta>) {
        self.changes.extend(changes.into_iter().map(|delta| (delta.key(), delta)));
        self.told = Some(revision);
        if self.sabotage == Sabotage::AcknowledgedEarly {
            self.acknowledged = self.told;
        }
    }

    /// Begins what is to be done, unless a run is under way; whether there is something to write.
    pub(crate) fn begin(&mut self, pods: &Pods, kept: &Kept) -> bool {
        let (Process::Idle(shell), Some(told)) = (&self.process, self.told) else { return false };
        let version = Some(pods.version());
        let is_new = self.inside.0 != version || self.failed || shell.is_hungry();
        if !is_new && self.changes.is_empty() {
            // There is nothing in it for this node.
            self.acknowledged = Some(told);
            return false;
        }
        if self.inside.0 != version {
            self.inside = (version, Rc::new(pods.in_tables()));
        }
        let whole = if shell.is_hungry() { kept.deltas().cloned().collect() } else { Vec::new() };
        let deltas = std::mem::take(&mut self.changes).into_values().collect();
        let advance = Advance { deltas, whole, inside: Rc::clone(&self.inside.1) };
        let Process::Idle(mut shell) = std::mem::replace(&mut self.process, Process::Dead) else {
            return false;
        };
        self.process = Process::Busy(Box::pin(async move {
            let done = shell.advance(&advance).await;
            (*shell, done)
        }));
        self.target = Some(told);
        self.turn += 1;
        self.go_on() == Turn::More
    }

    /// Does so many writes, and refuses the next one where it is to.
    pub(crate) fn work(&mut self, most: usize, refuses: bool) -> Turn {
        if matches!(self.process, Process::Busy(_)) && !self.kernel.work(most, refuses) {
            return Turn::More;
        }
        if self.sabotage == Sabotage::RefusalIgnored {
            self.kernel.believe();
        }
        self.go_on()
    }

    fn go_on(&mut self) -> Turn {
        let Process::Busy(run) = &mut self.process else { return Turn::Done };
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready((shell, done)) = run.as_mut().poll(&mut context) else {
            return Turn::More;
        };
        self.process = Process::Idle(Box::new(shell));
        self.failed = done.is_err();
        if self.failed {
            return Turn::Failed;
        }
        self.acknowledged = self.acknowledged.max(self.target);
        Turn::Done
    }

    /// The process ends; the kernel goes on with what it holds.
    pub(crate) fn kill(&mut self) {
        self.process = Process::Dead;
        self.kernel.forget_batch();
        self.turn += 1;
        self.changes.clear();
    }

    /// Another process begins, with what was published on its disk.
    pub(crate) fn revive(&mut self) {
        if matches!(self.process, Process::Dead) {
            let (node, kernel) = (self.node.clone(), self.kernel.clone());
            self.process = Process::Idle(Box::new(Shell::new(node, kernel, self.sabotage)));
        }
    }

    /// Whether nothing is under way and nothing waits.
    pub(crate) fn is_settled(&self, pods: &Pods) -> bool {
        let is_idle = matches!(self.process, Process::Idle(_)) && !self.failed;
        is_idle && self.changes.is_empty() && self.inside.0 == Some(pods.version())
    }

    /// What of the kernel is not as an agent that begins from nothing would have it.
    pub(crate) fn differs(&self, kept: &Kept) -> Option<&'static str> {
        let expected = super::fresh::maps(&self.node, kept, &self.inside.1, &self.maps());
        super::fresh::difference(&self.maps(), &expected)
    }
}
