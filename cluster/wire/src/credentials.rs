//! The files of an identity, read again when they change: what is renewed is used by the next connection, with no restart.

use crate::tls::{Identity, TlsError};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Who this process is and whose word it takes, as some files say.
#[derive(Clone)]
pub struct Credentials(Arc<Files>);

struct Files {
    /// The authority, the certificate, the key.
    paths: [PathBuf; 3],
    read: Mutex<Read>,
}

/// What is used, and the files that were looked at last: others are looked at once.
struct Read {
    seen: [Option<FileId>; 3],
    sides: (TlsAcceptor, TlsConnector),
}

/// What differs after a file was written, or another put in its place: inode, length, time of change.
type FileId = (u64, u64, i64, i64);

impl Credentials {
    /// Reads PEM files: the authority, this process's certificate, its key.
    pub fn read(authority: &Path, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let paths = [authority, certificate, key].map(Path::to_owned);
        // Before they are read: what is written meanwhile is read once more.
        let seen = look(&paths);
        let read = Mutex::new(Read { seen, sides: sides(&paths)? });
        Ok(Self(Arc::new(Files { paths, read })))
    }

    /// The accepting side, for one connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.newest().0
    }

    /// The connecting side, for one connection.
    pub fn connector(&self) -> TlsConnector {
        self.newest().1
    }

    /// As the files are now; as they were, when they cannot be used: they may be about to be written.
    fn newest(&self) -> (TlsAcceptor, TlsConnector) {
        let Files { paths, read } = &*self.0;
        // Nothing between locking and unlocking panics halfway.
        let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
        let now = look(paths);
        if now != read.seen {
            read.seen = now;
            match sides(paths) {
                Ok(sides) => {
                    read.sides = sides;
                    tracing::info!("certificates were renewed");
                }
                Err(error) => {
                    tracing::warn!(
                        "renewed certificates cannot be used, those before are: {error}"
                    );
                }
            }
        }
        read.sides.clone()
    }
}

fn look(paths: &[PathBuf; 3]) -> [Option<FileId>; 3] {
    paths.each_ref().map(|path| {
        let found = path.metadata().ok()?;
        Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
    })
}

fn sides(
    [authority, certificate, key]: &[PathBuf; 3],
) -> Result<(TlsAcceptor, TlsConnector), TlsError> {
    let identity = Identity::read(authority, certificate, key)?;
    Ok((identity.acceptor()?, identity.connector()?))
}
