//! `lab.json`: what a lab is made of, written before it is made so that a crash leaves nothing unknown.

use super::{interrupt, process::ProcessId};
use crate::output::{alike, note};
use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    net::Ipv4Addr,
    ops::{Deref, DerefMut},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use weft_types::{LabelFilter, policy::Protocol, workload::ContainerPort};

/// How long a command waits for another one that changes the same lab.
const TURN: Duration = Duration::from_secs(60);

/// A lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lab {
    /// Layout of this file.
    pub(crate) version: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its operators.
    pub(crate) operators: Vec<Operator>,
    /// The members of the etcd that they share, once started; none where the store is a file.
    #[serde(default)]
    pub(crate) etcd: Vec<Option<ProcessId>>,
    /// Its nodes.
    pub(crate) nodes: Vec<Node>,
    /// Its pods.
    pub(crate) pods: Vec<Pod>,
    /// The process that answers on the pods' ports.
    pub(crate) server: Option<ProcessId>,
    /// Flags of agents and operators that say how they log.
    #[serde(default)]
    pub(crate) log_flags: Vec<String>,
    /// The patterns of labels that make identities, beside the defaults.
    #[serde(default)]
    pub(crate) labels: Vec<String>,
    /// What the environment said to agents and operators when the lab came up.
    #[serde(default)]
    pub(crate) settings: BTreeMap<String, String>,
}

/// One operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Operator {
    /// Its name.
    pub(crate) name: String,
    /// Its admin socket.
    pub(crate) admin_socket: PathBuf,
    /// Its process, once started.
    pub(crate) process: Option<ProcessId>,
}

impl Operator {
    /// How its files are called: `operator`, `operator2`.
    pub(crate) fn file(&self) -> String {
        let stem = self.admin_socket.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    }
}

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// Its InternalIP.
    pub(crate) address: Ipv4Addr,
    /// The prefix its pods' addresses are taken from.
    pub(crate) pod_cidr: ipnet::Ipv4Net,
    /// Its network namespace's name.
    pub(crate) netns: String,
    /// The socket of its agent.
    pub(crate) agent_socket: PathBuf,
    /// Where its bpffs is mounted.
    pub(crate) bpffs: PathBuf,
    /// Its agent, once started.
    pub(crate) process: Option<ProcessId>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pod {
    /// `namespace/name`.
    pub(crate) name: String,
    /// The node it is on.
    pub(crate) node: String,
    /// Its network namespace's name.
    pub(crate) netns: String,
    /// Its address, once plugged.
    pub(crate) address: Option<Ipv4Addr>,
    /// Its container id for CNI.
    pub(crate) container_id: String,
    /// The ports it declares.
    pub(crate) ports: Vec<ContainerPort>,
    /// What made it, `Deployment shop/cart`, when something did.
    #[serde(default)]
    pub(crate) controller: Option<String>,
    /// The command that it runs in place of the built-in server; empty when it runs none.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// The process of its command, once started.
    #[serde(default)]
    pub(crate) process: Option<ProcessId>,
}

impl Pod {
    /// The ports that its manifest declares, each once.
    pub(crate) fn declared(&self) -> Vec<(Protocol, u16)> {
        let mut ports: Vec<_> = self.ports.iter().map(|p| (p.protocol, p.port)).collect();
        ports.sort();
        ports.dedup();
        ports
    }
}

impl Lab {
    /// Its folder.
    pub(crate) fn dir(&self) -> PathBuf {
        dir(&self.name)
    }

    /// Which labels make identities in it.
    pub(crate) fn filter(&self) -> Result<LabelFilter> {
        let filter = LabelFilter::parse(&self.labels);
        filter.with_context(|| format!("filter labels as lab {} does", self.name))
    }

    /// The underlay's network namespace.
    pub(crate) fn underlay(&self) -> String {
        format!("weft-{}-net", self.name)
    }

    /// Every network namespace of the lab.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        let pods = self.pods.iter().map(|pod| pod.netns.clone());
        pods.chain(self.nodes.iter().map(|node| node.netns.clone()))
            .chain([self.underlay()])
            .collect()
    }

    /// A pod by `namespace/name`.
    pub(crate) fn pod(&self, name: &str) -> Result<&Pod> {
        self.pods.iter().find(|pod| pod.name == name).with_context(|| {
            let known = self.pods.iter().map(|pod| pod.name.as_str());
            format!("find pod {name} in lab {}: {}", self.name, alike(name, known))
        })
    }

    /// A node by name.
    pub(crate) fn node(&self, name: &str) -> Result<&Node> {
        self.nodes.iter().find(|node| node.name == name).with_context(|| {
            let known = self.nodes.iter().map(|node| node.name.as_str());
            format!("find node {name} in lab {}: {}", self.name, alike(name, known))
        })
    }

    /// Reads one.
    pub(crate) fn load(name: &str) -> Result<Self> {
        let path = dir(name).join("lab.json");
        let text = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => {
                anyhow!("read {}: labs are root's: run it as root, with sudo", path.display())
            }
            io::ErrorKind::NotFound if path.parent().is_some_and(Path::exists) => anyhow!(
                "lab {name} has no record: its `up` was ended at its beginning; `weft lab down --lab {name}` tidies up"
            ),
            _ => {
                let what = format!("read {}: is lab {name} up? see `weft lab list`", path.display());
                anyhow::Error::new(error).context(what)
            }
        })?;
        serde_json::from_slice(&text).with_context(|| {
            format!(
                "understand {}, a lab of another version? `weft lab down --lab {name}` takes it down",
                path.display()
            )
        })
    }
}

