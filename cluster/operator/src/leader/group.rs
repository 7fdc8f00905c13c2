//! The operators' group, as the leader's actor follows and changes it.

use super::{Leader, Pending, stopping};
use crate::messages::{ChangeGroup, Introduced, Transfer, Undone};
use actix::prelude::{Handler, ResponseFuture};
use tokio::sync::oneshot;
use weft_api::{Failure, FailureKind, operator::Answer};
use weft_raft::Role;
use weft_state::VERSION;

impl Leader {
    /// Whoever is taken out of the group has no agents any more.
    pub(super) fn know_members(&mut self) {
        let members = self.group.borrow().group.members.keys().copied().collect();
        self.progress.members_are(&members);
    }

    /// The store does not answer this member: another is to lead, where one may.
    pub(super) fn hand_over(&self) {
        let group = self.group.borrow();
        let is_alone = !group.group.voters().any(|voter| voter != group.member);
        drop(group);
        if !is_alone {
            tracing::warn!("the store does not answer this operator: another is to lead");
            self.sequencer.transfer(None);
        }
    }

    /// The newest version of the log that every member knows, as each said when it connected here; 0 where one has not.
    pub(super) fn known_by_all(&self) -> u8 {
        let group = self.group.borrow();
        let members = group.group.members.keys().copied();
        self.versions.known_by_all((group.member, VERSION), members)
    }
}

impl Handler<Introduced> for Leader {
    type Result = Result<(), Failure>;

    fn handle(&mut self, introduced: Introduced, _: &mut Self::Context) -> Self::Result {
        let Introduced { member, version } = introduced;
        let heard = self.versions.hear(member, version, self.state.version());
        heard.map_err(|why| Failure { kind: FailureKind::Refused, message: why.to_string() })
    }
}

impl Handler<ChangeGroup> for Leader {
    type Result = ResponseFuture<Result<Answer, Undone>>;

    fn handle(&mut self, ChangeGroup(change): ChangeGroup, _: &mut Self::Context) -> Self::Result {
        let (answer, answered) = oneshot::channel();
        self.next_ticket += 1;
        if self.sequencer.change(self.next_ticket, change) {
            self.pending.insert(self.next_ticket, Pending::Group(answer));
        }
        Box::pin(async {
            answered.await.map_err(|_| stopping())??;
            Ok(Answer::Done)
        })
    }
}

impl Handler<Transfer> for Leader {
    type Result = Result<Answer, Undone>;

    fn handle(&mut self, Transfer(to): Transfer, _: &mut Self::Context) -> Self::Result {
        let group = self.group.borrow();
        if group.role != Role::Leader {
            return Err(Undone::NotLeading);
        }
        let mut others = group.group.voters().filter(|voter| *voter != group.member);
        if !others.any(|voter| to.is_none_or(|to| to == voter)) {
            let why = match to {
                Some(to) => format!("member {to} is none that votes beside this one"),
                None => "nobody votes beside this one".to_owned(),
            };
            let message = format!("have another operator lead: {why}");
            return Err(Failure { kind: FailureKind::Refused, message }.into());
        }
        drop(others);
        drop(group);
        self.sequencer.transfer(to);
        Ok(Answer::Done)
    }
}
