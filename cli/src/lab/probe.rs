//! `weft lab probe`: every ordered pair of pods, with real connections.

use super::{
    answer, echo, netns,
    record::{self, Lab},
    serve::{self, Control, Order},
};
use crate::{
    grid::{self, Row},
    output::{self, Outcome, note},
    port::{Port, PortProtocol},
};
use anyhow::{Context, Result, anyhow};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{Ipv4Addr, SocketAddr, TcpStream as StdTcpStream, UdpSocket as StdUdpSocket},
    os::fd::OwnedFd,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, UdpSocket},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use weft_types::policy::Protocol;

/// Pairs that are denied do not answer, so only time tells: a round is over when nobody has answered for
/// this long, the servers being awake. Whoever did not answer is asked once more, by another connection, so
/// that one lost segment is no verdict.
const QUIET: Duration = Duration::from_millis(250);
const ROUNDS: u32 = 2;
/// A round lasts this long at most, however slowly answers come.
const ROUND_MAX: Duration = Duration::from_secs(20);
/// What the answers of awake servers may still need on their way.
const GRACE: Duration = Duration::from_millis(30);
/// UDP asks again within a round.
const AGAIN: Duration = Duration::from_millis(80);
/// Attempts at once: each is an open file.
const AT_ONCE: usize = 4000;

/// Arguments of `weft lab probe`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Ports to try at every pod, PROTOCOL/PORT, or ICMP/8 for a ping, several with commas or spaces; by default
    /// those that the destination declares.
    #[arg(long, num_args = 1.., value_delimiter = ',', value_name = "PROTO/PORT", value_parser = port)]
    port: Vec<Port>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Grid)]
    output: Format,
    /// Which lab; the only one by default.
    #[arg(long, visible_alias = "lab")]
    name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Grid,
    /// For programs.
    Json,
}

/// Pods answer ICMP's echo request, and of all the other types none for certain.
fn port(text: &str) -> Result<Port, String> {
    match text.parse()? {
        Port { protocol: PortProtocol::Icmp, number } if number != u16::from(echo::REQUEST) => {
            Err(format!("{text:?} cannot be probed: of ICMP, ICMP/8 can (a ping)"))
        }
        port => Ok(port),
    }
}

/// One row to find out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Attempt {
    from: String,
    to: String,
    port: Port,
    address: Ipv4Addr,
    answered_by: Answerer,
}

/// Who listens at the destination.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Answerer {
    /// The lab's server, which says its pod's name.
    Server,
    /// The pod's own command: any answer is one, a refusal too.
    Command,
}

/// Probes and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let lab = record::find(arguments.name.as_deref())?;
    let rows = all(&lab, &arguments.port.iter().copied().collect())?;
    if rows.is_empty() {
        note!("no rows: fewer than two pods, or no pod declares a port (say --port TCP/80)");
    }
    let text = match arguments.output {
        Format::Grid => grid::render(&rows, output::width()),
        Format::Json => format!("{}\n", serde_json::json!({ "rows": rows })),
    };
    output::say(&text)?;
    Ok(Outcome::Done)
}

/// Every ordered pair of pods on these ports, or on those that the destination declares; in order.
pub(super) fn all(lab: &Lab, asked: &BTreeSet<Port>) -> Result<Vec<Row>> {
    let (attempts, unknown) = attempts(lab, asked)?;
    for (protocol, count) in unknown {
        note!("left out {count} rows of {protocol}: this kernel does not have it");
    }
    // Listeners on the asked ports are there for as long as this connection.
    let mut servers = Control::of(lab)?;
    let listeners = asked.iter().filter_map(|port| match port.protocol {
        PortProtocol::Transport(protocol) => Some((protocol, port.number)),
        PortProtocol::Icmp => None,
    });
    let listeners = listeners.filter(|(protocol, _)| serve::is_known(*protocol)).collect();
    let problems = servers.ask(&Order::Open(listeners))?;
    anyhow::ensure!(problems.is_empty(), "open listeners to probe: {}", problems.join("; "));
    serve::raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for some in attempts.chunks(AT_ONCE) {
        rows.extend(runtime.block_on(probe(lab, some.to_vec(), &mut servers))?);
    }
    rows.sort();
    Ok(rows)
}

