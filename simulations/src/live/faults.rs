//! What is done to real processes, and how it is made good.

use super::lab::{Lab, Operator};
use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{ops::RangeInclusive, time::Instant};

/// Where the first operator of a lab listens for its peers, and the next ones after it.
const PEER_PORTS: RangeInclusive<u16> = 4950..=4959;
/// Rules of routing, in their order: what passes, what is cut, and all else.
const PASS: &str = "9";
const CUT: &str = "10";
const LOCAL: &str = "100";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Fault {
    /// The operator that leads is killed (SIGKILL), and started again.
    LeaderKill,
    /// It stands still (SIGSTOP), and goes on (SIGCONT) when another leads.
    LeaderPause,
    /// Nothing passes between it and other operators; agents, clients and the store reach it.
    Partition,
    /// Every member of the etcd is killed, and started again.
    StoreOutage,
    /// Two of three operators are killed, then all three, then the etcd; pods are started meanwhile.
    GroupLoss,
}

/// What strikes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    LeaderKill,
    LeaderPause,
    Partition,
    Operators(usize),
    StoreOutage,
}

/// One that struck.
pub(super) enum Struck {
    Killed(Operator),
    Gone(usize),
    Paused(Operator),
    CutOff(Operator),
    Outage,
}

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LeaderKill => "leader-kill",
            Self::LeaderPause => "leader-pause",
            Self::Partition => "partition",
            Self::StoreOutage => "store-outage",
            Self::GroupLoss => "group-loss",
        }
    }

    /// What it is, one after the other.
    pub(super) const fn steps(self) -> &'static [Step] {
        match self {
            Self::LeaderKill => &[Step::LeaderKill],
            Self::LeaderPause => &[Step::LeaderPause],
            Self::Partition => &[Step::Partition],
            Self::StoreOutage => &[Step::StoreOutage],
            Self::GroupLoss => &[Step::Operators(2), Step::Operators(3), Step::StoreOutage],
        }
    }
}

impl Step {
    /// It strikes now; when that was.
    pub(super) fn strike(self, lab: &Lab) -> Result<(Instant, Struck)> {
        let killed = match self {
            Self::StoreOutage => Some((lab.store()?, Struck::Outage)),
            Self::Operators(count) => {
                let operators = lab.operators()?.into_iter().take(count);
                Some((operators.map(|operator| operator.pid).collect(), Struck::Gone(count)))
            }
            Self::LeaderKill | Self::LeaderPause | Self::Partition => None,
        };
        if let Some((processes, struck)) = killed {
            let now = Instant::now();
            processes.into_iter().try_for_each(|pid| send(pid, Signal::SIGKILL))?;
            return Ok((now, struck));
        }
        let leader = lab.leader()?;
        let now = Instant::now();
        let struck = match self {
            Self::LeaderKill | Self::Operators(_) | Self::StoreOutage => {
                send(leader.pid, Signal::SIGKILL)?;
                Struck::Killed(leader)
            }
            Self::LeaderPause => {
                send(leader.pid, Signal::SIGSTOP)?;
                Struck::Paused(leader)
            }
            Self::Partition => {
                cut_off(lab, &leader)?;
                // That took some calls of programs.
                return Ok((Instant::now(), Struck::CutOff(leader)));
            }
        };
        Ok((now, struck))
    }
}

impl Struck {
    /// It is over; what it was.
    pub(super) fn heal(self, lab: &Lab) -> Result<String> {
        match self {
            Self::Killed(leader) => {
                lab.start()?;
                Ok(format!("{} led and was killed", leader.name))
            }
            Self::Gone(count) => {
                lab.start()?;
                Ok(format!("{count} operators were killed"))
            }
            Self::Paused(leader) => {
                send(leader.pid, Signal::SIGCONT)?;
                Ok(format!("{} led and stood still", leader.name))
            }
            Self::CutOff(leader) => {
                mend(lab)?;
                Ok(format!("{} led and was cut off", leader.name))
            }
            Self::Outage => {
                lab.start()?;
                Ok("the store was killed".to_owned())
            }
        }
    }
}

/// Cuts an operator off from its peers. Operators share an address, so their connections are told apart by ports: those that
/// others have with each other pass, and whatever else goes to where operators listen does not, also what is made anew. What
/// is for the host itself is looked up first by every kernel, so that look-up is moved behind the cut.
fn cut_off(lab: &Lab, leader: &Operator) -> Result<()> {
    let number: u16 = leader.name.trim_start_matches("operator").parse()?;
    let port = PEER_PORTS.start() + number.saturating_sub(1);
    let peers = format!("{}-{}", PEER_PORTS.start(), PEER_PORTS.end());
    rule(lab, &["add", "pref", LOCAL, "lookup", "local"])?;
    for from in others(lab, leader, port)? {
        let (from, to) = (from.to_string(), peers.as_str());
        let words = ["add", "pref", PASS, "ipproto", "tcp", "sport", &from, "dport", to];
        rule(lab, &[words.as_slice(), &["lookup", "local"]].concat())?;
    }
    rule(lab, &["add", "pref", CUT, "ipproto", "tcp", "dport", &peers, "blackhole"])?;
    rule(lab, &["del", "pref", "0"])
}

/// Ports from which others are connected with each other.
fn others(lab: &Lab, leader: &Operator, port: u16) -> Result<Vec<u16>> {
    let output = lab.underlay("ss", &["-tnpHO", "state", "connected"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let own = format!("pid={},", leader.pid);
    let port_of = |word: &str| word.rsplit_once(':')?.1.parse::<u16>().ok();
    let from = text.lines().filter(|line| !line.contains(&own)).filter_map(|line| {
        let mut places = line.split_whitespace().filter_map(port_of);
        let (from, to) = (places.next()?, places.next()?);
        (PEER_PORTS.contains(&to) && to != port).then_some(from)
    });
    Ok(from.collect())
}

fn mend(lab: &Lab) -> Result<()> {
    rule(lab, &["add", "pref", "0", "lookup", "local"])?;
    rule(lab, &["del", "pref", LOCAL])?;
    for pref in [CUT, PASS] {
        // One rule after another until none is left.
        while lab.underlay("ip", &["rule", "del", "pref", pref])?.status.success() {}
    }
    Ok(())
}

fn rule(lab: &Lab, words: &[&str]) -> Result<()> {
    let output = lab.underlay("ip", &[&["rule"], words].concat())?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip rule {}: {}", words.join(" "), why.trim());
    Ok(())
}

fn send(pid: i32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(pid), signal).with_context(|| format!("send {signal} to process {pid}"))
}
