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
    probing: Option<JoinHandle<Probed>>,
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
        let mut flows = Self { streams: Vec::new(), over: Arc::default(), probing: None };
        for words in [tcp.as_slice(), &udp, &out] {
            let mut command = lab.command(words);
            command.stdout(Stdio::piped()).stderr(Stdio::null());
            flows.streams.push(command.spawn().context("begin a stream")?);
        }
        let over = Arc::clone(&flows.over);
        let probe = lab.command(&["lab", "probe", "--name", name, "-o", "json"]);
        flows.probing = Some(thread::spawn(move || probe_again(probe, &over)));
        Ok(flows)
    }

    /// Ends them.
    pub(super) fn end(mut self) -> Flowed {
        self.stop();
        let ended = std::mem::take(&mut self.streams).into_iter().map(|stream| {
            let Ok(output) = stream.wait_with_output() else { return (Value::Null, false) };
            let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let whole =
                output.status.success() && told.get("back").and_then(Value::as_u64) > Some(0);
            (told, whole)
        });
        let streams = ended.collect();
        let probed = self.probing.take().and_then(|probing| probing.join().ok());
        Flowed { streams, probed: probed.unwrap_or_default() }
    }

    fn stop(&self) {
        self.over.store(true, Ordering::Relaxed);
        for pid in self.streams.iter().filter_map(|stream| i32::try_from(stream.id()).ok()) {
            // One that ended by itself says so when it is waited for.
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
    }
}

impl Drop for Flows {
    /// None outlives a run that came to nothing.
    fn drop(&mut self) {
        self.stop();
        self.streams.iter_mut().for_each(|stream| drop(stream.wait()));
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
