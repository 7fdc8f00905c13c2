//! As many bytes as go in one direction, and how many arrived.

use crate::load::{PATIENCE, connection, is_early};
use anyhow::{Context, Result};
use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddrV4, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

/// Bytes that are handed over at a time.
const BLOCK: usize = 1 << 16;

/// Takes all that comes and says how much it was.
pub(crate) fn drain(mut connection: TcpStream, over: &AtomicBool) -> Result<()> {
    let mut block = vec![0; BLOCK];
    let mut bytes = 0u64;
    loop {
        match connection.read(&mut block) {
            Ok(0) => {
                return connection.write_all(&bytes.to_le_bytes()).context("say how much came");
            }
            Ok(length) => bytes += length as u64,
            Err(error) if is_early(&error) && !over.load(Ordering::Relaxed) => {}
            Err(error) => return Err(error).context("receive"),
        }
    }
}

/// Sends for this long, and is told how much arrived.
pub(crate) fn send(to: SocketAddrV4, time: Duration) -> Result<(f64, u64)> {
    let mut connection = connection(to, PATIENCE)?;
    let block = vec![b'w'; BLOCK];
    let (begun, mut sent) = (Instant::now(), 0u64);
    while begun.elapsed() < time {
        sent += connection.write(&block).context("send")? as u64;
    }
    connection.shutdown(Shutdown::Write)?;
    let mut told = [0; 8];
    connection.read_exact(&mut told).context("ask how much arrived")?;
    let (passed, arrived) = (begun.elapsed(), u64::from_le_bytes(told));
    anyhow::ensure!(arrived == sent, "{arrived} of {sent} bytes arrived");
    Ok((sent as f64 * 8.0 / 1e9 / passed.as_secs_f64(), arrived))
}
