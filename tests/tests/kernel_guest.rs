//! `.ci/kernel-6.1`: what a guest says becomes the outcome, and a guest that says nothing is a failure. The guest is a fake;
//! `make test-kernel` has the real one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

/// What the script makes of a guest that does this; its exit code and what it said.
fn outcome(guest: &str) -> (Option<i32>, String) {
    let machine = tempfile::tempdir().unwrap();
    let folder = machine.path();
    let executable = |path: &Path, body: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    // Fetched before; nothing in it is what it should be but the names.
    let cache = folder.join("weft/kernel-6.1");
    executable(&cache.join("bin/busybox"), "cat");
    let modules = cache.join("lib/modules/6.1.0");
    fs::create_dir_all(&modules).unwrap();
    let names =
        "llc stp bridge udp_tunnel ip6_udp_tunnel veth vxlan sch_ingress cls_bpf libcrc32c sctp";
    for name in names.split(' ') {
        fs::write(modules.join(format!("{name}.ko")), "").unwrap();
    }
    fs::write(cache.join("complete"), "").unwrap();
    executable(&folder.join("bin/qemu-system-x86_64"), guest);
    executable(&folder.join("bin/uname"), "echo x86_64");
    let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.ci/kernel-6.1");
    let mut command = Command::new(script);
    command.arg("/bin/true").env("PATH", path).env("XDG_CACHE_HOME", folder);
    command.env("WEFT_KERNEL_PATIENCE", "2").env("TMPDIR", folder);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let left = fs::read_dir(folder).unwrap().count();
    assert_eq!(left, 2, "nothing is left beside the cache and the fakes");
    (status.code(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

const SAYS: &str = "echo \"kernel-6.1: the guest's exit code is";

#[test]
fn the_exit_code_is_the_guests() {
    assert_eq!(outcome(&format!("echo running 1 test; {SAYS} 0\"")).0, Some(0));
    assert_eq!(outcome(&format!("echo running 1 test; {SAYS} 101\"")).0, Some(101));
}

#[test]
fn what_could_not_be_found_out_is_a_failure() {
    for (guest, why) in [
        ("exit 0", "ended without an exit code (QEMU's is 0)"),
        ("exit 1", "ended without an exit code (QEMU's is 1)"),
        ("exec sleep 60", "did not end within 2 s"),
        (&format!("echo running 0 tests; {SAYS} 0\""), "nothing was run"),
    ] {
        let (code, said) = outcome(guest);
        assert_eq!(code, Some(3), "{guest}: {said}");
        assert!(said.contains(why), "{guest}: {said}");
    }
}
