//! The least that it takes to have a record on the disks of two of three members: an append and a sync at each, a
//! message there and back, and nothing else.

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    fs::{File, OpenOptions},
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::{fd::AsFd, unix::fs::FileExt},
    path::Path,
    thread,
};

/// Bytes of a record: about what the log has for one pod.
const RECORD: usize = 256;
/// Bytes of a member's file, written before anything is measured: an append changes no length then.
const FILE: usize = 16 << 20;

/// One member's file.
struct Log {
    file: File,
    end: u64,
}

impl Log {
    fn make(path: &Path) -> Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create_new(true).open(path);
        let file = file.with_context(|| format!("make {}", path.display()))?;
        file.write_all_at(&vec![0; FILE], 0)?;
        file.sync_all()?;
        Ok(Self { file, end: 0 })
    }

    fn append(&mut self, record: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(record, self.end)?;
        self.end = (self.end + record.len() as u64) % (FILE - RECORD) as u64;
        self.file.sync_data()
    }
}

/// The leader, with a connection to each of two followers, which are threads.
pub(crate) struct Quorum {
    log: Log,
    followers: Vec<(TcpStream, u64)>,
    records: u64,
}

impl Quorum {
    /// Members whose files are in a folder.
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let mut followers = Vec::new();
        for number in 1..=2 {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let mut log = Log::make(&folder.join(format!("quorum{number}.log")))?;
            let stream = TcpStream::connect(listener.local_addr()?)?;
            let (mut leader, _) = listener.accept()?;
            leader.set_nodelay(true)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            // It ends when the leader's side is closed.
            thread::spawn(move || {
                let mut record = [0; RECORD];
                while leader.read_exact(&mut record).is_ok() {
                    if log.append(&record).and_then(|()| leader.write_all(&[1])).is_err() {
                        return;
                    }
                }
            });
            followers.push((stream, 0));
        }
        Ok(Self { log: Log::make(&folder.join("quorum0.log"))?, followers, records: 0 })
    }

    /// One record, on the leader's disk and on a follower's when this returns.
    pub(crate) fn append(&mut self) -> Result<()> {
        let record = [7; RECORD];
        for (stream, _) in &mut self.followers {
            stream.write_all(&record).context("send a record")?;
        }
        self.records += 1;
        self.log.append(&record).context("append a record")?;
        while self.followers.iter().all(|(_, acknowledged)| *acknowledged < self.records) {
            let mut ends: Vec<PollFd> = self
                .followers
                .iter()
                .map(|(s, _)| PollFd::new(s.as_fd(), PollFlags::POLLIN))
                .collect();
            poll(&mut ends, PollTimeout::NONE)?;
            drop(ends);
            for (stream, acknowledged) in &mut self.followers {
                let mut bytes = [0; 64];
                match stream.read(&mut bytes) {
                    Ok(0) => bail!("a follower ended"),
                    Ok(count) => *acknowledged += count as u64,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}
