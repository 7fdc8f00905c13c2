//! A pod that its node knows and one that nobody knows, started by the CNI plugin as a runtime does, whoever is away.

use super::lab::Lab;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use weft_types::{NamespacedName, NodeName, Object, object::Pod};

/// "Try again later" of the CNI specification.
const TRY_AGAIN: u64 = 11;
/// A pod that its node knows; the lab does not, so nobody else plugs or probes it.
const KNOWN: &str = "known";
/// One that nobody wants.
const UNKNOWN: &str = "unknown";

/// What became of pods that were started meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Started {
    /// Times that one whose node knows it started.
    pub(super) known: u32,
    /// Times that one whom nobody knows was told to try again.
    pub(super) told_again: u32,
}

/// The plugin on the first node, and the network namespaces of two pods, which go when the value does.
pub(super) struct Runtime {
    lab: String,
    program: PathBuf,
    socket: PathBuf,
}

impl Runtime {
    /// With a pod that is wanted and started.
    pub(super) fn on(lab: &Lab) -> Result<Self> {
        let (node, socket) = lab.first_agent()?;
        let program = lab.program("weft-cni");
        let runtime = Self { lab: lab.name.clone(), program, socket };
        lab.apply(vec![Object::Pod(Pod {
            name: NamespacedName::new("live", KNOWN),
            labels: BTreeMap::from([("app".to_owned(), KNOWN.to_owned())]),
            service_account: "default".to_owned(),
            ports: Vec::new(),
            node: Some(NodeName(node)),
            address: None,
            command: Vec::new(),
        })])?;
        for pod in [KNOWN, UNKNOWN] {
            ip(&["netns", "add", &runtime.netns(pod)])?;
        }
        super::lab::wait(Duration::from_secs(20), || Ok(runtime.call("ADD", KNOWN)?.is_ok()))
            .context("start a pod")?;
        Ok(runtime)
    }

    fn netns(&self, pod: &str) -> String {
        format!("weft-{}-p-live-{pod}", self.lab)
    }

    /// The pod that is known is started anew; the one that is not, in vain.
    pub(super) fn start(&self) -> Result<Started> {
        if let Err(code) = self.call("DEL", KNOWN)? {
            bail!("a pod is not taken away: code {code}");
        }
        if let Err(code) = self.call("ADD", KNOWN)? {
            bail!("a pod that its node knows does not start: code {code}");
        }
        match self.call("ADD", UNKNOWN)? {
            Err(TRY_AGAIN) => Ok(Started { known: 1, told_again: 1 }),
            other => bail!("a pod that nobody knows is answered {other:?}, not code {TRY_AGAIN}"),
        }
    }

    /// One call; the code of what it was refused by.
    fn call(&self, command: &str, pod: &str) -> Result<Result<(), u64>> {
        let netns = self.netns(pod);
        let config = json!({
            "cniVersion": "1.1.0", "name": "weft", "type": "weft-cni", "socket": self.socket,
            "log-file": self.socket.with_file_name("cni.log"),
        });
        let mut child = Command::new(&self.program)
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &netns)
            .env("CNI_NETNS", Path::new("/run/netns").join(&netns))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", self.program.parent().unwrap_or(Path::new("/")))
            .env("CNI_ARGS", format!("K8S_POD_NAMESPACE=live;K8S_POD_NAME={pod}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(config.to_string().as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(Ok(()));
        }
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let code = told.get("code").and_then(Value::as_u64);
        code.map(Err).with_context(|| format!("CNI {command} of {pod}: {told}"))
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let taken = self.call("DEL", KNOWN).map(drop);
        let gone = [KNOWN, UNKNOWN].map(|pod| ip(&["netns", "del", &self.netns(pod)]));
        for error in [taken].into_iter().chain(gone).filter_map(Result::err) {
            super::tell(&format!("{error:#}"));
        }
    }
}

fn ip(words: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(words).output().context("run ip")?;
    let why = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", words.join(" "), why.trim());
    Ok(())
}
