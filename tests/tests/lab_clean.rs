//! A lab leaves the machine alone while it is up, and nothing behind: after `down`, after Ctrl-C, after a crash.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test"
)]

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use weft_tests::{
    lab::{Lab, example, is_root, program, weft},
    sandbox::{comes_to_be, everything, kernel_objects, machine_settings, network, within},
};

#[test]
fn root_what_is_left_would_be_noticed() {
    if !is_root() {
        return;
    }
    within(|| {
        let before = everything();
        let ip =
            |words: &[&str]| assert!(Command::new("ip").args(words).status().unwrap().success());
        let leave: [(&str, &dyn Fn()); 4] = [
            ("ip route show table all", &|| {
                ip(&["route", "add", "blackhole", "192.0.2.0/24"]);
            }),
            ("ip -o link", &|| ip(&["link", "add", "left", "type", "veth"])),
            ("/proc/sys/net/ipv4/ip_forward", &|| {
                std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            }),
            ("mounts", &|| ip(&["netns", "add", "left"])),
        ];
        for (what, leave) in leave {
            let as_it_was = everything();
            leave();
            assert_ne!(as_it_was.get(what), everything().get(what), "{what}");
        }
        assert_ne!(before["files"], everything()["files"]);
        let mut left = Command::new("sleep").arg("60").spawn().unwrap();
        assert_ne!(before["processes"], everything()["processes"]);
        left.kill().unwrap();
        left.wait().unwrap();
        assert_eq!(before["processes"], everything()["processes"]);
        a_pin_and_a_program_that_are_left_would_be_noticed();
    });
}

/// Loaded as an agent loads them, over maps pinned in a bpffs of the sandbox.
fn a_pin_and_a_program_that_are_left_would_be_noticed() {
    let bpffs = Path::new("/run/left");
    std::fs::create_dir(bpffs).unwrap();
    let mounted = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(bpffs).status().unwrap();
    assert!(mounted.success());
    let without = everything();
    let mut loader = aya::EbpfLoader::new();
    for map in &weft_abi::map::ALL {
        loader.map_pin_path(map.name, bpffs.join(map.name));
    }
    let mut object = loader.load(weft_datapath::objects::POD).unwrap();
    assert_ne!(without["files"], everything()["files"], "pins");
    let program: &mut aya::programs::SchedClassifier =
        object.program_mut("from_pod").unwrap().try_into().unwrap();
    program.load().unwrap();
    let loaded = ("prog", program.info().unwrap().id());
    assert!(is_loaded(loaded));
    drop(object);
    let until = Instant::now() + Duration::from_secs(20);
    while is_loaded(loaded) {
        assert!(Instant::now() < until, "gone with who held it");
        thread::sleep(Duration::from_millis(50));
    }
    nix::mount::umount(bpffs).unwrap();
}

/// Whether the kernel still has it, whoever holds it.
fn is_loaded((kind, id): (&'static str, u32)) -> bool {
    // One that goes meanwhile is an error between two that are there.
    match kind {
        "prog" => aya::programs::loaded_programs().flatten().any(|program| program.id() == id),
        _ => aya::maps::loaded_maps().flatten().any(|map| map.id() == id),
    }
}

#[test]
fn root_the_machine_is_as_before_while_a_lab_is_up_and_after_it() {
    if !is_root() {
        return;
    }
    let settings = machine_settings();
    within(|| {
        let (before, before_network) = (everything(), network());
        let lab = Lab::up("clean", &[&example("shop.yaml")]);
        comes_to_be(&before_network, network, "a lab that is up changed the machine's network");
        assert!(lab.probe(&[]).values().any(|allowed| *allowed));
        comes_to_be(&before_network, network, "a lab that is used changed the machine's network");
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&lab.dir()), 0o700);
        for key in std::fs::read_dir(lab.dir().join("keys")).unwrap() {
            assert_eq!(mode(&key.unwrap().path()), 0o600);
        }
        let objects = kernel_objects();
        assert!(objects.len() > 10, "the agents' programs and maps: {objects:?}");
        assert!(objects.iter().any(|object| is_loaded(*object)), "{objects:?}");
        lab.does(&["down"]);
        comes_to_be(&before, everything, "something is left after down");
        let until = Instant::now() + Duration::from_secs(20);
        while objects.iter().any(|object| is_loaded(*object)) {
            assert!(Instant::now() < until, "programs or maps are left: {objects:?}");
            thread::sleep(Duration::from_millis(50));
        }
        // Once more is no error.
        lab.does(&["down"]);
    });
    assert_eq!(settings, machine_settings());
}

/// `weft lab up`, begun.
fn begin(lab: &Lab) -> Child {
    Command::new(program("weft"))
        .args(["lab", "up", "--name", &lab.name, "-f", &example("shop.yaml")])
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    // It may have ended by itself: then it is a lab that is up.
    let _ = kill(Pid::from_raw(child.id().try_into().unwrap()), signal);
}

#[test]
fn root_a_crash_at_any_moment_leaves_what_down_removes() {
    if !is_root() {
        return;
    }
    within(|| {
        let before = everything();
        // Between its first folder and the next.
        std::fs::create_dir("/run/weft").unwrap();
        Lab::named("crash").does(&["down"]);
        comes_to_be(&before, everything, "left by a crash before the labs' folder was made");
        for after in [0, 20, 60, 120, 200, 300, 420, 560, 720, 900] {
            let lab = Lab::named("crash");
            let mut up = begin(&lab);
            thread::sleep(Duration::from_millis(after));
            signal(&up, Signal::SIGKILL);
            up.wait().unwrap();
            lab.does(&["down"]);
            comes_to_be(&before, everything, &format!("left by a crash after {after} ms"));
        }
    });
}

