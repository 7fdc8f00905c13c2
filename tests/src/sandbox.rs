//! A machine of a test's own, as far as a lab can see: network and mount namespaces, an empty `/run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "what tests share; a failure here is the test's"
)]

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

/// Runs a test on a thread that is in namespaces of its own; what it starts is there too.
pub fn within<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let alone = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        // What others of this machine have mounted goes when they go, here too: it goes now.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let others = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        let of_a_test = std::env::temp_dir().join("weft-");
        let of_a_test = of_a_test.to_string_lossy();
        let goes = |path: &&str| path.starts_with("/run/") || path.starts_with(&*of_a_test);
        for other in others.filter(goes).collect::<Vec<_>>().iter().rev() {
            let _ = umount2(*other, MntFlags::MNT_DETACH);
        }
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        // As `ip netns` leaves it on every machine that has used it.
        fs::create_dir("/run/netns").unwrap();
        let done = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(done.success());
        test()
    });
    alone.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Everything of the machine that a lab might change, by what it is.
pub type Machine = BTreeMap<String, String>;

/// Links, addresses, routes, rules, packet filters and network settings.
pub fn network() -> Machine {
    let mut machine = Machine::new();
    for question in [
        &["-o", "link"][..],
        &["-o", "address"],
        &["route", "show", "table", "all"],
        &["-6", "route", "show", "table", "all"],
        &["rule"],
    ] {
        let output = Command::new("ip").args(question).output().unwrap();
        machine.insert(
            format!("ip {}", question.join(" ")),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        );
    }
    for filter in [&["nft", "list", "ruleset"][..], &["iptables-save"], &["tc", "qdisc"]] {
        // What is not installed has no rules either, or none that it could tell.
        if let Ok(output) = Command::new(filter[0]).args(&filter[1..]).output() {
            let text = String::from_utf8_lossy(&output.stdout);
            let rules: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
            machine.insert(filter.join(" "), rules.join("\n"));
        }
    }
    settings(Path::new("/proc/sys/net"), &mut machine);
    machine
}

/// Settings of the whole machine, as its first network namespace shows them; those of its links come and go with others'.
pub fn machine_settings() -> Machine {
    let mut machine = Machine::new();
    settings(Path::new("/proc/sys/net"), &mut machine);
    machine.retain(|path, _| !path.contains("/conf/") && !path.contains("/neigh/"));
    machine
}

/// Reads a tree of settings; what counts or is random is not one.
fn settings(folder: &Path, into: &mut Machine) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            settings(&path, into);
        } else if let Ok(value) = fs::read_to_string(&path)
            && !path.to_string_lossy().contains("count")
            && !path.ends_with("stable_secret")
        {
            into.insert(path.display().to_string(), value);
        }
    }
}

/// The network, and with it mounts, files under `/run` and `/sys/fs/bpf`, and processes.
pub fn everything() -> Machine {
    let mut machine = network();
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    let places = mounts.lines().map(|line| line.split(' ').nth(4).unwrap().to_owned());
    machine.insert("mounts".to_owned(), places.collect::<Vec<_>>().join("\n"));
    let mut files = Vec::new();
    for folder in ["/run", "/sys/fs/bpf"] {
        list(Path::new(folder), &mut files);
    }
    files.sort();
    machine.insert("files".to_owned(), files.join("\n"));
    machine.insert("processes".to_owned(), processes().join("\n"));
    machine
}

fn list(folder: &Path, into: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        into.push(entry.path().display().to_string());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(&entry.path(), into);
        }
    }
}

/// Processes in this thread's mount namespace, but for the test itself.
fn processes() -> Vec<String> {
    let ours = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut processes: Vec<String> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|n| n.parse::<u32>().is_ok()))
        .map(|entry| entry.path())
        .filter(|path| fs::read_link(path.join("ns/mnt")).is_ok_and(|at| at == ours))
        .filter_map(|path: PathBuf| fs::read(path.join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        // A process that has ended has no words any more.
        .filter(|line| !line.is_empty())
        .collect();
    processes.sort();
    processes
}

/// Programs and maps (`prog`, `map`) that processes of this mount namespace have open, by their numbers.
pub fn kernel_objects() -> Vec<(&'static str, u32)> {
    let ours = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
    let mut objects = Vec::new();
    for process in fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path()) {
        if !fs::read_link(process.join("ns/mnt")).is_ok_and(|at| at == ours) {
            continue;
        }
        for info in fs::read_dir(process.join("fdinfo")).into_iter().flatten().flatten() {
            let text = fs::read_to_string(info.path()).unwrap_or_default();
            for line in text.lines() {
                let Some((key, value)) = line.split_once(':') else { continue };
                let kind = match key {
                    "prog_id" => "prog",
                    "map_id" => "map",
                    _ => continue,
                };
                objects.extend(value.trim().parse().ok().map(|id| (kind, id)));
            }
        }
    }
    objects.sort_unstable();
    objects.dedup();
    objects
}

/// Waits until the machine is as it was: the kernel takes namespaces apart in its own time.
#[track_caller]
pub fn comes_to_be(before: &Machine, now: fn() -> Machine, what: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let now = now();
        if now == *before {
            return;
        }
        if Instant::now() > until {
            for key in before.keys().chain(now.keys()) {
                if before.get(key) != now.get(key) {
                    eprintln!("{key}: before\n{:?}\nnow\n{:?}", before.get(key), now.get(key));
                }
            }
            panic!("{what}");
        }
        thread::sleep(Duration::from_millis(50));
    }
}
