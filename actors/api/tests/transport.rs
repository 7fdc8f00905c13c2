//! The client against the server: order, streams, limits, strangers' bytes, stale sockets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test"
)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::Duration,
};
use tokio::sync::mpsc as async_mpsc;
use weft_api::{
    Call, Failure, FailureKind,
    agent::{Answer, NodeRow, Request},
    transport::{BindError, CallError, Client, Limits, Options, Response, Server},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// A server on a thread of its own, gone with the value.
struct Fixture {
    path: PathBuf,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
    /// A stream's producer noticed that nobody listens any more.
    abandoned: mpsc::Receiver<()>,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let (abandon, abandoned) = mpsc::channel();
        let at = path.clone();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let server = Server::bind(&at, limits).unwrap();
                ready.send(()).unwrap();
                tokio::select! {
                    () = server.serve(|call| answer(call, abandon.clone())) => {}
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv_timeout(PATIENCE).unwrap();
        Self { path, stop: Some(stop), thread: Some(thread), abandoned, _folder: folder }
    }

    fn client(&self) -> Client {
        Client::connect(&self.path, PATIENCE).unwrap()
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn answer(call: Call<Request>, abandon: mpsc::Sender<()>) -> Response<Answer> {
    match call.request {
        Request::CniStatus => Response::One(Ok(Answer::Done)),
        Request::Nodes => Response::One(Ok(Answer::Nodes(vec![NodeRow {
            name: call.traceparent.map(|t| t.to_string()).unwrap_or_default(),
            address: [10, 0, 0, 1].into(),
            pod_cidrs: vec![call.deadline_ms.unwrap_or_default().to_string()],
        }]))),
        // Never answered.
        Request::Status => std::future::pending().await,
        Request::Flows { follow, .. } => {
            let (items, receiver) = async_mpsc::channel(4);
            tokio::spawn(async move {
                for n in 0..100 {
                    if items.send(Ok(Answer::FlowsLost(n))).await.is_err() {
                        break;
                    }
                }
                if follow {
                    items.closed().await;
                    abandon.send(()).unwrap();
                }
            });
            Response::Many(receiver)
        }
        _ => Response::One(Err(Failure {
            kind: FailureKind::NotFound,
            message: "no such map".to_owned(),
        })),
    }
}

#[test]
fn calls_on_one_connection_are_answered_in_order() {
    let fixture = Fixture::new(Limits::default());
    let mut client = fixture.client();
    for _ in 0..3 {
        let done = client.call(Request::CniStatus, Options::within(PATIENCE)).unwrap();
        assert_eq!(done, Answer::Done);
    }
    let refused = client.call(Request::Maps, Options::within(PATIENCE));
    assert!(
        matches!(refused, Err(CallError::Failed(f)) if f.kind == FailureKind::NotFound && f.message == "no such map")
    );
    assert_eq!(client.call(Request::CniStatus, Options::within(PATIENCE)).unwrap(), Answer::Done);
}

#[test]
fn trace_and_deadline_arrive() {
    let fixture = Fixture::new(Limits::default());
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let options = Options { traceparent: trace.parse().ok(), ..Options::within(PATIENCE) };
    let Answer::Nodes(nodes) = fixture.client().call(Request::Nodes, options).unwrap() else {
        panic!("not the answer to Nodes")
    };
    assert_eq!((nodes[0].name.as_str(), nodes[0].pod_cidrs[0].as_str()), (trace, "10000"));
}

#[test]
fn a_stream_ends_and_a_follower_that_leaves_is_noticed() {
    let fixture = Fixture::new(Limits::default());
    let whole = Request::Flows { last: None, follow: false };
    let lost: Vec<_> = fixture
        .client()
        .stream(whole, Options::within(PATIENCE))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(lost, (0..100).map(Answer::FlowsLost).collect::<Vec<_>>());

    let follow = Request::Flows { last: None, follow: true };
    let mut stream = fixture.client().stream(follow, Options::within(PATIENCE)).unwrap();
    assert_eq!(stream.nth(99).unwrap().unwrap(), Answer::FlowsLost(99));
    drop(stream);
    fixture.abandoned.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn half_a_close_still_gets_its_answers() {
    let fixture = Fixture::new(Limits::default());
    let mut socket = UnixStream::connect(&fixture.path).unwrap();
    socket.write_all(b"{\"version\":1,\"request\":{\"flows\":{}}}\n").unwrap();
    socket.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 101);
    assert!(text.ends_with("{\"ok\":{\"flows_lost\":99}}\n\"end\"\n"), "{text}");
}

#[test]
fn no_answer_in_time_is_an_error() {
    let fixture = Fixture::new(Limits::default());
    let late = fixture.client().call(Request::Status, Options::within(Duration::from_millis(20)));
    let error = late.unwrap_err().to_string();
    assert!(error.contains("no answer in time"), "{error}");
}

#[test]
fn malformed_lines_are_answered_and_the_connection_lives() {
    let fixture = Fixture::new(Limits { line: 4096, ..Limits::default() });
    let mut socket = BufReader::new(UnixStream::connect(&fixture.path).unwrap());
    let mut ask = |line: &[u8]| {
        // One write: the server closes on a line that is too long, maybe before its newline comes.
        socket.get_mut().write_all(&[line, b"\n"].concat()).unwrap();
        let mut answer = String::new();
        socket.read_line(&mut answer).unwrap();
        answer
    };
    let deep = "[".repeat(4000);
    for bad in [
        &b""[..],
        b"{",
        b"null",
        b"\xff\xfe",
        b"{\"version\":1,\"request\":\"no_such\"}",
        b"{\"version\":\"1\",\"request\":\"maps\"}",
        b"{\"version\":2,\"request\":\"maps\"}",
        deep.as_bytes(),
    ] {
        let answer = ask(bad);
        assert!(answer.starts_with("{\"error\":{\"kind\":\"invalid\""), "{bad:?}: {answer}");
    }
    assert_eq!(ask(b"{\"version\":1,\"request\":\"cni_status\"}"), "{\"ok\":\"done\"}\n");
    let long = ask(&[b'x'; 5000]);
    assert!(long.contains("longer than 4096 bytes"), "{long}");
    let mut rest = Vec::new();
    // Closed, perhaps with a reset for the bytes that were never read.
    drop(socket.read_to_end(&mut rest));
    assert!(rest.is_empty());
}

#[test]
fn connections_beyond_the_limit_are_told_to_try_again() {
    let fixture = Fixture::new(Limits { connections: 1, ..Limits::default() });
    let mut first = fixture.client();
    assert_eq!(first.call(Request::CniStatus, Options::within(PATIENCE)).unwrap(), Answer::Done);
    let refused = fixture.client().call(Request::CniStatus, Options::within(PATIENCE));
    assert!(
        matches!(&refused, Err(CallError::Failed(f)) if f.kind == FailureKind::TryAgain),
        "{refused:?}"
    );
    assert_eq!(first.call(Request::CniStatus, Options::within(PATIENCE)).unwrap(), Answer::Done);
}

#[test]
fn the_socket_is_private_and_only_a_dead_one_is_replaced() {
    let mut fixture = Fixture::new(Limits::default());
    let mode = std::fs::metadata(&fixture.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(bind(&fixture.path), Err(BindError::InUse(_))));
    fixture.stop();
    assert!(!fixture.path.exists(), "the file goes with its server");

    // A process that was killed leaves its file.
    drop(std::os::unix::net::UnixListener::bind(&fixture.path).unwrap());
    assert!(bind(&fixture.path).is_ok());

    std::fs::write(&fixture.path, b"precious").unwrap();
    assert!(matches!(bind(&fixture.path), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read(&fixture.path).unwrap(), b"precious");
}

fn bind(path: &Path) -> Result<(), BindError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { Server::bind(path, Limits::default()).map(drop) })
}

#[test]
fn nobody_there_names_the_socket() {
    let error = Client::connect(Path::new("/nonexistent/agent.sock"), PATIENCE).unwrap_err();
    assert_eq!(
        error.to_string(),
        "connect to /nonexistent/agent.sock: No such file or directory (os error 2)"
    );
}

/// A line of anything, or of a request with one thing wrong.
fn line() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let word = prop_oneof![
        Just("\"maps\"".to_owned()),
        Just("{\"flows\":{}}".to_owned()),
        Just("{\"cni_add\":{\"container_id\":1}}".to_owned()),
        "[-a-z0-9\\[\\]{}\":, .]{0,40}",
        any::<i64>().prop_map(|number| number.to_string()),
    ];
    let version = prop_oneof![Just("1".to_owned()), "[-0-9\"e.]{1,6}"];
    let nearly = (word, version, "[-0-9a-f]{0,60}").prop_map(|(request, version, parent)| {
        format!("{{\"version\":{version},\"traceparent\":\"{parent}\",\"request\":{request}}}")
            .into_bytes()
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..300), nearly].prop_map(|mut bytes| {
        bytes.retain(|byte| *byte != b'\n');
        bytes
    })
}

#[test]
fn any_line_gets_one_answer_and_harms_nobody() {
    use proptest::{
        strategy::{Strategy, ValueTree},
        test_runner::TestRunner,
    };
    let fixture = Fixture::new(Limits::default());
    let mut runner = TestRunner::default();
    for _ in 0..500 {
        let line = line().new_tree(&mut runner).unwrap().current();
        let mut socket = BufReader::new(UnixStream::connect(&fixture.path).unwrap());
        socket.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        socket.get_mut().write_all(&[&line[..], b"\n"].concat()).unwrap();
        let mut answer = String::new();
        socket.read_line(&mut answer).unwrap();
        let shown = String::from_utf8_lossy(&line);
        let answer: serde_json::Value = serde_json::from_str(&answer)
            .unwrap_or_else(|error| panic!("{shown:?} was answered {answer:?}: {error}"));
        let failed = answer.get("error").is_some_and(|error| error["message"].is_string());
        assert!(
            failed || answer.get("ok").is_some() || answer.get("item").is_some(),
            "{shown:?}: {answer}"
        );
    }
    assert!(fixture.client().call(Request::CniStatus, Options::within(PATIENCE)).is_ok());
}
