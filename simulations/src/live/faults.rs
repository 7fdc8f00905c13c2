//! What is done to real processes, and how it is made good.

use super::lab::{Lab, Operator};
use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::time::Instant;

/// Where a lab's operators listen for their peers, in their order.
const PEERS: [u16; 3] = [4950, 4951, 4952];
/// Where members of its etcd listen for clients.
const STORE: [u16; 3] = [2379, 2381, 2383];
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
    /// Nothing passes between operators and the store, all of which run.
    StoreCut,
    /// One member of the etcd is killed, and started again.
    StoreMember,
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
    StoreCut,
    StoreMember,
    StoreOutage,
    Operators(usize),
}

/// One that struck.
pub(super) enum Struck {
    Killed(Operator),
    Gone(usize),
    Paused(Operator),
    CutOff(Operator),
    StoreCut,
    Member(usize),
    Outage,
}

impl Fault {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LeaderKill => "leader-kill",
            Self::LeaderPause => "leader-pause",
            Self::Partition => "partition",
            Self::StoreCut => "store-cut",
            Self::StoreMember => "store-member",
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
            Self::StoreCut => &[Step::StoreCut],
            Self::StoreMember => &[Step::StoreMember],
            Self::StoreOutage => &[Step::StoreOutage],
            Self::GroupLoss => &[Step::Operators(2), Step::Operators(3), Step::StoreOutage],
        }
    }
}

impl Step {
    /// Whether pods are started meanwhile: in a group's loss, all of whose steps are to last.
    pub(super) const fn starts_pods(self) -> bool {
        matches!(self, Self::Operators(_) | Self::StoreOutage)
    }

    /// Whether it takes away who leads.
    pub(super) const fn is_leader(self) -> bool {
        matches!(self, Self::LeaderKill | Self::LeaderPause | Self::Partition)
    }

    /// It strikes now, whom this number says where it is anyone; when that was.
    pub(super) fn strike(self, lab: &Lab, whom: usize) -> Result<(Instant, Struck)> {
        let struck = match self {
            Self::StoreOutage => return killed(lab.store()?, Struck::Outage),
            Self::StoreMember => {
                let members = lab.store()?;
                let at = whom.checked_rem(members.len()).unwrap_or_default();
                return killed(members.into_iter().skip(at).take(1), Struck::Member(at + 1));
            }
            Self::Operators(count) => {
                let operators = lab.operators()?;
                let from = whom.checked_rem(operators.len()).unwrap_or_default();
                let some = operators.iter().cycle().skip(from).take(count);
                return killed(some.map(|operator| operator.pid), Struck::Gone(count));
            }
            Self::LeaderKill => {
                let leader = lab.leader()?;
                return killed([leader.pid], Struck::Killed(leader));
            }
            Self::LeaderPause => {
                let leader = lab.leader()?;
                send(leader.pid, Signal::SIGSTOP)?;
                Struck::Paused(leader)
            }
            Self::Partition => {
                let leader = lab.leader()?;
                cut_off(lab, &PEERS, others(lab, &leader)?)?;
                Struck::CutOff(leader)
            }
            Self::StoreCut => {
                cut_off(lab, &STORE, Vec::new())?;
                Struck::StoreCut
            }
        };
        // To cut off took some calls of programs.
        Ok((Instant::now(), struck))
    }
}

/// Kills these.
fn killed(processes: impl IntoIterator<Item = i32>, struck: Struck) -> Result<(Instant, Struck)> {
    let now = Instant::now();
    processes.into_iter().try_for_each(|pid| send(pid, Signal::SIGKILL))?;
    Ok((now, struck))
}

impl Struck {
    /// It is over; what it was.
    pub(super) fn heal(self, lab: &Lab) -> Result<String> {
        match &self {
            Self::Killed(_) | Self::Gone(_) | Self::Member(_) | Self::Outage => lab.start()?,
            Self::Paused(leader) => send(leader.pid, Signal::SIGCONT)?,
            Self::CutOff(_) | Self::StoreCut => mend(lab)?,
        }
        Ok(match self {
            Self::Killed(leader) => format!("{} led and was killed", leader.name),
            Self::Gone(count) => format!("{count} operators were killed"),
            Self::Paused(leader) => format!("{} led and stood still", leader.name),
            Self::CutOff(leader) => format!("{} led and was cut off", leader.name),
            Self::StoreCut => "the store was cut off".to_owned(),
            Self::Member(member) => format!("etcd{member} was killed"),
            Self::Outage => "the store was killed".to_owned(),
        })
    }
}

/// Nothing goes to whoever listens at these ports, but what passes, by its ends; also by no connection that is made anew.
/// What is for the host itself is looked up first by every kernel, so that look-up is moved behind the cut.
fn cut_off(lab: &Lab, ports: &[u16], passes: Vec<(u16, u16)>) -> Result<()> {
    rule(lab, &["add", "pref", LOCAL, "lookup", "local"])?;
    for (from, to) in passes {
        let (from, to) = (from.to_string(), to.to_string());
        let words = ["add", "pref", PASS, "ipproto", "tcp", "sport", &from, "dport", &to];
        rule(lab, &[words.as_slice(), &["lookup", "local"]].concat())?;
    }
    for port in ports {
        let port = port.to_string();
        rule(lab, &["add", "pref", CUT, "ipproto", "tcp", "dport", &port, "blackhole"])?;
    }
    rule(lab, &["del", "pref", "0"])
}

/// The ends of connections that an operator's peers have with each other: operators share an address, and not their ports.
fn others(lab: &Lab, leader: &Operator) -> Result<Vec<(u16, u16)>> {
    let number: u16 = leader.name.trim_start_matches("operator").parse()?;
    let own = PEERS.get(usize::from(number).saturating_sub(1));
    let output = lab.underlay("ss", &["-tnpHO", "state", "connected"])?;
    let text = String::from_utf8_lossy(&output.stdout);
    let its = format!("pid={},", leader.pid);
    let port_of = |word: &str| word.rsplit_once(':')?.1.parse::<u16>().ok();
    let ends = text.lines().filter(|line| !line.contains(&its)).filter_map(|line| {
        let mut places = line.split_whitespace().filter_map(port_of);
        let (from, to) = (places.next()?, places.next()?);
        (PEERS.contains(&to) && own != Some(&to)).then_some((from, to))
    });
    Ok(ends.collect())
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
