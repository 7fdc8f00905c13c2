//! The local API: any bytes over a real socket to a real server, and any answer to a client.

use crate::bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt::Debug,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::LazyLock,
    time::Duration,
};
use tempfile::TempDir;
use tokio::sync::mpsc;
use weft_api::{
    Call, Reply, agent, operator,
    transport::{Limits, Request, Response, Server},
};

/// What the servers here take of one line: short, so that it is reached.
const LIMITS: Limits = Limits { line: 4096, connections: 4 };
/// Who does not answer for so long hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// The target: whose socket or answer it is, then the bytes.
pub fn run(bytes: &[u8]) {
    static AGENT: LazyLock<Served> = LazyLock::new(|| Served::new(agent_answers));
    static OPERATOR: LazyLock<Served> = LazyLock::new(|| Served::new(operator_answers));
    let mut bytes = Bytes(bytes);
    match bytes.up_to(3) {
        0 => AGENT.is_asked::<agent::Request>(bytes.0),
        1 => OPERATOR.is_asked::<operator::Request>(bytes.0),
        2 => is_the_same_again::<Reply<agent::Answer>>(bytes.0),
        _ => is_the_same_again::<Reply<operator::Answer>>(bytes.0),
    }
}

fn agent_answers(call: Call<agent::Request>) -> Response<agent::Answer> {
    is_the_same(&call);
    match call.request {
        agent::Request::Flows { .. } => {
            let (items, stream) = mpsc::channel(2);
            let _ = items.try_send(Ok(agent::Answer::FlowsLost(1)));
            Response::Many(stream)
        }
        _ => Response::One(Ok(agent::Answer::Done)),
    }
}

fn operator_answers(call: Call<operator::Request>) -> Response<operator::Answer> {
    is_the_same(&call);
    Response::One(Ok(operator::Answer::Objects(Vec::new())))
}

/// A server that lives as long as the process.
struct Served {
    socket: PathBuf,
    _folder: TempDir,
}

impl Served {
    fn new<R>(answers: fn(Call<R>) -> Response<R::Answer>) -> Self
    where
        R: Request + 'static,
        R::Answer: 'static,
    {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let (path, (ready, is_ready)) = (socket.clone(), std::sync::mpsc::channel());
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let server = Server::bind(&path, LIMITS).unwrap();
                ready.send(()).unwrap();
                server.serve(async |call| answers(call)).await;
            });
        });
        is_ready.recv().unwrap();
        Self { socket, _folder: folder }
    }

    /// Every line is answered by one line or a stream of them, whatever is in it; one that is too long ends it.
    fn is_asked<R: Request>(&self, bytes: &[u8])
    where
        R::Answer: Debug,
    {
        let said = converse(&self.socket, bytes).expect("the server listens");
        let text = std::str::from_utf8(&said).expect("answers are text");
        let mut answered = 0;
        for line in text.lines() {
            let reply: Reply<R::Answer> = serde_json::from_str(line).expect("answers are replies");
            // The first item of a stream, which is two lines.
            answered += usize::from(!line.contains("flows_lost"));
            if let Reply::Error(failure) = reply {
                assert!(!failure.message.is_empty());
            }
        }
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        lines.pop_if(|last| last.is_empty());
        let long = lines.iter().position(|line| line.len() > LIMITS.line);
        let expected = long.map_or(lines.len(), |long| long + 1);
        assert_eq!(answered, expected, "{text}");
    }
}

fn converse(socket: &Path, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Who says too much is not heard to the end.
    let written = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut said = Vec::new();
    let read = stream.read_to_end(&mut said);
    if written.is_ok() {
        read?;
    }
    Ok(said)
}

/// What is read from these bytes, if it can be, survives being written.
fn is_the_same_again<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = serde_json::from_slice::<T>(bytes) {
        is_the_same(&value);
    }
}

fn is_the_same<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let written = serde_json::to_vec(value).expect("what is read can be written");
    let again: T = serde_json::from_slice(&written).expect("what is written is read");
    assert_eq!(*value, again);
}
