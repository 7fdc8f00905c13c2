//! How often agents begin connections, as their nodes' kernels count: whoever has nobody to ask must not ask all the time.

use super::lab::Lab;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// A storm shows in a second, and a burst of two attempts is none.
const WINDOW: Duration = Duration::from_secs(1);

/// Connections that were begun meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Begun {
    /// By all agents.
    pub(super) all: u64,
    /// In a second, by the agent that began most in any.
    pub(super) most: f64,
}

/// Counts them from its beginning on, whatever is waited for meanwhile.
pub(super) struct Counting {
    /// The thread ends when this does.
    going: Sender<()>,
    thread: JoinHandle<Result<Begun>>,
}

impl Counting {
    pub(super) fn begin(lab: &Lab) -> Result<Self> {
        // Nobody else begins connections in a node's network namespace.
        let agents = lab.agents()?;
        let known = all(&agents)?;
        let (going, ended) = channel();
        let thread = thread::spawn(move || count(&agents, known, &ended));
        Ok(Self { going, thread })
    }

    pub(super) fn end(self) -> Result<Begun> {
        drop(self.going);
        self.thread.join().unwrap_or_else(|_| bail!("connections are not counted any more"))
    }
}

fn count(agents: &[i32], mut known: Vec<u64>, ended: &Receiver<()>) -> Result<Begun> {
    let (mut begun, mut since) = (Begun::default(), Instant::now());
    loop {
        let is_over = ended.recv_timeout(WINDOW) != Err(RecvTimeoutError::Timeout);
        let (now, passed) = (all(agents)?, since.elapsed());
        since = Instant::now();
        for (now, known) in now.iter().zip(&known) {
            let new = now.saturating_sub(*known);
            begun.all += new;
            // What is left in the end is too short a time for a rate.
            if !is_over {
                let rate = f64::from(u32::try_from(new)?) / passed.as_secs_f64();
                begun.most = begun.most.max(rate);
            }
        }
        if is_over {
            return Ok(begun);
        }
        known = now;
    }
}

fn all(processes: &[i32]) -> Result<Vec<u64>> {
    let of = |pid: &i32| {
        let path = format!("/proc/{pid}/net/snmp");
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        begun(&text).with_context(|| format!("{path}: it does not count connections"))
    };
    processes.iter().map(of).collect()
}

/// Connections that a namespace's kernel was asked for, also those that came to nothing (RFC 4022).
fn begun(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut both = names.split(' ').zip(values.split(' '));
    both.find(|(name, _)| *name == "ActiveOpens")?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::begun;

    #[test]
    fn a_kernel_says_how_many_connections_were_begun() {
        let said = "Ip: Forwarding DefaultTTL\nIp: 1 64\n\
                    Tcp: RtoAlgorithm MaxConn ActiveOpens PassiveOpens\nTcp: 1 -1 17 4\n\
                    Udp: InDatagrams\nUdp: 3\n";
        assert_eq!(begun(said), Some(17));
        assert_eq!(begun("Ip: Forwarding\nIp: 1\n"), None);
    }
}