/// A lab, and the right to change it, which one command at a time has.
pub(crate) struct Held {
    lab: Lab,
    /// Locked; the kernel lets go of it however this process ends.
    _lock: File,
}

impl Deref for Held {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Lab {
        &mut self.lab
    }
}

impl Held {
    /// A new lab, of which so far only the folder is there.
    pub(crate) fn found(lab: Lab) -> Result<Self> {
        let dir = lab.dir();
        fs::create_dir_all(root()).with_context(|| format!("make {}", root().display()))?;
        match DirBuilder::new().mode(0o700).create(&dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let name = &lab.name;
                bail!(
                    "there is a lab {name} already: change it with `weft lab apply --lab {name} -f FILE`, or take it \
                     down with `weft lab down --lab {name}`"
                )
            }
            made => made.with_context(|| format!("make {}", dir.display()))?,
        }
        let held = Self { _lock: turn(&lab.name)?, lab };
        held.save()?;
        Ok(held)
    }

    /// A lab as it is once nobody else changes it.
    pub(crate) fn of(name: Option<&str>) -> Result<Self> {
        let name = find(name)?.name;
        let lock = turn(&name)?;
        Ok(Self { lab: Lab::load(&name)?, _lock: lock })
    }

    /// Writes the record whole or not at all.
    pub(crate) fn save(&self) -> Result<()> {
        let path = self.dir().join("lab.json");
        let draft = self.dir().join("lab.json.tmp");
        fs::write(&draft, serde_json::to_vec_pretty(&self.lab)?)
            .and_then(|()| fs::rename(&draft, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Lets others change the lab.
    pub(crate) fn release(self) -> Lab {
        self.lab
    }
}

/// Waits for the right to change a lab.
pub(crate) fn turn(name: &str) -> Result<File> {
    let path = dir(name).join("lock");
    let until = Instant::now() + TURN;
    let mut said = false;
    loop {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = file.with_context(|| format!("open {}: is lab {name} up?", path.display()))?;
        match file.try_lock() {
            // Between the two the lab may have gone, and another of its name come.
            Ok(()) if fs::metadata(&path).is_ok_and(|at| is_same(&at, &file)) => return Ok(file),
            Ok(()) => continue,
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", path.display()));
            }
            Err(TryLockError::WouldBlock) => {}
        }
        if !said {
            note!("waiting for another command that changes lab {name}");
            said = true;
        }
        interrupt::check()?;
        anyhow::ensure!(
            Instant::now() < until,
            "change lab {name}: another command has been changing it for {} s; see `fuser {}`",
            TURN.as_secs(),
            path.display()
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn is_same(at: &fs::Metadata, file: &File) -> bool {
    file.metadata().is_ok_and(|open| (open.dev(), open.ino()) == (at.dev(), at.ino()))
}

/// Where labs live; `WEFT_LAB_ROOT` moves it.
pub(crate) fn root() -> PathBuf {
    std::env::var_os("WEFT_LAB_ROOT").map_or_else(|| "/run/weft/labs".into(), PathBuf::from)
}

/// The folder of a lab.
pub(crate) fn dir(name: &str) -> PathBuf {
    root().join(name)
}

/// The names of all labs, sorted.
pub(crate) fn names() -> Result<Vec<String>> {
    let entries = match fs::read_dir(root()) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("list {}", root().display())),
    };
    let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| checked(name).is_ok()).collect();
    names.sort();
    Ok(names)
}

/// The lab of that name, or the only one.
pub(crate) fn find(name: Option<&str>) -> Result<Lab> {
    match (name, names()?.as_slice()) {
        (Some(name), _) => Lab::load(checked(name)?),
        (None, [only]) => Lab::load(only),
        (None, []) => bail!("find the lab: none is up; start one with `weft lab up -f FILE`"),
        (None, several) => bail!("find the lab: say which with --lab: {}", several.join(", ")),
    }
}

/// Names become parts of paths and of namespaces' names, so they are DNS labels.
pub(crate) fn checked(name: &str) -> Result<&str> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let shaped = !name.is_empty()
        && name.len() <= 32
        && name.bytes().all(fits)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !shaped {
        bail!("name a lab {name:?}: at most 32 lower-case letters, digits and inner hyphens");
    }
    Ok(name)
}

/// The name of a pod's network namespace; long ones are cut and told apart by a hash.
pub(crate) fn pod_namespace(lab: &str, namespace: &str, pod: &str) -> String {
    let whole = format!("weft-{lab}-p-{namespace}-{pod}");
    if whole.len() <= 100 {
        return whole;
    }
    // FNV-1a: stable between versions of the compiler, which std's hasher is not.
    let hash = format!("{namespace}/{pod}")
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    let kept: String = whole.chars().take(80).collect();
    format!("{kept}-{hash:016x}")
}
