//! The built-in servers: one process a lab listens on the pods' ports, each socket in its pod's namespace.
//!
//! What it listens on follows the lab's record, and is read again when a command asks for it over the control
//! socket; connections stay when a port goes, and end with their pod.

use super::{answer, netns, record};
use crate::output::{Outcome, note};
use anyhow::{Context, Result, bail};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn, bind, listen, setsockopt,
    socket as new_socket, sockopt,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, BufReader as LineReader, Write},
    net::{SocketAddrV4, TcpListener as StdListener, UdpSocket as StdUdpSocket},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    path::PathBuf,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, UdpSocket, UnixListener, UnixStream},
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};
use weft_types::policy::Protocol;

/// How long the servers may take to answer an order.
const PATIENCE: Duration = Duration::from_secs(20);
const BACKLOG: i32 = 1024;

/// A protocol and a port.
pub(crate) type Port = (Protocol, u16);

/// What the servers can be told over the control socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Read the record again, and listen on what it says.
    Reload,
    /// Listen on these ports in every pod too, until this connection ends.
    Open(Vec<Port>),
    /// Only answer.
    Ping,
}

/// Where the servers of a lab take orders.
pub(crate) fn socket(lab: &record::Lab) -> PathBuf {
    lab.dir().join("server.sock")
}

/// A connection to the servers of a lab.
pub(crate) struct Control(LineReader<StdUnixStream>);

impl Control {
    /// Connects.
    pub(crate) fn of(lab: &record::Lab) -> Result<Self> {
        let path = socket(lab);
        let connected = StdUnixStream::connect(&path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            Ok(Self(LineReader::new(stream)))
        });
        connected.with_context(|| {
            let log = lab.dir().join("server.log");
            format!(
                "reach the servers of lab {} at {}: see {}, and start them with `weft lab apply`",
                lab.name,
                path.display(),
                log.display()
            )
        })
    }

    /// Gives an order; returns when it is carried out, with the ports that could not be opened.
    pub(crate) fn ask(&mut self, order: &Order) -> Result<Vec<String>> {
        let asked = (|| {
            let mut line = serde_json::to_vec(order)?;
            line.push(b'\n');
            self.0.get_ref().write_all(&line)?;
            let mut answer = String::new();
            if self.0.read_line(&mut answer)? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            Ok(serde_json::from_str(&answer)?)
        })();
        asked.with_context(|| format!("tell the lab's servers to {order:?}"))
    }
}

/// Runs the servers until the process is ended.
pub(crate) fn run(name: &str) -> Result<Outcome> {
    let lab = record::find(Some(name))?;
    raise_file_limit();
    let path = socket(&lab);
    // Left by servers that were killed.
    let _ = std::fs::remove_file(&path);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut servers = Servers { lab: lab.name, ..Servers::default() };
        for problem in servers.reload() {
            note!("{problem}");
        }
        let listener =
            UnixListener::bind(&path).with_context(|| format!("listen at {}", path.display()))?;
        let (tell, mut told) = mpsc::channel(16);
        tokio::spawn(accept(listener, tell));
        while let Some(news) = told.recv().await {
            match news {
                News::Order(from, order, answer) => {
                    // Who asked may have left.
                    let _ = answer.send(servers.obey(from, order));
                }
                News::Left(from) => drop(servers.obey(from, Order::Open(Vec::new()))),
            }
        }
        bail!("the control socket of lab {name} closed")
    })
}

/// As many files as the system allows: a connection is one.
pub(crate) fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // With fewer the servers serve all the same.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

enum News {
    Order(u64, Order, oneshot::Sender<Vec<String>>),
    Left(u64),
}

async fn accept(listener: UnixListener, tell: mpsc::Sender<News>) {
    let mut number = 0;
    while let Ok((stream, _)) = listener.accept().await {
        number += 1;
        let tell = tell.clone();
        tokio::spawn(async move {
            if let Err(error) = orders(number, stream, &tell).await {
                note!("control connection {number}: {error}");
            }
            // The receiver lives as long as the process.
            let _ = tell.send(News::Left(number)).await;
        });
    }
}

async fn orders(from: u64, stream: UnixStream, tell: &mpsc::Sender<News>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let (answer, answered) = oneshot::channel();
        let news = News::Order(from, serde_json::from_str(&line)?, answer);
        tell.send(news).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        let problems = answered.await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        let mut line = serde_json::to_vec(&problems)?;
        line.push(b'\n');
        write.write_all(&line).await?;
    }
    Ok(())
}

/// What listens, and why.
#[derive(Default)]
struct Servers {
    lab: String,
    pods: BTreeMap<String, PodServers>,
    /// Ports that control connections asked for.
    asked: BTreeMap<u64, Vec<Port>>,
}

/// The servers of one pod.
struct PodServers {
    /// Tells a namespace from a later one of its name.
    inode: Option<(u64, u64)>,
    pod: record::Pod,
    listening: BTreeMap<Port, AbortHandle>,
    /// Connections end when it is dropped.
    lives: watch::Sender<()>,
}

