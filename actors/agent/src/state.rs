//! The file of this node's endpoints: what must survive the agent.

use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};
use weft_api::cni::Attachment;
use weft_types::{Identity, NamespacedName};

/// Version of the file; a newer one is refused.
const VERSION: u16 = 1;

/// A plugged pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The CNI attachment.
    pub attachment: Attachment,
    /// The pod.
    pub pod: NamespacedName,
    /// Its number on this node.
    pub id: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its identity when it was last written.
    pub identity: Identity,
    /// Name of the host side of its link.
    pub host_interface: String,
    /// Index of the host side.
    pub ifindex: u32,
    /// The pod's hardware address.
    pub mac: [u8; 6],
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u16,
    endpoints: Vec<Record>,
}

/// Why the file was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The disk failed, or the file is not ours.
    #[error("{action} {path}: {problem}")]
    Failed {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        problem: String,
    },
}

/// Reads the endpoints; none when there is no file.
pub fn read(folder: &Path) -> Result<Vec<Record>, StateError> {
    let path = folder.join("endpoints.json");
    let failed =
        |problem: String| StateError::Failed { action: "read", path: path.clone(), problem };
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error.to_string())),
    };
    let file: File = serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
    if file.version > VERSION {
        return Err(failed(format!(
            "it is of version {}, this agent knows {VERSION}",
            file.version
        )));
    }
    Ok(file.endpoints)
}

/// Writes the endpoints: whole, and on the disk when it returns.
pub fn write(folder: &Path, endpoints: Vec<Record>) -> Result<(), StateError> {
    let path = folder.join("endpoints.json");
    let new = folder.join("endpoints.json.new");
    let attempt = || -> std::io::Result<()> {
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(&File { version: VERSION, endpoints })?)?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    attempt().map_err(|e| StateError::Failed {
        action: "write",
        path: path.clone(),
        problem: e.to_string(),
    })
}
