//! The real plugin, called as `libcni` calls it, for real namespaces of a node with a real agent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

#[path = "cni/node.rs"]
mod node;

use node::{Node, PATIENCE, Sandbox, address, at_once, connect, echoes, files, serve};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};
use weft_tests::{cni::Network, lab::is_root};

const AT_ONCE: usize = 100;

#[test]
fn root_a_hundred_pods_come_at_once_and_go_at_once() {
    if !is_root() {
        return;
    }
    let node = Node::up("hundred");
    let names: Vec<String> = (0..AT_ONCE).map(|number| format!("p{number}")).collect();
    let pods: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "web")).collect();
    node.schedule(&pods);
    let sandboxes: Vec<Sandbox> = names.iter().map(|name| node.sandbox(name)).collect();

    let begun = Instant::now();
    let added = at_once(&sandboxes, |sandbox| node.add(sandbox).unwrap());
    eprintln!("{AT_ONCE} ADDs at once: {:?}", begun.elapsed());
    let distinct: BTreeSet<Ipv4Addr> = added.iter().copied().collect();
    assert_eq!(distinct.len(), AT_ONCE, "{added:?}");
    assert!(distinct.iter().all(|a| a.octets()[..3] == [10, 244, 1]), "{distinct:?}");
    assert_eq!(node.endpoints().len(), AT_ONCE);
    assert_eq!(node.links().len(), AT_ONCE);

    // Each is as it was made, and once more is the same.
    let again = at_once(&sandboxes, |sandbox| {
        node.runtime.check(&node.network, &sandbox.container).unwrap();
        node.add(sandbox).unwrap()
    });
    assert_eq!(again, added);
    assert_eq!(node.links().len(), AT_ONCE);
    serve(&sandboxes[0]);
    for sandbox in &sandboxes[1..5] {
        assert!(connect(sandbox, added[0]).is_some_and(|mut stream| echoes(&mut stream)));
    }

    // Some lose their namespace before their DEL.
    let begun = Instant::now();
    sandboxes.iter().skip(4).step_by(5).for_each(|sandbox| sandbox.netns.remove());
    node.becomes("they are told", |node| node.problems().len() == AT_ONCE / 5);
    at_once(&sandboxes, |sandbox| {
        node.runtime.delete(&node.network, &sandbox.container).unwrap();
    });
    eprintln!("{AT_ONCE} DELs at once: {:?}", begun.elapsed());
    assert_eq!(files(&node.runtime.cache).len(), 0);
    // On a busy machine a DEL may end before what it wants is done, or be left in the queue: the agent goes on with it.
    node.becomes("nothing is left", |node| node.endpoints().is_empty() && node.queued().is_empty());
    node.has_nothing();

    // Once more is no error, with nothing remembered.
    at_once(&sandboxes, |sandbox| {
        node.runtime.delete(&node.network, &sandbox.container).unwrap();
    });
}

#[test]
fn root_dels_wait_for_an_agent_that_is_away_and_adds_do_not() {
    if !is_root() {
        return;
    }
    let node = Node::up("away");
    node.schedule(&[("a", "web"), ("b", "web"), ("c", "web")]);
    let ((a, _), (b, kept)) = (node.plugged("a"), node.plugged("b"));
    let c = node.sandbox("c");
    node.runtime.status(&node.network).unwrap();

    node.kill_agent();
    let begun = Instant::now();
    assert_eq!(node.add(&c).unwrap_err().code, 11);
    assert_eq!(node.runtime.check(&node.network, &b.container).unwrap_err().code, 11);
    assert_eq!(node.runtime.status(&node.network).unwrap_err().code, 50);
    node.runtime.delete(&node.network, &a.container).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "four calls took {:?}", begun.elapsed());
    assert_eq!(node.queued().len(), 1);
    drop(a);

    node.start_agent();
    node.becomes("the queue is drained", |node| node.queued().is_empty());
    let left: Vec<Ipv4Addr> = node.endpoints().iter().map(|row| row.address).collect();
    assert_eq!(left, [kept]);
    assert_eq!(node.links().len(), 1);
    node.runtime.check(&node.network, &b.container).unwrap();
    node.add(&c).unwrap();

    // The same container again, before its DEL was done: what comes last counts.
    node.kill_agent();
    node.runtime.delete(&node.network, &b.container).unwrap();
    node.start_agent();
    let begun = Instant::now();
    while let Err(failure) = node.add(&b) {
        assert_eq!(failure.code, 11, "{failure:?}");
        assert!(begun.elapsed() < PATIENCE, "{failure:?}");
    }
    node.becomes("the queue is drained", |node| node.queued().is_empty());
    // Longer than the agent leaves its queue alone.
    thread::sleep(Duration::from_secs(6));
    node.runtime.check(&node.network, &b.container).unwrap();
    assert_eq!(node.endpoints().len(), 2);
}