/// Tries these rows again and again: each so often, so many times, and waits so long for each. For each try which row it was, when it
/// began and whether it was answered.
pub(super) fn repeatedly(
    lab: &Lab,
    rows: &[Row],
    (every, times, patience): (Duration, u32, Duration),
) -> Result<Vec<(usize, Instant, bool)>> {
    let asked = BTreeSet::new();
    let (known, _) = attempts(lab, &asked)?;
    let is_of = |row: &Row, attempt: &Attempt| {
        let (from, to) = (&attempt.from, &attempt.to);
        (from, to, attempt.port.number) == (&row.from, &row.to, row.port)
            && attempt.port.protocol() == row.protocol
    };
    let chosen = rows.iter().map(|row| known.iter().find(|attempt| is_of(row, attempt)).cloned());
    let chosen: Vec<Attempt> = chosen.collect::<Option<_>>().context("a row is no row any more")?;
    let count = chosen.len();
    let attempts = (0..times).flat_map(|_| chosen.clone()).enumerate().collect();
    let sockets = sockets(lab, &attempts)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let (begun, mut trying) = (Instant::now(), JoinSet::new());
        for (at, attempt, socket) in sockets {
            let round = u32::try_from(at / count).unwrap_or(u32::MAX);
            trying.spawn(async move {
                sleep_until(begun + every * round).await;
                let at_last = Instant::now() + patience;
                let tried = Instant::now();
                let reached = timeout_at(at_last, reached(&attempt, socket, echo::name(at))).await;
                (at % count, tried, reached.unwrap_or(false))
            });
        }
        let mut tries: Vec<_> = trying.join_all().await;
        tries.sort_by_key(|(row, tried, _)| (*tried, *row));
        Ok(tries)
    })
}

/// What there is to try; and how many rows of which protocol the kernel cannot.
fn attempts(
    lab: &Lab,
    asked: &BTreeSet<Port>,
) -> Result<(Vec<Attempt>, BTreeMap<&'static str, usize>)> {
    let mut attempts = Vec::new();
    let mut unknown = BTreeMap::new();
    for (from, to) in lab.pods.iter().flat_map(|from| lab.pods.iter().map(move |to| (from, to))) {
        if from.name == to.name {
            continue;
        }
        let address = to.address.with_context(|| format!("{} has no address yet", to.name))?;
        let declared = || to.declared().into_iter().map(Port::from).collect();
        let ports: BTreeSet<Port> = if asked.is_empty() { declared() } else { asked.clone() };
        let answered_by = if to.command.is_empty() { Answerer::Server } else { Answerer::Command };
        for port in ports {
            if let PortProtocol::Transport(protocol) = port.protocol
                && !serve::is_known(protocol)
            {
                *unknown.entry(port.protocol()).or_insert(0) += 1;
                continue;
            }
            let from = from.name.clone();
            attempts.push(Attempt { from, to: to.name.clone(), port, address, answered_by });
        }
    }
    Ok((attempts, unknown))
}

/// All attempts at once, in rounds; the rows of all of them.
async fn probe(lab: &Lab, attempts: Vec<Attempt>, servers: &mut Control) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut waiting = attempts;
    for _ in 0..ROUNDS {
        let (answered, silent) = round(lab, waiting, servers).await?;
        rows.extend(answered.into_iter().map(|attempt| row(attempt, "allowed")));
        waiting = silent;
    }
    rows.extend(waiting.into_iter().map(|attempt| row(attempt, "denied")));
    Ok(rows)
}

fn row(attempt: Attempt, verdict: &str) -> Row {
    Row {
        from: attempt.from,
        to: attempt.to,
        protocol: attempt.port.protocol().to_owned(),
        port: attempt.port.number,
        verdict: verdict.to_owned(),
    }
}

