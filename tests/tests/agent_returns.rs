//! Start = restart = recovery: whatever happened to a node while its agent was away, and to its maps while it was there,
//! the agent makes it right: never a wrong allow, nothing left over, and well in the end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod agents;

use agents::{ask, comes_to, endpoints, is_well};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};
use weft_abi::{endpoint::ENDPOINTS, ipcache::ADDRESSES4, ipcache::PREFIXES4};
use weft_api::{
    agent::{Answer, Request},
    operator,
    transport::{Client, Options},
};
use weft_datapath::{
    RealKernel,
    kernel::{Maps, RawEntry},
};
use weft_tests::{
    lab::{Lab, Pair, is_root, program},
    load::{bed, pods},
};

const PATIENCE: Duration = Duration::from_secs(60);
/// A packet that passes is back within microseconds.
const SILENCE: Duration = Duration::from_millis(100);
const NODE: &str = "node1";
const THERE: [&str; 4] = ["load/client1", "load/mute", "load/server1", "load/stranger1"];

/// A lab whose node1 is tried.
struct Trial {
    lab: Lab,
    right: BTreeMap<Pair, bool>,
    /// The classes of its pods.
    classes: BTreeMap<String, u32>,
}

impl Trial {
    fn begin(name: &str) -> Self {
        let lab = bed(name);
        let right = lab.probe(&[]);
        let rows = endpoints(&lab, NODE).into_iter();
        let classes = rows.map(|row| (row.pod, row.identity)).collect();
        Self { lab, right, classes }
    }

    fn folder(&self) -> PathBuf {
        self.lab.dir().join(NODE)
    }

    /// Something happens while the agent is away; when it is back and well it has nothing too much or too little.
    #[track_caller]
    fn away(&self, meanwhile: impl FnOnce(), pods: &[&str]) {
        self.lab.does(&["agent", "kill", "--node", NODE]);
        meanwhile();
        self.lab.does(&["agent", "start", "--node", NODE]);
        comes_to(&self.lab, NODE, |status| status.healthy && status.realised == status.received);
        self.has(pods);
    }

    /// These pods are plugged here, and nothing else is left: links, files, pins, rows.
    #[track_caller]
    fn has(&self, pods: &[&str]) {
        let begun = Instant::now();
        // What is undone is undone beside the start.
        while self.lists() != vec![pods.len(); 5] && begun.elapsed() < PATIENCE {
            sleep(Duration::from_millis(20));
        }
        let mut rows: Vec<String> = endpoints(&self.lab, NODE).into_iter().map(|r| r.pod).collect();
        rows.sort();
        assert_eq!(rows, pods);
        assert_eq!(self.lists(), vec![pods.len(); 5], "endpoints, links, files, pins, rows");
    }

    fn lists(&self) -> Vec<usize> {
        let links = self.lab.does(&["node", "exec", NODE, "--", "ip", "-o", "link"]);
        let links = links.lines().filter(|line| line.contains(": wl")).count();
        let files = |folder: &str, begin: &str| {
            let files = fs::read_dir(self.folder().join(folder)).unwrap().flatten();
            files.filter(|f| f.file_name().to_str().unwrap().starts_with(begin)).count()
        };
        let Ok(Answer::MapDump(rows)) =
            ask(&self.lab, NODE, Request::MapDump { name: "endpoints".to_owned() })
        else {
            panic!("no endpoints' map")
        };
        let files = [files("state/endpoints", "wl"), files("bpf/links", "from_pod_")];
        [&[endpoints(&self.lab, NODE).len(), links][..], &files, &[rows.len()]].concat()
    }

    /// The verdicts are the right ones.
    #[track_caller]
    fn is_right(&self, when: &str) {
        assert_eq!(self.lab.probe(&[]), self.right, "{when}");
    }

    /// The host side of each pod's link.
    fn links(&self) -> BTreeMap<String, String> {
        endpoints(&self.lab, NODE).into_iter().map(|row| (row.pod, row.interface)).collect()
    }

    /// A pod ends without a word: its namespace goes, and its link with it.
    fn end_pod(&self, pod: &str, links: &BTreeMap<String, String>) {
        let netns = self.lab.pod(pod)["netns"].as_str().unwrap().to_owned();
        assert!(Command::new("ip").args(["netns", "del", &netns]).status().unwrap().success());
        // The servers' sockets keep what of the namespace has no name; the link does not wait for them.
        self.lab.does(&["node", "exec", NODE, "--", "ip", "link", "del", &links[pod]]);
    }

    fn maps(&self) -> std::sync::Arc<weft_datapath::maps::RealMaps> {
        RealKernel::open(&self.folder().join("bpf"), 1).unwrap().maps
    }

