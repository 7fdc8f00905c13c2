//! The slow steps of an endpoint's life: its file, its link.

use super::{Key, Setting};
use crate::{
    Refusal, internal,
    loader::{Joined, Loader, Open, Plug, Unplug},
    runtime::{Edge, pass},
    state::{self, Record},
};
use weft_core::endpoint::{Endpoint, Presence, Wire};
use weft_datapath::kernel::LinkSpec;

pub(super) fn spec(setting: &Setting, key: &Key, endpoint: &Endpoint) -> Result<LinkSpec, Refusal> {
    Ok(LinkSpec {
        netns: endpoint.netns.clone().into(),
        interface: key.attachment()?.interface.clone(),
        host_interface: key.link.clone(),
        address: endpoint.address,
        mtu: *setting.mtu.borrow(),
        adopt: endpoint.adopted,
    })
}

/// The file before the link: what a crash leaves is found by its file.
pub(super) async fn keep(setting: &Setting, key: &Key, endpoint: &Endpoint) -> Result<(), Refusal> {
    // Of one whose record is damaged, its row in the kernel is the record.
    let Ok(attachment) = key.attachment.clone() else { return Ok(()) };
    let record = Record {
        version: Record::VERSION,
        attachment,
        network: key.network.clone(),
        pod: endpoint.pod.clone(),
        netns: endpoint.netns.clone(),
        id: endpoint.id,
        address: endpoint.address,
        identity: endpoint.identity,
        adopted: endpoint.adopted,
        link: endpoint.wire.map(|wire| (wire.ifindex, wire.mac)),
        mtu: endpoint.wire.and_then(|wire| wire.mtu),
    };
    let (folder, name) = (setting.folder.clone(), key.link.clone());
    pass().await;
    let written = tokio::task::spawn_blocking(move || state::write(&folder, &name, &record));
    written.await.map_err(internal)?.map_err(internal)
}

pub(super) async fn plug(
    loader: &Edge<Loader>,
    setting: &Setting,
    key: &Key,
    endpoint: &Endpoint,
) -> Result<Wire, Refusal> {
    keep(setting, key, endpoint).await?;
    let link = loader.ask(Plug(spec(setting, key, endpoint)?)).await??;
    Ok(Wire { ifindex: link.ifindex, mac: link.mac, mtu: Some(link.mtu) })
}

pub(super) async fn open(
    loader: &Edge<Loader>,
    setting: &Setting,
    key: &Key,
    endpoint: &Endpoint,
) -> Result<(), Refusal> {
    keep(setting, key, endpoint).await?;
    loader.ask(Open(spec(setting, key, endpoint)?)).await?
}

pub(super) async fn unplug(
    loader: &Edge<Loader>,
    setting: &Setting,
    link: &str,
    ifindex: Option<u32>,
) -> Result<(), Refusal> {
    let name = link.to_owned();
    loader.ask(Unplug { host_interface: name.clone(), ifindex }).await??;
    pass().await;
    let folder = setting.folder.clone();
    let removed = tokio::task::spawn_blocking(move || state::remove(&folder, &name));
    removed.await.map_err(internal)?.map_err(internal)
}

/// Whether the link that an endpoint has is there, in the network namespace that is under its path now.
pub(super) async fn find(
    loader: &Edge<Loader>,
    setting: &Setting,
    key: &Key,
    endpoint: &Endpoint,
) -> Result<Presence, Refusal> {
    let joined = loader.ask(Joined(spec(setting, key, endpoint)?)).await??;
    let there = joined.is_some() && joined == endpoint.wire.map(|wire| wire.ifindex);
    Ok(if there { Presence::There } else { Presence::Gone })
}
