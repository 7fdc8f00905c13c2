//! A lab of a test's own, used through the built `weft`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "what tests share; a failure here is the test's"
)]

use serde_json::Value;
use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

/// A row of `weft lab probe` and `weft policy matrix` without its verdict: from, to, protocol, port.
pub type Pair = (String, String, String, u64);

/// It goes when the value does, however the test ends.
#[derive(Debug)]
pub struct Lab {
    /// Its name, which no other lab of this machine has.
    pub name: String,
}

/// Whether this process may make a lab. Says so when not, where libtest captures nothing: `print!` alone is captured.
///
/// # Panics
/// In a test whose name does not begin with `root_`: `.ci/test` would not run it as root.
pub fn is_root() -> bool {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("main");
    assert!(test == "main" || test.contains("root_"), "{test} needs root: name it root_{test}");
    let root = std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"]));
    if !root {
        let _ = writeln!(std::io::stderr(), "skipped, for it needs root: {test}");
    }
    root
}

/// A program of this build. The test is target/debug/deps/NAME-…; the programs lie one folder up.
pub fn program(name: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join(name);
    assert!(path.exists(), "{}: `cargo build --workspace` first", path.display());
    path
}

/// A file of `docs/examples`.
pub fn example(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join("../docs/examples").join(name).canonicalize().unwrap().display().to_string()
}

/// Runs `weft`.
pub fn weft(arguments: &[&str]) -> Output {
    Command::new(program("weft")).args(arguments).output().expect("run weft")
}

/// Runs `weft`, which has to succeed, with this on its standard input; gives its output.
#[track_caller]
pub fn weft_reads(arguments: &[&str], input: &str) -> String {
    said(arguments, &weft_is_told(arguments, input))
}

/// Runs `weft` with this on its standard input.
pub fn weft_is_told(arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program("weft"));
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("run weft");
    // Who refuses its arguments reads nothing; what it says is told below.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn said(arguments: &[&str], output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "weft {arguments:?}: {}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// The rows of an answer, and whether each is allowed.
pub fn rows(json: &str) -> BTreeMap<Pair, bool> {
    let answer: Value = serde_json::from_str(json).unwrap();
    let mut rows = BTreeMap::new();
    for row in answer["rows"].as_array().unwrap() {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        let pair = (text("from"), text("to"), text("protocol"), row["port"].as_u64().unwrap());
        let allowed = match row["verdict"].as_str() {
            Some("allowed") => true,
            Some("denied") => false,
            other => panic!("a verdict is {other:?}: {row}"),
        };
        assert_eq!(rows.insert(pair, allowed), None, "a row twice: {row}");
    }
    rows
}

impl Lab {
    /// A name for a lab that is not up yet.
    pub fn named(test: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { name: format!("{test}{}-{number}", std::process::id()) }
    }

    /// Brings one up from these files.
    #[track_caller]
    pub fn up(test: &str, files: &[&str]) -> Self {
        let lab = Self::named(test);
        let mut arguments = vec!["up"];
        files.iter().for_each(|file| arguments.extend(["-f", file]));
        lab.does(&arguments);
        lab
    }

    /// Brings one up whose processes have variables in their environment.
    #[track_caller]
    pub fn up_with(test: &str, files: &[&str], variables: &[(&str, &str)]) -> Self {
        let lab = Self::named(test);
        let mut arguments = vec!["up"];
        files.iter().for_each(|file| arguments.extend(["-f", file]));
        let mut command = Command::new(program("weft"));
        command.args(lab.words(&arguments)).envs(variables.iter().copied());
        said(&arguments, &command.output().expect("run weft"));
        lab
    }

    /// `weft lab …` of this lab.
    pub fn run(&self, arguments: &[&str]) -> Output {
        weft(&self.words(arguments))
    }

    /// The same, which has to succeed; gives its output.
    #[track_caller]
    pub fn does(&self, arguments: &[&str]) -> String {
        let words = self.words(arguments);
        said(&words, &weft(&words))
    }