    fn address(&self, pod: &str) -> [u8; 4] {
        let address = self.lab.pod(pod)["address"].as_str().unwrap().to_owned();
        address.parse::<std::net::Ipv4Addr>().unwrap().octets()
    }

    /// A connection, if it opens and answers.
    fn opens(&self, from: &str, to: &str) -> Option<TcpStream> {
        let to = std::net::SocketAddr::from((self.address(to), 80));
        let mut stream = self
            .lab
            .inside(from, move || TcpStream::connect_timeout(&to, Duration::from_secs(2)).ok())?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        stream.write_all(b"echo\nx").ok()?;
        stream.read_exact(&mut [0]).ok()?;
        Some(stream)
    }

    /// Somebody writes into the maps: a stranger is taken for a client, a server lets in everyone, the mute speaks,
    /// a server is nowhere, and there are strays.
    fn tamper(&self) {
        let maps = self.maps();
        let entries = |map| maps.entries(map).unwrap().into_iter().map(|e| (e.key, e.value));
        let mut addresses: BTreeMap<Vec<u8>, Vec<u8>> = entries(&ADDRESSES4).collect();
        let row = |pod| self.address(pod).to_vec();
        let mut stranger = addresses[&row("load/stranger2")].clone();
        stranger[..4].copy_from_slice(&addresses[&row("load/client2")][..4]);
        addresses.insert(row("load/stranger2"), stranger);
        addresses.insert(vec![10, 99, 9, 9], addresses[&row("load/client2")].clone());
        let changed: Vec<RawEntry> =
            addresses.into_iter().map(|(key, value)| RawEntry { key, value }).collect();
        maps.update(&ADDRESSES4, &changed).unwrap();
        maps.delete(&ADDRESSES4, &[&row("load/server2")]).unwrap();
        let (key, value) = entries(&PREFIXES4).next().unwrap();
        let stray = [&16_u32.to_ne_bytes()[..], &[10, 99, 0, 0]].concat();
        assert_eq!(stray.len(), key.len());
        maps.update(&PREFIXES4, &[RawEntry { key: stray, value }]).unwrap();
        let classes = &self.classes;
        let open = maps.class_entries(classes["load/stranger1"]).unwrap();
        let changed = [classes["load/server1"], classes["load/mute"], 0xff_fff0];
        maps.class_replace(&changed.map(|class| (class, open.clone()))).unwrap();
        maps.class_remove(&[classes["load/client1"]]).unwrap();
        let (key, value) = entries(&ENDPOINTS).next().unwrap();
        let stray = 4000_u32.to_ne_bytes().to_vec();
        assert_eq!(stray.len(), key.len());
        maps.update(&ENDPOINTS, &[RawEntry { key: stray, value }]).unwrap();
    }
}

/// The tampering has to have an effect, or its end would show nothing.
#[track_caller]
fn is_wrong(trial: &Trial) -> [TcpStream; 2] {
    assert!(trial.opens("load/client1", "load/server1").is_none(), "a class that is not there");
    let pairs = [("load/stranger2", "load/server1"), ("load/stranger1", "load/server1")];
    pairs.map(|(from, to)| trial.opens(from, to).expect("what was tampered with lets it in"))
}

/// What was let in wrongly is not let on.
#[track_caller]
fn is_silent(mut streams: [TcpStream; 2]) {
    for stream in &mut streams {
        stream.write_all(b"late").unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let answer = stream.read(&mut [0; 4]);
        assert!(answer.is_err(), "a connection that was let in wrongly goes on: {answer:?}");
    }
}

