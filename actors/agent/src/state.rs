//! The files of this node's endpoints, one each: what must survive the agent.

use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};
use weft_api::cni::Attachment;
use weft_types::{Identity, NamespacedName};

/// Version of the files; a newer one cannot be read.
const VERSION: u16 = 1;

/// A plugged pod, or one on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of the file.
    pub version: u16,
    /// The CNI attachment.
    pub attachment: Attachment,
    /// Name of its CNI network; the first agents wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
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
    /// Whether another plugin made its link.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub adopted: bool,
    /// Its link: index of the host side and the pod's hardware address; none while it is being made.
    pub link: Option<(u32, [u8; 6])>,
    /// Its link's MTU; none while it is being made, and the first agents wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

impl Record {
    /// Of this version.
    pub const VERSION: u16 = VERSION;

    fn checksum(&self) -> serde_json::Result<u32> {
        serde_json::to_vec(self).map(|bytes| crc32fast::hash(&bytes))
    }
}

/// What is in a file.
#[derive(Serialize, Deserialize)]
struct File {
    #[serde(flatten)]
    record: Record,
    /// CRC-32 of the record without it; the first agents wrote none.
    #[serde(default)]
    crc32: Option<u32>,
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

/// By the names they were written under: what files say, or why one says nothing.
pub type Records = BTreeMap<String, Result<Record, StateError>>;

/// Reads all files. One that is damaged is named with the others: its pod's link must not be taken for nobody's.
pub fn read(folder: &Path) -> Result<Records, StateError> {
    let failed = |e: std::io::Error| StateError::new("list", folder, e);
    let mut records = Records::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        records.extend(name_of(&path, "json").map(|name| (name, read_one(&path))));
    }
    Ok(records)
}

fn read_one(path: &Path) -> Result<Record, StateError> {
    let failed = |problem: String| StateError::new("read", path, problem);
    let bytes = fs::read(path).map_err(|e| failed(e.to_string()))?;
    let File { record, crc32 } =
        serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))?;
    if record.version > VERSION {
        return Err(failed(format!(
            "it is of version {}, this agent knows {VERSION}",
            record.version
        )));
    }
    let is = record.checksum().map_err(|e| failed(e.to_string()))?;
    if crc32.is_some_and(|crc32| crc32 != is) {
        return Err(failed("it is not what was written: its checksum differs".to_owned()));
    }
    Ok(record)
}

/// The names of the files there are, whatever is in them.
pub fn names(folder: &Path) -> Result<BTreeSet<String>, StateError> {
    let failed = |e: std::io::Error| StateError::new("list", folder, e);
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        names.extend(name_of(&path, "json"));
    }
    Ok(names)
}

/// Removes what an agent that was killed left half written. Nobody else writes here.
pub fn clean(folder: &Path) -> Result<(), StateError> {
    let failed = |e: std::io::Error| StateError::new("list", folder, e);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if name_of(&path, "new").is_some() {
            fs::remove_file(&path).map_err(|e| StateError::new("remove", &path, e))?;
        }
    }
    Ok(())
}

fn name_of(path: &Path, extension: &str) -> Option<String> {
    let name = path.file_stem().filter(|_| path.extension().is_some_and(|e| e == extension))?;
    Some(name.to_string_lossy().into_owned())
}

