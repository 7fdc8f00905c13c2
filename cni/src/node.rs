//! What a call does to the node that it is made on.

use crate::{log, netns, queue};
use std::{io, path::Path, time::Duration};
use weft_api::{
    agent::{Answer, Request},
    cni::Attachment,
    transport::{CallError, Client, Options},
};

/// How long the agent may take for one call; kubelet gives a sandbox four minutes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The node.
pub trait Node {
    /// Asks the agent behind a socket.
    fn ask(&self, socket: &Path, request: Request) -> Result<Answer, CallError>;

    /// Leaves a DEL in a folder for the agent to do; it is on the disk when this returns. Once more is no error.
    fn leave(&self, queue: &Path, attachment: &Attachment) -> io::Result<()>;

    /// What is wrong with a path that is to be a container's network namespace.
    fn check_netns(&self, path: &Path, may_be_own: bool) -> Result<(), String>;

    /// Writes the call's line to a log. One that cannot be written is no failure of the call.
    fn log(&self, file: &Path, command: &str, error: Option<&str>);
}

/// The one that this process runs on.
#[derive(Clone, Copy, Debug)]
pub struct RealNode;

impl Node for RealNode {
    fn ask(&self, socket: &Path, request: Request) -> Result<Answer, CallError> {
        let call = log::call();
        let options = Options {
            traceparent: Some(call.context),
            caller: Some(call.caller()),
            ..Options::within(PATIENCE)
        };
        Client::connect(socket, PATIENCE)?.call(request, options)
    }

    fn leave(&self, folder: &Path, attachment: &Attachment) -> io::Result<()> {
        queue::put(folder, attachment)
    }

    fn check_netns(&self, path: &Path, may_be_own: bool) -> Result<(), String> {
        netns::check(path, may_be_own)
    }

    fn log(&self, file: &Path, command: &str, error: Option<&str>) {
        log::call().end(file, command, error);
    }
}
