//! `weft lab stream`: one connection between two pods whose every byte is checked.

mod tally;
mod transport;

use super::{
    netns, record,
    serve::{self, Control, Order},
};
use crate::{
    commands::policy_wait::duration,
    output::{Outcome, aside, note, say},
};
use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use std::{
    io::{IsTerminal, stderr},
    net::SocketAddr,
    os::fd::OwnedFd,
    time::Duration,
};
use tally::{Ended, Reports, Tally};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, interval, sleep_until, timeout},
};
use transport::{Event, Transport};
use weft_types::policy::Protocol;

/// How often something is sent.
const TICK: Duration = Duration::from_millis(10);
/// How long the last datagrams may be on their way.
const LAST_DATAGRAM: Duration = Duration::from_secs(2);
/// How often a terminal is told.
const GLANCE: Duration = Duration::from_millis(200);

/// One connection between two pods, every byte of it checked when it comes back.
///
/// Ends at Ctrl-C, or when nothing comes back any more; exit 1 if anything was lost or it stopped.
///
/// Example: weft lab stream shop/frontend-0 shop/cart-0 --duration 10s
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The pod that opens it: namespace/name.
    from: String,
    /// The pod that answers: namespace/name or namespace/name:PORT; its first declared port by default.
    to: String,
    /// Bytes a second, with k, m or g for thousands of them; datagrams are of 512, so 512k is 1,000 a second.
    #[arg(long, default_value = "256k", value_parser = size)]
    rate: u64,
    /// End after this many bytes.
    #[arg(long, value_parser = size)]
    bytes: Option<u64>,
    /// End after this time: a number with ms, s or m.
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Datagrams instead of a connection.
    #[arg(long)]
    udp: bool,
    /// So many side by side, each at the whole rate.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    streams: u16,
    /// It stopped when nothing comes back for this time.
    #[arg(long, default_value = "3s", value_parser = duration)]
    patience: Duration,
    /// Say how it goes this often, as lines on standard error; a terminal is told anyhow.
    #[arg(long, value_parser = duration, conflicts_with = "streams")]
    every: Option<Duration>,
    /// `text` for people, `json` for programs.
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"])]
    output: String,
    /// Which lab; the only one by default.
    #[arg(long, visible_alias = "lab")]
    name: Option<String>,
}

/// `64k`, `1m`.
fn size(text: &str) -> Result<u64, String> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let scale = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        _ => return Err(format!("{unit:?} is no unit of size: use k, m or g, as in 64k")),
    };
    let bytes = number.parse::<u64>().ok().and_then(|n| n.checked_mul(scale));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(|| format!("{text:?} is no size, as 64k is"))
}

/// Streams and tells how it went.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let lab = record::find(arguments.name.as_deref())?;
    let protocol = if arguments.udp { Protocol::Udp } else { Protocol::Tcp };
    let (from, (to, port)) = (lab.pod(&arguments.from)?, target(&lab, &arguments.to, protocol)?);
    let address = to.address.with_context(|| format!("{} has no address yet", to.name))?;
    // Listens there for as long as this connection, if nobody does.
    let mut servers = Control::of(&lab)?;
    for problem in servers.ask(&Order::Open(vec![(protocol, port)]))? {
        note!("warning: {problem}");
    }
    let count = arguments.streams;
    let sockets = netns::inside(&from.netns, move || {
        (0..count).map(|_| Ok(serve::open(protocol)?)).collect::<Result<Vec<_>>>()
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = SocketAddr::from((address, port));
    let tallies = runtime.block_on(try_join_all(
        sockets.into_iter().map(|socket| one(arguments, socket, (protocol, address), Keep::Sums)),
    ))?;
    let now = Instant::now();
    match arguments.output.as_str() {
        "json" => {
            let mut report = serde_json::to_value(Reports::of(&tallies, now))?;
            if let Some(fields) = report.as_object_mut() {
                fields.insert("from".to_owned(), from.name.as_str().into());
                fields.insert("to".to_owned(), to.name.as_str().into());
                fields.insert("protocol".to_owned(), protocol.to_string().into());
                fields.insert("port".to_owned(), port.into());
            }
            say(&format!("{report}\n"))?;
        }
        _ => {
            for tally in &tallies {
                let (from, to) = (&from.name, &to.name);
                say(&format!("{from} -> {to} {protocol}/{port}: {}\n", tally.summary(now)))?;
            }
        }
    }
    let whole = tallies.iter().all(Tally::is_whole);
    Ok(if whole { Outcome::Done } else { Outcome::No })
}

/// What is kept of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Sums,
    /// What was back when, too: for one that is short.
    Course,
}

/// A stream as it went, in times of the clock that [`Instant`] is.
pub(super) struct Course {
    pub(super) begun: Instant,
    /// Bytes that were back by then.
    pub(super) back: Vec<(Instant, u64)>,
    pub(super) sent: u64,
    pub(super) lost: u64,
    pub(super) longest_gap: Duration,
}

/// Streams for so long, over a connection, and tells how it went. Ends before when nothing comes back for `patience`.
pub(super) fn course(
    lab: &record::Lab,
    (from, to, port): (&str, &str, u16),
    duration: Duration,
    patience: Duration,
) -> Result<Course> {
    let arguments = Arguments {
        from: from.to_owned(),
        to: to.to_owned(),
        rate: 256_000,
        bytes: None,
        duration: Some(duration),
        udp: false,
        streams: 1,
        patience,
        every: Some(duration * 2),
        output: "json".to_owned(),
        name: None,
    };
    let address = lab.pod(to)?.address.with_context(|| format!("{to} has no address yet"))?;
    let socket = netns::inside(&lab.pod(from)?.netns, || Ok(serve::open(Protocol::Tcp)?))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = SocketAddr::from((address, port));
    let tally =
        runtime.block_on(one(&arguments, socket, (Protocol::Tcp, address), Keep::Course))?;
    Ok(Course {
        begun: tally.begun,
        sent: tally.sent,
        lost: tally.outstanding(),
        longest_gap: tally.longest_gap(),
        back: tally.course.unwrap_or_default(),
    })
}

