//! Many ends of connections on a thread: agents that speak the wire over TLS, and readers that only count bytes.

use crate::cluster::{Authority, PATIENCE};
use anyhow::{Context, Result, bail};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::{Semaphore, oneshot},
    task::{JoinSet, LocalSet},
};
use tokio_rustls::TlsAcceptor;
use weft_types::{NodeName, Revision};
use weft_wire::{
    ToAgent, ToOperator,
    frame::{receive, send},
    tls::{Identity, connect},
};

/// Handshakes under way at once.
const AT_ONCE: usize = 64;

/// What ends have got to, and how many are there. All of them are known from the beginning.
struct Tally<T> {
    at: RefCell<BTreeMap<T, usize>>,
    all: usize,
    tell: mpsc::Sender<Event<T>>,
}

/// What is told of ends.
enum Event<T> {
    /// All of them are at this; since when.
    All(T, Instant),
    /// One is no more.
    Ended(anyhow::Error),
}

impl<T: Ord + Copy> Tally<T> {
    /// One goes on, from where it was, if it was anywhere.
    fn on(&self, before: Option<T>, after: T) {
        let mut at = self.at.borrow_mut();
        if let Some(count) = before.and_then(|before| at.get_mut(&before)) {
            *count -= 1;
        }
        *at.entry(after).or_default() += 1;
        at.retain(|_, count| *count > 0);
        if at.get(&after) == Some(&self.all) {
            // Who measured may have seen enough.
            drop(self.tell.send(Event::All(after, Instant::now())));
        }
    }
}

/// The thread of many ends. They close with it.
struct Crowd<T> {
    told: mpsc::Receiver<Event<T>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl<T: Ord + Copy + Send + 'static> Crowd<T> {
    /// Each end is what `end` makes of its number, on one thread for all.
    fn of<F>(count: usize, end: impl Fn(usize, Rc<Tally<T>>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<()>> + 'static,
    {
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            let tally = Rc::new(Tally { at: RefCell::default(), all: count, tell: tell.clone() });
            let ended = move |error| drop(tell.send(Event::Ended(error)));
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return ended(error.into()),
            };
            let all = async move {
                let mut ends = JoinSet::new();
                for number in 0..count {
                    ends.spawn_local(end(number, Rc::clone(&tally)));
                }
                tokio::select! {
                    _ = stopped => {}
                    Some(Ok(Err(error))) = ends.join_next() => ended(error),
                }
            };
            LocalSet::new().block_on(&runtime, all);
        });
        Self { told, stop: Some(stop), thread: Some(thread) }
    }

    /// Since when all of them are at this or further.
    fn reached(&self, wanted: T, patience: Duration) -> Result<Instant> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left).context("not all of them got it in time")? {
                Event::All(at, since) if at >= wanted => return Ok(since),
                Event::All(..) => {}
                Event::Ended(error) => return Err(error),
            }
        }
    }
}

impl<T> Drop for Crowd<T> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// What agents do with what they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// They take it.
    Listen,
    /// They take it and say so at once.
    Acknowledge,
}

/// Agents with sessions of their own, of nodes `node0`, `node1` …; they hold nothing and have nothing.
pub(crate) struct Agents(Crowd<Revision>);

impl Agents {
    /// Connects them to an operator; all of them have its state when this returns.
    pub(crate) fn connect(
        operator: SocketAddr,
        authority: &Authority,
        count: usize,
        manner: Manner,
    ) -> Result<Self> {
        let identity = |number: usize| {
            let keys = authority.issue("agent", &[format!("{}.node.weft", node(number))])?;
            Ok(Identity::read(&keys.ca, &keys.certificate, &keys.key)?)
        };
        let identities = (0..count).map(identity).collect::<Result<Vec<_>>>()?;
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let agents = Crowd::of(count, move |number, tally| {
            let identity = identities.get(number).cloned();
            let places = Arc::clone(&places);
            async move {
                let identity = identity.context("an agent without a certificate")?;
                agent(operator, &identity, number, manner, places, &tally)
                    .await
                    .with_context(|| format!("the agent of {}", node(number)))
            }
        });
        agents.reached(Revision::ZERO, PATIENCE)?;
        Ok(Self(agents))
    }

    /// Since when all of them have a revision.
    pub(crate) fn have(&self, revision: Revision) -> Result<Instant> {
        self.0.reached(revision, PATIENCE)
    }
}

/// The name of a node of these agents.
pub(crate) fn node(number: usize) -> NodeName {
    NodeName(format!("node{number}"))
}

