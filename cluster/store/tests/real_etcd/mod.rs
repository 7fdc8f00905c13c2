//! A real etcd for a test, of as many members as it asks for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    dead_code,
    reason = "what suites share; each uses its part"
)]

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use weft_store::{EtcdStore, Store};

const PATIENCE: Duration = Duration::from_secs(60);

/// An etcd of some members on the loopback, each with a folder of its own; gone with the test.
pub(crate) struct Etcd {
    folder: tempfile::TempDir,
    /// Ports for clients and for peers.
    ports: Vec<(u16, u16)>,
    members: Vec<Option<Child>>,
    /// The authority, and a certificate with its key: then clients speak by TLS, and have a certificate too.
    tls: Option<[PathBuf; 3]>,
}

impl Etcd {
    pub(crate) fn of(members: usize) -> Self {
        Self::of_by(members, None)
    }

    pub(crate) fn of_by(members: usize, tls: Option<[PathBuf; 3]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Held together, so that they differ; free again when etcd takes them.
        let held: Vec<TcpListener> =
            (0..2 * members).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let ports = held.chunks(2).map(|two| (port(&two[0]), port(&two[1]))).collect();
        drop(held);
        let none = (0..members).map(|_| None).collect();
        let mut etcd = Self { folder, ports, members: none, tls };
        (0..members).for_each(|member| etcd.start(member));
        etcd
    }

    pub(crate) fn start(&mut self, member: usize) {
        let peer = |n: usize| format!("http://127.0.0.1:{}", self.ports[n].1);
        let client = &self.endpoints()[member];
        let all: Vec<String> = (0..self.ports.len()).map(|n| format!("m{n}={}", peer(n))).collect();
        let log = File::create(self.folder.path().join(format!("{member}.log"))).unwrap();
        let mut command = Command::new("etcd");
        command
            .args(["--name", &format!("m{member}")])
            .arg("--data-dir")
            .arg(self.folder.path().join(format!("m{member}")))
            .args(["--listen-client-urls", client, "--advertise-client-urls", client])
            .args(["--listen-peer-urls", &peer(member)])
            .args(["--initial-advertise-peer-urls", &peer(member)])
            .args(["--initial-cluster", &all.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        if let Some([ca, certificate, key]) = &self.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(ca);
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
        }
        let child = command.spawn().expect("start etcd: install Debian's etcd-server");
        self.members[member] = Some(child);
    }

    pub(crate) fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.members[member].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// A copy of what the only member has on its disk, which is started again.
    pub(crate) fn back_up(&mut self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        self.kill(0);
        copied(&self.folder.path().join("m0"), copy.path());
        self.start(0);
        copy
    }

    /// Puts a copy in the place of what the only member has.
    pub(crate) fn restore(&mut self, copy: &tempfile::TempDir) {
        self.kill(0);
        let data = self.folder.path().join("m0");
        std::fs::remove_dir_all(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        copied(copy.path(), &data);
        self.start(0);
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.ports.iter().map(|(client, _)| format!("{scheme}://127.0.0.1:{client}")).collect()
    }

    pub(crate) fn open(&self, prefix: &str) -> EtcdStore {
        EtcdStore::open(&self.endpoints(), prefix).unwrap()
    }

    /// A store that answers already.
    pub(crate) fn answering(&self, prefix: &str) -> EtcdStore {
        let store = self.open(prefix);
        eventually(|| store.founded().ok());
        store
    }
}

fn copied(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(done.success());
}

impl Drop for Etcd {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|member| self.kill(member));
    }
}

#[track_caller]
pub(crate) fn eventually<T>(mut what: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(it) = what() {
            return it;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}
