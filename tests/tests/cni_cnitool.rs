//! The real `cnitool` (`libcni`) with the real plugin, for a namespace of a node with a real agent.
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

use node::{Node, PATIENCE, PEER, address, connect, echo, echoes, listener, serve};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use weft_tests::lab::{is_root, program};

/// The first with specification 1.1 whole (STATUS and GC).
const VERSION: &str = "v1.3.0";

/// The reference plugins: `tuning` comes after ours, others with `host-local` before.
const PLUGINS: &str = "v1.6.2";

fn cnitool() -> Option<PathBuf> {
    built("cnitool", "github.com/containernetworking/cni/cnitool", VERSION)
}

/// Builds a program of Go once a machine; none, with the reason on stderr, where it cannot be had.
fn built(name: &str, package: &str, version: &str) -> Option<PathBuf> {
    let skipped = |why: &str| {
        // `print!` alone is captured by libtest.
        let _ = writeln!(std::io::stderr(), "skipped: {name} {version}: {why}");
        None
    };
    let go = Command::new("go").arg("version").output();
    if !go.is_ok_and(|go| go.status.success()) {
        return skipped("there is no Go to build it with");
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let Some(cache) = cache else { return skipped("neither XDG_CACHE_HOME nor HOME is set") };
    let folder = cache.join("weft").join(name).join(version);
    let program = folder.join(name);
    if !program.exists() {
        let package = format!("{package}@{version}");
        let built = Command::new("go").args(["install", &package]).env("GOBIN", &folder).output();
        let built = built.expect("run go");
        if !built.status.success() {
            let why = String::from_utf8_lossy(&built.stderr);
            return skipped(&format!("go install failed: {}", why.trim()));
        }
    }
    Some(program)
}

struct Tool<'a> {
    node: &'a Node,
    program: PathBuf,
    configs: PathBuf,
    netns: PathBuf,
    pod: &'static str,
    others: Option<PathBuf>,
}

impl Tool<'_> {
    /// Folders of plugins: ours, and that of others if there are any.
    fn path(&self) -> String {
        let ours = program("weft-cni").parent().unwrap().display().to_string();
        let others = self.others.iter().map(|folder| folder.display().to_string());
        others.chain([ours]).collect::<Vec<_>>().join(":")
    }

    /// In the node's namespace, as a runtime is: plugins but ours make links where they are.
    fn run(&self, command: &str) -> Output {
        let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=t;K8S_POD_NAME={}", self.pod);
        let mut tool = Command::new(&self.program);
        tool.args([command, "weft"])
            .arg(&self.netns)
            .env("NETCONFPATH", &self.configs)
            .env("CNI_PATH", self.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", arguments);
        self.node.lab.on_node("node1", move || tool.output().unwrap())
    }

    #[track_caller]
    fn does(&self, command: &str) -> String {
        let output = self.run(command);
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "cnitool {command}: {out}{err}");
        out.into_owned()
    }

    /// What it fails with.
    #[track_caller]
    fn fails(&self, command: &str) -> String {
        let output = self.run(command);
        assert!(!output.status.success(), "cnitool {command} succeeded");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn write_config(folder: &Path, version: &str, node: &Node, after: &[Value]) {
    write_chain(folder, version, &[&node.network.plugins[..], after].concat());
}

fn write_chain(folder: &Path, version: &str, plugins: &[Value]) {
    fs::create_dir_all(folder).unwrap();
    let list = json!({"cniVersion": version, "name": "weft", "plugins": plugins});
    fs::write(folder.join("10-weft.conflist"), list.to_string()).unwrap();
}

#[test]
fn root_cnitool_plugs_checks_and_unplugs() {
    if !is_root() {
        return;
    }
    let Some(tool) = cnitool() else { return };
    let node = Node::up("cnitool");
    node.schedule(&[("a", "web")]);
    let sandbox = node.sandbox("a");
    let configs = node.lab.dir().join("net.d");
    let (configs_too, netns) = (configs.clone(), sandbox.netns.path());
    let tool =
        Tool { node: &node, program: tool, configs: configs_too, netns, pod: "a", others: None };
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        write_config(&configs, version, &node, &[]);
        let result: Value = serde_json::from_str(&tool.does("add")).unwrap();
        assert_eq!(result["cniVersion"], version, "{result}");
        let address = address(&result);
        let plugged = node.endpoints();
        assert!(plugged.len() == 1 && plugged[0].address == address, "{plugged:?}");
        if version != "0.3.1" {
            tool.does("check");
        }
        if version == "1.1.0" {
            tool.does("status");
            let cut =
                || Command::new("ip").args(["addr", "flush", "dev", "eth0"]).status().unwrap();
            assert!(sandbox.netns.inside(cut).success());
            let why = tool.fails("check");
            assert!(why.contains("has not the address"), "{why}");
        }
        tool.does("del");
        tool.does("del");
        assert_eq!(node.endpoints(), []);
    }

    // GC has DELs for what `cnitool` remembers, and then GC itself.
    tool.does("add");
    tool.does("gc");
    assert_eq!(node.endpoints(), []);

    // What fails is said in libcni's words, which begin with the plugin's.
    let unknown = Tool { pod: "nobody", ..tool };
    let why = unknown.fails("add");
    assert!(why.contains("t/nobody"), "{why}");
    node.kill_agent();
    assert!(unknown.fails("status").contains("agent.sock"));
    unknown.does("del");
    assert_eq!(node.queued().len(), 1);
}

