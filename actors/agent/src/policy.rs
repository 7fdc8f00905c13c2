//! The `Policy` actor: identities, policies and the classes of this node's endpoints.

use crate::{
    Refusal,
    ipcache::{Ipcache, SetPrefixes, prefix_rows},
    mapsync::{ClassStep, ClassSync, FillClasses, ReadClasses, ReadRows, TableSync},
    published::Advance,
    refused,
    runtime::{Edge, Life, Refeed, Role, Seat, Serve, Thread, is_over, request},
    try_again,
};
use ipnet::Ipv4Net;
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;
use weft_api::agent::{IdentityRow, PolicyRow};
use weft_core::policy::{Engine, Room, RuleNames, Step, prefixes_of_rows};
use weft_types::{Delta, Identity, policy::Isolation};

/// Owns the policy engine. It has two sources, and touches nothing before both spoke.
pub struct Policy {
    engine: Engine,
    held: Option<BTreeMap<Identity, usize>>,
    published: bool,
    /// Whether the engine knows what the life before left in the kernel.
    seeded: bool,
    room: Room,
    /// The prefixes that the trie was told to name: those of a refused commit are not among them.
    named: BTreeMap<Ipv4Net, u32>,
    classes: Edge<ClassSync>,
    prefixes: Edge<TableSync>,
    ipcache: Edge<Ipcache>,
    /// Where it is said what rule numbers stand for.
    rules: Arc<watch::Sender<RuleNames>>,
}

impl Policy {
    /// With the owners of the kernel's side, and what there is room for there.
    pub fn new(
        room: Room,
        classes: &Seat<ClassSync>,
        prefixes: &Seat<TableSync>,
        ipcache: &Seat<Ipcache>,
        rules: Arc<watch::Sender<RuleNames>>,
    ) -> Self {
        Self {
            engine: Engine::default(),
            held: None,
            published: false,
            seeded: false,
            room,
            named: BTreeMap::new(),
            classes: classes.edge(),
            prefixes: prefixes.edge(),
            ipcache: ipcache.edge(),
            rules,
        }
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

    async fn realise(&mut self) -> Result<(), Refusal> {
        if !self.published || self.held.is_none() {
            return Ok(());
        }
        self.feed().await?;
        let steps = self.engine.commit().steps;
        // All of a commit or nothing: what was in force stays so.
        let excess = steps.iter().find_map(|step| self.engine.excess(step, &self.room));
        if let Some(excess) = excess {
            self.engine.refuse();
            return Err(refused(excess));
        }
        // Before the kernel can name them.
        self.publish_rules();
        for (at, step) in steps.iter().enumerate() {
            if let Err(refusal) = self.realise_step(step).await {
                self.engine.failed(&steps, at);
                return Err(refusal);
            }
        }
        Ok(())
    }

    fn publish_rules(&self) {
        if is_over() {
            return;
        }
        let names = self.engine.rule_names();
        self.rules.send_if_modified(|told| {
            let differs = !Arc::ptr_eq(told, names);
            if differs {
                told.clone_from(names);
            }
            differs
        });
    }

    /// Learns what the kernel holds when this actor is new; tells it again to callees that are.
    async fn feed(&mut self) -> Result<(), Refusal> {
        let life = self.classes.incarnation();
        if !self.seeded {
            let rows = self.prefixes.ask(ReadRows).await??;
            self.named = prefixes_of_rows(&prefix_rows(&rows));
            self.engine.seed_prefixes(&self.named);
            self.engine.seed_classes(&self.classes.ask(ReadClasses).await??);
            self.classes.fed(life);
            self.seeded = true;
        } else if self.classes.is_hungry() {
            let mut classes = self.engine.classes();
            let held = self.classes.ask(ReadClasses).await??;
            // What could not be written is said whole later; until then what is there goes on.
            classes.extend(held.into_iter().filter(|(class, _)| self.engine.distrusts(*class)));
            self.classes.ask(FillClasses(classes)).await??;
            self.classes.fed(life);
        }
        let life = self.ipcache.incarnation();
        if self.ipcache.is_hungry() {
            self.ipcache.ask(SetPrefixes(self.named.clone())).await??;
            self.ipcache.fed(life);
        }
        Ok(())
    }

    async fn realise_step(&mut self, step: &Step) -> Result<(), Refusal> {
        match step.clone() {
            Step::Prefixes(prefixes) => {
                self.ipcache.ask(SetPrefixes(prefixes.clone())).await??;
                self.named = prefixes;
                Ok(())
            }
            Step::Edit(classes) => self.classes.ask(ClassStep::Edit(classes)).await?,
            Step::Replace(classes) => self.classes.ask(ClassStep::Replace(classes)).await?,
            Step::Remove(classes) => self.classes.ask(ClassStep::Remove(classes)).await?,
        }
    }
}

impl Role for Policy {
    const THREAD: Thread = Thread::Control;

