//! Links, addresses and routes of a lab, over rtnetlink in the caller's network namespace.

use super::netns;
use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use rtnetlink::{Handle, LinkBridge, LinkUnspec, LinkVeth, RouteMessageBuilder, new_connection};
use std::{fs::File, future::Future, net::Ipv4Addr, os::fd::AsRawFd};

/// Runs netlink requests in the namespace of this thread.
pub(crate) fn with<T, F: Future<Output = Result<T>>>(
    requests: impl FnOnce(Handle) -> F,
) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (connection, handle, _) = new_connection().context("open a netlink socket")?;
        tokio::spawn(connection);
        requests(handle).await
    })
}

/// Sets a link up.
pub(crate) async fn up(handle: &Handle, name: &str) -> Result<()> {
    let index = index(handle, name).await?;
    let message = LinkUnspec::new_with_index(index).up().build();
    handle.link().change(message).execute().await.with_context(|| format!("set {name} up"))
}

/// Makes the underlay's bridge with the gateway's address.
pub(crate) async fn bridge(handle: &Handle, name: &str, address: Ipv4Addr) -> Result<()> {
    let made = handle.link().add(LinkBridge::new(name).up().build()).execute().await;
    made.with_context(|| format!("make bridge {name}"))?;
    give(handle, name, address).await
}

/// Makes a veth pair: one end in the bridge, the other in a node's namespace as `eth0`.
pub(crate) async fn plug_node(handle: &Handle, bridge: &str, port: &str, node: &str) -> Result<()> {
    let file = File::open(netns::path(node)).with_context(|| format!("open {node}"))?;
    let peer = format!("{port}p");
    let made = handle.link().add(LinkVeth::new(port, &peer).build()).execute().await;
    made.with_context(|| format!("make veth {port}"))?;
    let moved = LinkUnspec::new_with_index(index(handle, &peer).await?)
        .name("eth0")
        .setns_by_fd(file.as_raw_fd())
        .build();
    handle
        .link()
        .change(moved)
        .execute()
        .await
        .with_context(|| format!("move {peer} to {node}"))?;
    let (port_index, controller) = (index(handle, port).await?, index(handle, bridge).await?);
    let message = LinkUnspec::new_with_index(port_index).controller(controller).up().build();
    handle.link().change(message).execute().await.with_context(|| format!("put {port} in {bridge}"))
}

/// A node's own side: its address and its default route.
pub(crate) async fn address_node(
    handle: &Handle,
    address: Ipv4Addr,
    gateway: Ipv4Addr,
) -> Result<()> {
    give(handle, "eth0", address).await?;
    up(handle, "eth0").await?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new().gateway(gateway).build();
    let made = handle.route().add(route).execute().await;
    made.with_context(|| format!("route by default over {gateway}"))
}

async fn give(handle: &Handle, name: &str, address: Ipv4Addr) -> Result<()> {
    let index = index(handle, name).await?;
    let given = handle.address().add(index, address.into(), 24).execute().await;
    given.with_context(|| format!("give {address} to {name}"))
}

async fn index(handle: &Handle, name: &str) -> Result<u32> {
    let mut found = handle.link().get().match_name(name.to_owned()).execute();
    let link = found.try_next().await.with_context(|| format!("find link {name}"))?;
    Ok(link.with_context(|| format!("find link {name}"))?.header.index)
}
