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

use node::{Node, address, connect, echoes, serve};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use weft_tests::lab::{is_root, program};

/// The first with specification 1.1 whole (STATUS and GC).
const VERSION: &str = "v1.3.0";

/// The reference plugins, of which `tuning` comes after ours.
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

struct Tool {
    program: PathBuf,
    configs: PathBuf,
    netns: PathBuf,
    pod: &'static str,
    others: Option<PathBuf>,
}

impl Tool {
    /// Folders of plugins: ours, and that of others if there are any.
    fn path(&self) -> String {
        let ours = program("weft-cni").parent().unwrap().display().to_string();
        let others = self.others.iter().map(|folder| folder.display().to_string());
        others.chain([ours]).collect::<Vec<_>>().join(":")
    }

    fn run(&self, command: &str) -> Output {
        let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=t;K8S_POD_NAME={}", self.pod);
        Command::new(&self.program)
            .args([command, "weft"])
            .arg(&self.netns)
            .env("NETCONFPATH", &self.configs)
            .env("CNI_PATH", self.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_ARGS", arguments)
            .output()
            .unwrap()
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
    fs::create_dir_all(folder).unwrap();
    let plugins = [&node.network.plugins[..], after].concat();
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
    let tool = Tool { program: tool, configs: configs_too, netns, pod: "a", others: None };
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
    let tool = Tool { program, configs: configs.clone(), netns, pod: "a", others };
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
