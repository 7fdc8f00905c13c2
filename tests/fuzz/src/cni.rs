//! The CNI plugin: any environment, standard input and answer of the agent.
//!
//! An input is the command and what the node does (a byte each), then parts between bytes 255: standard input, the
//! agent's answer, and the values of [`VARIABLES`].

use crate::bytes::Bytes;
use serde_json::Value;
use std::{
    cell::{Cell, RefCell},
    ffi::OsString,
    io,
    os::unix::ffi::OsStringExt,
    path::Path,
};
use weft_api::{
    Reply,
    agent::{Answer, Request},
    cni::Attachment,
    transport::CallError,
};
use weft_cni::{Environment, Node, run as call};

const COMMANDS: [&str; 7] = ["ADD", "DEL", "CHECK", "STATUS", "GC", "VERSION", "UPDATE"];
const VARIABLES: [&str; 5] =
    ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_NETNS_OVERRIDE"];
/// The node's disk is full.
const FULL: u8 = 1;
/// The path is no network namespace.
const NO_NETNS: u8 = 2;
/// The agent cannot be reached.
const AWAY: u8 = 4;

/// A node that does what the input says.
struct Played<'a> {
    answer: &'a [u8],
    mishaps: u8,
    asked: RefCell<Vec<Request>>,
    left: Cell<usize>,
}

impl<'a> Played<'a> {
    fn new(answer: &'a [u8], mishaps: u8) -> Self {
        Self { answer, mishaps, asked: RefCell::default(), left: Cell::new(0) }
    }

    fn has(&self, mishap: u8) -> bool {
        self.mishaps & mishap != 0
    }
}

impl Node for Played<'_> {
    fn ask(&self, socket: &Path, request: Request) -> Result<Answer, CallError> {
        assert!(socket.is_absolute());
        self.asked.borrow_mut().push(request);
        let path = socket.to_owned();
        if self.has(AWAY) {
            let source = io::ErrorKind::ConnectionRefused.into();
            return Err(CallError::Unreachable { path, source });
        }
        let broken = |source: io::Error| CallError::Broken { attempted: "ask", path, source };
        match serde_json::from_slice(self.answer) {
            Ok(Reply::Ok(answer)) => Ok(answer),
            Ok(Reply::Error(failure)) => Err(failure.into()),
            Ok(Reply::End) => Err(broken(io::ErrorKind::InvalidData.into())),
            Err(error) => Err(broken(error.into())),
        }
    }

    fn leave(&self, queue: &Path, attachment: &Attachment) -> io::Result<()> {
        assert!(queue.is_absolute());
        let name = attachment.queue_name();
        assert!(!name.contains('/') && name.len() <= 255, "a file's name: {name:?}");
        if self.has(FULL) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.left.set(self.left.get() + 1);
        Ok(())
    }

    fn check_netns(&self, _: &Path, _: bool) -> Result<(), String> {
        if self.has(NO_NETNS) { Err("it is none".to_owned()) } else { Ok(()) }
    }

    fn log(&self, _: &Path, command: &str, error: Option<&str>) {
        assert!(!command.is_empty() && error != Some(""));
    }
}

/// The target.
pub fn run(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let (command, mishaps) = (bytes.one_of(&COMMANDS), bytes.byte());
    let [stdin, answer, rest] = bytes.parts();
    let values: [&[u8]; VARIABLES.len()] = Bytes(rest).parts();
    let variable =
        |(name, value): (&str, &[u8])| (OsString::from(name), OsString::from_vec(value.to_vec()));
    let environment = Environment::of(VARIABLES.into_iter().zip(values).map(variable));
    let node = Played::new(answer, mishaps);
    let done = call(command, &environment, stdin, &node);
    assert!(node.asked.borrow().len() <= 1, "one call is one request");
    let is_left = node.left.get() > 0;
    assert!(!is_left || (command == "DEL" && done == Ok(None)), "{command} left a DEL: {done:?}");
    match done {
        Err(error) => is_an_error(&error),
        Ok(Some(result)) if command == "ADD" => {
            let adopts =
                |asked: &Request| matches!(asked, Request::CniAdd(add) if add.adopt.is_some());
            let adopted = node.asked.borrow().iter().any(adopts);
            can_be_checked(result, &environment, (stdin, adopted));
        }
        Ok(Some(result)) => assert!(command == "VERSION" && result["cniVersion"].is_string()),
        Ok(None) => assert!(!matches!(command, "ADD" | "VERSION" | "UPDATE"), "{command}"),
    }
}

fn is_an_error(error: &Value) {
    assert!(error["code"].as_u64().is_some_and(|code| code > 0), "{error}");
    assert!(error["msg"].as_str().is_some_and(|words| !words.is_empty()), "{error}");
    assert!(error["cniVersion"].is_string(), "{error}");
}

/// What ADD says is what CHECK and DEL understand when a runtime gives it back. It adds to what plugins before it said, unless
/// it took over what one of them made.
fn can_be_checked(result: Value, environment: &Environment, (stdin, adopted): (&[u8], bool)) {
    let mut config: Value = serde_json::from_slice(stdin).unwrap();
    assert_eq!(result["cniVersion"], config["cniVersion"]);
    let previous = config.get("prevResult").filter(|previous| !previous.is_null()).cloned();
    for (key, ours) in [("interfaces", 2), ("ips", 1), ("routes", 1)] {
        let before = previous.as_ref().and_then(|p| p[key].as_array()).map_or(0, Vec::len);
        let all = before + if adopted { 0 } else { ours };
        assert!(result[key].as_array().is_some_and(|now| now.len() == all), "{result}");
    }
    config["prevResult"] = result;
    let stdin = config.to_string();
    let since = config["cniVersion"].as_str().is_some_and(|version| version >= "0.4.0");
    for command in ["CHECK", "DEL"] {
        let node = Played::new(br#"{"ok":"done"}"#, 0);
        let done = call(command, environment, stdin.as_bytes(), &node);
        assert_eq!(done.is_ok(), since || command == "DEL", "{command} {stdin}: {done:?}");
    }
}
