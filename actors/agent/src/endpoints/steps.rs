//! The slow steps of an endpoint's life: its file, its link.

use super::Setting;
use crate::{
    Refusal, internal,
    loader::{Loader, Open, Plug, Plugged, Unplug},
    runtime::Edge,
    state::{self, Record},
};
use weft_api::cni::Attachment;
use weft_core::endpoint::{Endpoint, Phase, Presence, Wire};
use weft_datapath::kernel::LinkSpec;

pub(super) fn endpoint_of(record: Record, wire: Option<Wire>, phase: Phase) -> Endpoint {
    Endpoint {
        pod: record.pod,
        netns: record.netns,
        id: record.id,
        address: record.address,
        identity: record.identity,
        wire,
        phase,
    }
}

pub(super) fn spec(setting: &Setting, key: &Attachment, endpoint: &Endpoint) -> LinkSpec {
    LinkSpec {
        netns: endpoint.netns.clone().into(),
        interface: key.interface.clone(),
        host_interface: host_interface(key),
        address: endpoint.address,
        mtu: setting.mtu,
    }
}

/// The file before the link: what a crash leaves is found by its file.
pub(super) async fn keep(
    setting: &Setting,
    key: &Attachment,
    endpoint: &Endpoint,
) -> Result<(), Refusal> {
    let record = Record {
        version: Record::VERSION,
        attachment: key.clone(),
        pod: endpoint.pod.clone(),
        netns: endpoint.netns.clone(),
        id: endpoint.id,
        address: endpoint.address,
        identity: endpoint.identity,
        link: endpoint.wire.map(|wire| (wire.ifindex, wire.mac)),
    };
    let (folder, name) = (setting.folder.clone(), host_interface(key));
    let written = tokio::task::spawn_blocking(move || state::write(&folder, &name, &record));
    written.await.map_err(internal)?.map_err(internal)
}

pub(super) async fn plug(
    loader: &Edge<Loader>,
    setting: &Setting,
    key: &Attachment,
    endpoint: &Endpoint,
) -> Result<Wire, Refusal> {
    keep(setting, key, endpoint).await?;
    let link = loader.ask(Plug(spec(setting, key, endpoint))).await??;
    Ok(Wire { ifindex: link.ifindex, mac: link.mac })
}

pub(super) async fn open(
    loader: &Edge<Loader>,
    setting: &Setting,
    key: &Attachment,
    endpoint: &Endpoint,
) -> Result<(), Refusal> {
    keep(setting, key, endpoint).await?;
    loader.ask(Open(spec(setting, key, endpoint))).await?
}

pub(super) async fn unplug(
    loader: &Edge<Loader>,
    setting: &Setting,
    key: &Attachment,
    ifindex: Option<u32>,
) -> Result<(), Refusal> {
    let name = host_interface(key);
    loader.ask(Unplug { host_interface: name.clone(), ifindex }).await??;
    let folder = setting.folder.clone();
    let removed = tokio::task::spawn_blocking(move || state::remove(&folder, &name));
    removed.await.map_err(internal)?.map_err(internal)
}

/// The name of the host side: of a length that Linux takes, the same for the same attachment.
pub fn host_interface(attachment: &Attachment) -> String {
    // FNV-1a, 64 bits; a name must be stable over versions of the standard library's hasher.
    let text = [attachment.container_id.as_bytes(), b"/", attachment.interface.as_bytes()].concat();
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("wl{:012x}", hash & 0xffff_ffff_ffff)
}

/// Whether the link that an endpoint has is there.
pub(super) async fn find(
    loader: &Edge<Loader>,
    key: &Attachment,
    wire: Option<Wire>,
) -> Result<Presence, Refusal> {
    let name = host_interface(key);
    let links = loader.ask(Plugged).await??;
    let there = wire.is_some_and(|wire| links.contains(&(name, wire.ifindex)));
    Ok(if there { Presence::There } else { Presence::Gone })
}
