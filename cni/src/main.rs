//! `weft-cni`: the CNI plugin. It hands the runtime's calls to the node agent, which does the work.

mod calls;
mod config;
mod environment;
mod error;
mod log;
mod netns;
mod queue;
mod result;
mod version;

use config::Config;
use environment::Environment;
use error::{CniError, Code};
use serde_json::{Value, json};
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};
use version::Version;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "--version" || word == "-V") {
        return match io::stdout().write_all(about().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let environment = Environment::of_process();
    let Some(command) = environment.command() else {
        // Without a command it says what it is, as the specification wants; a closed stderr is no failure.
        let _ = io::stderr().write_all(about().as_bytes());
        return ExitCode::SUCCESS;
    };
    let (output, code) = match run(&command, &environment) {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err((version, error)) => (Some(error.json(version)), ExitCode::FAILURE),
    };
    if let Some(output) = output
        && writeln!(io::stdout(), "{output}").is_err()
    {
        return ExitCode::FAILURE;
    }
    code
}

fn about() -> String {
    let (version, commit, api) =
        (env!("CARGO_PKG_VERSION"), weft_api::COMMIT, weft_api::API_VERSION);
    let spoken = Version::ALL.map(Version::as_str).join(", ");
    format!("weft-cni {version} (commit {commit}, local API {api}), CNI {spoken}\n")
}

/// Does a command; an error goes with the version to answer in.
fn run(command: &str, environment: &Environment) -> Result<Option<Value>, (Version, CniError)> {
    if command == "VERSION" {
        return Ok(Some(versions()));
    }
    let config = Config::read(io::stdin());
    let known = config.as_ref().ok();
    let version = known.map_or(Version::NEWEST, |config| config.version);
    let log = known.and_then(|config| config.log_file.clone());
    let done = dispatch(command, environment, config);
    let failure = done.as_ref().err().map(ToString::to_string);
    log::call().end(log.as_deref(), command, failure.as_deref());
    done.map_err(|error| (version, error))
}

/// What is wrong with the environment is said before what is wrong with the configuration, as the reference
/// plugins do.
fn dispatch(
    command: &str,
    environment: &Environment,
    config: Result<Config, CniError>,
) -> Result<Option<Value>, CniError> {
    match command {
        "ADD" => {
            let (attachment, netns) = environment.attached()?;
            calls::add(&config?, environment, attachment, netns).map(Some)
        }
        "DEL" => {
            let attachment = environment.attachment()?;
            calls::delete(&config?, attachment).map(|()| None)
        }
        "CHECK" => {
            let (attachment, netns) = environment.attached()?;
            let config = config?.since(Version::V0_4_0, command)?;
            calls::check(&config, environment, attachment, netns).map(|()| None)
        }
        "STATUS" => calls::status(&config?.since(Version::V1_1_0, command)?).map(|()| None),
        "GC" => calls::collect(&config?.since(Version::V1_1_0, command)?).map(|()| None),
        other => Err(CniError::new(
            Code::InvalidEnvironment,
            format!("CNI_COMMAND {other:?} is not ADD, DEL, CHECK, STATUS, GC or VERSION"),
        )),
    }
}

/// The answer to VERSION, in the version that the runtime speaks where it says one. Who asks by hand is not waited for.
fn versions() -> Value {
    let asked = if io::stdin().is_terminal() { None } else { config::spoken(io::stdin()) };
    json!({
        "cniVersion": asked.unwrap_or(Version::NEWEST).as_str(),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
}
