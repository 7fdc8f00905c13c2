//! The built plugin, called as a runtime calls it, and agents that answer as they are told.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "what tests share; each uses a part"
)]

use nix::sys::socket::{Shutdown, shutdown};
use serde_json::Value;
use std::{
    ffi::{OsStr, OsString},
    io::{BufRead, BufReader, Write},
    os::{fd::AsRawFd, unix::net::UnixListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
};
use tempfile::TempDir;

/// What a call came to.
#[derive(Debug)]
pub struct Outcome {
    pub success: bool,
    /// What was printed, when anything was.
    pub output: Option<Value>,
    pub stderr: String,
}

impl Outcome {
    /// The code of an error.
    pub fn code(&self) -> Option<u64> {
        self.output.as_ref()?.get("code")?.as_u64()
    }

    pub fn message(&self) -> &str {
        let output = self.output.as_ref().expect("an error is JSON");
        output["msg"].as_str().expect("an error has words")
    }
}

/// Calls the plugin with this environment alone. Whatever comes, what it prints is a result or an error of the
/// protocol, and it ends by itself.
pub fn call(variables: &[(OsString, OsString)], stdin: &[u8]) -> Outcome {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft-cni"));
    command.env_clear().envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Who fails early reads nothing.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let done = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    let code = done.status.code();
    assert!(matches!(code, Some(0 | 1)), "{code:?} {stderr} {variables:?} {stdin:?}");
    assert!(!stderr.contains("panicked"), "{stderr} {variables:?} {stdin:?}");
    let output = (!done.stdout.is_empty())
        .then(|| serde_json::from_slice(&done.stdout).expect("what is printed is JSON"));
    let outcome = Outcome { success: code == Some(0), output, stderr };
    if !outcome.success {
        assert!(outcome.code().is_some_and(|code| code > 0), "{outcome:?}");
        assert!(!outcome.message().is_empty());
        assert!(outcome.output.as_ref().unwrap()["cniVersion"].is_string(), "{outcome:?}");
    }
    outcome
}

/// A folder with a socket in it, a network and what a runtime would say.
pub struct Node {
    pub dir: TempDir,
    /// Where agents of it listen.
    agents: Mutex<Vec<UnixListener>>,
}

impl Drop for Node {
    fn drop(&mut self) {
        // Or each would wait for callers as long as the test's process lives.
        for agent in self.agents.lock().unwrap().iter() {
            let _ = shutdown(agent.as_raw_fd(), Shutdown::Both);
        }
    }
}

impl Node {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), agents: Mutex::default() }
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent.sock")
    }

    pub fn config(&self, version: &str) -> Value {
        serde_json::json!({
            "cniVersion": version, "name": "weft", "type": "weft-cni", "socket": self.socket(),
        })
    }

    /// What a runtime sets for pod `shop/web-0`, whose network namespace is this file.
    pub fn variables(command: &str, netns: &Path) -> Vec<(OsString, OsString)> {
        let pairs: [(&str, &OsStr); 6] = [
            ("CNI_COMMAND", command.as_ref()),
            ("CNI_CONTAINERID", "c0ffee".as_ref()),
            ("CNI_NETNS", netns.as_os_str()),
            ("CNI_IFNAME", "eth0".as_ref()),
            ("CNI_PATH", "/opt/cni/bin".as_ref()),
            ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0".as_ref()),
        ];
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).to_owned())).collect()
    }

    pub fn call(&self, command: &str, netns: &Path, config: &Value) -> Outcome {
        call(&Self::variables(command, netns), config.to_string().as_bytes())
    }

    /// What waits in the queue.
    pub fn queued(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("delete-queue"));
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// An agent that says this to every call; what it was asked comes out.
    pub fn agent(&self, answer: &[u8]) -> Receiver<Value> {
        let listener = UnixListener::bind(self.socket()).unwrap();
        self.agents.lock().unwrap().push(listener.try_clone().unwrap());
        let (asked, requests) = channel();
        let answer = answer.to_vec();
        // It ends when nobody wants to know any more, or with its node.
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                let _ = stream.read_line(&mut line);
                if line.is_empty() {
                    continue;
                }
                let request = serde_json::from_str(&line).unwrap();
                if asked.send(request).is_err() {
                    return;
                }
                let _ = stream.get_mut().write_all(&answer);
            }
        });
        requests
    }
}

/// A network namespace that is not the plugin's own: that of a thread which waits until this is dropped.
pub struct Netns {
    pub path: PathBuf,
    _end: std::sync::mpsc::Sender<()>,
}

impl Netns {
    /// None without root.
    pub fn new() -> Option<Self> {
        let (end, ended) = channel::<()>();
        let (made, told) = channel();
        thread::spawn(move || {
            let unshared = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).is_ok();
            let (pid, tid) = (std::process::id(), nix::unistd::gettid());
            made.send(unshared.then(|| PathBuf::from(format!("/proc/{pid}/task/{tid}/ns/net"))))
                .unwrap();
            let _ = ended.recv();
        });
        let path = told.recv().unwrap();
        if path.is_none() {
            let thread = thread::current();
            let test = thread.name().unwrap_or("main");
            // `print!` alone is captured by libtest.
            let _ = writeln!(std::io::stderr(), "skipped, for it needs root: {test}");
        }
        Some(Self { path: path?, _end: end })
    }
}
