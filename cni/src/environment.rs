//! What a runtime says by environment.

use crate::error::{CniError, Code};
use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};
use weft_api::cni::Attachment;

/// Longest container id. Runtimes use 64 hexadecimal digits; ours becomes a part of a file name.
const CONTAINER_ID_MAX: usize = 200;
/// Longest name of an interface (`IFNAMSIZ` without its zero byte).
const INTERFACE_MAX: usize = 15;
/// Keys of `CNI_ARGS` that container runtimes send for Kubernetes.
const KNOWN_ARGUMENTS: [&str; 5] = [
    "IgnoreUnknown",
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_UID",
    "K8S_POD_INFRA_CONTAINER_ID",
];

/// The variables of one call.
#[derive(Debug, Default)]
pub struct Environment(BTreeMap<String, OsString>);

/// The pod that ADD is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Environment {
    /// From a process's variables; those whose names are not UTF-8 are none of CNI's.
    pub fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let named = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value));
        Self(variables.into_iter().filter_map(named).collect())
    }

    /// A variable that is set and not empty.
    fn get(&self, name: &str) -> Result<Option<&str>, CniError> {
        let Some(value) = self.0.get(name).filter(|value| !value.is_empty()) else {
            return Ok(None);
        };
        let text = value.to_str().ok_or_else(|| invalid(format!("{name} {value:?} is not UTF-8")));
        text.map(Some)
    }

    /// Variables that must all be set; those that are missing are named together.
    fn required<const N: usize>(&self, names: [&str; N]) -> Result<[&str; N], CniError> {
        let mut missing = Vec::new();
        let mut values = [""; N];
        for (slot, name) in values.iter_mut().zip(names) {
            match self.get(name)? {
                Some(value) => *slot = value,
                None => missing.push(name),
            }
        }
        if missing.is_empty() {
            return Ok(values);
        }
        Err(invalid(format!("set {}: required and missing", missing.join(", "))))
    }

    /// What is to be done; one that cannot be read is none that is known.
    pub fn command(&self) -> Option<String> {
        let command = self.0.get("CNI_COMMAND").filter(|command| !command.is_empty());
        command.map(|command| command.to_string_lossy().into_owned())
    }

    /// The attachment.
    pub(crate) fn attachment(&self) -> Result<Attachment, CniError> {
        let [id, interface] = self.required(["CNI_CONTAINERID", "CNI_IFNAME"])?;
        attachment(id, interface)
    }

    /// The attachment and the network namespace.
    pub(crate) fn attached(&self) -> Result<(Attachment, PathBuf), CniError> {
        let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
        let [id, netns, interface] = self.required(names)?;
        Ok((attachment(id, interface)?, netns.into()))
    }

    /// Whether the plugin's own network namespace may be plugged.
    pub(crate) fn may_be_own_netns(&self) -> Result<bool, CniError> {
        self.get("CNI_NETNS_OVERRIDE")?
            .map_or(Ok(false), |text| boolean("CNI_NETNS_OVERRIDE", text))
    }

    /// The pod of `CNI_ARGS`. Others' arguments are an error unless the caller says that they may be unknown.
    pub(crate) fn pod(&self) -> Result<Pod, CniError> {
        let arguments = arguments(self.get("CNI_ARGS")?.unwrap_or_default())?;
        let ignore = arguments.get("IgnoreUnknown");
        if !ignore.map_or(Ok(false), |text| boolean("IgnoreUnknown of CNI_ARGS", text))? {
            let unknown = arguments.keys().find(|key| !KNOWN_ARGUMENTS.contains(key));
            if let Some(key) = unknown {
                let message = format!("CNI_ARGS has {key}, unknown here; add IgnoreUnknown=1");
                return Err(invalid(message));
            }
        }
        let named = |key: &str| {
            let value = arguments.get(key).filter(|value| !value.is_empty());
            value.map(|value| (*value).to_owned()).ok_or_else(|| {
                invalid(format!("CNI_ARGS has no {key}: which pod is to be plugged?"))
            })
        };
        Ok(Pod { namespace: named("K8S_POD_NAMESPACE")?, name: named("K8S_POD_NAME")? })
    }
}