#[test]
fn root_what_cannot_be_plugged_is_said_at_once() {
    if !is_root() {
        return;
    }
    let mut node = Node::up("refused");
    node.schedule(&[("a", "web"), ("b", "web")]);
    let (a, _) = node.plugged("a");
    let begun = Instant::now();

    // The same container for another pod, or in another namespace.
    let mut other = node.sandbox("b");
    other.container.id.clone_from(&a.container.id);
    let failure = node.add(&other).unwrap_err();
    assert!(failure.code == 100 && failure.message.contains("t/a"), "{failure:?}");

    // An interface of that name is there, and stays as it is.
    other.container.id = "c-b".to_owned();
    let ip = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        other.netns.inside(move || std::process::Command::new("ip").args(words).output().unwrap())
    };
    assert!(ip(&["link", "add", "eth0", "type", "veth", "peer", "name", "eth9"]).status.success());
    let failure = node.add(&other).unwrap_err();
    assert!(failure.code == 100 && failure.message.contains("eth0"), "{failure:?}");
    assert!(ip(&["link", "show", "eth9"]).status.success());
    assert_eq!(node.links().len(), 1);

    // Another plugin made it: its other side is not the node's, or it has not the address that it is said to have.
    let folder = node.lab.dir().join("plugins");
    fs::create_dir(&folder).unwrap();
    node.runtime.path.insert(0, folder.clone());
    let before = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "sandbox": other.netns.path()}],
        "ips": [{"address": "10.244.1.200/24", "interface": 0}],
    });
    script(&folder, "before", &before.to_string());
    let plugins = [&[json!({"type": "before"})], &node.network.plugins[..]].concat();
    let chained = Network { plugins, ..node.network.clone() };
    for why in
        ["it has not the address 10.244.1.200", "it is no side of a veth pair whose other side"]
    {
        let failure = node.runtime.add(&chained, &other.container).unwrap_err();
        assert!(failure.code == 100 && failure.message.contains(why), "{failure:?}");
        assert!(ip(&["addr", "replace", "10.244.1.200/24", "dev", "eth0"]).status.success());
    }
    assert!(ip(&["link", "show", "eth9"]).status.success());
    assert_eq!(node.links().len(), 1);
    node.runtime.path.remove(0);

    // The node's own namespace is nobody's sandbox.
    let mut own = node.sandbox("own");
    own.container = weft_tests::cni::Container::of_pod("own", &own.netns.path(), "t", "b");
    let netns = format!("/run/netns/weft-{}-node1", node.lab.name);
    own.container.netns = netns.into();
    let failure = node.add(&own).unwrap_err();
    assert!(failure.code == 100 && failure.message.contains("node's own"), "{failure:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "three refusals took {:?}", begun.elapsed());

    // Once it is out of the way, the pod comes.
    assert!(ip(&["link", "del", "eth0"]).status.success());
    node.add(&other).unwrap();
    let left = node.endpoints();
    assert_eq!(left.len(), 2, "{left:?}");

    // A namespace that went without a DEL, and came back under its name: the pod is made anew.
    let Sandbox { netns, container } = a;
    drop(netns);
    let a =
        Sandbox { netns: weft_tests::cni::Netns::new(format!("{}-a", node.lab.name)), container };
    node.becomes("its link is gone with it", |node| node.links().len() == 1);
    node.add(&a).unwrap();
    node.runtime.check(&node.network, &a.container).unwrap();
    assert_eq!(node.endpoints().len(), 2);
}

