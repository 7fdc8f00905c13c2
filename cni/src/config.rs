//! What a runtime says by standard input: the network configuration.

use crate::{
    error::{CniError, Code},
    version::Version,
};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    io::Read,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// Longest configuration, in bytes. Runtimes send a few thousand at most.
const CONFIG_MAX: u64 = 1 << 20;
/// Longest path of a Unix socket (`sun_path` without its zero byte).
const SOCKET_MAX: usize = 107;
/// The version of a configuration that names none: the first one had no such key.
const FIRST: &str = "0.1.0";

/// The network configuration; keys of other plugins are none of ours.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) version: Version,
    /// Name of the network.
    pub(crate) name: String,
    /// The agent's socket.
    pub(crate) socket: PathBuf,
    /// Where DELs wait while the agent is away.
    pub(crate) queue: PathBuf,
    /// Where the call's line goes.
    pub(crate) log_file: Option<PathBuf>,
    /// What the plugins before made of the attachment; in CHECK and DEL, what the whole list did.
    pub(crate) previous: Option<Map<String, Value>>,
    /// GC: attachments that the runtime has.
    pub(crate) valid: Vec<ValidAttachment>,
}

/// An attachment as GC names it.
#[derive(Debug, Deserialize)]
pub(crate) struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub(crate) container_id: String,
    #[serde(rename = "ifname")]
    pub(crate) interface: String,
}

#[derive(Deserialize)]
struct Written {
    #[serde(rename = "cniVersion")]
    version: Option<String>,
    name: Option<String>,
    socket: Option<PathBuf>,
    queue: Option<PathBuf>,
    #[serde(rename = "log-file")]
    log_file: Option<PathBuf>,
    #[serde(rename = "prevResult")]
    previous: Option<Map<String, Value>>,
    #[serde(rename = "cni.dev/valid-attachments")]
    valid: Option<Vec<ValidAttachment>>,
}

impl Config {
    /// Reads and checks the configuration.
    pub(crate) fn read(from: impl Read) -> Result<Self, CniError> {
        // An object first: a struct would take an array, too.
        let object = serde_json::from_slice::<Map<String, Value>>(&bytes(from)?);
        let written: Written =
            object.and_then(|object| serde_json::from_value(object.into())).map_err(|error| {
                CniError::new(Code::Decode, format!("decode the configuration on stdin: {error}"))
            })?;
        let asked = written.version.filter(|version| !version.is_empty());
        let asked = asked.as_deref().unwrap_or(FIRST);
        let version = Version::parse(asked).ok_or_else(|| {
            let spoken = Version::ALL.map(Version::as_str).join(", ");
            let message = format!("cniVersion {asked:?} is not spoken here; {spoken} are");
            CniError::new(Code::IncompatibleVersion, message)
        })?;
        let name = written.name.unwrap_or_default();
        check_name(&name)?;
        let socket = written.socket.unwrap_or_else(|| PathBuf::from("/run/weft/agent.sock"));
        let queue = written.queue.unwrap_or_else(|| socket.with_file_name("delete-queue"));
        check_path("socket", &socket, SOCKET_MAX)?;
        check_path("queue", &queue, 4095)?;
        Ok(Self {
            version,
            name,
            socket,
            queue,
            log_file: written.log_file,
            previous: written.previous,
            valid: written.valid.unwrap_or_default(),
        })
    }

    /// Itself, unless its version is older than a command.
    pub(crate) fn since(self, first: Version, command: &str) -> Result<Self, CniError> {
        if self.version >= first {
            return Ok(self);
        }
        let (version, first) = (self.version.as_str(), first.as_str());
        let message = format!("cniVersion {version} has no {command}: it came with {first}");
        Err(CniError::new(Code::IncompatibleVersion, message))
    }
}

/// The version that whoever asks for VERSION speaks, if it says one that is spoken here.
pub(crate) fn spoken(from: impl Read) -> Option<Version> {
    let written: Value = serde_json::from_slice(&bytes(from).ok()?).ok()?;
    Version::parse(written.get("cniVersion")?.as_str()?)
}

fn bytes(from: impl Read) -> Result<Vec<u8>, CniError> {
    let mut bytes = Vec::new();
    from.take(CONFIG_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| CniError::new(Code::Io, format!("read the configuration on stdin: {e}")))?;
    if bytes.len() as u64 > CONFIG_MAX {
        let message = format!("the configuration on stdin is longer than {CONFIG_MAX} bytes");
        return Err(CniError::new(Code::Decode, message));
    }
    Ok(bytes)
}

fn check_name(name: &str) -> Result<(), CniError> {
    let shaped = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if shaped {
        return Ok(());
    }
    let message = format!(
        "the network's name {name:?} is none: a letter or digit, then letters, digits, _ . -"
    );
    Err(CniError::new(Code::InvalidConfig, message))
}

fn check_path(key: &str, path: &Path, longest: usize) -> Result<(), CniError> {
    let bytes = path.as_os_str().as_bytes();
    if path.is_absolute() && bytes.len() <= longest && !bytes.contains(&0) {
        return Ok(());
    }
    let path = path.display();
    let message = format!("{key} {path:?} is none: an absolute path of at most {longest} bytes");
    Err(CniError::new(Code::InvalidConfig, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Config, Code> {
        Config::read(text.as_bytes()).map_err(|error| error.code)
    }

    #[test]
    fn every_version_that_is_spoken_is_read() {
        for version in Version::ALL {
            let config = format!(r#"{{"cniVersion":"{}","name":"weft"}}"#, version.as_str());
            assert_eq!(read(&config).unwrap().version, version);
        }
        for other in ["9.0.0", "1.1", "", "0.2.0"] {
            let config = format!(r#"{{"cniVersion":"{other}","name":"weft"}}"#);
            assert_eq!(read(&config).unwrap_err(), Code::IncompatibleVersion, "{other}");
        }
        assert_eq!(read(r#"{"name":"weft"}"#).unwrap_err(), Code::IncompatibleVersion);
    }

    #[test]
    fn what_is_no_configuration_is_told_from_a_wrong_one() {
        for bad in [
            "{",
            "",
            "[]",
            "null",
            r#"["1.1.0","weft"]"#,
            r#"{"cniVersion":1}"#,
            &" ".repeat(2 << 20),
        ] {
            assert_eq!(read(bad).unwrap_err(), Code::Decode, "{bad:.20}");
        }
        for bad in [
            r#""name":"""#,
            r#""name":"../x""#,
            r#""name":"weft","socket":"agent.sock""#,
            r#""name":"weft","queue":"a\u0000b""#,
        ] {
            let config = format!(r#"{{"cniVersion":"1.1.0",{bad}}}"#);
            assert_eq!(read(&config).unwrap_err(), Code::InvalidConfig, "{bad}");
        }
    }

    #[test]
    fn commands_are_as_old_as_their_version() {
        let old = || read(r#"{"cniVersion":"0.3.1","name":"weft"}"#).unwrap();
        let refused = old().since(Version::V0_4_0, "CHECK").unwrap_err();
        assert_eq!(refused.code, Code::IncompatibleVersion);
        assert!(refused.message.contains("CHECK"), "{refused}");
        assert!(old().since(Version::V0_3_1, "ADD").is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            drop(Config::read(&bytes[..]));
            let _ = spoken(&bytes[..]);
        }
    }
}
