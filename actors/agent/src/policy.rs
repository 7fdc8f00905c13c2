//! The `Policy` actor: identities, policies and the classes of this node's endpoints.

use crate::{
    Refusal, internal,
    ipcache::{Ipcache, SetPrefixes},
    mapsync::{ClassSync, SyncClasses},
    published::Advance,
};
use actix::{Actor, ActorFutureExt, Addr, AtomicResponse, Context, Handler, Message, WrapFuture};
use weft_core::policy::{Changes, Engine, Step};
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
            Delta::EndpointUpsert(pod) => self.engine.upsert_pod(pod.address, pod.identity),
            Delta::EndpointDelete(address) => self.engine.delete_pod(*address),
            Delta::NodeUpsert(_)
            | Delta::NodeDelete(_)
            | Delta::WorkloadUpsert(_)
            | Delta::WorkloadDelete(_) => {}
        }
    }

    /// Does the steps of a commit in their order; what a failed one leaves in doubt is said whole by the next.
    fn realise(&mut self) -> AtomicResponse<Self, Result<(), Refusal>> {
        let Changes { steps } = self.engine.commit();
        let (classes, ipcache) = (self.classes.clone(), self.ipcache.clone());
        let work = async move {
            let mut steps = steps.into_iter();
            while let Some(step) = steps.next() {
                if let Err(refusal) = realise_step(&classes, &ipcache, step.clone()).await {
                    return Err((refusal, std::iter::once(step).chain(steps).collect::<Vec<_>>()));
                }
            }
            Ok(())
        };
        let heard = |done: Result<(), (Refusal, Vec<Step>)>, policy: &mut Self, _: &mut _| {
            done.map_err(|(refusal, undone)| {
                policy.engine.distrust(undone.iter().flat_map(Step::classes));
                if undone.iter().any(|step| matches!(step, Step::Prefixes(_))) {
                    policy.engine.distrust_prefixes();
                }
                refusal
            })
        };
        AtomicResponse::new(Box::pin(work.into_actor(self).map(heard)))
    }
}

async fn realise_step(
    classes: &Addr<ClassSync>,
    ipcache: &Addr<Ipcache>,
    step: Step,
) -> Result<(), Refusal> {
    let sync = match step {
        Step::Prefixes(prefixes) => {
            return ipcache.send(SetPrefixes(prefixes)).await.map_err(internal)?;
        }
        Step::Edit(edited) => SyncClasses { edited, ..SyncClasses::default() },
        Step::Replace(replaced) => SyncClasses { replaced, ..SyncClasses::default() },
        Step::Remove(removed) => SyncClasses { removed, ..SyncClasses::default() },
    };
    classes.send(sync).await.map_err(internal)?
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
        self.realise()
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
        self.realise()
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
        self.realise()
    }
}
