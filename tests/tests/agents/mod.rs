//! A lab's agents, asked over their sockets.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "what suites share; each uses its part"
)]

use std::{
    thread::sleep,
    time::{Duration, Instant},
};
use weft_api::{
    agent::{Answer, EndpointRow, Request, Status},
    transport::{Client, Options},
};
use weft_tests::lab::Lab;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the agent of a node.
pub(crate) fn ask(lab: &Lab, node: &str, request: Request) -> Result<Answer, String> {
    let socket = lab.dir().join(node).join("agent.sock");
    let mut client = Client::connect(&socket, PATIENCE).map_err(|e| e.to_string())?;
    client.call(request, Options::within(PATIENCE)).map_err(|e| e.to_string())
}

/// What it says of itself.
pub(crate) fn status(lab: &Lab, node: &str) -> Result<Status, String> {
    match ask(lab, node, Request::Status)? {
        Answer::Status(status) => Ok(status),
        other => panic!("{other:?}"),
    }
}

/// Its endpoints.
#[track_caller]
pub(crate) fn endpoints(lab: &Lab, node: &str) -> Vec<EndpointRow> {
    match ask(lab, node, Request::Endpoints).unwrap() {
        Answer::Endpoints(rows) => rows,
        other => panic!("{other:?}"),
    }
}

/// Waits until it says what is wanted; how long that took.
#[track_caller]
pub(crate) fn comes_to(lab: &Lab, node: &str, wanted: impl Fn(&Status) -> bool) -> Duration {
    let begun = Instant::now();
    loop {
        let status = status(lab, node);
        if status.as_ref().is_ok_and(&wanted) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "{node}: {status:?}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until it is well and its kernel holds what it received.
#[track_caller]
pub(crate) fn is_well(lab: &Lab, node: &str) -> Duration {
    comes_to(lab, node, |status| status.healthy && status.realised == status.received)
}
