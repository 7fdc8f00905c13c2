//! A container runtime as CNI sees it: speaks the protocol as `libcni` does, with lists of plugins, previous results
//! and a cache of results on disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what tests share; a failure here is the test's"
)]

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// A network: its version, its name and its plugins, each with keys of its own.
#[derive(Clone, Debug)]
pub struct Network {
    /// `cniVersion`.
    pub version: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Configurations of the plugins, in their order; `type` names a program of [`Runtime::path`].
    pub plugins: Vec<Value>,
}

/// Who calls plugins, and remembers what they said.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Folders of programs (`CNI_PATH`).
    pub path: Vec<PathBuf>,
    /// Folder of results.
    pub cache: PathBuf,
}

/// A container's interface in a network.
#[derive(Clone, Debug)]
pub struct Container {
    /// `CNI_CONTAINERID`.
    pub id: String,
    /// `CNI_NETNS`.
    pub netns: PathBuf,
    /// `CNI_IFNAME`.
    pub interface: &'static str,
    /// `CNI_ARGS`.
    pub arguments: String,
}

impl Container {
    /// One for a pod, as containerd names it.
    pub fn of_pod(id: &str, netns: &Path, namespace: &str, name: &str) -> Self {
        let arguments = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name};\
             K8S_POD_INFRA_CONTAINER_ID={id};K8S_POD_UID=7d0d2c24-6c1c-4a4f-8a3c-4e5c2f0f7a10"
        );
        Self { id: id.to_owned(), netns: netns.to_owned(), interface: "eth0", arguments }
    }
}

/// What a plugin failed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// `code`.
    pub code: u64,
    /// `msg`.
    pub message: String,
}

impl Runtime {
    /// Calls every plugin in its order; what each made is told to the next, and remembered.
    pub fn add(&self, network: &Network, container: &Container) -> Result<Value, Failure> {
        let mut result = None;
        for plugin in &network.plugins {
            let config = config(network, plugin, result.as_ref());
            let made = self.call("ADD", &config, Some(container))?.expect("ADD has a result");
            result = Some(made);
        }
        let result = result.expect("a network has plugins");
        fs::create_dir_all(&self.cache).unwrap();
        fs::write(self.cached(network, container), result.to_string()).unwrap();
        Ok(result)
    }

    /// Has every plugin compare what is there with the remembered result.
    pub fn check(&self, network: &Network, container: &Container) -> Result<(), Failure> {
        let result = self.remembered(network, container);
        network.plugins.iter().try_for_each(|plugin| {
            let config = config(network, plugin, result.as_ref());
            self.call("CHECK", &config, Some(container)).map(drop)
        })
    }

    /// Calls every plugin in reverse order, with the remembered result where there is one, and forgets it.
    pub fn delete(&self, network: &Network, container: &Container) -> Result<(), Failure> {
        let result = self.remembered(network, container);
        network.plugins.iter().rev().try_for_each(|plugin| {
            let config = config(network, plugin, result.as_ref());
            self.call("DEL", &config, Some(container)).map(drop)
        })?;
        let _ = fs::remove_file(self.cached(network, container));
        Ok(())
    }

    /// Asks every plugin whether it is ready.
    pub fn status(&self, network: &Network) -> Result<(), Failure> {
        network.plugins.iter().try_for_each(|plugin| {
            self.call("STATUS", &config(network, plugin, None), None).map(drop)
        })
    }

    /// Tells every plugin which containers there are.
    pub fn collect(&self, network: &Network, valid: &[Container]) -> Result<(), Failure> {
        let valid: Vec<Value> =
            valid.iter().map(|c| json!({"containerID": c.id, "ifname": c.interface})).collect();
        network.plugins.iter().try_for_each(|plugin| {
            let mut config = config(network, plugin, None);
            config["cni.dev/valid-attachments"] = json!(valid);
            self.call("GC", &config, None).map(drop)
        })
    }

    /// The versions that a program speaks.
    pub fn versions(&self, network: &Network, program: &str) -> Value {
        let config = json!({"cniVersion": network.version, "type": program});
        self.call("VERSION", &config, None).unwrap().unwrap()
    }