#[test]
fn root_a_plugin_after_ours_changes_what_it_may() {
    if !is_root() {
        return;
    }
    let Some(tool) = cnitool() else { return };
    let package = "github.com/containernetworking/plugins/plugins/meta/tuning";
    let Some(tuning) = built("tuning", package, PLUGINS) else { return };
    let node = Node::up("tuning");
    node.schedule(&[("a", "web"), ("b", "web")]);
    let (sandbox, other) = (node.sandbox("a"), node.plugged("b"));
    serve(&other.0);
    let configs = node.lab.dir().join("net.d");
    let others = tuning.parent().map(Path::to_owned);
    let (program, netns) = (tool, sandbox.netns.path());
    let configs_too = configs.clone();
    let tool = Tool { node: &node, program, configs: configs_too, netns, pod: "a", others };
    let tuning = json!({"type": "tuning", "mtu": 1300, "sysctl": {"net.core.somaxconn": "500"}});
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        write_config(&configs, version, &node, std::slice::from_ref(&tuning));
        let result: Value = serde_json::from_str(&tool.does("add")).unwrap();
        assert_eq!(result["interfaces"][1]["name"], "eth0", "{result}");
        let link = || Command::new("ip").args(["link", "show", "eth0"]).output().unwrap().stdout;
        let link = String::from_utf8(sandbox.netns.inside(link)).unwrap();
        assert!(link.contains("mtu 1300"), "{link}");
        tool.does("check");
        assert!(connect(&sandbox, other.1).is_some_and(|mut stream| echoes(&mut stream)));
        tool.does("del");
        assert_eq!(node.endpoints().len(), 1);
    }
}

/// The reference plugins of these kinds in one folder, as runtimes have them; none where they cannot be had.
fn reference(node: &Node, plugins: &[&str]) -> Option<PathBuf> {
    let folder = node.lab.dir().join("plugins");
    fs::create_dir_all(&folder).unwrap();
    for plugin in plugins {
        let name = plugin.rsplit('/').next().unwrap();
        let package = format!("github.com/containernetworking/plugins/plugins/{plugin}");
        fs::copy(built(name, &package, PLUGINS)?, folder.join(name)).unwrap();
    }
    Some(folder)
}