    /// `weft lab apply` or `delete` of a text.
    #[track_caller]
    pub fn change(&self, verb: &str, text: &str) -> String {
        weft_reads(&self.words(&[verb, "-f", "-"]), text)
    }

    /// The same, which need not succeed.
    pub fn is_told(&self, verb: &str, text: &str) -> Output {
        weft_is_told(&self.words(&[verb, "-f", "-"]), text)
    }

    fn words<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let (verb, rest) = arguments.split_first().expect("a subcommand");
        // What is told to a command that is run in a pod comes last.
        match *verb {
            "agent" | "operator" | "node" => {
                let (what, rest) = rest.split_first().expect("a subcommand");
                [&["lab", verb, what, "--name", &self.name], rest].concat()
            }
            _ => [&["lab", verb, "--name", &self.name], rest].concat(),
        }
    }

    /// Every ordered pair of pods, and whether it is allowed.
    #[track_caller]
    pub fn probe(&self, ports: &[&str]) -> BTreeMap<Pair, bool> {
        let mut arguments = vec!["probe", "-o", "json"];
        ports.iter().for_each(|port| arguments.extend(["--port", port]));
        rows(&self.does(&arguments))
    }

    /// Whether one pod reaches a port of another.
    #[track_caller]
    pub fn reaches(&self, from: &str, to: &str, protocol: &str, port: u64) -> Option<bool> {
        let pair = (from.to_owned(), to.to_owned(), protocol.to_owned(), port);
        self.probe(&[]).get(&pair).copied()
    }

    /// `weft lab status`, whatever it says of the lab's health.
    pub fn status(&self) -> Value {
        serde_json::from_slice(&self.run(&["status", "-o", "json"]).stdout).unwrap()
    }

    /// Does something on a thread in a pod's network namespace; sockets made there stay there.
    pub fn inside<T: Send + 'static>(
        &self,
        pod: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        inside(self.entrance(pod), work)
    }

    /// The same in a node's.
    pub fn on_node<T: Send + 'static>(
        &self,
        node: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        inside(Entrance::of(&format!("weft-{}-{node}", self.name)), work)
    }

    /// The way into a pod's network namespace.
    pub fn entrance(&self, pod: &str) -> Entrance {
        Entrance::of(self.pod(pod)["netns"].as_str().unwrap())
    }

    /// Starts `weft lab stream …`, to be ended by the caller or by itself; its report is JSON.
    pub fn stream(&self, arguments: &[&str]) -> Stream {
        let mut command = Command::new(program("weft"));
        command.args(self.words(&["stream", "-o", "json"])).args(arguments);
        Stream(Some(command.stdout(Stdio::piped()).spawn().expect("run weft")))
    }

    /// What status says of a pod.
    #[track_caller]
    pub fn pod(&self, name: &str) -> Value {
        let status = self.status();
        let mut pods = status["pods"].as_array().unwrap().iter();
        pods.find(|pod| pod["name"] == name)
            .unwrap_or_else(|| panic!("no {name}: {status}"))
            .clone()
    }

    /// The folder of its sockets and logs.
    pub fn dir(&self) -> PathBuf {
        Path::new("/run/weft/labs").join(&self.name)
    }
}

/// A network namespace, for threads to go into.
#[derive(Debug)]
pub struct Entrance(std::fs::File);

impl Entrance {
    fn of(netns: &str) -> Self {
        Self(std::fs::File::open(Path::new("/run/netns").join(netns)).unwrap())
    }

    /// The calling thread is in the namespace from here on.
    pub fn enter(&self) {
        nix::sched::setns(&self.0, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    }
}

fn inside<T: Send + 'static>(entrance: Entrance, work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        entrance.enter();
        work()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A `weft lab stream` that runs.
#[derive(Debug)]
pub struct Stream(Option<Child>);

impl Stream {
    /// Its process.
    pub fn pid(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Waits until it ends; its exit code and its report.
    pub fn end(mut self) -> (Option<i32>, Value) {
        let output = self.0.take().unwrap().wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}"));
        (output.status.code(), report)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = self.run(&["down"]);
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
    }
}
