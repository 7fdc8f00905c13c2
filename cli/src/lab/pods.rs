//! Pods of a lab: scheduled, plugged and unplugged by the real `weft-cni` over the real protocol.

use super::{
    interrupt, netns, process,
    record::{self, Held, Lab, Pod},
    start,
};
use crate::output::note;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};
use tracing::Span;
use weft_manifests::Manifests;
use weft_process::trace;
use weft_types::{NodeName, Object, object};

/// Calls of the plugin at once; each is a process and a few requests to the agent.
const AT_ONCE: usize = 8;

/// How long a node is asked again that says to come later, as a container runtime would: its agent may not have heard of
/// the pod yet, or of any operator.
const AGAIN: Duration = Duration::from_secs(20);
/// "Try again later" of the CNI specification.
const TRY_AGAIN: u64 = 11;

/// Whether the commands of manifests are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commands {
    /// They are.
    Run,
    /// The built-in servers answer in their place.
    Ignore,
}

/// Notes the pods of manifests in the record and gives each object the node it is on. A pod that is there
/// already stays where it is.
pub(crate) fn schedule(lab: &mut Lab, manifests: &mut Manifests, commands: Commands) -> Result<()> {
    let own: Vec<NodeName> = lab.nodes.iter().map(|node| NodeName(node.name.clone())).collect();
    manifests.spread_daemons(&own);
    let mut made_by = BTreeMap::new();
    for controller in &manifests.controllers {
        made_by.extend(controller.pods.iter().map(|pod| (pod.to_string(), controller.to_string())));
    }
    let nodes: Vec<String> = lab.nodes.iter().map(|node| node.name.clone()).collect();
    let mut places = Places { nodes: &nodes, strangers: BTreeMap::new(), turn: lab.pods.len() };
    for object in &mut manifests.objects {
        let Object::Pod(pod) = object else { continue };
        let name = pod.name.to_string();
        let controller = made_by.get(&name).cloned();
        let command = (commands == Commands::Run).then(|| pod.command.clone());
        let known = lab.pods.iter_mut().find(|known| known.name == name);
        let node = if let Some(known) = known {
            known.ports.clone_from(&pod.ports);
            known.controller = controller;
            if let Some(command) = command.filter(|command| *command != known.command) {
                // Another one is to be started.
                (known.command, known.process) = (command, None);
            }
            known.node.clone()
        } else {
            let node = places.place(pod)?;
            let netns = record::pod_namespace(&lab.name, &pod.name.namespace, &pod.name.name);
            lab.pods.push(Pod {
                name,
                node: node.clone(),
                container_id: netns.clone(),
                netns,
                address: None,
                ports: pod.ports.clone(),
                controller,
                command: command.unwrap_or_default(),
                process: None,
            });
            node
        };
        pod.node = Some(NodeName(node));
    }
    check_room(lab)
}

/// Refuses what would not find an address, before anything is made for it.
fn check_room(lab: &Lab) -> Result<()> {
    for node in &lab.nodes {
        // The first host address of a prefix is its gateway's.
        let room = node.pod_cidr.hosts().count().saturating_sub(1);
        let pods = lab.pods.iter().filter(|pod| pod.node == node.name).count();
        anyhow::ensure!(
            pods <= room,
            "{pods} pods are to be on {}, which has addresses for {room} ({}): bring a lab of more nodes up (--nodes)",
            node.name,
            node.pod_cidr
        );
    }
    Ok(())
}

/// Which node a new pod goes to.
struct Places<'a> {
    nodes: &'a [String],
    /// Nodes of a cluster that the manifests are of, and the lab's node that stands for each.
    strangers: BTreeMap<String, String>,
    turn: usize,
}

impl Places<'_> {
    /// The node that the manifest names; one in turn for a pod without, and for a node that the lab has not,
    /// so that pods which were together stay together.
    fn place(&mut self, pod: &object::Pod) -> Result<String> {
        if let Some(NodeName(named)) = &pod.node {
            if self.nodes.contains(named) {
                return Ok(named.clone());
            }
            let next = self.strangers.len();
            if !self.strangers.contains_key(named) {
                let node = self.nth(next)?;
                note!("node {named} of the manifests is {node} of the lab");
                self.strangers.insert(named.clone(), node);
            }
            return self.strangers.get(named).cloned().context("the lab has no node");
        }
        self.turn += 1;
        self.nth(self.turn - 1)
    }

    fn nth(&self, number: usize) -> Result<String> {
        let node = self.nodes.get(number % self.nodes.len().max(1));
        node.cloned().context("the lab has no node")
    }
}

