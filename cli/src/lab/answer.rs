//! What a built-in server says: its pod's name, so that a probe knows whom it reached, or what it is told.

use std::{io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::watch,
};

/// First line of a connection, and beginning of a datagram, whose bytes are to come back.
pub(crate) const ECHO: &[u8] = b"echo\n";
/// First line of one who wants to know whom it reached.
pub(crate) const WHO: &[u8] = b"who\n";
/// The longest first line that is read.
const LINE_MAX: usize = 4096;

/// Answers connections, each until it ends or the pod does.
pub(crate) async fn connections(
    listener: TcpListener,
    name: String,
    lives: watch::Receiver<()>,
) -> io::Result<()> {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // A connection that was cut before it was taken, or no file is free: the next one may do better.
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let (name, mut lives) = (name.clone(), lives.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = lives.changed() => {}
                // A caller that left early is no failure of the server.
                _ = connection(stream, &name) => {}
            }
        });
    }
}

async fn connection(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_nodelay(true).ok();
    let mut line = Vec::new();
    while !line.ends_with(b"\n") && line.len() < LINE_MAX {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            break;
        }
        line.extend(byte);
    }
    if line == ECHO {
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await?;
        return write.shutdown().await;
    }
    if is_http(&line) {
        return http(stream, line, name).await;
    }
    stream.write_all(name.as_bytes()).await?;
    stream.shutdown().await
}

fn is_http(line: &[u8]) -> bool {
    line.ends_with(b"\r\n") && line.windows(6).any(|part| part == b" HTTP/")
}

/// Answers one request, whatever it asks for.
async fn http(mut stream: TcpStream, mut request: Vec<u8>, name: &str) -> io::Result<()> {
    let mut part = [0; LINE_MAX];
    while !request.ends_with(b"\r\n\r\n") && request.len() < 1 << 16 {
        let length = stream.read(&mut part).await?;
        if length == 0 {
            break;
        }
        request.extend(part.iter().take(length));
    }
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{name}\n",
        name.len() + 1
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

/// Answers datagrams.
pub(crate) async fn datagrams(socket: UdpSocket, name: String) -> io::Result<()> {
    let mut request = vec![0; 1 << 16];
    loop {
        // An ICMP error about an earlier answer is told here; it is none of the next caller's.
        let Ok((length, from)) = socket.recv_from(&mut request).await else { continue };
        let request = request.get(..length).unwrap_or_default();
        let answer = if request.starts_with(ECHO) { request } else { name.as_bytes() };
        // An answer that is not sent is a lost one, as datagrams may be.
        let _ = socket.send_to(answer, from).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    async fn said(what: &[u8]) -> Vec<u8> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lives = watch::Sender::new(());
        tokio::spawn(connections(listener, "shop/cart-0".to_owned(), lives.subscribe()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(what).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn the_first_line_says_what_is_wanted() {
        assert_eq!(said(WHO).await, b"shop/cart-0");
        assert_eq!(said(b"").await, b"shop/cart-0");
        assert_eq!(said(b"echo\n").await, b"");
        assert_eq!(said(b"echo\nabc\ndef").await, b"abc\ndef");
        let answer = said(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"shop/cart-0\n"));
    }

    #[tokio::test]
    async fn a_connection_ends_with_its_pod() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let lives = watch::Sender::new(());
        tokio::spawn(connections(listener, "a/b".to_owned(), lives.subscribe()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"echo\nx").await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'x');
        drop(lives);
        let mut rest = Vec::new();
        // Closed or reset: over either way.
        let _ = stream.read_to_end(&mut rest).await;
        assert_eq!(rest, b"");
    }
}