/// Writes one, whole: who reads finds the one before or this one, whatever becomes of the agent. It does not wait for
/// the disk: what would lose the file, a crash of the machine, ends the link and the network namespace that it is about.
pub fn write(folder: &Path, name: &str, record: &Record) -> Result<(), StateError> {
    let path = folder.join(format!("{name}.json"));
    let new = folder.join(format!("{name}.new"));
    let attempt = || -> std::io::Result<()> {
        let mut file = fs::File::create(&new)?;
        let whole = File { record: record.clone(), crc32: Some(record.checksum()?) };
        file.write_all(&serde_json::to_vec(&whole)?)?;
        fs::rename(&new, &path)
    };
    attempt().map_err(|e| {
        // Half a file would take what little room a full disk has; that it does not go changes nothing for the caller.
        drop(fs::remove_file(&new));
        StateError::new("write", &path, e)
    })
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
            network: Some("weft".into()),
            pod: NamespacedName::new("shop", "cart-0"),
            netns: "/run/netns/cart".into(),
            id: 3,
            address: [10, 0, 1, 5].into(),
            identity: Identity(300),
            adopted: false,
            link: Some((9, [2, 0, 0, 0, 0, 1])),
            mtu: Some(1400),
        }
    }

    #[test]
    fn what_is_written_is_read_and_what_is_removed_is_gone() {
        let disk = tempfile::tempdir().unwrap();
        let folder = folder(disk.path()).unwrap();
        write(&folder, "wl1", &record()).unwrap();
        let records = read(&folder).unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(*records["wl1"].as_ref().unwrap(), record());
        remove(&folder, "wl1").unwrap();
        remove(&folder, "wl1").unwrap();
        assert!(read(&folder).unwrap().is_empty());
    }

    #[test]
    fn what_was_half_written_is_nobodys_and_goes() {
        let disk = tempfile::tempdir().unwrap();
        let folder = folder(disk.path()).unwrap();
        write(&folder, "wl1", &record()).unwrap();
        // An agent was killed over one; over another its disk was full, or here: it is where a folder is.
        fs::write(folder.join("wl2.new"), "{").unwrap();
        fs::create_dir(folder.join("wl3.json")).unwrap();
        fs::write(folder.join("wl3.json/x"), "").unwrap();
        let failed = write(&folder, "wl3", &record()).unwrap_err().to_string();
        assert!(failed.contains("wl3.json"), "{failed}");
        assert!(!folder.join("wl3.new").exists());
        clean(&folder).unwrap();
        assert!(!folder.join("wl2.new").exists());
        fs::remove_dir_all(folder.join("wl3.json")).unwrap();
        assert_eq!(names(&folder).unwrap(), BTreeSet::from(["wl1".to_owned()]));
    }

    #[test]
    fn the_file_keeps_its_form() {
        // Golden: a pod plugged by an older agent must be read by a newer one.
        let golden = r#"{"version":1,"attachment":{"container_id":"c0ffee","interface":"eth0"},"network":"weft","pod":{"namespace":"shop","name":"cart-0"},"netns":"/run/netns/cart","id":3,"address":"10.0.1.5","identity":300,"link":[9,[2,0,0,0,0,1]],"mtu":1400,"crc32":1538460940}"#;
        let old = r#"{"version":1,"attachment":{"container_id":"c0ffee","interface":"eth0"},"network":"weft","pod":{"namespace":"shop","name":"cart-0"},"netns":"/run/netns/cart","id":3,"address":"10.0.1.5","identity":300,"link":[9,[2,0,0,0,0,1]],"crc32":765579729}"#;
        let oldest = r#"{"version":1,"attachment":{"container_id":"c0ffee","interface":"eth0"},"pod":{"namespace":"shop","name":"cart-0"},"netns":"/run/netns/cart","id":3,"address":"10.0.1.5","identity":300,"link":[9,[2,0,0,0,0,1]],"crc32":2019759998}"#;
        let first = oldest.replace(",\"crc32\":2019759998", "");
        let disk = tempfile::tempdir().unwrap();
        let folder = folder(disk.path()).unwrap();
        write(&folder, "wl1", &record()).unwrap();
        assert_eq!(fs::read_to_string(folder.join("wl1.json")).unwrap(), golden);
        let adopted = Record { adopted: true, ..record() };
        write(&folder, "wl2", &adopted).unwrap();
        let text = fs::read_to_string(folder.join("wl2.json")).unwrap();
        assert!(text.contains(r#""identity":300,"adopted":true,"link""#), "{text}");
        assert_eq!(*read(&folder).unwrap()["wl2"].as_ref().unwrap(), adopted);
        let network = record().network;
        for (text, network) in [(old, network), (oldest, None), (&first, None)] {
            fs::write(folder.join("wl1.json"), text).unwrap();
            let without = Record { network, mtu: None, ..record() };
            assert_eq!(*read(&folder).unwrap()["wl1"].as_ref().unwrap(), without);
        }
    }

    #[test]
    fn a_damaged_file_says_what_is_wrong_and_costs_the_others_nothing() {
        let disk = tempfile::tempdir().unwrap();
        let folder = folder(disk.path()).unwrap();
        write(&folder, "wl1", &record()).unwrap();
        let whole = fs::read_to_string(folder.join("wl1.json")).unwrap();
        for (why, text) in [
            ("EOF", whole[..40].to_owned()),
            ("checksum", whole.replace("10.0.1.5", "10.0.1.4")),
            ("version 2", whole.replace("\"version\":1", "\"version\":2")),
        ] {
            fs::write(folder.join("wl2.json"), text).unwrap();
            let records = read(&folder).unwrap();
            assert_eq!(*records["wl1"].as_ref().unwrap(), record());
            let problem = records["wl2"].as_ref().unwrap_err().to_string();
            assert!(problem.contains("wl2.json") && problem.contains(why), "{problem}");
        }
    }
}