/// One connection an attempt: those that were answered, and those that were not.
async fn round(
    lab: &Lab,
    attempts: Vec<Attempt>,
    servers: &mut Control,
) -> Result<(Vec<Attempt>, Vec<Attempt>)> {
    let mut trying = JoinSet::new();
    let mut silent: BTreeMap<usize, Attempt> = attempts.into_iter().enumerate().collect();
    for (at, attempt, socket) in sockets(lab, &silent)? {
        trying.spawn(async move { (at, reached(&attempt, socket, echo::name(at)).await) });
    }
    let mut answered = Vec::new();
    let end = Instant::now() + ROUND_MAX;
    let mut quiet_until = Instant::now() + QUIET;
    let mut pinged = false;
    while !trying.is_empty() {
        match timeout_at(quiet_until.min(end), trying.join_next()).await {
            Ok(None) => break,
            Ok(Some(tried)) => {
                let (at, reached) = tried?;
                if reached && let Some(attempt) = silent.remove(&at) {
                    answered.push(attempt);
                    (quiet_until, pinged) = (Instant::now() + QUIET, false);
                }
            }
            Err(_) if pinged || Instant::now() >= end => break,
            Err(_) => {
                // A busy machine is no denial: silence counts when the servers are awake.
                servers.ask(&Order::Ping)?;
                (quiet_until, pinged) = (Instant::now() + GRACE, true);
            }
        }
    }
    Ok((answered, silent.into_values().collect()))
}

type Ready = (usize, Attempt, io::Result<OwnedFd>);

/// A socket an attempt, in its source's namespace.
fn sockets(lab: &Lab, attempts: &BTreeMap<usize, Attempt>) -> Result<Vec<Ready>> {
    let mut by_source: BTreeMap<&str, Vec<(usize, Attempt)>> = BTreeMap::new();
    for (at, attempt) in attempts {
        by_source.entry(&attempt.from).or_default().push((*at, attempt.clone()));
    }
    let mut ready = Vec::new();
    for (source, attempts) in by_source {
        ready.extend(netns::inside(&lab.pod(source)?.netns, move || {
            let open = |(at, attempt): (usize, Attempt)| {
                let socket = match attempt.port.protocol {
                    PortProtocol::Transport(protocol) => serve::open(protocol),
                    PortProtocol::Icmp => echo::open(),
                };
                (at, attempt, socket)
            };
            Ok(attempts.into_iter().map(open).collect::<Vec<_>>())
        })?);
    }
    if let Some(error) = ready.iter().find_map(|(_, _, socket)| socket.as_ref().err()) {
        return Err(anyhow!("open a socket to probe with: {error}"));
    }
    Ok(ready)
}

/// Whether the right pod answered; false as soon as that is known. `name` tells its pings from others'.
async fn reached(attempt: &Attempt, socket: io::Result<OwnedFd>, name: u16) -> bool {
    let Ok(socket) = socket else { return false };
    let address = SocketAddr::from((attempt.address, attempt.port.number));
    let answer = match attempt.port.protocol {
        PortProtocol::Transport(Protocol::Tcp | Protocol::Sctp) => {
            connection(socket, address, attempt.answered_by).await
        }
        PortProtocol::Transport(Protocol::Udp) => datagrams(socket, address).await,
        // The kernel of the pod with that address answers, whatever runs in it.
        PortProtocol::Icmp => {
            return echo::answered(socket, attempt.address, name, AGAIN).await.is_ok();
        }
    };
    match (answer, attempt.answered_by) {
        (Ok(answer), Answerer::Server) => answer == attempt.to.as_bytes(),
        (Ok(_), Answerer::Command) => true,
        (Err(error), Answerer::Command) => error.kind() == io::ErrorKind::ConnectionRefused,
        (Err(_), Answerer::Server) => false,
    }
}

async fn connection(socket: OwnedFd, to: SocketAddr, by: Answerer) -> io::Result<Vec<u8>> {
    let socket = TcpSocket::from_std_stream(StdTcpStream::from(socket));
    let mut stream = socket.connect(to).await?;
    let mut answer = Vec::new();
    if by == Answerer::Server {
        stream.write_all(answer::WHO).await?;
        stream.read_to_end(&mut answer).await?;
    }
    Ok(answer)
}

/// Asks until somebody answers; whoever waits gives up.
async fn datagrams(socket: OwnedFd, to: SocketAddr) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::from_std(StdUdpSocket::from(socket))?;
    socket.connect(to).await?;
    let mut answer = [0; 512];
    loop {
        socket.send(answer::WHO).await?;
        tokio::select! {
            received = socket.recv(&mut answer) => {
                return Ok(answer.get(..received?).unwrap_or_default().to_vec());
            }
            () = sleep(AGAIN) => {}
        }
    }
}