/// Pods of the manifests' controllers that these do not ask for any more.
pub(crate) fn surplus(lab: &Lab, manifests: &Manifests) -> BTreeSet<String> {
    let asked: BTreeMap<String, BTreeSet<String>> = manifests
        .controllers
        .iter()
        .map(|c| (c.to_string(), c.pods.iter().map(ToString::to_string).collect()))
        .collect();
    let surplus = lab.pods.iter().filter(|pod| {
        let controller = pod.controller.as_ref().and_then(|name| asked.get(name));
        controller.is_some_and(|pods| !pods.contains(&pod.name))
    });
    surplus.map(|pod| pod.name.clone()).collect()
}

/// Plugs the pods that have no address yet.
pub(crate) fn plug(lab: &mut Held) -> Result<()> {
    let plugin = start::program("weft-cni")?;
    let waiting = lab.pods.iter().filter(|pod| pod.address.is_none()).map(|pod| pod.name.clone());
    let plugged = each(lab, &waiting.collect(), move |pod, socket| plug_one(pod, socket, &plugin))?;
    let mut failure = None;
    for (name, address) in plugged {
        match (lab.pods.iter_mut().find(|pod| pod.name == name), address) {
            (Some(pod), Ok(address)) => pod.address = Some(address),
            (_, Err(error)) => failure = Some(error),
            (None, Ok(_)) => {}
        }
    }
    lab.save()?;
    failure.map_or(Ok(()), Err)
}

/// Unplugs pods and forgets them; what runs in them ends.
pub(crate) fn unplug(lab: &mut Held, names: &BTreeSet<String>) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let plugin = start::program("weft-cni")?;
    let deleted = each(lab, names, move |pod, socket| call(&plugin, "DEL", pod, socket).map(drop))?;
    let mut errors: Vec<String> =
        deleted.into_iter().filter_map(|(_, done)| done.err()).map(|e| format!("{e:#}")).collect();
    for pod in lab.pods.iter_mut().filter(|pod| names.contains(&pod.name)) {
        pod.address = None;
    }
    lab.save()?;
    start::servers(lab)?;
    let gone = lab.pods.iter().filter(|pod| names.contains(&pod.name));
    let namespaces: Vec<String> = gone.map(|pod| pod.netns.clone()).collect();
    process::end(&process::inside(&namespaces), Duration::from_secs(2))?;
    let deleted = namespaces.iter().filter_map(|name| netns::delete(name).err());
    errors.extend(deleted.map(|error| format!("{error:#}")));
    lab.pods.retain(|pod| !names.contains(&pod.name));
    lab.save()?;
    anyhow::ensure!(errors.is_empty(), "remove pods: {}", errors.join("; "));
    Ok(())
}

type Results<T> = Vec<(String, Result<T>)>;

/// Does something for each of these pods, some at once; given its node's agent socket.
fn each<T: Send + 'static>(
    lab: &Lab,
    names: &BTreeSet<String>,
    work: impl Fn(&Pod, &Path) -> Result<T> + Clone + Send + 'static,
) -> Result<Results<T>> {
    let pods: Vec<(Pod, PathBuf)> = lab
        .pods
        .iter()
        .filter(|pod| names.contains(&pod.name))
        .map(|pod| Ok((pod.clone(), lab.node(&pod.node)?.agent_socket.clone())))
        .collect::<Result<_>>()?;
    let mut done = Vec::new();
    for some in pods.chunks(AT_ONCE) {
        let working: Vec<_> = some
            .iter()
            .cloned()
            .map(|(pod, socket)| {
                let (work, span, name) = (work.clone(), Span::current(), pod.name.clone());
                let working = move || span.in_scope(|| work(&pod, &socket));
                (name, thread::spawn(working))
            })
            .collect();
        for (name, thread) in working {
            let result = thread.join();
            let result = result.map_err(|_| anyhow::anyhow!("a thread of the lab panicked"));
            done.push((name, result.and_then(|result| result)));
        }
        interrupt::check()?;
    }
    Ok(done)
}

