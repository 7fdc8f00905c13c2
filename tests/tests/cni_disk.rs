//! Full disks: a state folder and a delete queue without room. What cannot be done is said, nothing is left over, and it
//! goes on when there is room.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

#[path = "cni/node.rs"]
mod node;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use node::{Node, files};
use serde_json::json;
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};
use weft_tests::{lab::is_root, sandbox};

/// A disk of some pages over a folder, with what was in it.
struct Disk(PathBuf);

impl Disk {
    fn over(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).unwrap();
        let aside = folder.with_extension("aside");
        fs::rename(&folder, &aside).unwrap();
        fs::create_dir(&folder).unwrap();
        let size = Some("size=128k");
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), size).unwrap();
        copy(&aside, &folder);
        Self(folder)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    fn fill(&self) {
        let mut ballast = File::create(self.ballast()).unwrap();
        while ballast.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&path, &to);
        } else {
            fs::copy(path, to).unwrap();
        }
    }
}

fn is_told(node: &Node, what: &str) -> bool {
    node.problems().iter().any(|problem| problem.contains(what))
}

fn a_state_folder_without_room() {
    let node = Node::up("full");
    node.schedule(&[("a", "web"), ("b", "web")]);
    node.kill_agent();
    let disk = Disk::over(node.file("state"));
    node.start_agent();
    let (a, address) = node.plugged("a");

    disk.fill();
    let b = node.sandbox("b");
    for _ in 0..2 {
        let failure = node.add(&b).unwrap_err();
        assert!(failure.message.contains("No space left"), "{failure:?}");
        assert_eq!((node.endpoints().len(), node.links().len()), (1, 1));
    }
    // Who is there stays so, also when it is told again.
    assert_eq!(node.add(&a).unwrap(), address);
    node.runtime.check(&node.network, &a.container).unwrap();
    assert_eq!(node.problems(), [""; 0]);

    // What is published meanwhile is enforced, and that it is not on disk is told.
    // More than what is left of the file's last page.
    let names: Vec<String> = (0..500).map(|number| format!("c{number}")).collect();
    node.schedule(&names.iter().map(|name| (name.as_str(), "web")).collect::<Vec<_>>());
    node.becomes("it is told", |node| is_told(node, "No space left"));
    assert!(
        !node.file("state/published").exists(),
        "an old one would take the kernel back in time"
    );
    node.runtime.delete(&node.network, &b.container).unwrap();
    let half: Vec<_> = files(&node.file("state/endpoints"));
    assert_eq!(half.len(), 1, "{half:?}");

    // An agent that is killed now comes back to its pods.
    node.kill_agent();
    node.start_agent();
    node.runtime.check(&node.network, &a.container).unwrap();
    node.becomes("it is told again", |node| is_told(node, "No space left"));

    disk.make_room();
    node.becomes("it is kept, though nothing changed", |node| node.problems().is_empty());
    assert!(node.file("state/published").exists());
    node.add(&b).unwrap();

    // Going takes no room.
    disk.fill();
    for pod in [&a, &b] {
        node.runtime.delete(&node.network, &pod.container).unwrap();
    }
    node.has_nothing();
}

fn a_queue_without_room() {
    let mut node = Node::up("queue");
    node.schedule(&[("a", "web")]);
    let queue = node.file("tiny");
    let disk = Disk::over(queue.clone());
    node.network.plugins[0]["queue"] = json!(queue);
    let a = node.plugged("a").0;
    node.kill_agent();
    disk.fill();
    let failure = node.runtime.delete(&node.network, &a.container).unwrap_err();
    assert!(failure.code == 5 && failure.message.contains("No space left"), "{failure:?}");
    assert_eq!(files(&queue), [disk.ballast()], "nothing half written stays");
    disk.make_room();
    node.runtime.delete(&node.network, &a.container).unwrap();
    assert_eq!(files(&queue).len(), 1);
    // The agent looks at a queue of its own; the runtime's retry does it here.
    node.start_agent();
    node.runtime.delete(&node.network, &a.container).unwrap();
    node.has_nothing();
}

#[test]
fn root_a_full_disk_of_the_agent_leaves_nothing_behind() {
    if is_root() {
        sandbox::within(a_state_folder_without_room);
    }
}

#[test]
fn root_a_full_disk_of_the_plugin_is_said_and_the_retry_ends_well() {
    if is_root() {
        sandbox::within(a_queue_without_room);
    }
}
