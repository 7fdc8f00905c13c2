//! Pods of a lab: scheduled, plugged by the real `weft-cni` over the real protocol.

use super::{
    netns,
    record::{self, Lab},
};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::{
    io::Write,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};
use weft_types::{NodeName, Object};

/// Plugs at once; each is a process and a few calls of the agent.
const AT_ONCE: usize = 8;

/// Gives each pod without a node one, in turn, and notes the pods.
pub(crate) fn schedule(lab: &mut Lab, objects: &mut [Object]) -> Result<()> {
    let mut turn = lab.pods.len();
    for object in objects {
        let Object::Pod(pod) = object else { continue };
        let known = lab.pods.iter().find(|known| known.name == pod.name.to_string());
        if let Some(known) = known {
            pod.node = Some(NodeName(known.node.clone()));
            continue;
        }
        let node = match &pod.node {
            Some(name) => lab.node(&name.0)?.name.clone(),
            None => {
                let nodes = &lab.nodes;
                let node = nodes.get(turn % nodes.len().max(1)).context("the lab has no node")?;
                turn += 1;
                node.name.clone()
            }
        };
        pod.node = Some(NodeName(node.clone()));
        let netns = record::pod_namespace(&lab.name, &pod.name.namespace, &pod.name.name);
        lab.pods.push(record::Pod {
            name: pod.name.to_string(),
            node,
            container_id: netns.clone(),
            netns,
            address: None,
            ports: pod.ports.clone(),
        });
    }
    Ok(())
}

/// Plugs the pods that have no address yet.
pub(crate) fn plug(lab: &mut Lab, plugin: &Path) -> Result<()> {
    let waiting: Vec<(usize, record::Pod, PathBuf)> = lab
        .pods
        .iter()
        .enumerate()
        .filter(|(_, pod)| pod.address.is_none())
        .map(|(at, pod)| Ok((at, pod.clone(), lab.node(&pod.node)?.agent_socket.clone())))
        .collect::<Result<_>>()?;
    for batch in waiting.chunks(AT_ONCE) {
        let plugging: Vec<_> = batch
            .iter()
            .cloned()
            .map(|(at, pod, socket)| {
                let plugin = plugin.to_owned();
                (at, thread::spawn(move || plug_one(&pod, &socket, &plugin)))
            })
            .collect();
        for (at, plugged) in plugging {
            let address =
                plugged.join().map_err(|_| anyhow::anyhow!("a thread of the lab panicked"))??;
            if let Some(pod) = lab.pods.get_mut(at) {
                pod.address = Some(address);
            }
        }
    }
    lab.save()
}

fn plug_one(pod: &record::Pod, socket: &Path, plugin: &Path) -> Result<Ipv4Addr> {
    netns::create(&pod.netns)?;
    let result = call(plugin, "ADD", pod, socket)?;
    result
        .pointer("/ips/0/address")
        .and_then(Value::as_str)
        .and_then(|text| text.split('/').next()?.parse().ok())
        .with_context(|| format!("plug {}: the result has no address: {result}", pod.name))
}

/// One call of the plugin, as a runtime makes it.
fn call(plugin: &Path, command: &str, pod: &record::Pod, socket: &Path) -> Result<Value> {
    let (namespace, name) = pod.name.split_once('/').context("a pod is namespace/name")?;
    let config = json!({
        "cniVersion": "1.1.0", "name": "weft", "type": "weft-cni", "socket": socket,
    });
    let mut child = Command::new(plugin)
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", &pod.container_id)
        .env("CNI_NETNS", netns::path(&pod.netns))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", plugin.parent().unwrap_or(Path::new("/")))
        .env("CNI_ARGS", format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}"))
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
        bail!("CNI {command} of {}: {}", pod.name, text.trim());
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}
