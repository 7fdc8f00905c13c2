//! `weft-cni`: the CNI plugin. It hands the runtime's calls to the node agent, which does the work.

mod log;
mod protocol;

use protocol::{CniError, Code, Config, SUPPORTED, argument, attachment, result, variable};
use serde_json::{Value, json};
use std::{
    fs,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};
use weft_api::{
    FailureKind,
    agent::{Answer, Request},
    cni::{Add, Attachment, Check},
    transport::{CallError, Client, Options},
};

/// How long the agent may take for one call; kubelet gives a sandbox four minutes.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == "--version" || word == "-V") {
        return match io::stdout().write_all(about().as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let Ok(command) = std::env::var("CNI_COMMAND") else {
        let about = about();
        // Without a command it says what it is, as the specification wants; a closed stderr is no failure.
        let _ = io::stderr().write_all(about.as_bytes());
        return ExitCode::SUCCESS;
    };
    let (output, code) = match run(&command) {
        Ok(output) => (output, ExitCode::SUCCESS),
        Err((version, error)) => (Some(error.json(&version)), ExitCode::FAILURE),
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
    let spoken = SUPPORTED.join(", ");
    format!("weft-cni {version} (commit {commit}, local API {api}), CNI {spoken}\n")
}

/// Does a command; an error goes with the version to answer in.
fn run(command: &str) -> Result<Option<Value>, (String, CniError)> {
    let newest = || SUPPORTED.last().copied().unwrap_or_default().to_owned();
    if command == "VERSION" {
        return Ok(Some(json!({ "cniVersion": newest(), "supportedVersions": SUPPORTED })));
    }
    let config = Config::read(io::stdin()).map_err(|error| (newest(), error))?;
    let done = match command {
        "ADD" => add(&config).map(Some),
        "DEL" => delete(&config).map(|()| None),
        "CHECK" => check(&config).map(|()| None),
        "STATUS" => status(&config).map(|()| None),
        other => Err(CniError::new(
            Code::InvalidEnvironment,
            format!("CNI_COMMAND {other:?} is not ADD, DEL, CHECK, STATUS or VERSION"),
        )),
    };
    let failure = done.as_ref().err().map(ToString::to_string);
    log::call().end(config.log_file.as_deref(), command, failure.as_deref());
    done.map_err(|error| (config.version.clone(), error))
}

fn add(config: &Config) -> Result<Value, CniError> {
    let (attachment, netns) = (attachment()?, variable("CNI_NETNS")?);
    let request = Request::CniAdd(Add {
        attachment: attachment.clone(),
        netns: netns.clone(),
        pod_namespace: argument("K8S_POD_NAMESPACE")?,
        pod_name: argument("K8S_POD_NAME")?,
    });
    match ask(config, request).map_err(|e| failed("ADD", &e))? {
        Answer::Added(added) => Ok(result(&added, &attachment, &netns, &config.version)),
        other => Err(CniError::new(Code::Agent, format!("the agent answered ADD with {other:?}"))),
    }
}

/// DEL succeeds while the agent is away: it is written down and done when the agent is back.
fn delete(config: &Config) -> Result<(), CniError> {
    let attachment = attachment()?;
    match ask(config, Request::CniDelete(attachment.clone())) {
        Ok(_) => Ok(()),
        Err(CallError::Failed(failure)) => Err(CniError::new(Code::Agent, failure.message)),
        Err(_) => enqueue(config, &attachment)
            .map_err(|e| CniError::new(Code::Io, format!("queue DEL for the agent: {e}"))),
    }
}

fn enqueue(config: &Config, attachment: &Attachment) -> io::Result<()> {
    let folder = config.queue();
    fs::create_dir_all(&folder)?;
    let name = format!("{}-{}.json", attachment.container_id, attachment.interface);
    let new = folder.join(format!("{name}.tmp"));
    let mut file = fs::File::create(&new)?;
    file.write_all(&serde_json::to_vec(attachment)?)?;
    file.sync_all()?;
    fs::rename(new, folder.join(name))
}

fn check(config: &Config) -> Result<(), CniError> {
    let (attachment, netns) = (attachment()?, variable("CNI_NETNS")?);
    let address = config.previous_address();
    let request = Request::CniCheck(Check { attachment, netns, address });
    ask(config, request).map(drop).map_err(|error| match error {
        CallError::Failed(f) if f.kind == FailureKind::Refused => {
            CniError::new(Code::Different, f.message)
        }
        other => failed("CHECK", &other),
    })
}

fn status(config: &Config) -> Result<(), CniError> {
    ask(config, Request::CniStatus)
        .map(drop)
        .map_err(|error| CniError::new(Code::NotAvailable, error.to_string()))
}

fn ask(config: &Config, request: Request) -> Result<Answer, CallError> {
    let options = Options { traceparent: Some(log::call().context), ..Options::within(PATIENCE) };
    Client::connect(&config.socket, PATIENCE)?.call(request, options)
}

fn failed(command: &str, error: &CallError) -> CniError {
    let code = match error {
        CallError::Unreachable { .. } | CallError::Broken { .. } => Code::TryAgain,
        CallError::Failed(failure) => match failure.kind {
            FailureKind::TryAgain => Code::TryAgain,
            FailureKind::NotFound => Code::UnknownContainer,
            FailureKind::Invalid => Code::InvalidConfig,
            FailureKind::Refused | FailureKind::Internal => Code::Agent,
        },
    };
    CniError::new(code, format!("{command}: {error}"))
}
