//! The serving half: connections, limits, dispatch to one handler.

use super::{
    Request,
    listen::{BindError, file_id, listen_on, may_speak},
};
use crate::{API_VERSION, Call, Failure, FailureKind, LINE_MAX, Reply};
use futures_util::{StreamExt, stream::FuturesUnordered};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use std::{
    future::Future,
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixListener, UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

/// What a handler answers.
#[derive(Debug)]
pub enum Response<A> {
    /// One answer.
    One(Result<A, Failure>),
    /// A stream; it ends when the sender is dropped, and the receiver is dropped when the caller is gone.
    /// A failure in it is its last item.
    Many(mpsc::Receiver<Result<A, Failure>>),
}

impl<A> From<Result<A, Failure>> for Response<A> {
    fn from(result: Result<A, Failure>) -> Self {
        Self::One(result)
    }
}

/// What callers can make a server hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of one line.
    pub line: usize,
    /// Connections at once; more are told to come again.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { line: LINE_MAX, connections: 1024 }
    }
}

/// A socket that serves; its file is removed when it is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    file: Option<(u64, u64)>,
    limits: Limits,
}

impl Server {
    /// Listens at `path`, in the context of a tokio runtime.
    pub fn bind(path: &Path, limits: Limits) -> Result<Self, BindError> {
        let listener = UnixListener::from_std(listen_on(path)?)
            .map_err(|source| BindError::Io { path: path.to_owned(), source })?;
        Ok(Self { listener, path: path.to_owned(), file: file_id(path), limits })
    }

    /// Serves until dropped. Requests of one connection are handled one after another, those of
    /// several at once; the future is `Send` when the handler and its futures are.
    ///
    /// A handler's future is run to its end even if the caller has gone: it may be in the middle of a change.
    pub async fn serve<R, F>(self, handler: impl Fn(Call<R>) -> F)
    where
        R: Request,
        F: Future<Output = Response<R::Answer>>,
    {
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                stream = self.accept() => {
                    let admitted = connections.len() < self.limits.connections;
                    connections.push(greet(stream, admitted, self.limits.line, &handler));
                }
                Some(()) = connections.next() => {}
            }
        }
    }

    /// The next connection of someone who may speak here.
    async fn accept(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if stream.peer_cred().is_ok_and(|c| may_speak(c.uid())) => {
                    return stream;
                }
                Ok(_) => {}
                // Out of descriptors, say: others must end before there is one for the next.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.file.is_some() && file_id(&self.path) == self.file {
            // Nothing can be done about a file that does not go; the next start replaces it.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

async fn greet<R, F>(
    stream: UnixStream,
    admitted: bool,
    line_max: usize,
    handler: &impl Fn(Call<R>) -> F,
) where
    R: Request,
    F: Future<Output = Response<R::Answer>>,
{
    let (reader, writer) = stream.into_split();
    let mut connection = Connection { reader: BufReader::new(reader), writer, line_max };
    // An error is the caller's leaving; there is nobody to tell.
    if admitted {
        drop(connection.run(handler).await);
    } else {
        let busy = Failure {
            kind: FailureKind::TryAgain,
            message: "too many connections at once: try again".to_owned(),
        };
        drop(connection.write(&Reply::<R::Answer>::Error(busy)).await);
    }
}

struct Connection {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    line_max: usize,
}

impl Connection {
    async fn run<R, F>(&mut self, handler: &impl Fn(Call<R>) -> F) -> io::Result<()>
    where
        R: Request,
        F: Future<Output = Response<R::Answer>>,
    {
        loop {
            let line = match read_line(&mut self.reader, self.line_max).await? {
                Line::Closed => return Ok(()),
                Line::TooLong => {
                    let why = format!("the request is longer than {} bytes", self.line_max);
                    return self.write(&Reply::<R::Answer>::Error(invalid(why))).await;
                }
                Line::Whole(line) => line,
            };
            match parse::<R>(&line) {
                Err(failure) => self.write(&Reply::<R::Answer>::Error(failure)).await?,
                Ok(call) => match handler(call).await {
                    Response::One(result) => self.write(&Reply::from(result)).await?,
                    Response::Many(items) => self.write_all(items).await?,
                },
            }
        }
    }

    async fn write_all<A: Serialize>(
        &mut self,
        mut items: mpsc::Receiver<Result<A, Failure>>,
    ) -> io::Result<()> {
        let mut listening = true;
        loop {
            tokio::select! {
                biased;
                item = items.recv() => match item {
                    Some(Ok(answer)) => self.write(&Reply::Ok(answer)).await?,
                    Some(Err(failure)) => return self.write(&Reply::<A>::Error(failure)).await,
                    None => return self.write(&Reply::<A>::End).await,
                },
                buffered = self.reader.fill_buf(), if listening => {
                    // The next request waits its turn. Half a close (`echo … | socat`) still wants its answers.
                    let half_closed = buffered?.is_empty();
                    if half_closed && self.is_hung_up() {
                        return Err(io::ErrorKind::BrokenPipe.into());
                    }
                    listening = false;
                }
            }
        }
    }

    fn is_hung_up(&self) -> bool {
        let stream: &UnixStream = self.writer.as_ref();
        let mut asked = [PollFd::new(stream.as_fd(), PollFlags::empty())];
        let polled = poll(&mut asked, PollTimeout::ZERO).is_ok();
        let events = asked.first().and_then(PollFd::revents);
        polled && events.is_some_and(|e| e.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
    }

    async fn write<A: Serialize>(&mut self, reply: &Reply<A>) -> io::Result<()> {
        let mut line = serde_json::to_vec(reply)?;
        line.push(b'\n');
        self.writer.write_all(&line).await
    }
}

fn parse<R: Request>(line: &[u8]) -> Result<Call<R>, Failure> {
    let call: Call<R> = serde_json::from_slice(line)
        .map_err(|error| invalid(format!("this is not a request: {error}")))?;
    if call.version != API_VERSION {
        return Err(invalid(format!(
            "the caller speaks version {} of the local API, this side {API_VERSION}: use programs of one release",
            call.version
        )));
    }
    Ok(call)
}

fn invalid(message: String) -> Failure {
    Failure { kind: FailureKind::Invalid, message }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    Closed,
}

async fn read_line(reader: &mut (impl AsyncBufRead + Unpin), max: usize) -> io::Result<Line> {
    let mut line = Vec::new();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(if line.is_empty() { Line::Closed } else { Line::Whole(line) });
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
        if line.len() + taken.len() > max {
            return Ok(Line::TooLong);
        }
        line.extend_from_slice(taken);
        let consumed = taken.len() + usize::from(end.is_some());
        reader.consume(consumed);
        if end.is_some() {
            return Ok(Line::Whole(line));
        }
    }
}