#[test]
fn root_what_a_plugin_before_ours_made_is_taken_over() {
    if !is_root() {
        return;
    }
    let Some(program) = cnitool() else { return };
    let node = Node::up("chained");
    let Some(others) = reference(&node, &["main/ptp", "main/bridge", "ipam/host-local"]) else {
        return;
    };
    node.schedule(&[("a", "web"), ("b", "web"), ("c", "other")]);
    let (sandbox, (ours, address_of_ours)) = (node.sandbox("a"), node.plugged("b"));
    serve(&sandbox);
    serve(&ours);
    node.lab.change("apply", PEER);
    let peer = node.lab.pod("t/peer")["address"].as_str().unwrap().parse().unwrap();
    echo(node.lab.inside("t/peer", listener));
    let configs = node.lab.dir().join("net.d");
    let [a, b, c, _] = address_of_ours.octets();
    let ipam = json!({
        "type": "host-local", "dataDir": node.lab.dir().join("host-local"),
        "subnet": format!("{a}.{b}.{c}.0/24"), "rangeStart": format!("{a}.{b}.{c}.100"),
        "routes": [{"dst": "0.0.0.0/0"}],
    });
    let ptp = json!({"type": "ptp", "mtu": 1400, "ipam": ipam});
    let bridge = json!({"type": "bridge", "bridge": "others", "isGateway": true, "ipam": ipam});
    let netns = sandbox.netns.path();
    let others = Some(others);
    let configs_too = configs.clone();
    let tool = Tool { node: &node, program, configs: configs_too, netns, pod: "a", others };
    for (version, before) in [("0.4.0", &ptp), ("1.0.0", &bridge), ("1.1.0", &ptp)] {
        let chain = [std::slice::from_ref(before), &node.network.plugins].concat();
        write_chain(&configs, version, &chain);
        let result: Value = serde_json::from_str(&tool.does("add")).unwrap();
        let interfaces = result["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.last().unwrap()["name"], "eth0", "{result}");
        assert_eq!(result["ips"].as_array().unwrap().len(), 1, "{result}");
        let address = address(&result);
        assert!(address.octets()[3] >= 100, "{result}");
        let row = node.endpoints().into_iter().find(|row| row.pod == "t/a").unwrap();
        assert_eq!((row.address, row.state.as_str()), (address, "ready"));
        tool.does("check");

        // To a pod of this node and back, to one of the other node that lets it in, and from the node itself.
        let from_the_node = move || TcpStream::connect_timeout(&(address, 80).into(), PATIENCE);
        assert!(echoes(&mut node.lab.on_node("node1", from_the_node).unwrap()));
        let talks = |from, to| connect(from, to).is_some_and(|mut stream| echoes(&mut stream));
        assert!(talks(&sandbox, address_of_ours) && talks(&ours, address));
        assert!(talks(&sandbox, peer), "the policy of {peer} lets it in");
        let (stranger, _) = node.plugged("c");
        assert!(talks(&stranger, address) && connect(&stranger, peer).is_none());

        // An agent that was killed finds it again, and goes on with it.
        let mut stream = connect(&sandbox, address_of_ours).unwrap();
        node.kill_agent();
        node.start_agent();
        node.becomes("the pod is there again", |node| {
            node.endpoints().iter().any(|row| row.pod == "t/a" && row.state == "ready")
        });
        assert!(echoes(&mut stream) && talks(&ours, address));
        tool.does("check");

        tool.does("del");
        tool.does("del");
        assert!(node.endpoints().iter().all(|row| row.pod != "t/a"));
        assert_eq!(node.problems(), [""; 0]);
        node.runtime.delete(&node.network, &stranger.container).unwrap();
    }

    // What cannot be taken over is left to who made it, and nothing of ours stays.
    let elsewhere = json!({
        "type": "ptp",
        "ipam": {"type": "host-local", "dataDir": node.lab.dir().join("elsewhere"), "subnet": "192.0.2.0/24"},
    });
    write_chain(&configs, "1.1.0", &[&[elsewhere], &node.network.plugins[..]].concat());
    let why = tool.fails("add");
    assert!(why.contains("192.0.2.2, which is not of this node's"), "{why}");
    tool.does("del");
    assert!(node.endpoints().iter().all(|row| row.pod != "t/a"));
    assert_eq!(node.problems(), [""; 0]);
}
