//! What an operator is told when it starts.

use crate::{admission, identities, labels, leader, peers, session};
use std::{net::SocketAddr, path::PathBuf};
use weft_process::{logs, version::version};
use weft_types::{Cluster, identity::NoSpace};

/// Weft's operator: orders cluster state, allocates identities and pushes both to the node agents.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "weft-operator", version = version(), max_term_width = 100)]
pub struct Config {
    /// The cluster's name, a label of every identity.
    #[arg(long, default_value = "default")]
    pub cluster: String,
    /// Folder of the store (store.redb) and the log (raft.redb).
    #[arg(long, default_value = "/var/lib/weft/operator")]
    pub state_dir: PathBuf,
    /// Members of an etcd, as http://10.0.0.1:2379,http://10.0.0.2:2379: the store is there then, under /weft/CLUSTER/,
    /// and not in store.redb.
    #[arg(long, value_name = "URL", value_delimiter = ',', value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub etcd: Vec<String>,
    /// TLS to etcd.
    #[command(flatten)]
    pub etcd_tls: EtcdTls,
    /// Where agents connect.
    #[arg(long, default_value = "0.0.0.0:4900")]
    pub listen: SocketAddr,
    /// Socket of the admin API, mode 0600.
    #[arg(long, default_value = "/run/weft/operator.sock")]
    pub admin_socket: PathBuf,
    /// Certificate of the authority that signs agents and operators (PEM).
    #[arg(long)]
    pub ca: PathBuf,
    /// This operator's certificate (PEM), for the name operator.weft, and for NUMBER.member.weft when it has peers.
    #[arg(long, visible_alias = "certificate")]
    pub cert: PathBuf,
    /// Its key (PEM).
    #[arg(long)]
    pub key: PathBuf,
    /// Where /metrics and /healthz are served, on loopback, as 127.0.0.1:9963; nowhere when absent.
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_listen: Option<SocketAddr>,
    /// The operators' group.
    #[command(flatten)]
    pub peers: peers::Config,
    /// Who may try to connect.
    #[command(flatten)]
    pub admission: admission::Config,
    /// Which labels make identities.
    #[command(flatten)]
    pub labels: labels::Config,
    /// Their numbers.
    #[command(flatten)]
    pub identities: identities::Config,
    /// Sessions of agents.
    #[command(flatten)]
    pub sessions: session::Config,
    /// History and log.
    #[command(flatten)]
    pub leader: leader::Config,
    /// Logs.
    #[command(flatten)]
    pub logs: logs::Config,
}

impl Config {
    /// What is fixed when the cluster is founded.
    pub fn cluster(&self) -> Result<Cluster, NoSpace> {
        Ok(Cluster { name: self.cluster.clone(), space: self.identities.space()? })
    }
}

/// How etcd is spoken with by TLS.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct EtcdTls {
    /// Certificate of the authority of etcd's members (PEM); their URLs begin with https then.
    #[arg(long, value_name = "FILE", requires = "etcd")]
    pub etcd_ca: Option<PathBuf>,
    /// This operator's certificate for etcd (PEM), where it asks for one. Renewed ones are read at the next start.
    #[arg(long, value_name = "FILE", requires_all = ["etcd_ca", "etcd_key"])]
    pub etcd_cert: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    pub etcd_key: Option<PathBuf>,
}

impl EtcdTls {
    /// As the store takes it.
    pub fn files(&self) -> weft_store::EtcdTls {
        let certificate = self.etcd_cert.clone().zip(self.etcd_key.clone());
        weft_store::EtcdTls { ca: self.etcd_ca.clone(), certificate }
    }
}
