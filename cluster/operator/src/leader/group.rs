//! The operators' group, as the leader's actor shows and changes it.

use super::{Leader, Pending, stopping};
use crate::messages::{ChangeGroup, Transfer, Undone};
use actix::prelude::{Handler, ResponseFuture};
use tokio::sync::oneshot;
use weft_api::{
    Failure, FailureKind,
    operator::{Answer, Cluster, MemberRow},
};
use weft_raft::{MemberRole, Role};

impl Leader {
    pub(super) fn cluster(&self) -> Cluster {
        let group = self.group.borrow();
        let role = match group.role {
            Role::Leader => "leader",
            Role::Elected => "elected",
            Role::Candidate => "candidate",
            Role::Follower(_) => "follower",
        };
        let members = group.group.members.iter().map(|(id, member)| MemberRow {
            member: id.0,
            address: member.address.clone(),
            voter: member.role == MemberRole::Voter,
            matched: group.matched.get(id).copied(),
            agents: self.progress.sessions_of(*id),
        });
        Cluster {
            cluster: self.state.cluster().to_owned(),
            member: group.member.0,
            role: role.to_owned(),
            leader: group.leader.map(|leader| leader.0),
            term: group.term,
            revision: self.newest(),
            last: group.last,
            committed: group.committed,
            serving: self.leading.is_serving(),
            store_problem: self.leading.trouble().map(ToString::to_string),
            agents: self.state.nodes().keys().map(|node| self.progress.of(node)).collect(),
            members: members.collect(),
        }
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
