//! The calls: what a runtime wants, asked of the agent.

use crate::{
    config::Config,
    environment::{Environment, attachment},
    error::{CniError, Code},
    node::Node,
    result::Previous,
};
use serde_json::Value;
use std::path::PathBuf;
use weft_api::{
    FailureKind,
    agent::{Answer, Request},
    cni::{Add, Attachment, Check, Collect},
    transport::CallError,
};

/// ADD.
pub(crate) fn add(
    node: &impl Node,
    config: &Config,
    environment: &Environment,
    attachment: Attachment,
    netns: PathBuf,
) -> Result<Value, CniError> {
    let pod = environment.pod()?;
    let own = environment.may_be_own_netns()?;
    node.check_netns(&netns, own).map_err(|why| CniError::new(Code::InvalidNetns, why))?;
    let previous = Previous::read(config)?;
    let netns = text(netns)?;
    let adopt = previous.as_ref().map(|it| it.adopted(&attachment.interface, &netns));
    let adopt = adopt.transpose()?.flatten();
    let request = Request::CniAdd(Add {
        attachment: attachment.clone(),
        netns: netns.clone(),
        pod_namespace: pod.namespace,
        pod_name: pod.name,
        network: Some(config.name.clone()),
        adopt,
    });
    match node.ask(&config.socket, request).map_err(|error| failed("ADD", &error))? {
        Answer::Added(added) => {
            let previous = previous.unwrap_or_default();
            Ok(match adopt {
                Some(_) => previous.with_a_link_taken_over(config.version),
                None => previous.with(&added, &attachment.interface, &netns, config.version),
            })
        }
        other => Err(CniError::new(Code::Agent, format!("the agent answered ADD with {other:?}"))),
    }
}

/// DEL succeeds while the agent is away, or cannot do it now: it is written down and done when it can.
pub(crate) fn delete(
    node: &impl Node,
    config: &Config,
    attachment: Attachment,
) -> Result<(), CniError> {
    match node.ask(&config.socket, Request::CniDelete(attachment.clone())) {
        Ok(_) => Ok(()),
        Err(CallError::Failed(failure)) if failure.kind != FailureKind::TryAgain => {
            Err(CniError::new(Code::Agent, format!("DEL: {failure}")))
        }
        Err(why) => node.leave(&config.queue, &attachment).map_err(|error| {
            let folder = config.queue.display();
            CniError::new(Code::Io, format!("DEL: {why}; leave it in {folder}: {error}"))
        }),
    }
}

/// CHECK.
pub(crate) fn check(
    node: &impl Node,
    config: &Config,
    environment: &Environment,
    attachment: Attachment,
    netns: PathBuf,
) -> Result<(), CniError> {
    let previous = Previous::read(config)?.ok_or_else(|| {
        CniError::new(Code::InvalidConfig, "CHECK: prevResult is missing: what is to be checked?")
    })?;
    let own = environment.may_be_own_netns()?;
    node.check_netns(&netns, own).map_err(|why| CniError::new(Code::InvalidNetns, why))?;
    let netns = text(netns)?;
    let addresses = previous.addresses(&attachment.interface, &netns).map_err(|what| {
        let (name, message) = (&attachment.interface, "CHECK: prevResult has no");
        CniError::new(Code::Different, format!("{message} {what} {name} in {netns}"))
    })?;
    let request = Request::CniCheck(Check { attachment, netns, addresses });
    node.ask(&config.socket, request).map(drop).map_err(|error| match error {
        CallError::Failed(f) if f.kind == FailureKind::Refused => {
            CniError::new(Code::Different, format!("CHECK: {f}"))
        }
        other => failed("CHECK", &other),
    })
}

/// STATUS: would an ADD succeed?
pub(crate) fn status(node: &impl Node, config: &Config) -> Result<(), CniError> {
    node.ask(&config.socket, Request::CniStatus).map(drop).map_err(|error| {
        let code = match &error {
            CallError::Failed(failure) if failure.kind != FailureKind::TryAgain => Code::Limited,
            // Pods that are plugged need no agent.
            _ => Code::NotAvailable,
        };
        CniError::new(code, format!("STATUS: {error}"))
    })
}

/// GC: the agent forgets attachments of this network that the runtime does not have.
pub(crate) fn collect(node: &impl Node, config: &Config) -> Result<(), CniError> {
    let valid = config.valid.iter().map(|valid| {
        attachment(&valid.container_id, &valid.interface).map_err(|error| {
            let message = format!("cni.dev/valid-attachments: {error}");
            CniError::new(Code::InvalidConfig, message)
        })
    });
    let valid = valid.collect::<Result<_, _>>()?;
    let request = Request::CniCollect(Collect { network: config.name.clone(), valid });
    node.ask(&config.socket, request).map(drop).map_err(|error| failed("GC", &error))
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

fn text(netns: PathBuf) -> Result<String, CniError> {
    netns.into_os_string().into_string().map_err(|netns| {
        CniError::new(Code::InvalidEnvironment, format!("CNI_NETNS {netns:?} is not UTF-8"))
    })
}
