//! `/metrics` and `/healthz` on loopback: a very small HTTP server.
//!
//! It answers GET, one request a connection, and knows nothing of what it renders: agent and operator give
//! it a text and a verdict.

use std::{future::Future, io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

/// Bytes of a request's head.
const HEAD_MAX: usize = 8 << 10;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Requests at once; more wait.
const AT_ONCE: usize = 16;
/// What the text of `/metrics` is: OpenMetrics, as prometheus-client renders it.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// Why it does not serve.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// Metrics say much about a cluster, and nobody is asked who they are.
    #[error("serve metrics at {0}: only loopback addresses, as 127.0.0.1:9962")]
    NotLoopback(SocketAddr),
    /// The kernel refused.
    #[error("serve metrics at {address}: {source}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A socket that serves `/metrics` and `/healthz`.
#[derive(Debug)]
pub struct Health {
    listener: TcpListener,
    address: SocketAddr,
}

impl Health {
    /// Listens at a loopback address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self, HealthError> {
        if !address.ip().is_loopback() {
            return Err(HealthError::NotLoopback(address));
        }
        let listen = |source| HealthError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn listens_at(&self) -> SocketAddr {
        self.address
    }

    /// Serves for ever: `render` makes the text of `/metrics`; `healthy` says what is wrong, if anything,
    /// and then `/healthz` answers 503 with it.
    pub async fn serve(
        self,
        render: impl AsyncFn() -> String,
        healthy: impl Fn() -> Result<(), String>,
    ) {
        let answer = async |path: &str| match path {
            "/metrics" => response("200 OK", METRICS, &render().await),
            "/healthz" => match healthy() {
                Ok(()) => response("200 OK", TEXT, "ok\n"),
                Err(problem) => response("503 Service Unavailable", TEXT, &format!("{problem}\n")),
            },
            _ => response("404 Not Found", TEXT, "here are /metrics and /healthz\n"),
        };
        // So many serve at once, each one connection after another.
        let workers: Vec<_> = (0..AT_ONCE).map(|_| self.work(&answer)).collect();
        join(workers).await;
    }

    async fn work(&self, answer: &impl AsyncFn(&str) -> String) {
        loop {
            match self.listener.accept().await {
                // A peer that left or was too slow has nobody to tell.
                Ok((stream, _)) => drop(timeout(PATIENCE, one(stream, answer)).await),
                Err(_) => sleep(Duration::from_millis(100)).await,
            }
        }
    }
}

async fn join(workers: Vec<impl Future<Output = ()>>) {
    futures_util::future::join_all(workers).await;
}

async fn one(mut stream: TcpStream, answer: &impl AsyncFn(&str) -> String) -> io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut chunk).await?;
        if read == 0 || head.len() > HEAD_MAX {
            let refused = response("400 Bad Request", TEXT, "not a request\n");
            return stream.write_all(refused.as_bytes()).await;
        }
        head.extend(chunk.iter().take(read));
    }
    let head = String::from_utf8_lossy(&head);
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let text = match (words.next(), words.next(), words.next()) {
        (Some("GET"), Some(target), Some(version)) if version.starts_with("HTTP/1.") => {
            answer(target.split('?').next().unwrap_or_default()).await
        }
        (Some(_), Some(_), Some(version)) if version.starts_with("HTTP/1.") => {
            response("405 Method Not Allowed", TEXT, "GET alone\n")
        }
        _ => response("400 Bad Request", TEXT, "not a request\n"),
    };
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

fn response(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
