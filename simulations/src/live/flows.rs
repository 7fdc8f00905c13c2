//! Connections between pods whose every byte is checked, and who reaches whom, while things go wrong.

use super::lab::Lab;
use anyhow::{Context, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use std::{
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// From one look at who reaches whom to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// Flows and probes that are under way.
pub(super) struct Flows {
    streams: Vec<Child>,
    over: Arc<AtomicBool>,
    probing: JoinHandle<Probed>,
}

/// What became of them.
#[derive(Debug, Default)]
pub(super) struct Flowed {
    /// What each stream says of itself, and whether it was whole.
    pub(super) streams: Vec<(Value, bool)>,
    pub(super) probed: Probed,
}

/// How often it was looked who reaches whom.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probed {
    pub(super) rounds: u32,
    /// Rounds that did not see what the first one saw.
    pub(super) differing: u32,
}

impl Flows {
    pub(super) fn begin(lab: &Lab) -> Result<Self> {
        let name = lab.name.as_str();
        let tcp = ["lab", "stream", "live/a", "live/b:8080", "--name", name, "-o", "json"];
        let udp = ["lab", "stream", "live/a", "live/b:8081", "--name", name, "-o", "json", "--udp"];
        let out = ["lab", "stream", "live/c", "live/a:8080", "--name", name, "-o", "json"];
        let streams = [tcp.as_slice(), &udp, &out].into_iter().map(|words| {
            let mut command = lab.command(words);
            command.stdout(Stdio::piped()).stderr(Stdio::null());
            command.spawn().context("begin a stream")
        });
        let streams = streams.collect::<Result<_>>()?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let probe = lab.command(&["lab", "probe", "--name", name, "-o", "json"]);
        Ok(Self { streams, over, probing: thread::spawn(move || probe_again(probe, &ended)) })
    }

    /// Ends them.
    pub(super) fn end(self) -> Flowed {
        self.over.store(true, Ordering::Relaxed);
        let ended = self.streams.into_iter().map(|stream| {
            if let Ok(pid) = i32::try_from(stream.id()) {
                // One that ended by itself says so below.
                let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
            }
            let Ok(output) = stream.wait_with_output() else { return (Value::Null, false) };
            let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let whole =
                output.status.success() && told.get("back").and_then(Value::as_u64) > Some(0);
            (told, whole)
        });
        let streams = ended.collect();
        Flowed { streams, probed: self.probing.join().unwrap_or_default() }
    }
}

fn probe_again(mut probe: std::process::Command, over: &AtomicBool) -> Probed {
    let mut probed = Probed::default();
    let mut first: Option<Value> = None;
    while !over.load(Ordering::Relaxed) {
        let output = probe.output().ok().filter(|output| output.status.success());
        let seen = output.and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
        probed.rounds += 1;
        match (&first, seen) {
            (None, Some(seen)) => first = Some(seen),
            (Some(first), Some(seen)) if *first == seen => {}
            (_, _) => probed.differing += 1,
        }
        thread::sleep(PAUSE);
    }
    probed
}
