//! The `Policy` actor: identities, policies and the classes of this node's endpoints.

use crate::{
    Refusal, internal,
    ipcache::{Ipcache, SetPrefixes},
    mapsync::{ClassSync, SyncClasses},
    published::Advance,
};
use actix::{Actor, Addr, AtomicResponse, Context, Handler, Message, WrapFuture};
use std::collections::BTreeSet;
use weft_core::policy::{Changes, Engine};
use weft_types::{Delta, Identity};

/// Owns the policy engine.
pub struct Policy {
    engine: Engine,
    classes: Addr<ClassSync>,
    ipcache: Addr<Ipcache>,
}

impl Policy {
    /// With the owners of the kernel's side.
    pub fn new(classes: Addr<ClassSync>, ipcache: Addr<Ipcache>) -> Self {
        Self { engine: Engine::default(), classes, ipcache }
    }

    fn take(&mut self, delta: &Delta) {
        match delta {
            Delta::IdentityUpsert(number, labels) => {
                self.engine.upsert_identity(*number, labels.clone());
            }
            Delta::IdentityDelete(number) => self.engine.delete_identity(*number),
            Delta::PolicyUpsert(policy) => self.engine.upsert_policy(policy.clone()),
            Delta::PolicyDelete(id) => self.engine.delete_policy(id),
            Delta::NodeUpsert(_)
            | Delta::NodeDelete(_)
            | Delta::WorkloadUpsert(_)
            | Delta::WorkloadDelete(_)
            | Delta::EndpointUpsert(_)
            | Delta::EndpointDelete(_) => {}
        }
    }

    /// Classes gain entries before the prefix trie names what they are for, and go after it stopped.
    fn realise(&mut self) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let Changes { replaced, removed, prefixes } = self.engine.commit();
        let (classes, ipcache) = (self.classes.clone(), self.ipcache.clone());
        async move {
            if !replaced.is_empty() {
                let sync = SyncClasses { replaced, removed: BTreeSet::new() };
                classes.send(sync).await.map_err(internal)??;
            }
            if let Some(prefixes) = prefixes {
                ipcache.send(SetPrefixes(prefixes)).await.map_err(internal)??;
            }
            if !removed.is_empty() {
                let sync = SyncClasses { replaced: Default::default(), removed };
                classes.send(sync).await.map_err(internal)??;
            }
            Ok(())
        }
    }
}

impl Actor for Policy {
    type Context = Context<Self>;
}

impl Handler<Advance> for Policy {
    type Result = AtomicResponse<Self, Result<(), Refusal>>;

    fn handle(&mut self, advance: Advance, _: &mut Self::Context) -> Self::Result {
        if advance.snapshot {
            self.engine.clear();
        }
        advance.deltas.iter().for_each(|delta| self.take(delta));
        AtomicResponse::new(Box::pin(self.realise().into_actor(self)))
    }
}

/// An endpoint of this class is coming; answered when its policy is in the kernel.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Hold(pub Identity);

impl Handler<Hold> for Policy {
    type Result = AtomicResponse<Self, Result<(), Refusal>>;

    fn handle(&mut self, hold: Hold, _: &mut Self::Context) -> Self::Result {
        self.engine.hold(hold.0);
        AtomicResponse::new(Box::pin(self.realise().into_actor(self)))
    }
}

/// An endpoint of this class is gone.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Release(pub Identity);

impl Handler<Release> for Policy {
    type Result = AtomicResponse<Self, Result<(), Refusal>>;

    fn handle(&mut self, release: Release, _: &mut Self::Context) -> Self::Result {
        self.engine.release(release.0);
        AtomicResponse::new(Box::pin(self.realise().into_actor(self)))
    }
}
