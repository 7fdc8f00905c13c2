//! The load: one byte there and one back, over and over, both ends on one CPU; or as many bytes there as
//! go, with an end on each of two.
//!
//! With the ends on two CPUs of a virtual machine the wake-up of the other one is most of a round trip and
//! hides the way between them. Blocking sockets, one connection, one thread an end; every byte that
//! comes back is compared with the one that was sent.

use crate::{namespace::Namespace, stream};
use anyhow::{Context, Result, anyhow};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrIn, connect, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
    unistd::Pid,
};
use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Where servers listen; the lab's policies allow it to the client alone.
pub(crate) const PORT: u16 = 7000;
/// Before a round is timed.
const WARM_UP: u32 = 50;
/// How long an end waits for the other: a path that is broken is an error, not a hang.
pub(crate) const PATIENCE: i64 = 1000;
/// How often a server looks whether it is to end.
const TICK: i64 = 5;
/// How long a connection that should be refused is tried.
const REFUSED_AFTER: i64 = 400;

/// Two pods and the address of the second.
#[derive(Clone, Copy)]
pub(crate) struct Ends<'a> {
    /// Who asks.
    pub(crate) client: &'a Namespace,
    /// Who answers.
    pub(crate) server: &'a Namespace,
    /// Where.
    pub(crate) address: Ipv4Addr,
}

/// What goes over the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exchange {
    /// Requests and responses on one TCP connection.
    TcpRequests,
    /// A TCP connection for each request.
    TcpConnections,
    /// Requests and responses as datagrams.
    UdpRequests,
    /// Bytes in one direction, as fast as they go.
    TcpStream,
}

/// Which CPU an end is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cpu {
    First,
    Last,
}

impl Exchange {
    /// The client is on the last CPU: interrupts prefer the first.
    fn server_cpu(self) -> Cpu {
        if self == Self::TcpStream { Cpu::First } else { Cpu::Last }
    }
}

impl Ends<'_> {
    /// Exchanges for this long; how many a second, and how many in all, each of which came back right.
    /// For a stream: gigabits a second, and how many bytes arrived.
    pub(crate) fn exchange(self, how: Exchange, time: Duration) -> Result<(f64, u64)> {
        let over = AtomicBool::new(false);
        let server = self.listen(how)?;
        thread::scope(|scope| {
            let serving = scope.spawn(|| server.serve(how, &over));
            let asking = scope.spawn(|| {
                pin(Cpu::Last)?;
                self.client.enter()?;
                ask(how, SocketAddrV4::new(self.address, PORT), time)
            });
            let asked = asking.join();
            over.store(true, Ordering::Relaxed);
            let served = serving.join();
            let panicked = |_| anyhow!("an end of the load panicked");
            // What the client saw says more than what the server did.
            let asked = asked.map_err(panicked)?;
            let served = served.map_err(panicked)?;
            asked.and_then(|asked| served.map(|()| asked))
        })
    }

    /// Whether a TCP connection comes about while the server listens.
    pub(crate) fn connects(self) -> Result<bool> {
        let over = AtomicBool::new(false);
        let how = Exchange::TcpConnections;
        let server = self.listen(how)?;
        thread::scope(|scope| {
            let serving = scope.spawn(|| server.serve(how, &over));
            let done = self.client.inside(|| {
                let to = SocketAddrV4::new(self.address, PORT);
                Ok(connection(to, REFUSED_AFTER).is_ok())
            });
            over.store(true, Ordering::Relaxed);
            serving.join().map_err(|_| anyhow!("the server panicked"))??;
            done
        })
    }

    /// The server's socket, made where it belongs.
    fn listen(self, how: Exchange) -> Result<Server> {
        let action = || format!("listen at port {PORT} of {}", self.address);
        self.server.inside(|| {
            let any = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT);
            let server = match how {
                Exchange::UdpRequests => UdpSocket::bind(any).map(Server::Datagrams),
                Exchange::TcpRequests | Exchange::TcpConnections | Exchange::TcpStream => {
                    TcpListener::bind(any).map(Server::Connections)
                }
            };
            let server = server.with_context(action)?;
            match &server {
                Server::Connections(socket) => wait_at_most(socket, TICK)?,
                Server::Datagrams(socket) => wait_at_most(socket, TICK)?,
            }
            Ok(server)
        })
    }
}

enum Server {
    Connections(TcpListener),
    Datagrams(UdpSocket),
}

