//! The CNI plugin: what a runtime says, made a request to the node agent, and its answer made the runtime's.
//!
//! [`run`] is one call. What it does beside reading and answering goes through [`Node`].

mod calls;
mod config;
mod environment;
mod error;
mod log;
mod netns;
mod node;
mod queue;
mod result;
mod version;

pub use environment::Environment;
pub use node::{Node, RealNode};

use config::Config;
use error::{CniError, Code};
use serde_json::{Value, json};
use std::io::Read;
use version::Version;

/// What this program is and speaks, for people.
pub fn about() -> String {
    let (version, commit, api) =
        (env!("CARGO_PKG_VERSION"), weft_api::COMMIT, weft_api::API_VERSION);
    let spoken = Version::ALL.map(Version::as_str).join(", ");
    format!("weft-cni {version} (commit {commit}, local API {api}), CNI {spoken}\n")
}

/// Does a command with what a runtime says on standard input. What is to be printed: a result where the command has
/// one, or an error in the version that was asked for.
pub fn run(
    command: &str,
    environment: &Environment,
    stdin: impl Read,
    node: &impl Node,
) -> Result<Option<Value>, Value> {
    if command == "VERSION" {
        return Ok(Some(versions(stdin)));
    }
    let config = Config::read(stdin);
    let known = config.as_ref().ok();
    let version = known.map_or(Version::NEWEST, |config| config.version);
    let log = known.and_then(|config| config.log_file.clone());
    let done = dispatch(command, environment, config, node);
    if let Some(log) = log {
        let failure = done.as_ref().err().map(ToString::to_string);
        node.log(&log, command, failure.as_deref());
    }
    done.map_err(|error| error.json(version))
}

/// What is wrong with the environment is said before what is wrong with the configuration, as the reference
/// plugins do.
fn dispatch(
    command: &str,
    environment: &Environment,
    config: Result<Config, CniError>,
    node: &impl Node,
) -> Result<Option<Value>, CniError> {
    match command {
        "ADD" => {
            let (attachment, netns) = environment.attached()?;
            calls::add(node, &config?, environment, attachment, netns).map(Some)
        }
        "DEL" => {
            let attachment = environment.attachment()?;
            calls::delete(node, &config?, attachment).map(|()| None)
        }
        "CHECK" => {
            let (attachment, netns) = environment.attached()?;
            let config = config?.since(Version::V0_4_0, command)?;
            calls::check(node, &config, environment, attachment, netns).map(|()| None)
        }
        "STATUS" => calls::status(node, &config?.since(Version::V1_1_0, command)?).map(|()| None),
        "GC" => calls::collect(node, &config?.since(Version::V1_1_0, command)?).map(|()| None),
        other => Err(CniError::new(
            Code::InvalidEnvironment,
            format!("CNI_COMMAND {other:?} is not ADD, DEL, CHECK, STATUS, GC or VERSION"),
        )),
    }
}

/// The answer to VERSION, in the version that the runtime speaks where it says one.
fn versions(stdin: impl Read) -> Value {
    json!({
        "cniVersion": config::spoken(stdin).unwrap_or(Version::NEWEST).as_str(),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
}