/// The files of the node's endpoints, or its bpffs, go.
fn empty(folder: PathBuf) {
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn root_a_node_is_put_right_whatever_happened_while_its_agent_was_away() {
    if !is_root() {
        return;
    }
    let mut trial = Trial::begin("returns");
    trial.has(&THERE);

    // Nothing.
    trial.away(|| (), &THERE);
    trial.is_right("after nothing happened");

    // Maps were written by somebody else.
    let mut let_in = None;
    trial.away(
        || {
            trial.tamper();
            let_in = Some(is_wrong(&trial));
        },
        &THERE,
    );
    is_silent(let_in.unwrap());
    trial.is_right("after maps were tampered with");

    // Pins went: of the maps, of the programs, of both.
    for pins in [&["bpf/maps"][..], &["bpf/links"], &["bpf/maps", "bpf/links"]] {
        trial.away(|| pins.iter().for_each(|pins| empty(trial.folder().join(pins))), &THERE);
        trial.is_right(&format!("after {pins:?} went"));
    }

    // A pod went without a word, then with one.
    let rest: Vec<&str> = THERE.into_iter().filter(|pod| *pod != "load/stranger1").collect();
    let links = trial.links();
    trial.away(|| trial.end_pod("load/stranger1", &links), &rest);
    trial.lab.does(&["delete", "pod", "load/stranger1"]);
    trial.lab.change("apply", &pods());
    trial.has(&THERE);
    trial.is_right("after a pod went and came");

    // A policy came.
    closed_while_away(&mut trial);

    // The files of the endpoints went: nobody knows whose the links are, so they go too.
    trial.away(|| empty(trial.folder().join("state")), &[]);
    is_cut_off(&trial);
    comes_again(&trial, "after the state went");

    // The node was started anew: links, programs and maps are gone, the files are there.
    let links = trial.links();
    trial.away(
        || {
            THERE.iter().for_each(|pod| trial.end_pod(pod, &links));
            ["bpf/maps", "bpf/links"].iter().for_each(|pins| empty(trial.folder().join(pins)));
        },
        &[],
    );
    comes_again(&trial, "after the node was started anew");
}

/// Nobody reaches a pod of the node, and it reaches nobody; others go on.
#[track_caller]
fn is_cut_off(trial: &Trial) {
    for (pair, allowed) in &trial.lab.probe(&[]) {
        let there = |pod: &String| THERE.contains(&pod.as_str());
        let right = trial.right[pair] && !there(&pair.0) && !there(&pair.1);
        assert_eq!(*allowed, right, "{pair:?}");
    }
}

/// The pods of the node are made again by whoever runs them.
#[track_caller]
fn comes_again(trial: &Trial, when: &str) {
    THERE.iter().for_each(|pod| drop(trial.lab.does(&["delete", "pod", pod])));
    trial.lab.change("apply", &pods());
    trial.has(&THERE);
    trial.is_right(when);
}

/// The newest revision of the operator.
fn revision(lab: &Lab) -> String {
    let mut client = Client::connect(&lab.dir().join("operator.sock"), PATIENCE).unwrap();
    match client.call(operator::Request::Status, Options::within(PATIENCE)).unwrap() {
        operator::Answer::Status(status) => status.revision.to_string(),
        other => panic!("{other:?}"),
    }
}

/// Nobody may reach the servers any more, since the agent was away.
fn closed_while_away(trial: &mut Trial) {
    let closed = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                  metadata: {name: from-clients, namespace: load}\n\
                  spec: {podSelector: {matchLabels: {role: server}}, policyTypes: [Ingress]}\n";
    let mut open = trial.opens("load/client1", "load/server1").unwrap();
    let lab = &trial.lab;
    lab.does(&["agent", "kill", "--node", NODE]);
    let before = revision(lab);
    let mut apply = Command::new(program("weft"))
        .args(["lab", "apply", "--name", &lab.name, "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    apply.stdin.take().unwrap().write_all(closed.as_bytes()).unwrap();
    let begun = Instant::now();
    while revision(lab) == before {
        assert!(begun.elapsed() < PATIENCE, "the operator took no policy");
        sleep(Duration::from_millis(10));
    }
    lab.does(&["agent", "start", "--node", NODE]);
    assert!(apply.wait().unwrap().success(), "it is enforced once the agent is back");
    // From here on the next packet obeys it.
    open.write_all(b"late").unwrap();
    open.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(open.read(&mut [0; 4]).is_err(), "a packet passed after the policy was enforced");
    is_well(lab, NODE);
    for (pair, allowed) in &mut trial.right {
        *allowed &= !pair.1.starts_with("load/server");
    }
    trial.has(&THERE);
    trial.is_right("after a policy came while the agent was away");
}

#[test]
fn root_maps_that_somebody_writes_into_are_mended_while_the_agent_runs() {
    if !is_root() {
        return;
    }
    let trial = Trial::begin("swept");
    let begun = Instant::now();
    trial.tamper();
    let let_in = is_wrong(&trial);
    // Each owner looks at its map every 30 s.
    let rows = loop {
        let Ok(Answer::Maps(rows)) = ask(&trial.lab, NODE, Request::Maps) else {
            panic!("no maps")
        };
        let mended = |name: &str| rows.iter().any(|row| row.name == name && row.mended > 0);
        let all = ["weft_addresses4", "weft_prefixes4", "weft_endpoints", "weft_classes"];
        if all.into_iter().all(mended) {
            break rows;
        }
        assert!(begun.elapsed() < PATIENCE, "not mended: {rows:?}");
        sleep(Duration::from_millis(100));
    };
    eprintln!("mended after {:?}: {rows:?}", begun.elapsed());
    is_silent(let_in);
    trial.has(&THERE);
    trial.is_right("after the sweep");
}
