//! A lab of real processes, by the `weft` command.

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::{
    fs,
    io::Write,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};
use weft_api::{
    operator::Request,
    transport::{Client, Options},
};
use weft_types::Object;

/// A pod on each of three nodes; everybody may speak to everybody, but for one.
const PODS: &str = include_str!("pods.yaml");
/// Where labs keep what they are made of, where `WEFT_LAB_ROOT` does not say so.
const LABS: &str = "/run/weft/labs";

/// A lab; it goes when the value does.
#[derive(Debug)]
pub(super) struct Lab {
    pub(super) name: String,
    weft: PathBuf,
}

/// An operator's process.
#[derive(Clone, Debug)]
pub(super) struct Operator {
    pub(super) name: String,
    pub(super) socket: PathBuf,
    pub(super) pid: i32,
}

impl Lab {
    pub(super) fn up(weft: Option<&Path>) -> Result<Self> {
        let beside = || Ok::<_, std::io::Error>(std::env::current_exe()?.with_file_name("weft"));
        let weft = weft.map_or_else(beside, |path| Ok(path.to_owned()))?;
        ensure!(weft.exists(), "find {}: build it, or say --weft", weft.display());
        let lab = Self { name: format!("live{}", std::process::id()), weft };
        let up = ["lab", "up", "--name", &lab.name, "--nodes", "3", "--operators", "3"];
        lab.done(&[up.as_slice(), &["--store", "etcd", "-f", "-"]].concat(), PODS)?;
        Ok(lab)
    }

    /// The command, in a group of its own: a terminal's Ctrl-C is for us alone.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.weft);
        command.args(words).process_group(0).stdin(Stdio::null());
        command
    }

    pub(super) fn run(&self, words: &[&str]) -> Result<Output> {
        self.command(words).output().with_context(|| format!("run {}", self.weft.display()))
    }

    /// Has a command done that reads this.
    pub(super) fn done(&self, words: &[&str], input: &str) -> Result<()> {
        let mut command = self.command(words);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("run {}", self.weft.display()))?;
        if let Some(mut to) = child.stdin.take() {
            // Who refuses its arguments reads nothing, and says why.
            drop(to.write_all(input.as_bytes()));
        }
        let output = child.wait_with_output()?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "weft {}: {}", words.join(" "), why.trim());
        Ok(())
    }

    /// What the lab is made of now.
    fn record(&self) -> Result<Value> {
        let labs = std::env::var_os("WEFT_LAB_ROOT").map_or_else(|| LABS.into(), PathBuf::from);
        let path = labs.join(&self.name).join("lab.json");
        let text = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))
    }

    pub(super) fn operators(&self) -> Result<Vec<Operator>> {
        let record = self.record()?;
        let rows = record.get("operators").and_then(Value::as_array);
        let operator = |row: &Value| {
            Some(Operator {
                name: row.get("name")?.as_str()?.to_owned(),
                socket: row.get("admin_socket")?.as_str()?.into(),
                pid: pid(row.get("process")?)?,
            })
        };
        let operators: Option<Vec<Operator>> =
            rows.and_then(|rows| rows.iter().map(operator).collect());
        operators.with_context(|| format!("lab {}: an operator has no process", self.name))
    }

    /// The first node, and the socket of its agent.
    pub(super) fn first_agent(&self) -> Result<(String, PathBuf)> {
        let record = self.record()?;
        let node = |text: &str| Some(record.pointer(text)?.as_str()?.to_owned());
        let (name, socket) = (node("/nodes/0/name"), node("/nodes/0/agent_socket"));
        let found = name.zip(socket).map(|(name, socket)| (name, socket.into()));
        found.with_context(|| format!("lab {}: it has no node", self.name))
    }

    /// The processes of its agents.
    pub(super) fn agents(&self) -> Result<Vec<i32>> {
        let record = self.record()?;
        let rows = record.get("nodes").and_then(Value::as_array);
        let agent = |row: &Value| pid(row.get("process")?);
        let agents: Option<Vec<i32>> = rows.and_then(|rows| rows.iter().map(agent).collect());
        agents.with_context(|| format!("lab {}: an agent has no process", self.name))
    }

    /// Has objects wanted, of an operator.
    pub(super) fn apply(&self, objects: Vec<Object>) -> Result<()> {
        let operators = self.operators()?;
        let operator = operators.first().context("the lab has no operator")?;
        let patience = Duration::from_secs(10);
        let mut client = Client::connect(&operator.socket, patience)?;
        client.call(Request::Apply { objects }, Options::within(patience))?;
        Ok(())
    }

    /// Another program of the same build.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.weft.with_file_name(name)
    }

    /// The processes of its etcd.
    pub(super) fn store(&self) -> Result<Vec<i32>> {
        let record = self.record()?;
        let rows = record.get("etcd").and_then(Value::as_array);
        let members: Option<Vec<i32>> = rows.and_then(|rows| rows.iter().map(pid).collect());
        members.with_context(|| format!("lab {}: its etcd has no processes", self.name))
    }

    /// Who leads and takes changes; waited for.
    pub(super) fn leader(&self) -> Result<Operator> {
        let mut leader = None;
        wait(Duration::from_secs(30), || {
            let rows = self.cluster()?.0;
            let leads = |row: &&Value| row.get("serving") == Some(&Value::Bool(true));
            let name = rows.iter().find(leads).and_then(|row| row.get("operator")?.as_str());
            leader = name.map(str::to_owned);
            Ok(leader.is_some())
        })
        .context("find who leads")?;
        let operators = self.operators()?;
        let leader = operators.into_iter().find(|operator| Some(&operator.name) == leader.as_ref());
        leader.context("who leads is none of the lab's operators")
    }

    /// Whether all operators are there, of one group, and one leads.
    pub(super) fn is_well(&self) -> Result<bool> {
        Ok(self.cluster()?.1)
    }

    /// Whether every agent is connected, and its kernel holds what is newest.
    pub(super) fn is_enforced(&self) -> Result<bool> {
        let words = ["policy", "wait", "--lab", &self.name, "--timeout", "1s"];
        Ok(self.run(&words)?.status.success())
    }

    fn cluster(&self) -> Result<(Vec<Value>, bool)> {
        let output = self.run(&["cluster", "status", "--lab", &self.name, "-o", "json"])?;
        // While somebody is away it may have nothing to print.
        Ok((serde_json::from_slice(&output.stdout).unwrap_or_default(), output.status.success()))
    }

    /// Starts operators and members of etcd that do not run.
    pub(super) fn start(&self) -> Result<()> {
        self.done(&["lab", "operator", "start", "--name", &self.name], "")
    }

    /// A program in the network namespace of operators and etcd.
    pub(super) fn underlay(&self, program: &str, words: &[&str]) -> Result<Output> {
        let namespace = format!("weft-{}-net", self.name);
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &namespace, program]).args(words).process_group(0);
        command.output().with_context(|| format!("run {program} in {namespace}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.done(&["lab", "down", "--name", &self.name], "") {
            super::tell(&format!("{error:#}"));
        }
    }
}

fn pid(process: &Value) -> Option<i32> {
    process.get("pid")?.as_i64()?.try_into().ok()
}

/// Tries until it is so.
pub(super) fn wait(patience: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !is_so()? {
        if begun.elapsed() > patience {
            bail!("it did not come to that in {patience:?}");
        }
        thread::sleep(super::LOOK);
    }
    Ok(())
}
