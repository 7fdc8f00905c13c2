//! What the kernel's tables, the other actors and the operators are told of the endpoints.

use super::{Endpoints, Key, PluggedHere, PluggedPod, PluggedPods, Told, recovery, steps::keep};
use crate::{
    Refusal,
    ipcache::{SetLocal, write},
    mapsync::BumpEpoch,
    policy::SetHeld,
    runtime::is_over,
};
use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};
use tracing::Span;
use weft_abi::address::Addr4;
use weft_core::{
    endpoint::{Endpoint, Wire},
    ipcache::LocalPod,
    mapsync::difference,
};
use weft_process::trace;
use weft_types::{Identity, PodEndpoint, TraceContext};

impl Endpoints {
    /// Writes the files of who was relabelled. One that cannot be written keeps nobody from being enforced.
    async fn remember(&mut self) {
        for (key, endpoint) in self.core.outdated() {
            match keep(&self.setting, &key, &endpoint).await {
                Ok(()) => self.core.remembered(&key),
                Err(error) => {
                    tracing::error!(pod = %endpoint.pod, %error, "a relabelled pod's file")
                }
            }
        }
    }

    /// Makes the tables hold who is in them: rows come after the class they need, and go before it does.
    pub(super) async fn settle(&mut self) -> Result<u64, Refusal> {
        let (version, inside) = self.core.in_tables();
        let mut now = Told::default();
        for (endpoint, wire) in inside.into_iter().map(|(_, endpoint, wire)| (endpoint, wire)) {
            *now.held.entry(endpoint.identity).or_default() += 1;
            now.rows.insert(wire.ifindex.to_ne_bytes().into(), row(endpoint, wire));
            let local = LocalPod { identity: endpoint.identity, ifindex: wire.ifindex };
            now.local.insert(endpoint.address, local);
        }
        let mut both = now.held.clone();
        for (identity, count) in &self.told.held {
            let most = both.entry(*identity).or_default();
            *most = (*most).max(*count);
        }
        let changed = now.rows != self.told.rows || now.local != self.told.local;
        self.hold(both).await?;
        // A life that ends here begins again with rows of its files, whose classes have to be there.
        self.remember().await;
        let rows = difference(&self.told.rows, &now.rows);
        write(&self.edges.table, rows, || now.rows.clone()).await?;
        self.told.rows = now.rows;
        if self.edges.ipcache.is_hungry() || now.local != self.told.local {
            let life = self.edges.ipcache.incarnation();
            self.edges.ipcache.starve();
            self.edges.ipcache.ask(SetLocal(now.local.clone())).await??;
            self.edges.ipcache.fed(life);
            self.told.local = now.local;
        }
        self.hold(now.held).await?;
        if changed {
            self.edges.classes.ask(BumpEpoch).await??;
        }
        self.published = true;
        self.publish();
        Ok(version)
    }

    /// Says who is plugged, or about to be, once it is known who was before this life.
    pub(super) fn publish(&self) {
        if is_over() || !self.published {
            return;
        }
        let causes = self.causes();
        let (mut held, mut pods, mut damaged) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for (key, endpoint) in self.core.announced() {
            held.insert(endpoint.address, endpoint.identity);
            if let Err(why) = &key.attachment {
                damaged.insert(endpoint.address, recovery::problem(endpoint, why));
            }
            if recovery::is_unnamed(endpoint) {
                continue;
            }
            let pod = PodEndpoint {
                name: endpoint.pod.clone(),
                address: endpoint.address,
                identity: endpoint.identity,
                node: self.setting.node.clone(),
            };
            let cause = causes.get(&endpoint.address).copied();
            pods.insert(endpoint.address, PluggedPod { endpoint: pod, id: endpoint.id, cause });
        }
        self.setting.plugged.send_if_modified(|told| {
            let same = |told: &PluggedPods| {
                (&told.held, &told.pods, &told.damaged) == (&held, &pods, &damaged)
            };
            let differs = !told.as_ref().is_some_and(same);
            if differs {
                let before = told.take().unwrap_or_default();
                let next = PluggedHere::next(&before, (held, pods), &causes);
                *told = Some(Arc::new(PluggedHere { damaged, ..next }));
            }
            differs
        });
    }

    /// The calls that endpoints are being plugged and unplugged by.
    fn causes(&self) -> BTreeMap<Ipv4Addr, TraceContext> {
        let cause =
            |(key, call): (&Key, &Span)| Some((self.core.get(key)?.address, trace::of(call)?));
        self.calls.iter().filter_map(cause).collect()
    }

    async fn hold(&mut self, held: BTreeMap<Identity, usize>) -> Result<(), Refusal> {
        if !self.edges.policy.is_hungry() && held == self.told.held {
            return Ok(());
        }
        let life = self.edges.policy.incarnation();
        self.edges.policy.starve();
        self.edges.policy.ask(SetHeld(held.clone())).await??;
        self.edges.policy.fed(life);
        self.told.held = held;
        Ok(())
    }
}

/// An endpoint's row in the kernel.
fn row(endpoint: &Endpoint, wire: Wire) -> Vec<u8> {
    let row = weft_abi::endpoint::Endpoint {
        ifindex: wire.ifindex,
        id: endpoint.id,
        identity: endpoint.identity.0,
        // A class's number is its identity's.
        class: endpoint.identity.0,
        addr4: Addr4::new(endpoint.address.octets()),
        mac: wire.mac,
        ..weft_abi::endpoint::Endpoint::zeroed()
    };
    row.to_bytes().into()
}
