//! The files of this node's endpoints, one each: what must survive the agent.

use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};
use weft_api::cni::Attachment;
use weft_types::{Identity, NamespacedName};

/// Version of the files; a newer one is refused.
const VERSION: u16 = 1;

/// A plugged pod, or one on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the file.
    pub version: u16,
    /// The CNI attachment.
    pub attachment: Attachment,
    /// The pod.
    pub pod: NamespacedName,
    /// Path of its network namespace.
    pub netns: String,
    /// Its number on this node.
    pub id: u32,
    /// Its address.
    pub address: Ipv4Addr,
    /// Its identity when this was written.
    pub identity: Identity,
    /// Its link: index of the host side and the pod's hardware address; none while it is being made.
    pub link: Option<(u32, [u8; 6])>,
}

impl Record {
    /// Of this version.
    pub const VERSION: u16 = VERSION;
}

/// Why a file was not read, written or removed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {path}: {problem}")]
pub struct StateError {
    action: &'static str,
    path: PathBuf,
    problem: String,
}

impl StateError {
    fn new(action: &'static str, path: &Path, problem: impl ToString) -> Self {
        Self { action, path: path.to_owned(), problem: problem.to_string() }
    }
}

/// The folder of the files, made when it is not there.
pub fn folder(state_dir: &Path) -> Result<PathBuf, StateError> {
    let folder = state_dir.join("endpoints");
    fs::create_dir_all(&folder).map_err(|e| StateError::new("make", &folder, e))?;
    Ok(folder)
}

/// Reads all files. One that cannot be read ends the start: its pod's link must not be taken for nobody's.
pub fn read(folder: &Path) -> Result<Vec<Record>, StateError> {
    let failed = |e: std::io::Error| StateError::new("list", folder, e);
    let mut records = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            records.push(read_one(&path)?);
        }
    }
    Ok(records)
}

fn read_one(path: &Path) -> Result<Record, StateError> {
    let failed = |problem: String| StateError::new("read", path, problem);
    let bytes = fs::read(path).map_err(|e| failed(e.to_string()))?;
    let record: Record = serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
    if record.version > VERSION {
        return Err(failed(format!(
            "it is of version {}, this agent knows {VERSION}",
            record.version
        )));
    }
    Ok(record)
}

/// Writes one: whole, and on the disk when it returns.
pub fn write(folder: &Path, name: &str, record: &Record) -> Result<(), StateError> {
    let path = folder.join(format!("{name}.json"));
    let new = folder.join(format!("{name}.new"));
    let attempt = || -> std::io::Result<()> {
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        fs::File::open(folder)?.sync_all()
    };
    attempt().map_err(|e| StateError::new("write", &path, e))
}

/// Removes one; removing the absent is no error.
pub fn remove(folder: &Path, name: &str) -> Result<(), StateError> {
    let path = folder.join(format!("{name}.json"));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StateError::new("remove", &path, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            version: VERSION,
            attachment: Attachment { container_id: "c0ffee".into(), interface: "eth0".into() },
            pod: NamespacedName::new("shop", "cart-0"),
            netns: "/run/netns/cart".into(),
            id: 3,
            address: [10, 0, 1, 5].into(),
            identity: Identity(300),
            link: Some((9, [2, 0, 0, 0, 0, 1])),
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_removed_is_gone() {
        let disk = tempfile::tempdir().unwrap();
        let folder = folder(disk.path()).unwrap();
        write(&folder, "wl1", &record()).unwrap();
        assert_eq!(read(&folder).unwrap(), [record()]);
        remove(&folder, "wl1").unwrap();
        remove(&folder, "wl1").unwrap();
        assert_eq!(read(&folder).unwrap(), []);
    }

    #[test]
    fn the_file_keeps_its_form() {
        // Golden: a pod plugged by an older agent must be read by a newer one.
        let golden = r#"{"version":1,"attachment":{"container_id":"c0ffee","interface":"eth0"},"pod":{"namespace":"shop","name":"cart-0"},"netns":"/run/netns/cart","id":3,"address":"10.0.1.5","identity":300,"link":[9,[2,0,0,0,0,1]]}"#;
        assert_eq!(serde_json::to_string(&record()).unwrap(), golden);
        assert_eq!(serde_json::from_str::<Record>(golden).unwrap(), record());
    }

    #[test]
    fn what_cannot_be_read_names_its_file() {
        let disk = tempfile::tempdir().unwrap();
        let folder = folder(disk.path()).unwrap();
        fs::write(folder.join("wl2.json"), b"{").unwrap();
        assert!(read(&folder).unwrap_err().to_string().contains("wl2.json"));
        write(&folder, "wl2", &Record { version: 2, ..record() }).unwrap();
        assert!(read(&folder).unwrap_err().to_string().contains("version 2"));
    }
}
