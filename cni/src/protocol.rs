//! The CNI protocol: what comes in by environment and standard input, what goes out, and its error codes.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{io::Read, path::PathBuf};
use weft_api::cni::{Added, Attachment};

/// Versions of the specification that this plugin speaks.
pub(crate) const SUPPORTED: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// Longest configuration, in bytes.
const CONFIG_MAX: u64 = 1 << 20;

/// Error codes of the CNI specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    IncompatibleVersion = 1,
    UnknownContainer = 3,
    InvalidEnvironment = 4,
    Io = 5,
    Decode = 6,
    InvalidConfig = 7,
    TryAgain = 11,
    NotAvailable = 50,
    /// Plugin-specific: the agent failed.
    Agent = 100,
    /// Plugin-specific: CHECK found a difference.
    Different = 101,
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CniError {
    pub(crate) code: Code,
    pub(crate) message: String,
}

impl CniError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The JSON that goes to standard output.
    pub(crate) fn json(&self, version: &str) -> Value {
        json!({ "cniVersion": version, "code": self.code as u32, "msg": self.message })
    }
}

/// The network configuration; keys of other plugins are none of ours.
#[derive(Debug, Deserialize)]
pub(crate) struct Config {
    #[serde(rename = "cniVersion", default)]
    pub(crate) version: String,
    #[serde(default = "default_socket")]
    pub(crate) socket: PathBuf,
    pub(crate) queue: Option<PathBuf>,
    #[serde(rename = "log-file")]
    pub(crate) log_file: Option<PathBuf>,
    #[serde(rename = "prevResult")]
    pub(crate) previous: Option<Value>,
}

fn default_socket() -> PathBuf {
    PathBuf::from("/run/weft/agent.sock")
}

impl Config {
    /// Reads and checks the configuration.
    pub(crate) fn read(from: impl Read) -> Result<Self, CniError> {
        let mut bytes = Vec::new();
        from.take(CONFIG_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|e| CniError::new(Code::Io, format!("read the configuration: {e}")))?;
        if bytes.len() as u64 > CONFIG_MAX {
            let message = format!("the configuration is longer than {CONFIG_MAX} bytes");
            return Err(CniError::new(Code::Decode, message));
        }
        let config: Self = serde_json::from_slice(&bytes)
            .map_err(|e| CniError::new(Code::Decode, format!("decode the configuration: {e}")))?;
        if SUPPORTED.contains(&config.version.as_str()) {
            Ok(config)
        } else {
            let message = format!(
                "cniVersion {:?} is not supported; supported are {}",
                config.version,
                SUPPORTED.join(", ")
            );
            Err(CniError::new(Code::IncompatibleVersion, message))
        }
    }

    /// Where DELs wait while the agent is away.
    pub(crate) fn queue(&self) -> PathBuf {
        self.queue.clone().unwrap_or_else(|| self.socket.with_file_name("delete-queue"))
    }

    /// The address in the previous result, if there is one.
    pub(crate) fn previous_address(&self) -> Option<std::net::Ipv4Addr> {
        let address = self.previous.as_ref()?.get("ips")?.get(0)?.get("address")?.as_str()?;
        address.split('/').next()?.parse().ok()
    }
}

/// A variable of the environment, or the error that it is missing.
pub(crate) fn variable(name: &str) -> Result<String, CniError> {
    std::env::var(name)
        .ok()
        .filter(|value| !value.is_empty())
        .ok_or_else(|| CniError::new(Code::InvalidEnvironment, format!("{name} is not set")))
}

/// The attachment that the environment names. Its parts become file names, so they are checked.
pub(crate) fn attachment() -> Result<Attachment, CniError> {
    let (container_id, interface) = (variable("CNI_CONTAINERID")?, variable("CNI_IFNAME")?);
    let shaped = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    if !shaped(&container_id) || container_id.len() > 200 {
        let message = format!("CNI_CONTAINERID {container_id:?} is not a container id");
        return Err(CniError::new(Code::InvalidEnvironment, message));
    }
    if !shaped(&interface) || interface.len() > 15 {
        let message = format!("CNI_IFNAME {interface:?} is not an interface name");
        return Err(CniError::new(Code::InvalidEnvironment, message));
    }
    Ok(Attachment { container_id, interface })
}

/// A key of `CNI_ARGS` (`K=V;K=V`).
pub(crate) fn argument(name: &str) -> Result<String, CniError> {
    let arguments = std::env::var("CNI_ARGS").unwrap_or_default();
    arguments
        .split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, value)| *key == name && !value.is_empty())
        .map(|(_, value)| value.to_owned())
        .ok_or_else(|| {
            CniError::new(Code::InvalidEnvironment, format!("CNI_ARGS does not have {name}"))
        })
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a str,
    mac: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<&'a str>,
}

/// ADD's result in the version that was asked for.
pub(crate) fn result(added: &Added, attachment: &Attachment, netns: &str, version: &str) -> Value {
    let mtu = (version == "1.1.0").then_some(added.mtu);
    let interfaces = [
        Interface { name: &added.host_interface, mac: &added.host_mac, mtu, sandbox: None },
        Interface { name: &attachment.interface, mac: &added.mac, mtu, sandbox: Some(netns) },
    ];
    let cidr = format!("{}/32", added.address);
    let address = if version.starts_with("0.") {
        json!({ "version": "4", "address": cidr, "gateway": added.gateway, "interface": 1 })
    } else {
        json!({ "address": cidr, "gateway": added.gateway, "interface": 1 })
    };
    json!({
        "cniVersion": version,
        "interfaces": interfaces,
        "ips": [address],
        "routes": [{ "dst": "0.0.0.0/0", "gw": added.gateway }],
        "dns": {},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        let read = |text: &str| Config::read(text.as_bytes()).map_err(|e| e.code);
        assert!(read(r#"{"cniVersion":"1.1.0","name":"weft","type":"weft-cni"}"#).is_ok());
        assert_eq!(read(r#"{"cniVersion":"9.0.0"}"#).err(), Some(Code::IncompatibleVersion));
        assert_eq!(read("{").err(), Some(Code::Decode));
        assert_eq!(read("").err(), Some(Code::Decode));
        assert_eq!(read(&" ".repeat(2 << 20)).err(), Some(Code::Decode));
    }
}
