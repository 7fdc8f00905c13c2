//! What an agent is told when it starts.

use crate::{api, capacity, cni, loader, mapsync, metrics, runtime, uplink};
use std::{net::Ipv4Addr, path::PathBuf};
use weft_datapath::attachment::Attachment;
use weft_process::{logs, version::version};

/// Weft's node agent: plugs pods and keeps the node's eBPF programs and maps as the operators say.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "weft-agent", version = version(), max_term_width = 100)]
pub struct Config {
    /// This node's name, as its certificate spells it.
    #[arg(long)]
    pub node: String,
    /// This node's address; its device is the one that has it.
    #[arg(long)]
    pub node_address: Ipv4Addr,
    /// Folder of the sockets.
    #[arg(long, default_value = "/run/weft")]
    pub run_dir: PathBuf,
    /// Folder of what must survive the agent.
    #[arg(long, default_value = "/var/lib/weft/agent")]
    pub state_dir: PathBuf,
    /// A mounted bpffs of the agent's own.
    #[arg(long, default_value = "/sys/fs/bpf/weft")]
    pub bpffs: PathBuf,
    /// Operators.
    #[command(flatten)]
    pub uplink: uplink::Config,
    /// Certificate of the authority that signs agents and operators (PEM).
    #[arg(long)]
    pub ca: PathBuf,
    /// This agent's certificate (PEM), for the name NODE.node.weft.
    #[arg(long, visible_alias = "certificate")]
    pub cert: PathBuf,
    /// Its key (PEM).
    #[arg(long)]
    pub key: PathBuf,
    /// MTU of pods; the device's own when absent.
    #[arg(long)]
    pub mtu: Option<u32>,
    /// Let callers of the local socket make actors fail: for labs and tests, never for a cluster.
    #[arg(long, hide = true)]
    pub allow_faults: bool,
    /// How programs are attached; the best that this kernel has when absent.
    #[arg(long, value_enum)]
    pub attachment: Option<Attach>,
    /// CNI.
    #[command(flatten)]
    pub cni: cni::Config,
    /// The local socket.
    #[command(flatten)]
    pub api: api::Config,
    /// Actors.
    #[command(flatten)]
    pub runtime: runtime::Config,
    /// Maps.
    #[command(flatten)]
    pub maps: mapsync::Config,
    /// Their sizes.
    #[command(flatten)]
    pub capacity: capacity::Config,
    /// Programs.
    #[command(flatten)]
    pub programs: loader::Config,
    /// Metrics.
    #[command(flatten)]
    pub metrics: metrics::Config,
    /// Logs.
    #[command(flatten)]
    pub logs: logs::Config,
}

impl Config {
    /// How programs are attached.
    pub fn attachment(&self) -> Attachment {
        match self.attachment {
            None => Attachment::of_this_kernel(),
            Some(Attach::Tcx) => Attachment::Tcx,
            Some(Attach::Clsact) => Attachment::Clsact,
        }
    }
}

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Attach {
    /// By TCX links (Linux 6.6 or later).
    Tcx,
    /// By filters of a clsact qdisc.
    Clsact,
}
