//! A control plane of its own: real operators over a real etcd, on the loopback, in a folder that goes with it.

mod authority;
mod caller;
mod change;
mod etcd;
mod process;

pub(crate) use authority::Authority;
pub(crate) use caller::Caller;
pub(crate) use change::pushed_bytes;
pub(crate) use etcd::Etcd;

use crate::{interrupt, program};
use anyhow::{Context, Result, bail};
use process::Owned;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use weft_api::{
    operator::{Answer, MemberChange, Request},
    transport::{Client, Options},
};

/// Long enough for anything here that happens at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at what takes a while.
const MOMENT: Duration = Duration::from_millis(20);

/// An operator that runs.
pub(crate) struct Operator {
    process: Owned,
    /// Where it answers.
    pub(crate) socket: PathBuf,
    /// Where agents connect.
    pub(crate) address: SocketAddr,
}

impl Operator {
    /// Asks it something, and waits.
    pub(crate) fn ask(&self, request: Request) -> Result<Answer> {
        let mut client = Client::connect(&self.socket, PATIENCE)?;
        Ok(client.call(request, Options::within(PATIENCE))?)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u64 {
        u64::from(self.process.id())
    }
}

/// Operators and what they need. Processes end before their folder goes.
pub(crate) struct Cluster {
    /// The operators; the first one founded.
    pub(crate) operators: Vec<Operator>,
    /// Their store; none where the one operator has a file.
    pub(crate) etcd: Option<Etcd>,
    /// Whose certificates all have.
    pub(crate) authority: Authority,
    /// Addresses of theirs that nobody else is to get.
    held: Vec<Port>,
    folder: TempDir,
}

impl Cluster {
    /// One operator with a file for its store.
    pub(crate) fn alone(flags: &[&str]) -> Result<Self> {
        let mut cluster = Self::empty(None)?;
        cluster.start(None, flags)?;
        Ok(cluster)
    }

    /// Three operators, one group, over an etcd of three members.
    pub(crate) fn of_three(flags: &[&str]) -> Result<Self> {
        let mut cluster = Self::empty(Some(3))?;
        cluster.held = ports(3)?;
        let peers: Vec<SocketAddr> = cluster.held.iter().map(|port| port.address).collect();
        for (member, peer) in (1..).zip(peers) {
            if member == 1 {
                cluster.start(Some((member, peer)), flags)?;
                continue;
            }
            cluster.change(&MemberChange::Add { member, address: peer.to_string() })?;
            cluster.start(Some((member, peer)), flags)?;
            cluster.change(&MemberChange::Promote { member })?;
        }
        Ok(cluster)
    }

    fn empty(etcd: Option<usize>) -> Result<Self> {
        let folder = TempDir::with_prefix("weft-bench-").context("make a folder")?;
        let authority = Authority::new(folder.path())?;
        let etcd = etcd.map(|members| Etcd::start(members, folder.path())).transpose()?;
        Ok(Self { operators: Vec::new(), etcd, authority, held: Vec::new(), folder })
    }

    /// Where things of this cluster may be written: on the disk that its members have theirs on.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn start(&mut self, peer: Option<(u64, SocketAddr)>, flags: &[&str]) -> Result<()> {
        let member = peer.map_or(1, |(member, _)| member);
        let name = format!("operator{member}");
        let names = ["operator.weft".to_owned(), format!("{member}.member.weft")];
        let keys = self.authority.issue(&name, &names)?;
        let listen = ports(1)?.remove(0);
        let (dir, address) = (self.folder.path(), listen.address);
        let socket = dir.join(format!("{name}.sock"));
        let mut command = Owned::command(&program::ours("weft-operator")?);
        command
            .args(["--cluster", "bench", "--listen", &address.to_string()])
            .arg("--state-dir")
            .arg(dir.join(&name))
            .arg("--admin-socket")
            .arg(&socket)
            .arg("--ca")
            .arg(&keys.ca)
            .arg("--cert")
            .arg(&keys.certificate)
            .arg("--key")
            .arg(&keys.key)
            .args(flags);
        if let Some((member, peer)) = peer {
            let (member, peer) = (member.to_string(), peer.to_string());
            command.args(["--member", &member, "--peer-listen", &peer]);
            if member != "1" {
                command.arg("--join");
            }
        }
        if let Some(etcd) = &self.etcd {
            command.args(["--etcd", &etcd.endpoints().join(",")]);
        }
        let log = dir.join(format!("{name}.log"));
        let process = Owned::start(command, &log)?;
        let mut operator = Operator { process, socket, address };
        let mut why = String::new();
        let begun =
            eventually(|| match (operator.process.ended(), operator.ask(Request::Status)) {
                (Some(status), _) => Some(Err(status)),
                (None, Ok(_)) => Some(Ok(())),
                (None, Err(error)) => {
                    why = format!("{error:#}");
                    None
                }
            });
        let what = match begun {
            Ok(Ok(())) => {
                self.held.push(listen);
                self.operators.push(operator);
                return Ok(());
            }
            Ok(Err(status)) => format!("it ended ({status})"),
            Err(error) => format!("{error:#}: {why}"),
        };
        bail!("start {name}: {what}\n{}", last_lines(&log))
    }

    /// Whoever leads and takes changes.
    pub(crate) fn leader(&self) -> Result<&Operator> {
        let leads = |operator: &&Operator| match operator.ask(Request::Cluster { of: None }) {
            Ok(Answer::Cluster(cluster)) => cluster.serving,
            _ => false,
        };
        eventually(|| self.operators.iter().find(leads)).context("find who leads")
    }

    /// Changes the group; again while it cannot be yet.
    fn change(&self, change: &MemberChange) -> Result<()> {
        let done = eventually(|| {
            let answer = self.leader().ok()?.ask(Request::Member(change.clone()));
            matches!(answer, Ok(Answer::Done)).then_some(())
        });
        done.with_context(|| format!("{change:?}"))
    }
}

/// Looks until something is there.
pub(crate) fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> Result<T> {
    let until = Instant::now() + PATIENCE;
    loop {
        interrupt::check()?;
        if let Some(seen) = look() {
            return Ok(seen);
        }
        anyhow::ensure!(Instant::now() < until, "not within {} s", PATIENCE.as_secs());
        thread::sleep(MOMENT);
    }
}

/// The end of a log.
fn last_lines(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines.get(lines.len().saturating_sub(8)..).unwrap_or_default().join("\n")
}

/// A place on the loopback that the kernel gives to nobody while this is there, but to one that asks for it by number.
pub(crate) struct Port {
    address: SocketAddr,
    _held: TcpSocket,
}

fn ports(count: usize) -> Result<Vec<Port>> {
    let port = || {
        let socket = TcpSocket::new_v4()?;
        // Who listens there sets it, too, as tokio and Go do; this one never listens.
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Ok(Port { address: socket.local_addr()?, _held: socket })
    };
    (0..count).map(|_| port()).collect::<std::io::Result<_>>().context("find free ports")
}
