//! `/metrics` and `/healthz`: what is answered, to whom, and that nobody holds it up.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};
use weft_api::health::{Health, HealthError};

/// Serves on a thread that ends with the test's process.
fn start() -> (SocketAddr, Arc<AtomicBool>) {
    let ill = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&ill);
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let health = Health::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
            tell.send(health.listens_at()).unwrap();
            let healthy = move || match seen.load(Ordering::SeqCst) {
                true => Err("policy: its actor does not answer".to_owned()),
                false => Ok(()),
            };
            health.serve(async || "weft_x_total 1\n# EOF\n".to_owned(), healthy).await;
        });
    });
    (told.recv().unwrap(), ill)
}

fn says(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn metrics_and_health() {
    let (address, ill) = start();
    let text = says(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(
        text,
        "HTTP/1.1 200 OK\r\nContent-Type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n\
         Content-Length: 21\r\nConnection: close\r\n\r\nweft_x_total 1\n# EOF\n"
    );
    assert!(says(address, b"GET /metrics?x=1 HTTP/1.0\r\n\r\n").contains("weft_x_total 1"));
    let text = says(address, b"GET /healthz HTTP/1.1\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 OK") && text.ends_with("ok\n"), "{text}");
    ill.store(true, Ordering::SeqCst);
    let text = says(address, b"GET /healthz HTTP/1.1\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 503") && text.ends_with("does not answer\n"), "{text}");
}

#[test]
fn what_is_no_request_is_refused() {
    let (address, _) = start();
    for (request, status) in [
        (&b"POST /metrics HTTP/1.1\r\n\r\n"[..], "405"),
        (b"GET /secrets HTTP/1.1\r\n\r\n", "404"),
        (b"nonsense\r\n\r\n", "400"),
        (b"GET /metrics HTTP/1.1\r\n", "400"),
        (b"\xff\xfe\r\n\r\n", "400"),
        (b"", "400"),
    ] {
        let text = says(address, request);
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{request:?}: {text}");
    }
    // A head without an end is not kept.
    let mut stream = TcpStream::connect(address).unwrap();
    drop(stream.write_all(&[b'a'; 64 << 10]));
    drop(stream.read_to_end(&mut Vec::new()));
    assert!(says(address, b"GET /healthz HTTP/1.1\r\n\r\n").contains("200 OK"));
}

#[test]
fn one_that_says_nothing_holds_nobody_up() {
    let (address, _) = start();
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(says(address, b"GET /healthz HTTP/1.1\r\n\r\n").contains("200 OK"));
    drop(silent);
}

#[test]
fn loopback_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(Health::bind("0.0.0.0:0".parse().unwrap())).unwrap_err();
    assert!(matches!(refused, HealthError::NotLoopback(_)) && refused.to_string().contains("127"));
}
