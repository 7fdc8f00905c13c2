//! Processes of a lab: started detached in a namespace, and never mistaken for another of the same number.

use super::netns;
use anyhow::{Context, Result};
use nix::{
    sys::{
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// What the last thread of a process that ends may take.
const ENDING: Duration = Duration::from_secs(5);

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// Its first thread is gone. While another is not, its files are open and its sockets listen.
    Ending,
}

/// A process by its number and start time, since numbers are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its number.
    pub(crate) pid: i32,
    /// Clock ticks after boot when it started.
    pub(crate) start_time: u64,
}

impl ProcessId {
    /// The process that has this number now, unless it is only waiting to be reaped.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Self::seen(pid).map(|(process, _)| process)
    }

    fn seen(pid: i32) -> Option<(Self, Stage)> {
        Self::told(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// By its line of `/proc/PID/stat`.
    fn told(pid: i32, stat: &str) -> Option<(Self, Stage)> {
        // The command's name may hold anything, so count from its closing bracket.
        let (_, after) = stat.rsplit_once(") ")?;
        let mut fields = after.split(' ');
        let state = fields.next()?;
        let threads: u32 = fields.nth(16)?.parse().ok()?;
        let start_time = fields.nth(1)?.parse().ok()?;
        let stage = match state {
            "Z" | "X" if threads <= 1 => return None,
            "Z" | "X" => Stage::Ending,
            _ => Stage::Running,
        };
        Some((Self { pid, start_time }, stage))
    }

    /// Whether it still runs.
    pub(crate) fn runs(self) -> bool {
        // A child of ours would stay a zombie otherwise; for others this does nothing.
        let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        Self::of(self.pid) == Some(self)
    }

    /// Whether it goes on. One that is ending is waited for: whoever takes its place needs its files and addresses.
    pub(crate) fn goes_on(self) -> bool {
        let ending = || Self::seen(self.pid) == Some((self, Stage::Ending));
        self.runs() && !(ending() && self.ended_within(ENDING))
    }

    /// Sends a signal, if it still runs.
    pub(crate) fn signal(self, signal: Signal) {
        if self.runs() {
            // It may end between the two; then there is nothing to do.
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Waits until it has ended; whether it has.
    pub(crate) fn ended_within(self, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        while self.runs() {
            if Instant::now() >= until {
                return false;
            }
            thread::sleep(Duration::from_millis(5));
        }
        true
    }
}

/// Asks all to end, then ends those that do not.
pub(crate) fn end(processes: &[ProcessId], grace: Duration) -> Result<()> {
    let until = Instant::now() + grace;
    processes.iter().for_each(|process| process.signal(Signal::SIGTERM));
    for process in processes {
        if !process.ended_within(until.saturating_duration_since(Instant::now())) {
            process.signal(Signal::SIGKILL);
        }
    }
    for process in processes {
        anyhow::ensure!(
            process.ended_within(Duration::from_secs(5)),
            "end process {}: it survived SIGKILL",
            process.pid
        );
    }
    Ok(())
}

/// Starts a command in a network namespace, in a process group of its own, its output in a file.
pub(crate) fn start(namespace: &str, command: Command, log: &Path) -> Result<ProcessId> {
    start_with(namespace, command, Stdio::null(), log)
}

/// The same with something to read.
pub(crate) fn start_with(
    namespace: &str,
    mut command: Command,
    input: Stdio,
    log: &Path,
) -> Result<ProcessId> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = OpenOptions::new().create(true).append(true).open(log);
    let output = output.with_context(|| format!("open {}", log.display()))?;
    command.stdin(input).stdout(output.try_clone()?).stderr(output).process_group(0);
    netns::inside(namespace, move || {
        let child = command.spawn().with_context(|| format!("start {program}"))?;
        let pid = i32::try_from(child.id())?;
        ProcessId::of(pid).with_context(|| format!("start {program}: it ended at once"))
    })
}

/// Every process whose main thread is in one of these network namespaces.
pub(crate) fn inside(namespaces: &[String]) -> Vec<ProcessId> {
    let known: Vec<_> = namespaces.iter().filter_map(|name| netns::inode(name)).collect();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        netns::inode_at(Path::new(&format!("/proc/{pid}/ns/net")))
            .is_some_and(|i| known.contains(&i))
    })
    .filter_map(ProcessId::of)
    .collect()
}

/// The last lines of a log, for an error; without the backtrace that `RUST_BACKTRACE` puts after the cause.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let told = text.lines().take_while(|line| *line != "Stack backtrace:");
    let lines: Vec<&str> = told.collect();
    let last = lines.get(lines.len().saturating_sub(12)..).unwrap_or_default();
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    match last {
        [] => format!("{name} is empty"),
        last => format!("last lines of {name}:\n  {}", last.join("\n  ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_ended_when_its_last_thread_has() {
        let line = |state: &str, threads: u32| {
            format!("7 (a) b) {state} 1 7 7 0 -1 4 1 0 0 0 0 0 0 0 20 0 {threads} 0 6468947 31 3")
        };
        let it = ProcessId { pid: 7, start_time: 6_468_947 };
        let (running, ending) = (Some((it, Stage::Running)), Some((it, Stage::Ending)));
        for (state, threads, told) in
            [("R", 1, running), ("S", 9, running), ("Z", 1, None), ("Z", 2, ending), ("X", 1, None)]
        {
            assert_eq!(ProcessId::told(7, &line(state, threads)), told, "{state} {threads}");
        }
        assert_eq!(ProcessId::told(7, "7 (a"), None);
        assert_eq!(ProcessId::told(7, "7 (a) S 1 2"), None);
    }
}
