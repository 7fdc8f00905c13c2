//! A real etcd.

use super::{Port, eventually, ports, process::Owned};
use anyhow::{Context, Result};
use etcd_client::{Client, KvClient};
use std::path::Path;

/// Its members, on the loopback.
pub(crate) struct Etcd {
    endpoints: Vec<String>,
    _members: Vec<Owned>,
    _held: Vec<Port>,
}

impl Etcd {
    /// Starts its members; they answer as soon as they have elected one.
    pub(super) fn start(members: usize, folder: &Path) -> Result<Self> {
        let held = ports(2 * members)?;
        let mut clients: Vec<_> = held.iter().map(|port| port.address).collect();
        let peers = clients.split_off(members);
        let all = peers.iter().enumerate().map(|(n, peer)| format!("etcd{n}=http://{peer}"));
        let all = all.collect::<Vec<_>>().join(",");
        let mut running = Vec::new();
        for (n, (client, peer)) in clients.iter().zip(&peers).enumerate() {
            let (name, client, peer) =
                (format!("etcd{n}"), format!("http://{client}"), format!("http://{peer}"));
            let mut command = Owned::command(Path::new("etcd"));
            command
                .args(["--name", &name, "--initial-cluster", &all])
                .arg("--data-dir")
                .arg(folder.join(&name))
                .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
                .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
            running.push(Owned::start(command, &folder.join(format!("{name}.log")))?);
        }
        let endpoints = clients.iter().map(|client| format!("http://{client}")).collect();
        let etcd = Self { endpoints, _members: running, _held: held };
        etcd.answers().context("wait for etcd (Debian's package is etcd-server)")?;
        Ok(etcd)
    }

    /// Where clients connect.
    pub(crate) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    fn answers(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let look = async || self.connect().await.ok()?.get("a", None).await.ok();
        eventually(|| runtime.block_on(look()).map(drop))
    }

    /// A client that asks the members in turn.
    pub(crate) async fn connect(&self) -> Result<KvClient> {
        Ok(Client::connect(&self.endpoints, None).await?.kv_client())
    }
}
