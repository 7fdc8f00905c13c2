//! A client of an operator's admin socket that is one of many on a thread.

use super::PATIENCE;
use anyhow::{Context, Result, bail};
use std::path::Path;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::sleep,
};
use weft_api::{
    API_VERSION, Call, Reply,
    operator::{Answer, Request},
};

/// A connection; calls go over it one after another.
pub(crate) struct Caller {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Caller {
    /// Connects; again while too many do.
    pub(crate) async fn connect(socket: &Path) -> Result<Self> {
        loop {
            match UnixStream::connect(socket).await {
                Ok(stream) => return Ok(Self { stream: BufReader::new(stream), line: Vec::new() }),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    sleep(super::MOMENT).await;
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("connect to {}", socket.display()));
                }
            }
        }
    }

    /// Asks, and waits for the answer.
    pub(crate) async fn call(&mut self, request: Request) -> Result<Answer> {
        let deadline_ms = u64::try_from(PATIENCE.as_millis()).ok();
        let version = API_VERSION;
        let call = Call { version, traceparent: None, caller: None, deadline_ms, request };
        self.line.clear();
        serde_json::to_writer(&mut self.line, &call)?;
        self.line.push(b'\n');
        self.stream.get_mut().write_all(&self.line).await?;
        self.line.clear();
        self.stream.read_until(b'\n', &mut self.line).await?;
        match serde_json::from_slice(&self.line).context("read an operator's answer")? {
            Reply::Ok(answer) => Ok(answer),
            Reply::Error(failure) => Err(failure.into()),
            Reply::End => bail!("an operator ended what is no stream"),
        }
    }
}
