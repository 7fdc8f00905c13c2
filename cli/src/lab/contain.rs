//! A command of a manifest: somebody else's, so it gets little. No capabilities and no way to new ones, an
//! unprivileged user, process and mount namespaces of its own with a read-only view of this machine's programs.

use crate::output::Outcome;
use anyhow::{Context, Result, bail};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        stat::{Mode, umask},
    },
    unistd::{chdir, pivot_root},
};
use std::{
    fs::{self, File},
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::Command,
};
use tokio::signal::unix::{SignalKind, signal};

/// `nobody`, as containers without a user of their own are run.
const NOBODY: u32 = 65534;
/// What a command sees of this machine, read-only.
const SHOWN: [&str; 11] = [
    "usr",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
    "etc/alternatives",
    "etc/ld.so.cache",
    "etc/ld.so.conf",
    "etc/ssl/certs",
];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Arguments of `weft lab contain`, which the lab gives to itself.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// An empty folder that becomes the root.
    #[arg(long)]
    root: PathBuf,
    /// The host name.
    #[arg(long)]
    host: String,
    /// Whether the namespaces are there already.
    #[arg(long)]
    inner: bool,
    /// The command.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

/// The words that have a command contained.
pub(crate) fn command(root: &Path, host: &str, command: &[String]) -> Result<Command> {
    let mut contained = Command::new(std::env::current_exe()?);
    contained.args(["lab", "contain", "--host", host, "--root"]).arg(root).arg("--").args(command);
    Ok(contained)
}

/// Runs the command and ends as it ends.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    if arguments.inner { inner(arguments) } else { outer(arguments) }
}

/// Makes the namespaces and stays beside what runs in them: the first process of a process namespace takes no
/// signal that it does not ask for, but ends with SIGKILL.
fn outer(arguments: &Arguments) -> Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let flags = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        unshare(flags).context("make namespaces for a command")?;
        let mut inner = tokio::process::Command::new(std::env::current_exe()?);
        inner.args(["lab", "contain", "--inner", "--host", &arguments.host, "--root"]);
        inner.arg(&arguments.root).arg("--").args(&arguments.command).kill_on_drop(true);
        let mut child = inner.spawn().context("start in the namespaces of a command")?;
        tokio::select! {
            status = child.wait() => Ok::<_, anyhow::Error>(status?),
            _ = terminate.recv() => {
                child.kill().await?;
                Ok(child.wait().await?)
            }
        }
    })?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    #[expect(
        clippy::disallowed_methods,
        reason = "it ends as its command did; nothing is held any more"
    )]
    std::process::exit(code.unwrap_or(3))
}

/// Makes the root, gives up everything, and becomes the command.
fn inner(arguments: &Arguments) -> Result<Outcome> {
    let Some((program, words)) = arguments.command.split_first() else {
        bail!("name a command after --")
    };
    umask(Mode::from_bits_truncate(0o022));
    fs::write("/proc/sys/kernel/hostname", &arguments.host).context("set the host name")?;
    root(&arguments.root).with_context(|| {
        format!("make a root for the command {program} at {}", arguments.root.display())
    })?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_no_new_privs()?;
    // Who is not root any more loses its capabilities, and without new privileges finds no others; its
    // groups go too.
    let error = Command::new(program)
        .args(words)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/tmp")
        .env("HOSTNAME", &arguments.host)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .exec();
    Err(error).with_context(|| format!("run {program}"))
}

/// Makes a root of its own and goes there; the old one is out of reach.
fn root(root: &Path) -> Result<()> {
    let (none, plain) = (None::<&str>, MsFlags::MS_NOSUID | MsFlags::MS_NODEV);
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("tmpfs"), root, Some("tmpfs"), plain, Some("mode=755,size=16m"))?;
    for name in SHOWN {
        show(name, root, plain | MsFlags::MS_RDONLY)?;
    }
    fs::write(root.join("etc/passwd"), "nobody:x:65534:65534::/tmp:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "nogroup:x:65534:\n")?;
    fs::create_dir_all(root.join("dev"))?;
    for device in DEVICES {
        let (from, to) = (Path::new("/dev").join(device), root.join("dev").join(device));
        File::create(&to)?;
        mount(Some(&from), &to, none, MsFlags::MS_BIND, none)?;
    }
    for (folder, kind, options) in
        [("proc", "proc", None), ("tmp", "tmpfs", Some("mode=1777,size=64m"))]
    {
        fs::create_dir(root.join(folder))?;
        mount(Some(kind), &root.join(folder), Some(kind), plain, options)?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    chdir(root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    mount(none, "/", none, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | plain, none)?;
    Ok(())
}

/// Shows a file or folder of this machine, without what is mounted in it.
fn show(name: &str, root: &Path, flags: MsFlags) -> Result<()> {
    let (from, to) = (Path::new("/").join(name), root.join(name));
    // What is not there need not be shown.
    let Ok(kind) = fs::symlink_metadata(&from) else { return Ok(()) };
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    if kind.is_symlink() {
        return Ok(symlink(fs::read_link(&from)?, &to)?);
    }
    if kind.is_dir() {
        fs::create_dir(&to)?;
    } else {
        File::create(&to)?;
    }
    let none = None::<&str>;
    mount(Some(&from), &to, none, MsFlags::MS_BIND, none)?;
    mount(none, &to, none, MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags, none)?;
    Ok(())
}