/// The pod that answers, and where.
fn target<'lab>(
    lab: &'lab record::Lab,
    text: &str,
    protocol: Protocol,
) -> Result<(&'lab record::Pod, u16)> {
    if let Some((to, port)) = text.rsplit_once(':') {
        let port = port.parse().with_context(|| format!("{port:?} is no port"))?;
        return Ok((lab.pod(to)?, port));
    }
    let to = lab.pod(text)?;
    let port = to.declared().into_iter().find(|(p, _)| *p == protocol);
    let (_, port) = port.with_context(|| {
        format!("{} declares no {protocol} port: say which, {}:PORT", to.name, to.name)
    })?;
    Ok((to, port))
}

/// Opens one stream and sees it through.
async fn one(
    arguments: &Arguments,
    socket: OwnedFd,
    (protocol, to): (Protocol, SocketAddr),
    keep: Keep,
) -> Result<Tally> {
    match timeout(arguments.patience, Transport::open(socket, protocol, to)).await {
        Ok(Ok(transport)) => stream(arguments, transport, keep).await,
        Ok(Err(error)) => Ok(Tally::unopened(error.to_string(), Instant::now())),
        Err(_) => Ok(Tally::unopened("nobody answered".to_owned(), Instant::now())),
    }
}

async fn stream(arguments: &Arguments, mut transport: Transport, keep: Keep) -> Result<Tally> {
    let mut tally = Tally::new(Instant::now());
    tally.course = (keep == Keep::Course).then(Vec::new);
    let mut ticks = interval(TICK);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    // Several at once would talk over each other.
    let alone = arguments.streams == 1 && arguments.every.is_none();
    let is_terminal = alone && stderr().is_terminal();
    let pause = arguments.every.unwrap_or(GLANCE);
    let mut next_word = tally.begun + pause;
    let mut sending = true;
    while tally.ended.is_none() {
        // Datagrams have no end: those that are not back soon after the last one are lost.
        let patience = match (arguments.udp, sending) {
            (true, false) => arguments.patience.min(LAST_DATAGRAM),
            _ => arguments.patience,
        };
        let silent_at = tally.waiting_since.map(|since| since + patience);
        tokio::select! {
            event = transport.receive() => match event {
                Event::Bytes(count) => tally.came(count, Instant::now()),
                Event::Wrong => tally.ended = Some(Ended::Wrong),
                Event::Reset => tally.ended = Some(Ended::Reset),
                Event::Closed if sending || tally.outstanding() > 0 => {
                    tally.ended = Some(Ended::Closed);
                }
                Event::Closed => tally.ended = Some(Ended::Done),
            },
            _ = ticks.tick(), if sending => {
                let elapsed = tally.begun.elapsed();
                let due = due(arguments, elapsed).saturating_sub(tally.sent);
                match transport.send(due) {
                    Ok(sent) => tally.went(sent, Instant::now()),
                    Err(_) => tally.ended = Some(Ended::Reset),
                }
                let enough = arguments.bytes.is_some_and(|bytes| tally.sent >= bytes)
                    || arguments.duration.is_some_and(|duration| elapsed >= duration);
                if enough {
                    sending = false;
                    transport.finish().await;
                }
            }
            _ = interrupt.recv() => stop(&mut sending, &mut tally, &mut transport).await,
            _ = terminate.recv() => stop(&mut sending, &mut tally, &mut transport).await,
            () = sleep_until(silent_at.unwrap_or(tally.begun)), if silent_at.is_some() => {
                let done = arguments.udp && !sending;
                tally.ended = Some(if done { Ended::Done } else { Ended::Silent });
            }
            () = sleep_until(next_word), if is_terminal || arguments.every.is_some() => {
                next_word += pause;
                let line = tally.progress(Instant::now());
                if is_terminal { aside(format_args!("\r{line}\x1b[K")) } else { note!("{line}") }
            }
        }
        if !sending && arguments.udp && tally.outstanding() == 0 {
            tally.ended = tally.ended.or(Some(Ended::Done));
        }
    }
    if is_terminal {
        aside(format_args!("\r\x1b[K"));
    }
    Ok(tally)
}

/// Sends no more; told a second time, waits no more for what is to come back.
async fn stop(sending: &mut bool, tally: &mut Tally, transport: &mut Transport) {
    if *sending {
        *sending = false;
        transport.finish().await;
    } else {
        tally.ended = Some(Ended::Silent);
    }
}

/// How many bytes should have been sent by now.
fn due(arguments: &Arguments, elapsed: Duration) -> u64 {
    let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
    let due = u128::from(arguments.rate) * u128::from(micros) / 1_000_000;
    let due = u64::try_from(due).unwrap_or(u64::MAX);
    arguments.bytes.map_or(due, |bytes| due.min(bytes))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("512"), Ok(512));
        assert_eq!(size("64k"), Ok(64_000));
        assert_eq!(size("2M"), Ok(2_000_000));
        for bad in ["", "k", "0", "1x", "-1", "99999999999999999999", "18446744073709551615g"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