fn plug_one(pod: &Pod, socket: &Path, plugin: &Path) -> Result<Ipv4Addr> {
    if netns::inode(&pod.netns).is_none() || !netns::path(&pod.netns).exists() {
        netns::create(&pod.netns)?;
    }
    let mut answer = call(plugin, "ADD", pod, socket);
    interrupt::poll::<anyhow::Error>(AGAIN, || {
        let later = matches!(&answer, Err(error) if is_for_later(error));
        if later {
            answer = call(plugin, "ADD", pod, socket);
        }
        Ok(!later)
    })?;
    let result = answer?;
    result
        .pointer("/ips/0/address")
        .and_then(Value::as_str)
        .and_then(|text| text.split('/').next()?.parse().ok())
        .with_context(|| format!("plug {}: the result has no address: {result}", pod.name))
}

/// What a plugin said of its failure.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
struct Refused {
    what: String,
    code: Option<u64>,
}

fn is_for_later(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == Some(TRY_AGAIN))
}

/// What a plugin says of its failure, in its words rather than the protocol's.
fn refusal(text: &str) -> String {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let part = |key: &str| answer.get(key).and_then(Value::as_str).filter(|part| !part.is_empty());
    match (part("msg"), part("details"), answer.get("code")) {
        (Some(what), Some(details), Some(code)) => format!("{what}: {details} (code {code})"),
        (Some(what), None, Some(code)) => format!("{what} (code {code})"),
        _ => text.trim().to_owned(),
    }
}

/// One call of the plugin, as a runtime makes it.
fn call(plugin: &Path, command: &str, pod: &Pod, socket: &Path) -> Result<Value> {
    let (namespace, name) = pod.name.split_once('/').context("a pod is namespace/name")?;
    let config = json!({
        "cniVersion": "1.1.0", "name": "weft", "type": "weft-cni", "socket": socket,
        "log-file": socket.with_file_name("cni.log"),
    });
    let span = tracing::info_span!("cni", command, pod = pod.name);
    let trace = trace::of(&span).map(|context| ("TRACEPARENT", context.to_string()));
    let mut child = Command::new(plugin)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", &pod.container_id)
        .env("CNI_NETNS", netns::path(&pod.netns))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", plugin.parent().unwrap_or(Path::new("/")))
        .env("CNI_ARGS", format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"))
        .envs(trace)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", plugin.display()))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(config.to_string().as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let what = format!("CNI {command} of {}: {}", pod.name, refusal(&text));
        let answer: Option<Value> = serde_json::from_str(&text).ok();
        let code = answer.and_then(|answer| answer.get("code")?.as_u64());
        return Err(Refused { what, code }.into());
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests {
    use super::{Lab, check_room, refusal};

    #[test]
    fn a_node_that_is_too_full_is_told_before_it_is() {
        let lab = |pods: usize| -> Lab {
            let pod = serde_json::json!({"name": "a/b", "node": "node1", "netns": "x", "address": null,
                "container_id": "x", "ports": []});
            let node = serde_json::json!({"name": "node1", "address": "172.30.0.11", "netns": "x",
                "pod_cidr": "10.244.1.0/24", "agent_socket": "x", "bpffs": "x", "process": null});
            let lab = serde_json::json!({"version": 1, "name": "t", "operators": [], "server": null,
                "nodes": [node], "pods": vec![pod; pods]});
            serde_json::from_value(lab).expect("a record")
        };
        assert!(check_room(&lab(253)).is_ok());
        let problem = check_room(&lab(254)).expect_err("one too many").to_string();
        assert!(problem.starts_with("254 pods are to be on node1, which has addresses for 253"));
    }

    #[test]
    fn a_refusal_is_told_in_words() {
        let json = r#"{"cniVersion":"1.1.0","code":11,"msg":"try later","details":"no agent"}"#;
        assert_eq!(refusal(json), "try later: no agent (code 11)");
        assert_eq!(refusal(r#"{"code":7,"msg":"no prefix"}"#), "no prefix (code 7)");
        assert_eq!(refusal("panicked\n"), "panicked");
    }
}