/// One attachment, checked as `libcni` checks it.
pub(crate) fn attachment(id: &str, interface: &str) -> Result<Attachment, CniError> {
    let shaped = id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && id.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if !shaped || id.len() > CONTAINER_ID_MAX {
        return Err(invalid(format!(
            "CNI_CONTAINERID {id:?} is none: a letter or digit, then letters, digits, _ . -, at most {CONTAINER_ID_MAX}"
        )));
    }
    let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if interface.is_empty()
        || interface.len() > INTERFACE_MAX
        || matches!(interface, "." | "..")
        || interface.contains(odd)
    {
        return Err(invalid(format!(
            "CNI_IFNAME {interface:?} is none: at most {INTERFACE_MAX} bytes, no / : or space"
        )));
    }
    Ok(Attachment { container_id: id.to_owned(), interface: interface.to_owned() })
}

/// `K=V;K=V`; of two with one key the later counts.
fn arguments(text: &str) -> Result<BTreeMap<&str, &str>, CniError> {
    let pairs = text.split(';').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            pair.split_once('=')
                .ok_or_else(|| invalid(format!("CNI_ARGS: {pair:?} is not KEY=VALUE")))
        })
        .collect()
}

fn boolean(what: &str, text: &str) -> Result<bool, CniError> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(invalid(format!("{what} is {text:?}: 1, true, 0 or false"))),
    }
}

fn invalid(message: String) -> CniError {
    CniError::new(Code::InvalidEnvironment, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(variables: &[(&str, &str)]) -> Environment {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).into());
        Environment(variables.iter().map(owned).collect())
    }

    fn pod(arguments: &str) -> Result<Pod, String> {
        of(&[("CNI_ARGS", arguments)]).pod().map_err(|error| {
            assert_eq!(error.code, Code::InvalidEnvironment);
            error.message
        })
    }

    #[test]
    fn everything_that_is_missing_is_named_at_once() {
        let error = of(&[("CNI_NETNS", "")]).attached().unwrap_err();
        assert_eq!(error.code, Code::InvalidEnvironment);
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
            assert!(error.message.contains(name), "{error}");
        }
    }

    #[test]
    fn the_pod_is_found_among_what_runtimes_send() {
        let web = Pod { namespace: "shop".to_owned(), name: "web-0".to_owned() };
        let containerd = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;\
                          K8S_POD_INFRA_CONTAINER_ID=c0ffee;K8S_POD_UID=d7b";
        assert_eq!(pod(containerd), Ok(web));
        assert!(pod("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=").unwrap_err().contains("K8S_POD_NAME"));
        assert!(pod("").unwrap_err().contains("K8S_POD_NAMESPACE"));
        assert!(pod("K8S_POD_NAME").unwrap_err().contains("KEY=VALUE"));
    }

    #[test]
    fn what_is_unknown_is_an_error_unless_it_may_be() {
        let asked = "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;MAC=02:00:00:00:00:01";
        assert!(pod(asked).unwrap_err().contains("MAC"));
        assert!(pod(&format!("{asked};IgnoreUnknown=TRUE")).is_ok());
        assert!(pod(&format!("IgnoreUnknown=0;{asked}")).unwrap_err().contains("MAC"));
        assert!(pod(&format!("IgnoreUnknown=yes;{asked}")).unwrap_err().contains("yes"));
    }

    #[test]
    fn names_are_checked_as_libcni_does() {
        for (id, interface) in [("c0ffee", "eth0"), ("a_b.c-d", "net1@x"), ("0", "fünfzehn_bytes")]
        {
            assert!(attachment(id, interface).is_ok(), "{id} {interface}");
        }
        for (id, interface) in [
            ("", "eth0"),
            ("-a", "eth0"),
            ("../a", "eth0"),
            ("a/b", "eth0"),
            ("a", ""),
            ("a", ".."),
            ("a", "a/b"),
            ("a", "a b"),
            ("a", "a:b"),
            ("a", "sixteen_bytes_aa"),
        ] {
            assert!(attachment(id, interface).is_err(), "{id} {interface}");
        }
        assert!(attachment(&"a".repeat(201), "eth0").is_err());
    }

    proptest! {
        #[test]
        fn no_arguments_make_it_fail_otherwise(text in "(K8S_POD_NAME|IgnoreUnknown|[a-z;=]|.){0,12}") {
            drop(pod(&text));
        }
    }
}
