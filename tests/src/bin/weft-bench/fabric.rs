//! The subject: a lab with two nodes, the real programs, policies on, many other rules loaded, events on.

use crate::{
    load::{Ends, PORT},
    namespace::Namespace,
    program::{self, said},
};
use anyhow::{Context, Result};
use serde_json::Value;
use std::{
    io::Write,
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Pods on the first node, the load's own among them.
    pub(crate) pods: usize,
    /// Rules that match nobody's traffic, beside the one that matches the load's.
    pub(crate) rules: usize,
}

/// How long a flow may take from the kernel to `weft flows`.
const MOMENT: Duration = Duration::from_secs(5);

/// A lab that goes with this value.
pub(crate) struct Fabric {
    name: String,
    status: Value,
    /// How large it was made.
    pub(crate) size: Size,
    /// How long `weft lab up` took.
    pub(crate) took: Duration,
}

/// A pod that runs.
pub(crate) struct Pod {
    /// Its network namespace.
    pub(crate) namespace: Namespace,
    /// The namespace's name.
    pub(crate) netns: String,
    /// Its address.
    pub(crate) address: Ipv4Addr,
}

impl Pod {
    /// The way to another.
    pub(crate) fn to<'a>(&'a self, other: &'a Self) -> Ends<'a> {
        Ends { client: &self.namespace, server: &other.namespace, address: other.address }
    }
}

/// Pods that the load needs; the rest of a node's only fill it.
const NEEDED: usize = 4;

impl Fabric {
    /// Brings it up; every policy is enforced then.
    pub(crate) fn up(size: Size) -> Result<Self> {
        let name = format!("bench-{}", std::process::id());
        let mut lab = Self { name, status: Value::Null, size, took: Duration::ZERO };
        let begun = Instant::now();
        let mut command = Command::new(program::ours("weft")?);
        command.args(["lab", "up", "--nodes", "2", "-f", "-", "--name", &lab.name]);
        let mut child = program::piped(command.stdin(Stdio::piped()))?;
        let mut input = child.stdin.take().context("speak to weft lab up")?;
        let manifests = manifests(size);
        // Who refuses its arguments reads nothing; what it says is told below.
        let _ = input.write_all(manifests.as_bytes());
        drop(input);
        said("weft lab up", child.wait_with_output()?)?;
        lab.took = begun.elapsed();
        lab.status = lab.look()?;
        Ok(lab)
    }

    /// `weft lab status`; it exits with 1 when something is not well, which is seen elsewhere.
    fn look(&self) -> Result<Value> {
        let mut command = Command::new(program::ours("weft")?);
        command.args(["lab", "status", "-o", "json", "--name", &self.name]);
        let output = program::piped(&mut command)?.wait_with_output()?;
        serde_json::from_slice(&output.stdout).context("understand `weft lab status`")
    }

    /// A pod by its name in the namespace `bench`.
    pub(crate) fn pod(&self, name: &str) -> Result<Pod> {
        let name = format!("bench/{name}");
        let pod = self.named("pods", &name)?;
        let netns = text(pod, "netns")?;
        Ok(Pod {
            namespace: Namespace::open(&Path::new("/run/netns").join(netns))?,
            netns: netns.to_owned(),
            address: text(pod, "address")?.parse().with_context(|| format!("{name}'s address"))?,
        })
    }

    /// The process of the first node's agent.
    pub(crate) fn agent(&self) -> Result<u64> {
        let pid = self.named("processes", "node1")?.get("pid").and_then(Value::as_u64);
        pid.context("`weft lab status` knows no process of node1")
    }

    /// Pods that the first node's agent says it has.
    pub(crate) fn plugged(&self) -> Result<usize> {
        let mut command = Command::new(program::ours("weft")?);
        command.args(["endpoint", "list", "-o", "json", "--node", "node1", "--lab", &self.name]);
        let output = said("weft endpoint list", program::piped(&mut command)?.wait_with_output()?)?;
        let rows: Value =
            serde_json::from_str(&output).context("understand `weft endpoint list`")?;
        Ok(rows.as_array().map_or(0, Vec::len))
    }

    /// The socket of the first node's agent.
    pub(crate) fn socket(&self) -> PathBuf {
        let root = std::env::var_os("WEFT_LAB_ROOT");
        let root = root.map_or_else(|| "/run/weft/labs".into(), PathBuf::from);
        root.join(&self.name).join("node1/agent.sock")
    }

