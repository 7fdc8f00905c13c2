//! TLS to etcd: whose word is taken, and who this process is to it.

use etcd_client::{Certificate, Identity, TlsOptions};
use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// What differs after a file was written, or another put in its place: inode, length, time of change.
pub(super) type Seen = Vec<Option<(u64, u64, i64, i64)>>;

/// Files of PEM, read when the store is opened, and again when they change: what is renewed is used with no restart.
#[derive(Clone, Debug, Default)]
pub struct EtcdTls {
    /// The authority of etcd's members; none when they are spoken with without TLS.
    pub ca: Option<PathBuf>,
    /// This process's certificate and its key, where etcd asks for one.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl EtcdTls {
    /// The files, as they are now.
    pub(super) fn seen(&self) -> Seen {
        let own = self.certificate.iter().flat_map(|(certificate, key)| [certificate, key]);
        let look = |path: &PathBuf| {
            let found = path.metadata().ok()?;
            Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
        };
        self.ca.iter().chain(own).map(look).collect()
    }

    /// As etcd's client takes it; none for members without TLS. What does not fit together is said.
    pub(super) fn options(&self, endpoints: &[String]) -> Result<Option<TlsOptions>, String> {
        let at = endpoints.join(", ");
        let by_tls = endpoints.iter().filter(|endpoint| endpoint.starts_with("https:")).count();
        let Some(ca) = &self.ca else {
            return match by_tls {
                0 => Ok(None),
                _ => Err(format!(
                    "{at}: name the authority of its members' certificates (--etcd-ca)"
                )),
            };
        };
        if by_tls < endpoints.len() {
            return Err(format!(
                "{at}: with an authority (--etcd-ca) all members are named as https://ADDRESS:PORT"
            ));
        }
        let mut options = TlsOptions::new().ca_certificate(Certificate::from_pem(read(ca)?));
        if let Some((certificate, key)) = &self.certificate {
            options = options.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(Some(options))
    }
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("read {}: {error}", file.display()))
}
