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

use node::{Node, address};
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

/// Builds `cnitool` once a machine; none, with the reason on stderr, where it cannot be had.
fn cnitool() -> Option<PathBuf> {
    let skipped = |why: &str| {
        // `print!` alone is captured by libtest.
        let _ = writeln!(std::io::stderr(), "skipped: cnitool {VERSION}: {why}");
        None
    };
    let go = Command::new("go").arg("version").output();
    if !go.is_ok_and(|go| go.status.success()) {
        return skipped("there is no Go to build it with");
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let Some(cache) = cache else { return skipped("neither XDG_CACHE_HOME nor HOME is set") };
    let folder = cache.join("weft/cnitool").join(VERSION);
    let tool = folder.join("cnitool");
    if !tool.exists() {
        let package = format!("github.com/containernetworking/cni/cnitool@{VERSION}");
        let built = Command::new("go").args(["install", &package]).env("GOBIN", &folder).output();
        let built = built.expect("run go");
        if !built.status.success() {
            let why = String::from_utf8_lossy(&built.stderr);
            return skipped(&format!("go install failed: {}", why.trim()));
        }
    }
    Some(tool)
}

struct Tool {
    program: PathBuf,
    configs: PathBuf,
    netns: PathBuf,
    pod: &'static str,
}

impl Tool {
    fn run(&self, command: &str) -> Output {
        let arguments = format!("K8S_POD_NAMESPACE=t;K8S_POD_NAME={}", self.pod);
        Command::new(&self.program)
            .args([command, "weft"])
            .arg(&self.netns)
            .env("NETCONFPATH", &self.configs)
            .env("CNI_PATH", program("weft-cni").parent().unwrap())
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

fn write_config(folder: &Path, version: &str, node: &Node) {
    fs::create_dir_all(folder).unwrap();
    let list = json!({"cniVersion": version, "name": "weft", "plugins": node.network.plugins});
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
    let tool =
        Tool { program: tool, configs: configs.clone(), netns: sandbox.netns.path(), pod: "a" };
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        write_config(&configs, version, &node);
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