async fn agent(
    operator: SocketAddr,
    identity: &Identity,
    number: usize,
    manner: Manner,
    places: Arc<Semaphore>,
    tally: &Tally<Revision>,
) -> Result<()> {
    let place = places.acquire().await?;
    let mut stream = connect(operator, &identity.connector()?).await?;
    let hello = ToOperator::Hello {
        node: node(number),
        session: 1,
        held: None,
        from: None,
        identities: Vec::new(),
        asked: Vec::new(),
    };
    send(&mut stream, &hello).await?;
    let (mut held, mut place) = (None, Some(place));
    loop {
        let revision = match receive(&mut stream).await? {
            ToAgent::Deltas { revision, .. } if held.is_some() => revision,
            ToAgent::SnapshotEnd { revision } => revision,
            ToAgent::Ping => {
                send(&mut stream, &ToOperator::Pong).await?;
                continue;
            }
            ToAgent::Refused { reason } => bail!("refused: {reason}"),
            ToAgent::Stale { .. } => bail!("the session is stale"),
            ToAgent::Welcome { .. }
            | ToAgent::SnapshotBegin
            | ToAgent::Deltas { .. }
            | ToAgent::Spread { .. } => continue,
        };
        place.take();
        tally.on(held.replace(revision), revision);
        if manner == Manner::Acknowledge {
            send(&mut stream, &ToOperator::Acknowledge { revision, trace: None }).await?;
        }
    }
}

/// Bytes to many connections by nothing but writes, one after another: what a push cannot be faster than.
pub(crate) struct FanOut {
    runtime: Runtime,
    writers: Vec<Box<dyn AsyncWrite + Unpin>>,
    readers: Crowd<u64>,
    message: Vec<u8>,
    sent: u64,
}

impl FanOut {
    /// So many connections, for messages of a size; over TLS when there is an authority for it.
    pub(crate) fn to(count: usize, size: usize, authority: Option<&Authority>) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let identity = |authority: &Authority| {
            let names = ["operator.weft", "fan.node.weft"].map(str::to_owned);
            let keys = authority.issue("fan", &names)?;
            Ok::<_, anyhow::Error>(Identity::read(&keys.ca, &keys.certificate, &keys.key)?)
        };
        let identity = authority.map(identity).transpose()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let (address, places) = (listener.local_addr()?, Arc::new(Semaphore::new(AT_ONCE)));
        let connector = identity.as_ref().map(Identity::connector).transpose()?;
        let readers = Crowd::of(count, move |_, tally| {
            let (connector, places) = (connector.clone(), Arc::clone(&places));
            async move {
                let place = places.acquire().await?;
                match connector {
                    Some(connector) => {
                        let stream = connect(address, &connector).await?;
                        drop(place);
                        read(stream, size, &tally).await
                    }
                    None => {
                        let stream = TcpStream::connect(address).await?;
                        drop(place);
                        read(stream, size, &tally).await
                    }
                }
            }
        });
        let acceptor = identity.as_ref().map(Identity::acceptor).transpose()?;
        let writers = runtime.block_on(accept(&listener, acceptor, count))?;
        readers.reached(0, PATIENCE)?;
        Ok(Self { runtime, writers, readers, message: vec![7; size], sent: 0 })
    }

    /// How long a message takes to all of them.
    pub(crate) fn push(&mut self) -> Result<Duration> {
        let begun = Instant::now();
        self.runtime.block_on(async {
            for writer in &mut self.writers {
                writer.write_all(&self.message).await?;
                writer.flush().await?;
            }
            Ok::<(), std::io::Error>(())
        })?;
        self.sent += 1;
        let since = self.readers.reached(self.sent, PATIENCE)?;
        Ok(since.saturating_duration_since(begun))
    }
}

/// Takes so many connections, and speaks TLS on them where it is asked for.
async fn accept(
    listener: &TcpListener,
    acceptor: Option<TlsAcceptor>,
    count: usize,
) -> Result<Vec<Box<dyn AsyncWrite + Unpin>>> {
    let local = LocalSet::new();
    let taking = async {
        let mut greeting = JoinSet::new();
        for _ in 0..count {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let acceptor = acceptor.clone();
            greeting.spawn_local(async move {
                Ok::<Box<dyn AsyncWrite + Unpin>, std::io::Error>(match acceptor {
                    Some(acceptor) => Box::new(acceptor.accept(stream).await?),
                    None => Box::new(stream),
                })
            });
        }
        let all = greeting.join_all().await;
        Ok(all.into_iter().collect::<Result<_, _>>()?)
    };
    local.run_until(taking).await
}

/// Counts messages of a size.
async fn read(mut from: impl AsyncRead + Unpin, size: usize, tally: &Tally<u64>) -> Result<()> {
    let mut message = vec![0; size];
    tally.on(None, 0);
    for number in 0.. {
        from.read_exact(&mut message).await?;
        tally.on(Some(number), number + 1);
    }
    Ok(())
}
