//! `make lab` shows what it says, and what it tells people to try next works.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};
use weft_tests::lab::{Lab, is_root, program};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

fn demonstration(lab: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .arg(".ci/lab")
        .current_dir(root())
        .env("BIN", program("weft").parent().unwrap())
        .env("SHOP", "docs/examples/shop.yaml")
        .env("LAB", lab)
        .env_remove("KEEP");
    command
}

#[test]
fn root_the_demonstration_shows_what_it_says() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("tour");
    let output = demonstration(&lab.name).output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let matrices = out.matches("from \\ to").count();
    assert_eq!(matrices, 2, "{out}");
    // The stream went on without the agent, and was stopped by the policy, which is named.
    assert!(err.contains("killed: the agent of node1"), "{err}");
    let alive = err.lines().filter(|l| l.starts_with("stream ") && l.contains(" 0 lost"));
    assert!(alive.count() >= 3, "{err}");
    assert!(out.contains("stopped, nothing came back after"), "{out}");
    assert!(out.contains("isolated by shop/frontend-opens-nothing"), "{out}");
    let flow = out.lines().find(|line| line.contains("DROPPED BY")).expect(&out);
    assert!(flow.contains("shop/frontend-0:") && flow.contains("shop/cart-1:8080"), "{flow}");
    assert!(flow.contains("frontend-opens-nothing (NetworkPolicy)"), "{flow}");
    assert!(!lab.dir().exists());
}

/// As a user with sudo calls it.
#[test]
fn root_a_demonstration_that_is_to_be_kept_is_left_up_and_says_how_to_go_on() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("tourkeep");
    let output = demonstration(&lab.name).env("KEEP", "1").env("SUDO", "sudo -E").output().unwrap();
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    let (weft, name) = (program("weft").display().to_string(), &lab.name);
    let down =
        format!("lab {name} is left up; take it down with: sudo {weft} lab down --name {name}");
    assert!(out.ends_with(&format!("\n{down}\n")), "{out}");
    let (_, next) = out.split_once("== try next").expect("it ends with it");
    assert_eq!(next.matches(&format!("\n  sudo {weft} ")).count(), 4, "{next}");
    lab.does(&["status"]);
    assert!(lab.probe(&[]).values().any(|allowed| *allowed), "it is in use as before");
}

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn root_a_demonstration_that_is_interrupted_leaves_nothing() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("tourint");
    let child = demonstration(&lab.name).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = Running(child.unwrap());
    let begun = Instant::now();
    // It is up, so the stream is next, or has begun.
    while !lab.dir().join("server.sock").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the lab did not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_secs(2));
    let pid = nix::unistd::Pid::from_raw(child.0.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    let status = child.0.wait().unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(!lab.dir().exists());
}

#[test]
fn root_what_to_try_next_works() {
    if !is_root() {
        return;
    }
    let script = std::fs::read_to_string(root().join(".ci/lab")).unwrap();
    let (_, rest) = script.split_once("<<NEXT\n").unwrap();
    let (commands, _) = rest.split_once("\nNEXT\n").unwrap();
    let lab = Lab::named("mine");
    let commands: Vec<Vec<String>> = commands
        .lines()
        .map(|line| {
            let line = line
                .replace("$SHOP", "docs/examples/shop.yaml")
                .replace("--name mine", &format!("--name {}", lab.name))
                .replace("--lab mine", &format!("--lab {}", lab.name));
            line.split_whitespace().map(str::to_owned).collect()
        })
        .collect();
    assert_eq!(commands.len(), 4, "{commands:?}");
    let run = |words: &[String]| {
        assert_eq!(words[0], "$sudo$weft");
        let output =
            Command::new(program("weft")).args(&words[1..]).current_dir(root()).output().unwrap();
        let (out, err) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{words:?}\n{out}\n{err}");
        out.into_owned()
    };
    run(&commands[0]);
    assert_eq!(lab.status()["pods"].as_array().unwrap().len(), 6);
    let why = run(&commands[1]);
    assert!(why.contains("denied: isolated by") && why.contains("shop/default-deny"), "{why}");
    // It goes on until somebody ends it, and shows what comes meanwhile.
    assert_eq!(commands[2].last().map(String::as_str), Some("--follow"));
    let mut follower = Command::new(program("weft"));
    follower.args(&commands[2][1..]).stdout(Stdio::piped());
    let mut follower = Running(follower.spawn().unwrap());
    let lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let begun = Instant::now();
    let shown = |line: String| line.contains("shop/db-0:5432") && line.contains("DROPPED");
    while !told.try_iter().any(shown) {
        assert!(begun.elapsed() < Duration::from_secs(60), "no denied flow was shown");
        lab.probe(&[]);
    }
    let addresses = run(&commands[3]);
    let address = lab.pod("shop/frontend-0")["address"].as_str().unwrap().to_owned();
    assert!(addresses.contains(&address), "{addresses}");
}
