//! What a reader has to know of the machine, and what others do on it meanwhile.

use crate::{note, program};
use anyhow::{Context, Result};
use serde::Serialize;
use std::{fs, process::Command, thread, time::Duration};

/// Ticks of `/proc/stat` a second: `USER_HZ`, 100 on every Linux.
const TICKS: f64 = 100.0;
/// How long is listened for others: 0.5 CPUs are 20 ticks then.
const LISTEN: Duration = Duration::from_millis(400);

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Environment {
    /// Release of the kernel.
    pub(crate) kernel: String,
    /// CPUs that this process may use.
    pub(crate) cpus: usize,
    /// What they call themselves.
    pub(crate) cpu: String,
    /// Frequency governor of the first; `unknown` where there is none to ask, as in most virtual machines.
    pub(crate) governor: String,
    /// Whether a hypervisor is below.
    pub(crate) virtual_machine: bool,
    /// Whether the kernel compiles eBPF.
    pub(crate) jit: String,
    /// Mebibytes of memory.
    pub(crate) memory: u64,
}

impl Environment {
    /// Of this machine.
    pub(crate) fn read() -> Self {
        let line = |path: &str| fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let unknown = || "unknown".to_owned();
        let cpuinfo = line("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let found = cpuinfo.lines().find(|l| l.starts_with(name))?;
            found.split_once(':').map(|(_, value)| value.trim().to_owned())
        };
        let memory = line("/proc/meminfo").unwrap_or_default();
        let memory = memory.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
        Self {
            kernel: line("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            cpu: field("model name").unwrap_or_else(unknown),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .unwrap_or_else(unknown),
            virtual_machine: field("flags")
                .is_some_and(|f| f.split(' ').any(|f| f == "hypervisor")),
            jit: match line("/proc/sys/net/core/bpf_jit_enable").as_deref() {
                Some("0") => "off".to_owned(),
                Some(_) => "on".to_owned(),
                None => unknown(),
            },
            memory: memory.unwrap_or_default() / 1024,
        }
    }

    /// In a line.
    pub(crate) fn line(&self) -> String {
        format!(
            "Linux {}, {} CPUs ({}{}), {} MiB, governor {}, eBPF JIT {}",
            self.kernel,
            self.cpus,
            self.cpu,
            if self.virtual_machine { ", virtual" } else { "" },
            self.memory,
            self.governor,
            self.jit
        )
    }
}

/// Puts the calling thread, and the threads that it starts, in front of what others run on their CPUs. It
/// only narrows the quartiles, so where it cannot be done it is said and gone on.
pub(crate) fn go_first() {
    let thread = nix::unistd::gettid().to_string();
    let mut command = Command::new("renice");
    command.args(["-n", "-20", "-p", &thread]);
    let done = program::piped(&mut command).and_then(|child| Ok(child.wait_with_output()?));
    if let Err(error) = done.and_then(|output| program::said("renice", output)) {
        note(&format!("{error:#}"));
    }
}

/// CPUs that are busy while this process does nothing: what others use.
pub(crate) fn foreign_cpus() -> Result<f64> {
    let before = busy_ticks()?;
    thread::sleep(LISTEN);
    let busy = busy_ticks()?.saturating_sub(before);
    Ok(busy as f64 / TICKS / LISTEN.as_secs_f64())
}

fn busy_ticks() -> Result<u64> {
    let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
    Ok(stat.lines().next().map_or(0, busy))
}

/// The ticks of a `cpu` line that are neither idle nor waiting for a disk. Guests' are in user's already.
fn busy(line: &str) -> u64 {
    let ticks: Vec<u64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    ticks.iter().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4)).map(|(_, t)| t).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        assert_eq!(busy("cpu  1 2 4 1000 1000 8 16 32 64 128"), 63);
        assert_eq!(busy(""), 0);
    }
}
