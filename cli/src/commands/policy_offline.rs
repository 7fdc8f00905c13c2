//! What `policy matrix` and `policy explain` share: manifests judged offline, endpoints and ports by name.

use crate::{
    lab::{
        desired,
        record::{self, Lab},
    },
    manifests::{self, Labels},
    output::{Usage, alike},
    port::{Port, PortProtocol},
};
use anyhow::{Result, bail};
use ipnet::Ipv4Net;
use std::{collections::BTreeSet, net::Ipv4Addr, path::PathBuf, str::FromStr};
use weft_core::policy::offline::{Answer, Offline, Question, Side};
use weft_types::{Object, object::Pod};

/// What every offline command can be told.
#[derive(clap::Args)]
pub(crate) struct Cluster {
    /// A file, a folder of them, or `-` for standard input; may be given more than once.
    #[arg(short = 'f', long = "filename", required_unless_present = "lab", num_args = 1.., value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Judge what a running lab has, at the addresses that its pods have; what manifests say is added to that, or
    /// takes its place.
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
    #[command(flatten)]
    labels: Labels,
    /// An address outside the cluster, by a name of your choice; may be given more than once.
    #[arg(long = "external", value_name = "NAME=IP")]
    externals: Vec<External>,
}

/// `NAME=IP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct External {
    name: String,
    address: Ipv4Addr,
}

impl FromStr for External {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || format!("{text:?} is not NAME=IP, such as dns=8.8.8.8");
        let (name, address) = text.split_once('=').ok_or_else(wanted)?;
        let address = address.parse().map_err(|_| wanted())?;
        if name.is_empty() { Err(wanted()) } else { Ok(Self { name: name.to_owned(), address }) }
    }
}

/// Someone that rows name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// `namespace/name`, `node:NAME` or `ext:NAME`.
    pub(crate) name: String,
    /// Its address.
    pub(crate) address: Ipv4Addr,
    /// Where that is from.
    pub(crate) origin: Origin,
    /// Ports that it declares; none for what is no pod.
    pub(crate) ports: BTreeSet<Port>,
}

/// Where an address is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    /// The manifests, a lab or the caller.
    Given,
    /// No cluster has given the pod one: one of those that it might have.
    Assumed,
}

/// Manifests, ready to be asked.
pub(crate) struct Judge {
    pub(crate) cluster: Offline,
    /// Pods, then nodes, then addresses outside, each by name.
    pub(crate) endpoints: Vec<Endpoint>,
}

/// What a running lab has.
pub(crate) fn judge_lab(lab: &Lab) -> Result<Judge> {
    let lab = Some(lab.name.clone());
    let labels = Labels::default();
    Cluster { files: Vec::new(), lab, labels, externals: Vec::new() }.judge()
}

impl Cluster {
    /// Reads the manifests.
    pub(crate) fn judge(&self) -> Result<Judge> {
        let lab = self.lab.as_deref().map(|name| record::find(Some(name))).transpose()?;
        let own = lab.as_ref().map(Lab::filter).transpose()?;
        let filter = self.labels.or(own.unwrap_or_default());
        let mut manifests = manifests::read(&self.files, &filter)?;
        if let Some(lab) = &lab {
            desired::beside(lab, &mut manifests)?;
        }
        let addresses = weft_manifests::addresses(&manifests.objects);
        let cluster = Offline::new(&manifests.objects, &addresses, &filter);
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for pod in pods_of(&manifests.objects) {
            let Some(endpoint) = cluster.pods().get(&pod.name) else { continue };
            let port = |port: &weft_types::workload::ContainerPort| Port {
                protocol: PortProtocol::Transport(port.protocol),
                number: port.port,
            };
            endpoints.push(Endpoint {
                name: pod.name.to_string(),
                address: endpoint.address,
                origin: pod.address.map_or(Origin::Assumed, |_| Origin::Given),
                ports: pod.ports.iter().map(port).collect(),
            });
        }
        endpoints.sort();
        endpoints.extend(cluster.nodes().values().map(|node| Endpoint {
            name: format!("node:{}", node.name),
            address: node.address,
            origin: Origin::Given,
            ports: BTreeSet::new(),
        }));
        for external in &self.externals {
            self.check_external(external, &endpoints)?;
            endpoints.push(Endpoint {
                name: format!("ext:{}", external.name),
                address: external.address,
                origin: Origin::Given,
                ports: BTreeSet::new(),
            });
        }
        Ok(Judge { cluster, endpoints })
    }