impl Servers {
    fn obey(&mut self, from: u64, order: Order) -> Vec<String> {
        match order {
            Order::Ping => Vec::new(),
            Order::Reload => self.reload(),
            Order::Open(ports) => {
                self.asked.remove(&from);
                if !ports.is_empty() {
                    self.asked.insert(from, ports.clone());
                }
                // Of those that pods declare, whoever had the record read was told.
                let problems = self.settle().into_iter();
                problems.filter(|(port, _)| ports.contains(port)).map(|(_, text)| text).collect()
            }
        }
    }

    /// Takes the pods of the record; those that went lose their connections too.
    fn reload(&mut self) -> Vec<String> {
        let lab = match record::Lab::load(&self.lab) {
            Ok(lab) => lab,
            Err(error) => return vec![format!("{error:#}")],
        };
        let mut before = std::mem::take(&mut self.pods);
        for pod in lab.pods.into_iter().filter(|pod| pod.address.is_some()) {
            let inode = netns::inode(&pod.netns);
            let known = before.remove(&pod.name).filter(|known| known.inode == inode);
            let servers = match known {
                Some(known) => PodServers { pod: pod.clone(), ..known },
                None => PodServers {
                    inode,
                    pod: pod.clone(),
                    listening: BTreeMap::new(),
                    lives: watch::Sender::new(()),
                },
            };
            self.pods.insert(pod.name, servers);
        }
        for gone in before.into_values() {
            gone.listening.values().for_each(AbortHandle::abort);
        }
        self.settle().into_iter().map(|(_, text)| text).collect()
    }

    /// Listens on what should be listened on, and on nothing else; what that could not be done for.
    fn settle(&mut self) -> Vec<(Port, String)> {
        let everywhere: BTreeSet<Port> = self.asked.values().flatten().copied().collect();
        let mut problems = Vec::new();
        for servers in self.pods.values_mut() {
            // Who runs a command serves what it likes.
            let mut wanted = BTreeSet::new();
            if servers.pod.command.is_empty() {
                wanted.extend(servers.pod.declared());
                wanted.extend(&everywhere);
            }
            servers.listening.retain(|port, listener| {
                // One that ended by itself is opened again.
                let stays = wanted.contains(port) && !listener.is_finished();
                if !stays {
                    listener.abort();
                }
                stays
            });
            wanted.retain(|port| !servers.listening.contains_key(port));
            problems.extend(servers.open(wanted));
        }
        problems
    }
}

impl PodServers {
    fn open(&mut self, ports: BTreeSet<Port>) -> Vec<(Port, String)> {
        if ports.is_empty() {
            return Vec::new();
        }
        let wanted = ports.clone();
        let opened = netns::inside(&self.pod.netns, move || {
            Ok(wanted.into_iter().map(|port| (port, bound(port))).collect::<Vec<_>>())
        });
        let pod = self.pod.name.clone();
        let problem = |port: Port, error: &dyn std::fmt::Display| {
            (port, format!("listen on {}/{} in {pod}: {error:#}", port.0, port.1))
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return ports.into_iter().map(|port| problem(port, &error)).collect(),
        };
        let mut problems = Vec::new();
        for (port, socket) in opened {
            match socket.and_then(|socket| self.serve(port.0, socket)) {
                Ok(listener) => drop(self.listening.insert(port, listener)),
                Err(error) => problems.push(problem(port, &error)),
            }
        }
        problems
    }

    fn serve(&self, protocol: Protocol, socket: OwnedFd) -> io::Result<AbortHandle> {
        let (name, lives) = (self.pod.name.clone(), self.lives.subscribe());
        let task = match protocol {
            Protocol::Udp => {
                let socket = UdpSocket::from_std(StdUdpSocket::from(socket))?;
                tokio::spawn(answer::datagrams(socket, name))
            }
            // A one-to-one SCTP socket is used as a TCP one is.
            Protocol::Tcp | Protocol::Sctp => {
                let listener = TcpListener::from_std(StdListener::from(socket))?;
                tokio::spawn(answer::connections(listener, name, lives))
            }
        };
        Ok(task.abort_handle())
    }
}

/// A socket of the caller's namespace that hears a port.
fn bound((protocol, port): Port) -> io::Result<OwnedFd> {
    let socket = open(protocol)?;
    if protocol == Protocol::Tcp {
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new([0, 0, 0, 0].into(), port)))?;
    if protocol != Protocol::Udp {
        listen(&socket, Backlog::new(BACKLOG)?)?;
    }
    Ok(socket)
}

/// What a socket for datagrams may hold unread: a second of thousands of packets, each of which takes some
/// 1.3 kB of it, so that a datagram that is lost was lost by the fabric and not by a machine too busy to read it.
const UNREAD: usize = 16 << 20;

/// An unbound socket of the caller's namespace.
pub(crate) fn open(protocol: Protocol) -> io::Result<OwnedFd> {
    let (kind, protocol) = match protocol {
        Protocol::Tcp => (SockType::Stream, SockProtocol::Tcp),
        Protocol::Udp => (SockType::Datagram, SockProtocol::Udp),
        Protocol::Sctp => (SockType::Stream, SockProtocol::Sctp),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = new_socket(AddressFamily::Inet, kind, flags, protocol)?;
    if kind == SockType::Datagram {
        setsockopt(&socket, sockopt::RcvBufForce, &UNREAD)?;
    }
    Ok(socket)
}

/// Whether the kernel knows a protocol.
pub(crate) fn is_known(protocol: Protocol) -> bool {
    open(protocol).is_ok()
}
