//! A change that every agent is told of: a policy, another each time.

use super::Operator;
use anyhow::{Context, Result, bail};
use weft_api::operator::{Answer, Request};
use weft_types::{
    Delta, NamespacedName, Object, Policy, Revision,
    label::Source,
    policy::{Isolation, PolicyId, PolicyKind},
    selector::{Requirement, Selector},
};
use weft_wire::{ToAgent, frame};

impl Operator {
    /// Makes the change of this number; the revision that has it.
    pub(crate) fn change(&self, number: u64) -> Result<Revision> {
        match self.ask(Request::Apply { objects: vec![Object::Policy(policy(number))] })? {
            Answer::Accepted { revision, changed: 1 } => Ok(revision),
            other => bail!("an operator answered {other:?}"),
        }
    }
}

/// Bytes that each agent is sent for one of them.
pub(crate) fn pushed_bytes() -> Result<usize> {
    let (revision, deltas) = (Revision::new(1, 1000), vec![Delta::PolicyUpsert(policy(1000))]);
    let frame = frame::encode(&ToAgent::Deltas { revision, deltas, trace: None });
    Ok(frame.context("encode a change")?.len())
}

fn policy(number: u64) -> Policy {
    let name = NamespacedName::new("bench", "changing");
    let app = Requirement::In {
        source: Source::K8s,
        key: "app".to_owned(),
        values: vec![format!("app-{number:08}")],
    };
    Policy {
        id: PolicyId { kind: PolicyKind::NetworkPolicy, name },
        subject: Selector::new(vec![app]),
        ingress: Isolation::Isolated(Vec::new()),
        egress: Isolation::Open,
    }
}