    fn check_external(&self, external: &External, endpoints: &[Endpoint]) -> Result<()> {
        let name = format!("ext:{}", external.name);
        for known in endpoints {
            if known.name == name {
                let problem = format!("--external {}: the name is given twice", external.name);
                return Err(Usage(problem).into());
            }
            if known.address == external.address && !known.name.starts_with("ext:") {
                bail!(
                    "--external {}={}: that is the address of {}; leave it out, it is a row already",
                    external.name,
                    external.address,
                    known.name
                );
            }
        }
        Ok(())
    }
}

impl Judge {
    /// What the fabric does with a connection.
    pub(crate) fn ask(&self, from: Ipv4Addr, to: Ipv4Addr, port: Port) -> Answer {
        self.cluster.judge(&question(from, to, port))
    }

    /// Every port that some pod declares.
    pub(crate) fn declared(&self) -> BTreeSet<Port> {
        self.endpoints.iter().flat_map(|endpoint| endpoint.ports.iter().copied()).collect()
    }

    /// Whom a text means: `namespace/name`, `node:NAME`, `ext:NAME`, an address or a CIDR.
    pub(crate) fn find(&self, text: &str) -> Result<Whom> {
        if let Some(endpoint) = self.endpoints.iter().find(|endpoint| endpoint.name == text) {
            return Ok(Whom::One(endpoint.clone()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(self.at(address));
        }
        if let Ok(block) = text.parse::<Ipv4Net>() {
            return Ok(match block.prefix_len() {
                32 => self.at(block.addr()),
                _ => Whom::Block(block.trunc()),
            });
        }
        let known = alike(text, self.endpoints.iter().map(|endpoint| endpoint.name.as_str()));
        bail!(
            "find {text:?}: it is no pod, node: or ext: that is known here, no IPv4 address and no CIDR; {known}"
        )
    }

    /// The endpoint that has an address, or the address itself.
    pub(crate) fn at(&self, address: Ipv4Addr) -> Whom {
        let named = self.endpoints.iter().find(|endpoint| endpoint.address == address);
        Whom::One(named.cloned().unwrap_or_else(|| Endpoint {
            name: address.to_string(),
            address,
            origin: Origin::Given,
            ports: BTreeSet::new(),
        }))
    }
}

/// An endpoint, or all addresses of a block.
pub(crate) enum Whom {
    One(Endpoint),
    Block(Ipv4Net),
}

/// As the verdict crate is asked.
pub(crate) fn question(from: Ipv4Addr, to: Ipv4Addr, port: Port) -> Question {
    Question { from, to, protocol: port.protocol_number(), port: port.number }
}

/// One end's answer, for programs.
#[derive(serde::Serialize)]
pub(crate) struct SideRow {
    /// `allowed` or `denied`.
    verdict: &'static str,
    /// The rules that allow it, `namespace/policy direction[index]`.
    rules: Vec<String>,
    /// `no-pod`, `itself`, `own-node`, `open`, `rules`, `isolated` or `dropped`.
    reason: &'static str,
    /// When isolated: the policies that isolate it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    isolated_by: Vec<String>,
}

impl From<&Side> for SideRow {
    fn from(side: &Side) -> Self {
        let text = |things: &[String]| things.to_vec();
        let (reason, rules, policies) = match side {
            Side::NoPod => ("no-pod", Vec::new(), Vec::new()),
            Side::Itself => ("itself", Vec::new(), Vec::new()),
            Side::OwnNode => ("own-node", Vec::new(), Vec::new()),
            Side::Open => ("open", Vec::new(), Vec::new()),
            Side::Allowed(rules) => ("rules", strings(rules), Vec::new()),
            Side::Isolated(policies) => ("isolated", Vec::new(), strings(policies)),
            Side::Dropped(_) => ("dropped", Vec::new(), Vec::new()),
        };
        Self {
            verdict: verdict(side.allows()),
            rules: text(&rules),
            reason,
            isolated_by: text(&policies),
        }
    }
}

/// As rows spell it.
pub(crate) fn verdict(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

fn strings<T: ToString>(things: &[T]) -> Vec<String> {
    things.iter().map(ToString::to_string).collect()
}

fn pods_of(objects: &[Object]) -> impl Iterator<Item = &Pod> {
    objects.iter().filter_map(|object| match object {
        Object::Pod(pod) => Some(pod),
        Object::Namespace(_) | Object::Node(_) | Object::Policy(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outsiders_have_a_name_and_an_address() {
        assert!("dns=8.8.8.8".parse::<External>().is_ok());
        for bad in ["8.8.8.8", "=8.8.8.8", "dns=", "dns=x", "dns=8.8.8.0/24"] {
            assert!(bad.parse::<External>().is_err(), "{bad}");
        }
    }
}