impl Server {
    fn serve(self, how: Exchange, over: &AtomicBool) -> Result<()> {
        pin(how.server_cpu())?;
        while !over.load(Ordering::Relaxed) {
            match &self {
                Self::Connections(socket) => match socket.accept() {
                    Ok((connection, _)) if how == Exchange::TcpStream => {
                        stream::drain(connection, over)?
                    }
                    Ok((connection, _)) => echo(connection, over)?,
                    Err(error) if is_early(&error) => {}
                    Err(error) => return Err(error).context("accept"),
                },
                Self::Datagrams(socket) => {
                    let mut byte = [0];
                    match socket.recv_from(&mut byte) {
                        Ok((_, from)) => drop(socket.send_to(&byte, from).context("answer")?),
                        Err(error) if is_early(&error) => {}
                        Err(error) => return Err(error).context("receive"),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Sends back what comes until the other side has enough.
fn echo(mut connection: TcpStream, over: &AtomicBool) -> Result<()> {
    connection.set_nodelay(true)?;
    let mut byte = [0];
    loop {
        match connection.read(&mut byte) {
            Ok(0) => return Ok(()),
            Ok(_) => drop(connection.write(&byte)),
            Err(error) if is_early(&error) && !over.load(Ordering::Relaxed) => {}
            // The client ends its connections by a reset.
            Err(_) => return Ok(()),
        }
    }
}

pub(crate) fn is_early(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn ask(how: Exchange, to: SocketAddrV4, time: Duration) -> Result<(f64, u64)> {
    match how {
        Exchange::TcpStream => stream::send(to, time),
        Exchange::TcpConnections => {
            count(time, |byte| exchange(&mut connection(to, PATIENCE)?, byte))
        }
        Exchange::TcpRequests => {
            let mut connection = connection(to, PATIENCE)?;
            connection.set_nodelay(true)?;
            count(time, |byte| exchange(&mut connection, byte))
        }
        Exchange::UdpRequests => {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
            wait_at_most(&socket, PATIENCE)?;
            socket.connect(to).with_context(|| format!("connect to {to}"))?;
            count(time, |byte| {
                let mut back = [0; 2];
                socket.send(&[byte]).context("send")?;
                let length = socket.recv(&mut back).context("receive")?;
                is_back(byte, back.get(..length).unwrap_or_default())
            })
        }
    }
}

/// A connection that ends by a reset, so that no closed one lingers and takes up a port.
pub(crate) fn connection(to: SocketAddrV4, patience: i64) -> Result<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    wait_at_most(&socket, patience)?;
    setsockopt(&socket, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))
        .with_context(|| format!("connect to {to}"))?;
    Ok(TcpStream::from(socket))
}

fn wait_at_most(socket: &impl AsFd, milliseconds: i64) -> Result<()> {
    let time = TimeVal::milliseconds(milliseconds);
    setsockopt(socket, sockopt::ReceiveTimeout, &time)?;
    Ok(setsockopt(socket, sockopt::SendTimeout, &time)?)
}

fn exchange(connection: &mut TcpStream, byte: u8) -> Result<()> {
    let mut back = [0];
    connection.write_all(&[byte]).context("send")?;
    connection.read_exact(&mut back).context("receive")?;
    is_back(byte, &back)
}

fn is_back(sent: u8, back: &[u8]) -> Result<()> {
    anyhow::ensure!(back == [sent], "{back:?} came back for {sent}");
    Ok(())
}

/// Does it for this long; how often a second, and how often.
fn count(time: Duration, mut once: impl FnMut(u8) -> Result<()>) -> Result<(f64, u64)> {
    (0..WARM_UP).try_for_each(|n| once(n.to_le_bytes()[0]))?;
    let begun = Instant::now();
    let mut done = 0u64;
    loop {
        once(done.to_le_bytes()[0])?;
        done += 1;
        let passed = begun.elapsed();
        if passed >= time {
            return Ok((done as f64 / passed.as_secs_f64(), done));
        }
    }
}

/// Keeps the calling thread on one of the CPUs that this process may use.
fn pin(cpu: Cpu) -> Result<()> {
    let allowed = sched_getaffinity(Pid::from_raw(std::process::id().cast_signed()))?;
    let mut all = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let cpu = match cpu {
        Cpu::First => all.next(),
        Cpu::Last => all.next_back(),
    };
    let mut one = CpuSet::new();
    one.set(cpu.context("find a CPU")?)?;
    sched_setaffinity(Pid::from_raw(0), &one).context("stay on one CPU")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_back_wrong_is_an_error() {
        assert!(is_back(7, &[7]).is_ok());
        for wrong in [&[8][..], &[], &[7, 7]] {
            assert!(is_back(7, wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn it_counts_what_was_done() {
        let mut calls = 0;
        let (_, done) = count(Duration::ZERO, |_| {
            calls += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((done, calls), (1, WARM_UP + 1));
        assert!(count(Duration::ZERO, |_| anyhow::bail!("lost")).is_err());
    }
}
