//! Builds the eBPF objects with whichever toolchain is there and hands their paths to `objects.rs`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "cargo listens to a build script's output and shows its errors"
)]

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

const TARGET: &str = "bpfel-unknown-none";
const OBJECTS: [&str; 2] = ["pod", "net"];
/// Debian's compiler (package rustc-web).
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The standard library's source beside it (package rust-web-src); a compiler without it builds nothing for eBPF.
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust/library";

/// The linker compiles: with type information, and so that what is copied or zeroed is so by words, in place. Its
/// default calls `memset` and `memmove`, which go byte by byte: a fifth of what a first packet cost.
const FLAGS: [&str; 4] = [
    "-C linker=bpf-linker",
    "-C debuginfo=2",
    "-C link-arg=--btf",
    "-C link-arg=--disable-expand-memcpy-in-order",
];

fn main() -> ExitCode {
    match objects() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // As it is: it has lines.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn objects() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed=WEFT_BPF_OBJECTS");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    if let Some(folder) = env::var_os("WEFT_BPF_OBJECTS") {
        if !Path::new(&folder).is_absolute() {
            // This runs in another folder than the one it was typed in.
            return Err(
                format!("WEFT_BPF_OBJECTS={}: give an absolute path", folder.display()).into()
            );
        }
        for name in OBJECTS {
            let from = Path::new(&folder).join(format!("{name}.o"));
            println!("cargo::rerun-if-changed={}", from.display());
            fs::copy(&from, out.join(format!("{name}.o")))
                .map_err(|e| format!("WEFT_BPF_OBJECTS: copy {}: {e}", from.display()))?;
        }
        return Ok(());
    }
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    for folder in ["../ebpf/src", "../ebpf/Cargo.toml", "../abi/src", "../verdict/src"] {
        println!("cargo::rerun-if-changed={}", root.join(folder).display());
    }
    build(&root.join("../ebpf"), &out)
}

/// Runs cargo for the other target, in an environment without what the outer cargo set.
fn build(source: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let target = out.join("ebpf");
    let mut cargo = Command::new("cargo");
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO") && text != "CARGO_HOME"
            || text.starts_with("RUST") && text != "RUSTUP_HOME"
        {
            cargo.env_remove(&name);
        }
    }
    if [DEBIAN_RUSTC, DEBIAN_SOURCE].iter().all(|path| Path::new(path).exists()) {
        cargo.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
    } else {
        cargo.env("RUSTUP_TOOLCHAIN", "nightly");
    }
    cargo
        .current_dir(source)
        .env("RUSTFLAGS", FLAGS.join(" "))
        .env("CARGO_TARGET_DIR", &target)
        .args(["build", "--release", "--locked", "-Z", "build-std=core", "--target", TARGET]);
    let problem = match cargo.output() {
        Ok(built) if built.status.success() => None,
        Ok(built) => Some(String::from_utf8_lossy(&built.stderr).into_owned()),
        Err(error) => Some(format!("run cargo for them: {error}")),
    };
    if let Some(problem) = problem {
        return Err(format!(
            "the eBPF objects could not be built.\n{problem}\nThey need bpf-linker and either Debian's rustc-web with \
             rust-web-src or a nightly toolchain with rust-src: run `make setup`, or point \
             WEFT_BPF_OBJECTS at a folder with pod.o and net.o."
        )
        .into());
    }
    for name in OBJECTS {
        fs::copy(target.join(TARGET).join("release").join(name), out.join(format!("{name}.o")))?;
    }
    Ok(())
}
