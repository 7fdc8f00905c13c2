//! `weft lab probe`: every ordered pair of pods, with real connections.

use super::{netns, record, serve};
use crate::{
    grid::{self, Row},
    output::Outcome,
};
use anyhow::{Context, Result, anyhow};
use std::{
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::mpsc,
    thread,
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, UdpSocket},
    time::timeout,
};
use weft_types::policy::Protocol;

/// Longer than TCP's first retransmission (1 s), so that one lost segment is not a denial.
const ATTEMPT: Duration = Duration::from_millis(2500);
/// UDP has no retransmission of its own.
const UDP_TRIES: u32 = 3;

/// Arguments of `weft lab probe`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Ports to try at every pod, PROTOCOL/PORT; by default those that the destination declares.
    #[arg(long)]
    port: Vec<PortArgument>,
    /// How to print.
    #[arg(short, value_enum, default_value_t = Format::Grid)]
    output: Format,
    /// Which lab; the only one by default.
    #[arg(long, visible_alias = "lab")]
    name: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Grid,
    Json,
}

#[derive(Clone, Copy)]
struct PortArgument(Protocol, u16);

impl FromStr for PortArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || format!("{text:?} is not PROTOCOL/PORT, such as TCP/80");
        let (protocol, port) = text.split_once('/').ok_or_else(wanted)?;
        let protocol = match protocol.to_ascii_uppercase().as_str() {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            _ => return Err(format!("{protocol:?} cannot be probed: TCP and UDP can")),
        };
        Ok(Self(protocol, port.parse().map_err(|_| wanted())?))
    }
}

/// One attempt to make.
#[derive(Clone)]
struct Attempt {
    to: String,
    address: Ipv4Addr,
    protocol: Protocol,
    port: u16,
}

/// Probes and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let lab = record::find(arguments.name.as_deref())?;
    let ports: Vec<(Protocol, u16)> = arguments.port.iter().map(|p| (p.0, p.1)).collect();
    listen(&lab, &ports)?;
    let rows = probe(&lab, &ports)?;
    match arguments.output {
        Format::Grid => print!("{}", grid::render(&rows)),
        Format::Json => println!("{}", serde_json::json!({ "rows": rows })),
    }
    Ok(Outcome::Done)
}

/// Opens listeners on the probed ports in every pod, for as long as this process lives.
fn listen(lab: &record::Lab, ports: &[(Protocol, u16)]) -> Result<()> {
    let (ready, all_ready) = mpsc::channel();
    for pod in lab.pods.clone() {
        let (ports, ready) = (ports.to_vec(), ready.clone());
        thread::spawn(move || {
            serve::pod_ports(&pod.netns, pod.name, ports, move |_| {
                // Whoever waits may have given up.
                let _ = ready.send(());
            })
        });
    }
    drop(ready);
    let count = all_ready.iter().take(lab.pods.len()).count();
    anyhow::ensure!(count == lab.pods.len(), "open listeners in every pod");
    Ok(())
}

fn probe(lab: &record::Lab, ports: &[(Protocol, u16)]) -> Result<Vec<Row>> {
    let probing: Vec<_> = lab
        .pods
        .iter()
        .map(|source| {
            let attempts = attempts(lab, source, ports)?;
            let (namespace, from) = (source.netns.clone(), source.name.clone());
            Ok(thread::spawn(move || probe_from(&namespace, &from, attempts)))
        })
        .collect::<Result<_>>()?;
    let mut rows = Vec::new();
    for thread in probing {
        rows.extend(thread.join().map_err(|_| anyhow!("a probe panicked"))??);
    }
    rows.sort();
    Ok(rows)
}

fn attempts(
    lab: &record::Lab,
    source: &record::Pod,
    ports: &[(Protocol, u16)],
) -> Result<Vec<Attempt>> {
    let mut attempts = Vec::new();
    for pod in lab.pods.iter().filter(|pod| pod.name != source.name) {
        let address = pod.address.with_context(|| format!("{} has no address yet", pod.name))?;
        let declared = pod.ports.iter().map(|p| (p.protocol, p.port));
        let tried: Vec<_> = if ports.is_empty() { declared.collect() } else { ports.to_vec() };
        attempts.extend(
            tried
                .into_iter()
                .filter(|(protocol, _)| *protocol != Protocol::Sctp)
                .map(|(protocol, port)| Attempt { to: pod.name.clone(), address, protocol, port }),
        );
    }
    Ok(attempts)
}

/// All attempts of one pod at once, in its namespace.
fn probe_from(namespace: &str, from: &str, attempts: Vec<Attempt>) -> Result<Vec<Row>> {
    let from = from.to_owned();
    netns::inside(namespace, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let tasks: Vec<_> = attempts
                .into_iter()
                .map(|attempt| tokio::spawn(async move { (reached(&attempt).await, attempt) }))
                .collect();
            let mut rows = Vec::new();
            for task in tasks {
                let (reached, attempt) = task.await?;
                rows.push(Row {
                    from: from.clone(),
                    to: attempt.to,
                    protocol: attempt.protocol.to_string(),
                    port: attempt.port,
                    verdict: if reached { "allowed" } else { "denied" }.to_owned(),
                });
            }
            Ok(rows)
        })
    })
}

/// Whether the right pod answered.
async fn reached(attempt: &Attempt) -> bool {
    let address = SocketAddr::from((attempt.address, attempt.port));
    let answer = match attempt.protocol {
        Protocol::Tcp => timeout(ATTEMPT, tcp(address)).await.ok().and_then(Result::ok),
        Protocol::Udp => udp(address).await,
        Protocol::Sctp => None,
    };
    answer.is_some_and(|name| name == attempt.to)
}

async fn tcp(address: SocketAddr) -> std::io::Result<String> {
    let mut name = String::new();
    TcpStream::connect(address).await?.read_to_string(&mut name).await?;
    Ok(name)
}

async fn udp(address: SocketAddr) -> Option<String> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
    socket.connect(address).await.ok()?;
    let mut answer = [0; 512];
    for _ in 0..UDP_TRIES {
        socket.send(b"who").await.ok()?;
        if let Ok(Ok(length)) = timeout(ATTEMPT / UDP_TRIES, socket.recv(&mut answer)).await {
            return Some(String::from_utf8_lossy(answer.get(..length)?).into_owned());
        }
    }
    None
}
