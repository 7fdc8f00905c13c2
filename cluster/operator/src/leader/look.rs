//! What the leader's actor shows of what it knows.

use super::Leader;
use crate::messages::Look;
use actix::prelude::{Handler, MessageResult};
use std::collections::BTreeSet;
use weft_api::operator::{
    Answer, Cluster, HeldBack, IdentityRow, IdentityState, MemberRow, Status,
};
use weft_raft::{MemberId, MemberRole, Role, Status as Group};
use weft_state::{Numbered, Phase};
use weft_types::{Identity, NodeName, Revision};

impl Leader {
    fn status(&self) -> Status {
        Status {
            version: weft_process::version::short(),
            revision: self.newest(),
            store: self.store.to_owned(),
            nodes: self.state.nodes().keys().map(|node| self.progress.of(node)).collect(),
            identities: self.state.identities().len(),
            workloads: self.state.workloads().len(),
            endpoints: self.state.endpoints().len(),
            policies: self.state.policies().len(),
        }
    }

    /// Which numbers nodes hold back, and which nodes; none where this operator does not lead.
    fn held_back(&self, group: &Group) -> Option<HeldBack> {
        let core = self.leading.core();
        let numbers: Vec<Identity> = core.held_back(&self.state).collect();
        let by = numbers.iter().flat_map(|number| core.holders(&self.state, *number));
        let by: BTreeSet<&NodeName> = by.collect();
        let by = by.into_iter().map(|node| node.0.clone()).collect();
        let unheard = core.unheard().map_or(0, Revision::index);
        let heard = |member: &MemberId| group.heard.get(member).copied().unwrap_or_default();
        let lacks = |member: &&MemberId| heard(member) < unheard;
        let operators = group.group.members.keys().filter(lacks).map(|member| member.0).collect();
        core.is_serving().then_some(HeldBack { numbers: numbers.len(), by, operators })
    }

    fn cluster(&self) -> Cluster {
        // Once: who looks twice at the same time waits for a writer in between, who waits for the first look's end.
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
            store_problem: self.leading.trouble(),
            held_back: self.held_back(&group),
            agents: self.state.nodes().keys().map(|node| self.progress.of(node)).collect(),
            members: members.collect(),
        }
    }
}

/// A number, as it is listed; none of one that stands for nothing.
fn identity_row((identity, known): (Identity, &Numbered)) -> Option<IdentityRow> {
    Some(IdentityRow {
        identity: identity.0,
        labels: known.labels.as_ref()?.iter().map(|label| label.to_string()).collect(),
        state: match known.phase {
            Phase::Retiring => IdentityState::Retiring,
            Phase::Live if known.is_idle() => IdentityState::Unused,
            Phase::Live => IdentityState::Used,
        },
        pods: known.pods,
        endpoints: known.nodes.values().sum(),
    })
}

impl Handler<Look> for Leader {
    type Result = MessageResult<Look>;

    fn handle(&mut self, look: Look, _: &mut Self::Context) -> Self::Result {
        let state = &self.state;
        MessageResult(match look {
            Look::Status => Answer::Status(self.status()),
            Look::Objects => Answer::Objects(state.objects().collect()),
            Look::Cluster => Answer::Cluster(self.cluster()),
            Look::Identities => {
                let references = state.references().iter();
                Answer::Identities(references.filter_map(identity_row).collect())
            }
        })
    }
}
