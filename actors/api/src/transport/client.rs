//! The blocking client.

use super::Request;
use crate::{API_VERSION, Call, Caller, Failure, LINE_MAX, Reply};
use nix::sys::{
    socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, setsockopt, socket, sockopt},
    time::{TimeVal, TimeValLike},
};
use serde::de::DeserializeOwned;
use std::{
    io::{self, BufRead, BufReader, Write},
    marker::PhantomData,
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use weft_types::TraceContext;

/// Why a call has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens there, or this user may not connect.
    #[error("connect to {path}: {source}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The other side was connected and did not answer, or closed.
    #[error("{attempted} {path}: {source}")]
    Broken {
        /// `ask`, `read the answer of`.
        attempted: &'static str,
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The other side answered that it cannot.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// What goes with a call.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long to wait for each answer; for ever when absent.
    pub deadline: Option<Duration>,
    /// The caller's trace.
    pub traceparent: Option<TraceContext>,
    /// The caller's span, where the callee is to send it.
    pub caller: Option<Caller>,
}

impl Options {
    /// Wait this long, in no trace.
    pub const fn within(deadline: Duration) -> Self {
        Self { deadline: Some(deadline), traceparent: None, caller: None }
    }
}

/// A connection to one socket; calls go over it one after another.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects; a listener that accepts nobody for `patience` counts as unreachable.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, CallError> {
        let stream = connect_within(path, patience).map_err(|source| CallError::Unreachable {
            path: path.to_owned(),
            source: source.into(),
        })?;
        Ok(Self { path: path.to_owned(), stream: BufReader::new(stream) })
    }

    /// Asks, and waits for the one answer.
    pub fn call<R: Request>(
        &mut self,
        request: R,
        options: Options,
    ) -> Result<R::Answer, CallError> {
        self.send(request, options)?;
        match self.receive(options.deadline)? {
            Reply::Ok(answer) => Ok(answer),
            Reply::Error(failure) => Err(failure.into()),
            Reply::End => Err(self.broken("read the answer of", invalid("a stream's end came"))),
        }
    }

    /// Asks for a stream; each of its items may take the deadline.
    pub fn stream<R: Request>(
        mut self,
        request: R,
        options: Options,
    ) -> Result<Stream<R::Answer>, CallError> {
        self.send(request, options)?;
        Ok(Stream { client: self, deadline: options.deadline, ended: false, items: PhantomData })
    }

    fn send<R: Request>(&mut self, request: R, options: Options) -> Result<(), CallError> {
        let deadline_ms =
            options.deadline.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        let Options { traceparent, caller, .. } = options;
        let call = Call { version: API_VERSION, traceparent, caller, deadline_ms, request };
        let socket = self.stream.get_ref();
        let written = (|| {
            let mut line = serde_json::to_vec(&call)?;
            line.push(b'\n');
            socket.set_write_timeout(options.deadline.map(not_zero))?;
            (&*socket).write_all(&line)
        })();
        match written {
            // Whoever closed may have said why; reading tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(|source| self.broken("ask", source)),
        }
    }

    fn receive<A: DeserializeOwned>(
        &mut self,
        patience: Option<Duration>,
    ) -> Result<Reply<A>, CallError> {
        let line = read_line(&mut self.stream, patience);
        let reply = line.and_then(|line| Ok(serde_json::from_slice(&line)?));
        reply.map_err(|source| self.broken("read the answer of", source))
    }

    fn broken(&self, attempted: &'static str, source: io::Error) -> CallError {
        // Both spellings of a timeout that Linux has are one thing to a reader.
        let source = match source.kind() {
            io::ErrorKind::WouldBlock => {
                io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
            }
            _ => source,
        };
        CallError::Broken { attempted, path: self.path.clone(), source }
    }
}

/// The answers to a request for a stream.
#[derive(Debug)]
pub struct Stream<A> {
    client: Client,
    deadline: Option<Duration>,
    ended: bool,
    items: PhantomData<A>,
}

impl<A: DeserializeOwned> Iterator for Stream<A> {
    type Item = Result<A, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let item = match self.client.receive(self.deadline) {
            Ok(Reply::Ok(answer)) => return Some(Ok(answer)),
            Ok(Reply::End) => None,
            Ok(Reply::Error(failure)) => Some(Err(failure.into())),
            Err(error) => Some(Err(error)),
        };
        self.ended = true;
        item
    }
}

fn connect_within(path: &Path, patience: Duration) -> nix::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // A full backlog makes connect wait for as long as a send may.
    let millis = i64::try_from(patience.as_millis()).unwrap_or(i64::MAX).max(1);
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(millis))?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd.into())
}

/// One line without its end, at most [`LINE_MAX`] long, read before `patience` is over.
fn read_line(
    stream: &mut BufReader<UnixStream>,
    patience: Option<Duration>,
) -> io::Result<Vec<u8>> {
    let until = patience.and_then(|p| Instant::now().checked_add(p));
    let mut line = Vec::new();
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left.is_some_and(|left| left.is_zero()) && stream.buffer().is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        stream.get_ref().set_read_timeout(left.map(not_zero))?;
        let chunk = match stream.fill_buf() {
            Ok([]) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it closed the connection",
                ));
            }
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        if line.len() + taken.len() > LINE_MAX {
            return Err(invalid("a line is longer than the protocol allows"));
        }
        line.extend_from_slice(taken);
        let consumed = taken.len() + usize::from(end.is_some());
        stream.consume(consumed);
        if end.is_some() {
            return Ok(line);
        }
    }
}

/// The kernel takes a zero timeout for none.
fn not_zero(timeout: Duration) -> Duration {
    timeout.max(Duration::from_millis(1))
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
