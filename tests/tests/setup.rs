//! `.ci/setup` and the build script of the eBPF objects on machines that lack something: they say exactly what, and
//! change nothing that is there. The machines are folders of fakes that write down how they were called.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// What a shell script may use everywhere.
const ALWAYS: [&str; 5] = ["sh", "env", "grep", "cat", "printf"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A `PATH` of fakes.
struct Machine(TempDir);

impl Machine {
    /// Of a user with this number and these programs, which do nothing and succeed.
    fn new(uid: u32, programs: &[&str]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        let paths = std::env::var_os("PATH").unwrap();
        for name in ALWAYS {
            let mut found = std::env::split_paths(&paths).map(|path| path.join(name));
            if let Some(real) = found.find(|path| path.exists()) {
                symlink(real, machine.at(name)).unwrap();
            }
        }
        machine.with("id", &format!("echo {uid}"));
        programs.iter().for_each(|program| machine.with(program, ""));
        machine
    }

    /// A Debian that lacks these packages.
    fn debian(uid: u32, lacks: &str, programs: &[&str]) -> Self {
        let machine = Self::new(uid, programs);
        let is_there = format!(
            "case \" {lacks} \" in *\" $4 \"*) exit 1 ;; *) echo 'install ok installed' ;; esac"
        );
        machine.with("dpkg-query", &is_there);
        machine
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program that notes its words and then does something.
    fn with(&self, name: &str, body: &str) {
        let log = self.at("log");
        let note = if matches!(name, "id" | "dpkg-query") {
            String::new()
        } else {
            format!("echo \"{name} $*\" >>{}\n", log.display())
        };
        // What is there may be a link to the real one.
        drop(fs::remove_file(self.at(name)));
        fs::write(self.at(name), format!("#!/bin/sh\n{note}{body}\n")).unwrap();
        fs::set_permissions(self.at(name), fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn setup(&self, environment: &[(&str, &str)]) -> (Option<i32>, String) {
        self.sets_up(&[], environment)
    }

    fn sets_up(&self, packages: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut command = Command::new("/bin/sh");
        command.arg(root().join(".ci/setup")).args(packages);
        command.env_clear().env("PATH", self.0.path());
        command.env("HOME", self.0.path()).envs(environment.iter().copied());
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
    }

    /// How the fakes were called.
    fn calls(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }
}

#[test]
fn where_everything_is_there_nothing_is_done() {
    let machine = Machine::debian(1000, "", &["cargo", "bpf-linker", "sudo", "apt-get"]);
    for _ in 0..2 {
        assert_eq!(machine.setup(&[]), (Some(0), String::new()));
    }
    assert_eq!(machine.calls(), "");
}

#[test]
fn prebuilt_objects_need_no_toolchain() {
    let machine = Machine::debian(0, "llvm-22-dev", &["cargo"]);
    assert_eq!(machine.setup(&[("WEFT_BPF_OBJECTS", "/somewhere")]), (Some(0), String::new()));
}

#[test]
fn what_only_some_commands_need_is_installed_alone() {
    let machine = Machine::debian(0, "qemu rustc-web", &["env", "apt-get"]);
    assert_eq!(machine.sets_up(&["gcc"], &[]), (Some(0), String::new()));
    assert_eq!(machine.sets_up(&["gcc", "qemu"], &[]), (Some(0), "installing qemu\n".to_owned()));
    assert!(machine.calls().ends_with("--no-install-recommends qemu\n"), "{}", machine.calls());
}

#[test]
fn root_and_a_user_with_sudo_install_what_is_missing_and_nothing_else() {
    let lacks = "rustc-web llvm-22-dev";
    for (uid, before) in [(0, ""), (1000, "sudo ")] {
        let machine = Machine::debian(uid, lacks, &["cargo", "bpf-linker", "apt-get"]);
        if uid != 0 {
            machine.with("sudo", "");
        } else {
            machine.with("env", "");
        }
        let (code, said) = machine.setup(&[]);
        assert_eq!((code, said.trim()), (Some(0), "installing rustc-web llvm-22-dev"));
        let calls = machine.calls();
        let install = "env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends rustc-web llvm-22-dev";
        assert_eq!(calls, format!("{before}apt-get update -qq\n{before}{install}\n"));
    }
}

#[test]
fn who_cannot_install_is_told_what_and_how() {
    let machine = Machine::debian(1000, "gcc llvm-22-dev", &["cargo", "bpf-linker", "apt-get"]);
    let (code, said) = machine.setup(&[]);
    assert_eq!(code, Some(3));
    assert!(said.contains("missing: gcc llvm-22-dev (and neither root nor sudo)"), "{said}");
    assert!(said.contains("apt-get install -y --no-install-recommends gcc llvm-22-dev"), "{said}");
    assert_eq!(machine.calls(), "", "nothing was tried");

    let machine = Machine::debian(0, "gcc", &["cargo", "bpf-linker"]);
    machine.with("apt-get", "exit 100");
    let (code, said) = machine.setup(&[]);
    assert_eq!(code, Some(3));
    assert!(said.contains("missing: gcc (apt-get could not install it)"), "{said}");
}

/// On a terminal, which `script` makes, it asks first; elsewhere it does not, as the other tests show.
#[test]
fn on_a_terminal_nothing_is_installed_without_consent() {
    for (answer, code, said) in [
        ("n\n", 3, "missing: gcc\r"),
        ("\n", 0, "installing gcc\r"),
        ("y\n", 0, "installing gcc\r"),
    ] {
        let machine = Machine::debian(1000, "gcc", &["cargo", "bpf-linker", "apt-get", "sudo"]);
        let paths = std::env::var_os("PATH").unwrap();
        let script = std::env::split_paths(&paths).map(|path| path.join("script"));
        let script = script.into_iter().find(|path| path.exists()).expect("util-linux's `script`");
        let setup = format!("/bin/sh {}", root().join(".ci/setup").display());
        let mut child = Command::new(script)
            .args(["--quiet", "--return", "--command", &setup, "/dev/null"])
            .env_clear()
            .env("SHELL", "/bin/sh")
            .env("PATH", machine.0.path())
            .env("HOME", machine.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{answer:?}: {text}");
        assert!(text.contains("install gcc with apt-get? [Y/n]"), "{text}");
        assert!(text.contains(said), "{answer:?}: {text:?}");
        assert_eq!(machine.calls().contains("apt-get"), code == 0, "{answer:?}");
    }
}

#[test]
fn cargo_and_the_linker_are_looked_for_too() {
    let (code, said) = Machine::debian(0, "", &["bpf-linker"]).setup(&[]);
    assert_eq!(code, Some(3));
    assert!(said.contains("missing: cargo") && said.contains("rustup.rs"), "{said}");

    let machine = Machine::debian(0, "", &["cargo"]);
    assert_eq!(machine.setup(&[]).0, Some(0));
    let calls = machine.calls();
    assert!(calls.starts_with("cargo install --quiet bpf-linker --version "), "{calls}");

    let machine = Machine::debian(0, "", &[]);
    machine.with("cargo", "exit 101");
    let (code, said) = machine.setup(&[]);
    assert_eq!(code, Some(3));
    assert!(said.contains("missing: bpf-linker"), "{said}");
}

#[test]
fn elsewhere_than_on_debian_a_nightly_with_its_source_is_needed() {
    let machine = Machine::new(1000, &["cargo", "bpf-linker", "rustup", "ip"]);
    let (code, said) = machine.setup(&[]);
    assert_eq!((code, said.contains("missing: cc")), (Some(3), true), "{said}");
    machine.with("cc", "");
    let (code, said) = machine.setup(&[]);
    assert_eq!((code, said.contains("missing: protoc")), (Some(3), true), "{said}");
    machine.with("protoc", "");
    let (code, said) = machine.setup(&[]);
    assert_eq!(code, Some(3));
    assert!(said.contains("rustup toolchain install nightly --component rust-src"), "{said}");
    machine.with("rustup", "echo rust-src");
    assert_eq!(machine.setup(&[]), (Some(0), String::new()));
}

#[test]
fn a_nightly_with_its_source_does_for_debians_compiler() {
    let lacks = "rustc-web rust-web-src llvm-22-dev libpolly-22-dev";
    let machine = Machine::debian(1000, lacks, &["cargo"]);
    machine.with("rustup", "echo rust-src");
    assert_eq!(machine.setup(&[]).0, Some(0));
    let install = machine.calls().lines().last().unwrap().to_owned();
    let (linker, features) = ("cargo install --quiet bpf-linker", "--features");
    assert!(install.starts_with(linker) && !install.contains(features), "{install}");
}

/// The build script of the eBPF objects, compiled; and what it said with these programs and variables.
fn build_script(machine: &Machine, environment: &[(&str, &Path)]) -> (bool, String) {
    let script = machine.at("build-script");
    let source = root().join("datapath/loader/build.rs");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiled = Command::new(rustc)
        .args(["--edition", "2024", "-A", "warnings", "-o"])
        .args([&script, &source])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let out = machine.at("out");
    fs::create_dir_all(&out).unwrap();
    let output = Command::new(&script)
        .env_clear()
        .env("PATH", machine.0.path())
        .env("OUT_DIR", &out)
        .env("CARGO_MANIFEST_DIR", root().join("datapath/loader"))
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_build_without_the_toolchain_names_make_setup() {
    // No cargo at all, and one that finds no linker.
    let machine = Machine::new(1000, &[]);
    let (built, said) = build_script(&machine, &[]);
    assert!(!built && said.contains("make setup"), "{said}");
    machine.with("cargo", "echo 'error: linker `bpf-linker` not found' >&2; exit 101");
    let (built, said) = build_script(&machine, &[]);
    assert!(!built && said.contains("make setup") && said.contains("bpf-linker"), "{said}");
    assert!(said.contains("WEFT_BPF_OBJECTS"), "{said}");
}

#[test]
fn prebuilt_objects_are_embedded_and_absent_ones_are_named() {
    let machine = Machine::new(1000, &[]);
    let objects = machine.at("objects");
    fs::create_dir(&objects).unwrap();
    let (built, said) = build_script(&machine, &[("WEFT_BPF_OBJECTS", &objects)]);
    assert!(!built && said.contains("objects/pod.o"), "{said}");
    for name in ["pod.o", "net.o"] {
        fs::write(objects.join(name), name).unwrap();
    }
    let (built, said) = build_script(&machine, &[("WEFT_BPF_OBJECTS", &objects)]);
    assert!(built, "{said}");
    assert_eq!(fs::read(machine.at("out").join("net.o")).unwrap(), b"net.o");
    let (built, said) = build_script(&machine, &[("WEFT_BPF_OBJECTS", Path::new("objects"))]);
    assert!(!built && said.contains("absolute"), "{said}");
}