#[test]
fn root_gc_takes_what_nobody_has_and_nothing_else() {
    if !is_root() {
        return;
    }
    let node = Node::up("collect");
    node.schedule(&[("a", "web"), ("b", "web"), ("c", "web"), ("d", "web")]);
    let (a, kept) = node.plugged("a");
    let [b, c] = ["b", "c"].map(|pod| node.plugged(pod).0);
    let other = Network { name: "other", ..node.network.clone() };
    let d = node.sandbox("d");
    let others = address(&node.runtime.add(&other, &d.container).unwrap());
    // One without its namespace, and one that has all that it had: the runtime says that it has neither.
    drop(b);
    let only_a = std::slice::from_ref(&a.container);
    node.runtime.collect(&node.network, only_a).unwrap();
    let left = |node: &Node| -> BTreeSet<Ipv4Addr> {
        node.endpoints().iter().map(|row| row.address).collect()
    };
    assert_eq!(left(&node), [kept, others].into(), "another network's is none of its list's");
    node.runtime.delete(&node.network, &c.container).unwrap();

    // Of a damaged record nobody knows the network: it stays as long as its link does, listed or not.
    node.kill_agent();
    for file in files(&node.file("state/endpoints")) {
        fs::write(file, "{").unwrap();
    }
    node.start_agent();
    node.runtime.collect(&node.network, &[]).unwrap();
    node.runtime.collect(&other, &[]).unwrap();
    assert_eq!(left(&node), [kept, others].into());
    drop(d);
    node.becomes("it is told", |node| node.problems().iter().any(|p| p.starts_with("left over")));
    node.runtime.collect(&other, only_a).unwrap();
    assert_eq!(left(&node), [kept].into());
    // Named by the list, it stays even so: its runtime says that it has it.
    a.netns.remove();
    node.becomes("it is told", |node| node.problems().iter().any(|p| p.starts_with("left over")));
    node.runtime.collect(&node.network, only_a).unwrap();
    assert_eq!(left(&node), [kept].into());
    node.runtime.delete(&node.network, &a.container).unwrap();
    node.has_nothing();
}