    async fn born(&mut self, life: &Life<Self>) -> Result<(), Refusal> {
        life.refeed_after(&self.classes);
        life.refeed_after(&self.ipcache);
        Ok(())
    }
}

impl Serve<Refeed> for Policy {
    async fn serve(&mut self, _: Refeed, _: &Life<Self>) {
        if let Err(error) = self.realise().await {
            tracing::error!(%error, "policy classes after a restart");
        }
    }
}

impl Serve<Advance> for Policy {
    async fn serve(&mut self, advance: Advance, _: &Life<Self>) -> Result<(), Refusal> {
        if advance.whole {
            self.engine.clear();
            self.published = true;
        }
        advance.deltas.iter().for_each(|delta| self.take(delta));
        self.realise().await
    }
}

/// How many endpoints of each class are here: all of them.
pub struct SetHeld(pub BTreeMap<Identity, usize>);
request!(SetHeld => Result<(), Refusal>);

impl Serve<SetHeld> for Policy {
    async fn serve(&mut self, SetHeld(now): SetHeld, _: &Life<Self>) -> Result<(), Refusal> {
        let first = self.held.is_none();
        let before = self.held.replace(now.clone()).unwrap_or_default();
        for (identity, count) in &now {
            for _ in before.get(identity).copied().unwrap_or(0)..*count {
                self.engine.hold(*identity);
            }
        }
        for (identity, count) in &before {
            for _ in now.get(identity).copied().unwrap_or(0)..*count {
                self.engine.release(*identity);
            }
        }
        if !first && !self.published {
            return Err(try_again("no operator has sent this node its state yet"));
        }
        self.realise().await
    }
}

/// The identities.
pub struct ListIdentities;
request!(ListIdentities => Vec<IdentityRow>);

impl Serve<ListIdentities> for Policy {
    async fn serve(&mut self, _: ListIdentities, _: &Life<Self>) -> Vec<IdentityRow> {
        let row = |(identity, labels): (&Identity, &weft_types::LabelSet)| IdentityRow {
            identity: identity.0,
            labels: labels.iter().map(|label| label.to_string()).collect(),
        };
        self.engine.identities().iter().map(row).collect()
    }
}

/// The policies.
pub struct ListPolicies;
request!(ListPolicies => Vec<PolicyRow>);

impl Serve<ListPolicies> for Policy {
    async fn serve(&mut self, _: ListPolicies, _: &Life<Self>) -> Vec<PolicyRow> {
        let rules = |isolation: &Isolation| match isolation {
            Isolation::Open => None,
            Isolation::Isolated(rules) => Some(rules.len()),
        };
        let row = |policy: &weft_types::Policy| PolicyRow {
            name: policy.id.name.to_string(),
            kind: format!("{:?}", policy.id.kind),
            ingress_rules: rules(&policy.ingress),
            egress_rules: rules(&policy.egress),
            endpoints: self.engine.endpoints_of(&policy.id),
        };
        self.engine.policies().map(row).collect()
    }
}

/// What of a class people want to know: its labels and which directions are isolated.
pub struct DescribeClasses(pub Vec<Identity>);

/// Labels and isolation of a class.
#[derive(Clone, Debug, Default)]
pub struct ClassRow {
    /// Its labels.
    pub labels: Vec<String>,
    /// `ingress`, `egress`, `both`, `none`.
    pub isolated: &'static str,
}
request!(DescribeClasses => BTreeMap<Identity, ClassRow>);

impl Serve<DescribeClasses> for Policy {
    async fn serve(
        &mut self,
        describe: DescribeClasses,
        _: &Life<Self>,
    ) -> BTreeMap<Identity, ClassRow> {
        use weft_types::policy::Direction::{Egress, Ingress};
        let row = |identity: Identity| {
            let isolates = |direction| !self.engine.isolating(identity.0, direction).is_empty();
            let labels = self.engine.labels(identity);
            let isolated = match (isolates(Ingress), isolates(Egress)) {
                (true, true) => "both",
                (true, false) => "ingress",
                (false, true) => "egress",
                (false, false) => "none",
            };
            let labels = labels.into_iter().flat_map(|l| l.iter()).map(|l| l.to_string());
            (identity, ClassRow { labels: labels.collect(), isolated })
        };
        describe.0.into_iter().map(row).collect()
    }
}