    /// Where the result of an attachment is remembered.
    pub fn cached(&self, network: &Network, container: &Container) -> PathBuf {
        self.cache.join(format!("{}-{}-{}", network.name, container.id, container.interface))
    }

    fn remembered(&self, network: &Network, container: &Container) -> Option<Value> {
        let text = fs::read(self.cached(network, container)).ok()?;
        Some(serde_json::from_slice(&text).expect("a cached result is JSON"))
    }

    /// Has the first plugin of a network begin with something, and kills it after a while, however far it is.
    pub fn kills(&self, command: &str, network: &Network, container: &Container, after: Duration) {
        let config = config(network, &network.plugins[0], None);
        let mut child = self.begin(command, &config, Some(container));
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// One call of one plugin.
    #[track_caller]
    fn call(
        &self,
        command: &str,
        config: &Value,
        container: Option<&Container>,
    ) -> Result<Option<Value>, Failure> {
        let done = self.begin(command, config, container).wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout);
        let said: Option<Value> = (!text.is_empty()).then(|| {
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{command}: {e}: {text:?}"))
        });
        if done.status.success() {
            return Ok(said);
        }
        let said = said.unwrap_or_else(|| panic!("{command} failed and said nothing"));
        let code = said["code"].as_u64().unwrap_or_else(|| panic!("{command}: {said}"));
        Err(Failure { code, message: said["msg"].as_str().unwrap().to_owned() })
    }

    /// A plugin that was told everything.
    #[track_caller]
    fn begin(&self, command: &str, config: &Value, container: Option<&Container>) -> Child {
        let name = config["type"].as_str().expect("a plugin has a type");
        let program = self.path.iter().map(|folder| folder.join(name)).find(|p| p.exists());
        let program = program.unwrap_or_else(|| panic!("no {name} in {:?}", self.path));
        let mut call = Command::new(program);
        let path: Vec<_> = self.path.iter().map(|folder| folder.display().to_string()).collect();
        call.env("CNI_COMMAND", command).env("CNI_PATH", path.join(":"));
        if let Some(container) = container {
            call.env("CNI_CONTAINERID", &container.id)
                .env("CNI_NETNS", &container.netns)
                .env("CNI_IFNAME", container.interface)
                .env("CNI_ARGS", &container.arguments);
        }
        let streams = call.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = streams.spawn().unwrap();
        // Who fails early reads nothing.
        let _ = child.stdin.take().unwrap().write_all(config.to_string().as_bytes());
        child
    }
}

/// What one plugin of a network is given.
fn config(network: &Network, plugin: &Value, previous: Option<&Value>) -> Value {
    let mut config = plugin.clone();
    config["cniVersion"] = json!(network.version);
    config["name"] = json!(network.name);
    if let Some(previous) = previous {
        config["prevResult"] = previous.clone();
    }
    config
}

/// A network namespace of a test's own. It is made as labs make theirs: the first `ip netns add` of a machine would mount
/// `/run/netns` over itself and hide what is in it.
#[derive(Debug)]
pub struct Netns(String);

impl Netns {
    /// Makes one of this name.
    #[track_caller]
    pub fn new(name: String) -> Self {
        // Dropped, it goes also when it is half made.
        let netns = Self(name);
        netns.make();
        netns
    }

    /// Makes another of the name of one that was removed.
    #[track_caller]
    pub fn make(&self) {
        let path = self.path();
        fs::create_dir_all("/run/netns").unwrap();
        fs::File::create_new(&path).unwrap();
        let made = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let (own, none) = ("/proc/thread-self/ns/net", None::<&str>);
            mount(Some(own), &path, none, MsFlags::MS_BIND, none)
        });
        made.join().unwrap().unwrap();
    }

    /// Takes it away, with all that is in it; once more is no error.
    pub fn remove(&self) {
        let _ = umount2(&self.path(), MntFlags::MNT_DETACH);
        let _ = fs::remove_file(self.path());
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// Does something on a thread inside; sockets made there stay there.
    pub fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let path = self.path();
        let thread = std::thread::spawn(move || {
            let file = fs::File::open(path).unwrap();
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.remove();
    }
}