/// A plugin that makes nothing: it says this to ADD, or what was said before it.
fn script(folder: &std::path::Path, name: &str, says: &str) {
    let say = if says.is_empty() {
        format!(r#"sed 's/.*"prevResult":\(.*\),"type":"{name}"}}$/\1/'"#)
    } else {
        format!("cat > /dev/null; echo '{says}'")
    };
    let text =
        format!("#!/bin/sh\nif [ \"$CNI_COMMAND\" = ADD ]; then {say}; else cat > /dev/null; fi\n");
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn root_each_version_works_alone_and_among_other_plugins() {
    if !is_root() {
        return;
    }
    let mut node = Node::up("versions");
    let names = ["v030", "v031", "v040", "v100", "v110"];
    node.schedule(&names.map(|name| (name, "web")));
    let folder = node.lab.dir().join("plugins");
    fs::create_dir(&folder).unwrap();
    script(&folder, "after", "");
    node.runtime.path.insert(0, folder.clone());
    let ours = node.network.plugins[0].clone();
    for (name, version) in names.into_iter().zip(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]) {
        let mut before = json!({
            "cniVersion": version,
            "interfaces": [{"name": "net9", "mac": "02:00:00:00:00:09"}],
            "ips": [{"address": "192.0.2.9/24", "interface": 0}],
            "dns": {"nameservers": ["192.0.2.53"]},
        });
        if version.starts_with("0.") {
            before["ips"][0]["version"] = json!("4");
        }
        script(&folder, "before", &before.to_string());
        let sandbox = node.sandbox(name);
        let alone = Network { version, plugins: vec![ours.clone()], ..node.network.clone() };
        let spoken = node.runtime.versions(&alone, "weft-cni");
        assert_eq!(spoken["cniVersion"], version);
        let result = node.runtime.add(&alone, &sandbox.container).unwrap();
        let interface = result["ips"][0]["interface"].as_u64().unwrap();
        let interface = &result["interfaces"][usize::try_from(interface).unwrap()];
        assert_eq!(interface["name"], "eth0");
        assert_eq!(interface["sandbox"], sandbox.netns.path().to_str().unwrap());
        let address = address(&result).to_string();
        let shown = sandbox.netns.inside(|| {
            std::process::Command::new("ip").args(["-br", "addr"]).output().unwrap().stdout
        });
        assert!(String::from_utf8(shown).unwrap().contains(&address));
        let check = |network: &Network| node.runtime.check(network, &sandbox.container);
        let checks = !version.starts_with("0.3");
        assert_eq!(
            check(&alone).map_err(|failure| failure.code),
            if checks { Ok(()) } else { Err(1) }
        );
        let ready = node.runtime.status(&alone).map_err(|failure| failure.code);
        assert_eq!(ready, if version == "1.1.0" { Ok(()) } else { Err(1) });
        if checks {
            differs_when_touched(&node, &alone, &sandbox);
        }
        node.runtime.delete(&alone, &sandbox.container).unwrap();

        // In the middle of a list: what others made stays, and comes before ours.
        let (first, last) = (json!({"type": "before"}), json!({"type": "after"}));
        let list = Network { plugins: vec![first, ours.clone(), last], ..alone };
        let result = node.runtime.add(&list, &sandbox.container).unwrap();
        assert_eq!(result["interfaces"][0], before["interfaces"][0]);
        assert_eq!(result["interfaces"][2]["name"], "eth0");
        assert_eq!((&result["ips"][1]["interface"], &result["dns"]), (&json!(2), &before["dns"]));
        assert_eq!(
            check(&list).map_err(|failure| failure.code),
            if checks { Ok(()) } else { Err(1) }
        );
        node.runtime.delete(&list, &sandbox.container).unwrap();
    }
    assert_eq!(node.endpoints(), []);
}

/// CHECK sees what someone changed, in the pod or in the remembered result.
fn differs_when_touched(node: &Node, network: &Network, sandbox: &Sandbox) {
    let code = || node.runtime.check(network, &sandbox.container).map_err(|failure| failure.code);
    let ip = |words: &'static str| {
        let run = move || std::process::Command::new("ip").args(words.split(' ')).status().unwrap();
        assert!(sandbox.netns.inside(run).success(), "ip {words}");
    };
    ip("route del default");
    assert_eq!(code(), Err(101));
    ip("route add default via 169.254.1.1 proto 87");
    assert_eq!(code(), Ok(()));

    let file = node.runtime.cached(network, &sandbox.container);
    let kept = fs::read(&file).unwrap();
    let mut result: Value = serde_json::from_slice(&kept).unwrap();
    // What a later plugin added is none of ours.
    result["ips"].as_array_mut().unwrap().push(json!({"address": "192.0.2.7/24", "interface": 1}));
    fs::write(&file, result.to_string()).unwrap();
    assert_eq!(code(), Ok(()));
    result["ips"][0]["address"] = json!("10.244.1.250/32");
    fs::write(&file, result.to_string()).unwrap();
    assert_eq!(code(), Err(101));
    fs::write(&file, kept).unwrap();
    let mut gone = sandbox.container.clone();
    gone.id = "nobody".to_owned();
    fs::copy(&file, node.runtime.cached(network, &gone)).unwrap();
    let unknown = node.runtime.check(network, &gone).unwrap_err();
    assert_eq!(unknown.code, 3, "{unknown:?}");
    fs::remove_file(node.runtime.cached(network, &gone)).unwrap();
}