#[test]
fn root_an_interrupt_at_any_moment_leaves_nothing() {
    if !is_root() {
        return;
    }
    within(|| {
        let before = everything();
        for (number, after) in [0, 30, 90, 160, 250, 360, 500, 700].into_iter().enumerate() {
            let lab = Lab::named("interrupt");
            let mut up = begin(&lab);
            thread::sleep(Duration::from_millis(after));
            signal(&up, if number % 2 == 0 { Signal::SIGINT } else { Signal::SIGTERM });
            if up.wait().unwrap().success() {
                lab.does(&["down"]);
            }
            comes_to_be(&before, everything, &format!("left by an interrupt after {after} ms"));
        }
    });
}

#[test]
fn root_labs_live_side_by_side() {
    if !is_root() {
        return;
    }
    within(|| {
        let before = everything();
        let labs: Vec<Lab> = (0..3).map(|_| Lab::named("side")).collect();
        thread::scope(|scope| {
            for lab in &labs {
                // A thread is in the namespaces of the one that made it.
                scope.spawn(|| lab.does(&["up", "-f", &example("shop.yaml")]));
            }
        });
        let rows = labs[0].probe(&[]);
        assert!(labs[1..].iter().all(|lab| lab.probe(&[]) == rows));
        labs[1].does(&["apply", "-f", &example("deny.yaml")]);
        assert_ne!(labs[1].probe(&[]), rows);
        assert_eq!(labs[0].probe(&[]), rows);
        labs[1].does(&["down"]);
        assert_eq!(labs[2].probe(&[]), rows);
        // Without a name it would have to guess which of the two.
        let guess = weft(&["lab", "probe"]);
        assert_eq!(guess.status.code(), Some(3));
        assert!(weft(&["lab", "down", "--all"]).status.success());
        comes_to_be(&before, everything, "something is left of three labs");
    });
}

/// `ip netns add` mounts the folder over itself the first time, and hides a lab's namespaces beneath.
#[test]
fn root_a_lab_goes_also_when_others_made_namespaces_meanwhile() {
    if !is_root() {
        return;
    }
    within(|| {
        let lab = Lab::up("beneath", &[&example("shop.yaml")]);
        let ip = |verb| {
            let done = std::process::Command::new("ip").args(["netns", verb, "stranger"]).status();
            assert!(done.unwrap().success(), "ip netns {verb}");
        };
        ip("add");
        lab.does(&["down"]);
        let left = || std::fs::read_dir("/run/netns").unwrap().map(|e| e.unwrap().file_name());
        assert_eq!(left().collect::<Vec<_>>(), ["stranger"]);
        ip("del");
    });
}

#[test]
fn root_ten_pods_are_up_in_seconds() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("quick");
    let pods = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n\
                spec: {replicas: 10, selector: {}, template: {metadata: {labels: {app: web}}, \
                spec: {containers: [{name: c, image: i, ports: [{containerPort: 80}]}]}}}\n";
    let begun = Instant::now();
    lab.change("up", pods);
    let took = begun.elapsed();
    eprintln!("2 nodes and 10 pods: {took:?}");
    // Under 3 s on a machine that does nothing else, optimised; tests have neither.
    assert!(took < Duration::from_secs(15), "{took:?}");
    assert_eq!(lab.probe(&[]).len(), 90);
}

#[test]
fn root_a_lab_whose_record_is_damaged_goes_too_and_another_of_a_longer_name_stays() {
    if !is_root() {
        return;
    }
    within(|| {
        let before = everything();
        let lab = Lab::up("damaged", &[&example("shop.yaml")]);
        let longer = Lab { name: format!("{}-p-x", lab.name) };
        longer.does(&["up", "--nodes", "1"]);
        std::fs::write(lab.dir().join("lab.json"), "{").unwrap();
        lab.does(&["down"]);
        longer.does(&["status"]);
        longer.does(&["down"]);
        comes_to_be(&before, everything, "left of a lab whose record is damaged");
    });
}

/// Its agent ends at once: the reason is told, and no file that went with the lab is pointed at.
#[test]
fn root_a_lab_that_does_not_come_up_says_why_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let programs = tempfile::tempdir().unwrap();
    let here = |name: &str| programs.path().join(name);
    for name in ["weft-operator", "weft-cni"] {
        std::os::unix::fs::symlink(program(name), here(name)).unwrap();
    }
    std::fs::copy(program("weft"), here("weft")).unwrap();
    std::fs::write(here("weft-agent"), "#!/bin/sh\necho the kernel is too old\nexit 1\n").unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(here("weft-agent"), executable).unwrap();
    let weft = here("weft");
    within(move || {
        let before = everything();
        let lab = Lab::named("fails");
        let up = Command::new(weft).args(["lab", "up", "--name", &lab.name]).output();
        let up = up.unwrap();
        let said = String::from_utf8(up.stderr).unwrap();
        assert_eq!(up.status.code(), Some(3), "{said}");
        for part in [" ended", "node1.log", "the kernel is too old", "nothing of it is left"] {
            assert!(said.contains(part), "{part:?} is not in: {said}");
        }
        assert!(!said.contains(&format!("{}/node1.log", lab.dir().display())), "{said}");
        comes_to_be(&before, everything, "left of a lab that did not come up");
    });
}