    /// Whether the lab tells of a flow that was dropped between these pods; it may need a moment to.
    pub(crate) fn tells_of_drop(&self, from: &str, to: &str) -> Result<bool> {
        let until = Instant::now() + MOMENT;
        loop {
            let mut command = Command::new(program::ours("weft")?);
            command.args(["flows", "--lab", &self.name, "--verdict", "DROPPED", "--last", "1"]);
            command.args(["--from-pod", &format!("bench/{from}")]);
            command.args(["--to-pod", &format!("bench/{to}"), "-o", "json"]);
            let output = said("weft flows", program::piped(&mut command)?.wait_with_output()?)?;
            if !output.trim().is_empty() || Instant::now() >= until {
                return Ok(!output.trim().is_empty());
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn named(&self, list: &str, name: &str) -> Result<&Value> {
        let mut all = self.status.get(list).and_then(Value::as_array).into_iter().flatten();
        all.find(|one| one.get("name").and_then(Value::as_str) == Some(name))
            .with_context(|| format!("`weft lab status` knows no {name}"))
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        let Ok(weft) = program::ours("weft") else { return };
        let mut command = Command::new(weft);
        command.args(["lab", "down", "--name", &self.name]);
        // Of a group of its own: a second Ctrl-C does not stop the clean-up.
        let done = program::piped(command.process_group(0)).and_then(|c| Ok(c.wait_with_output()?));
        if self.status != Value::Null
            && let Err(error) = done.and_then(|output| said("weft lab down", output))
        {
            crate::note(&format!("{error:#}"));
        }
    }
}

fn text<'a>(object: &'a Value, key: &str) -> Result<&'a str> {
    object.get(key).and_then(Value::as_str).with_context(|| format!("there is no {key}: {object}"))
}

/// Client, server and stranger on node1, a server on node2, a pod to plug again and again, and fillers.
fn manifests(size: Size) -> String {
    let mut text = "{apiVersion: v1, kind: Namespace, metadata: {name: bench}}\n".to_owned();
    for (name, app, node) in [
        ("client", "client", "node1"),
        ("near", "server", "node1"),
        ("far", "server", "node2"),
        ("stranger", "stranger", "node1"),
        ("plug", "plug", "node1"),
    ] {
        text += &pod(name, app, node);
    }
    for number in NEEDED..size.pods {
        text += &pod(&format!("load-{number}"), "load", "node1");
    }
    text + &policies(size.rules)
}

fn pod(name: &str, app: &str, node: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: bench, labels: {{app: {app}}}}}, \
         spec: {{nodeName: {node}, containers: [{{name: c, image: none, ports: [{{containerPort: 8080}}]}}]}}}}\n"
    )
}

/// The client may speak to the servers at the load's port, both ways isolated.
fn policies(rules: usize) -> String {
    let ports =
        format!("ports: [{{protocol: TCP, port: {PORT}}}, {{protocol: UDP, port: {PORT}}}]");
    let peer = |app: &str| format!("podSelector: {{matchLabels: {{app: {app}}}}}");
    let head = "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n";
    let mut text = format!(
        "{head}metadata: {{name: client, namespace: bench}}\nspec:\n  {}\n  policyTypes: [Egress]\n  egress:\n  - {{to: [{{{}}}], {ports}}}\n",
        peer("client"),
        peer("server")
    );
    text += &format!(
        "{head}metadata: {{name: server, namespace: bench}}\nspec:\n  {}\n  policyTypes: [Ingress]\n  ingress:\n  - {{from: [{{{}}}], {ports}}}\n",
        peer("server"),
        peer("client")
    );
    for number in 0..rules {
        text += &format!("  - {}\n", other_rule(number));
    }
    text
}

/// Blocks, port ranges and single ports in turn; none matches the load.
fn other_rule(number: usize) -> String {
    let (high, low) = (number / 256, number % 256);
    match number % 3 {
        0 => format!(
            "{{from: [{{ipBlock: {{cidr: 198.18.{high}.{low}/32}}}}], ports: [{{port: {}}}]}}",
            10_000 + number
        ),
        1 => format!(
            "{{from: [{{podSelector: {{matchLabels: {{app: load}}}}}}], ports: [{{port: {}, endPort: {}}}]}}",
            20_000 + 8 * number,
            20_007 + 8 * number
        ),
        _ => format!(
            "{{from: [{{podSelector: {{matchLabels: {{app: plug}}}}}}], ports: [{{protocol: UDP, port: {}}}]}}",
            40_000 + number
        ),
    }
}
