//! Maps under pressure, in a lab: a policy class grows under traffic, a full table of flows is counted and said, and what is
//! changed behind an agent's back is found, mended and said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

mod agents;

use agents::{PATIENCE, ask, comes_to, is_well, status};
use std::{
    fmt::Write as _,
    fs,
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    thread::sleep,
    time::{Duration, Instant},
};
use weft_abi::{
    endpoint::{ENDPOINTS, Endpoint},
    ipcache::{ADDRESSES4, PREFIXES4},
    policy::ClassEdit,
};
use weft_api::agent::{Answer, MapRow, Request};
use weft_datapath::{
    RealKernel,
    kernel::{Maps, RawEntry},
};
use weft_tests::{
    lab::{Lab, is_root, weft, weft_reads},
    load::{Load, bed, pods},
};

/// Policies that the servers have a block from, and whose other blocks lie in it: each of these gets entries of its own in
/// the servers' class, in place, since nothing else of it changes.
const BLOCK: &str = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
     metadata: {name: from-block, namespace: load}\n\
     spec: {podSelector: {matchLabels: {role: server}}, \
     ingress: [{from: [{ipBlock: {cidr: 198.18.0.0/15}}], ports: [{port: 80}]}]}\n";
/// How many policies name blocks, and how many each: together more than the second trie has room for.
const NAMING: (usize, usize) = (8, 40);

fn blocks(number: usize) -> String {
    let mut from = String::new();
    for n in 0..NAMING.1 {
        let at = number * NAMING.1 + n;
        let (high, low) = (18 + at / 256, at % 256);
        write!(from, "{{ipBlock: {{cidr: 198.{high}.{low}.0/24}}}},").unwrap();
    }
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
         metadata: {{name: blocks{number}, namespace: load}}\n\
         spec: {{podSelector: {{matchLabels: {{app: nobody}}}}, ingress: [{{from: [{from}]}}]}}\n"
    )
}

fn dump(lab: &Lab, map: &str) -> Vec<String> {
    match ask(lab, "node1", Request::MapDump { name: map.to_owned() }).unwrap() {
        Answer::MapDump(rows) => {
            rows.into_iter().map(|row| format!("{} {}", row.key, row.value)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn map(lab: &Lab, name: &str) -> MapRow {
    match ask(lab, "node1", Request::Maps).unwrap() {
        Answer::Maps(maps) => maps.into_iter().find(|map| map.name == name).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn root_a_class_grows_under_traffic_and_nobody_notices() {
    if !is_root() {
        return;
    }
    let lab = bed("growth");
    lab.change("apply", BLOCK);
    let load = Load::over(&lab);
    let class = {
        let pod = lab.pod("load/server1");
        let identity = agents::endpoints(&lab, "node1");
        let row = identity.iter().find(|row| row.pod == "load/server1").unwrap();
        assert_eq!(pod["address"], row.address.to_string());
        format!("{} ", row.identity)
    };
    let entries = |lab: &Lab| dump(lab, "classes").iter().filter(|r| r.starts_with(&class)).count();
    let before = entries(&lab);
    for number in 0..NAMING.0 {
        lab.change("apply", &blocks(number));
        load.goes_on(&format!("when {} blocks more were named", NAMING.1));
    }
    weft_reads(&["policy", "wait", "--lab", &lab.name], "");
    assert_eq!(entries(&lab), before + NAMING.0 * NAMING.1);
    let log = fs::read_to_string(lab.dir().join("node1.log")).unwrap();
    let grown = log.lines().filter(|line| line.contains("a full class grows")).count();
    assert!(grown >= 2, "its trie was never full:\n{log}");
    assert!(!log.contains("not realised yet"), "a revision waited for room:\n{log}");
    for number in 0..NAMING.0 {
        lab.change("delete", &blocks(number));
        load.goes_on("when blocks were no longer named");
    }
    assert_eq!(entries(&lab), before);
    let outcome = load.end();
    eprintln!("grown {grown} times: {outcome:?}");
    assert_eq!(outcome.lost, 0, "{outcome:?}");
}

/// A connection of a pod to a server's echo.
fn echo(lab: &Lab, from: &str, to: SocketAddr) -> TcpStream {
    let mut stream = lab.inside(from, move || TcpStream::connect_timeout(&to, PATIENCE).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"echo\n").unwrap();
    answers(&mut stream);
    stream
}

fn answers(stream: &mut TcpStream) {
    stream.write_all(b"x").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}

#[test]
fn root_a_full_table_of_flows_is_counted_said_and_costs_no_connection() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pods.yaml");
    fs::write(&file, pods()).unwrap();
    let sizes = ("WEFT_AGENT_FLOW_ENTRIES", "8");
    let lab = Lab::up_with("flowsfull", &[file.to_str().unwrap()], &[sizes]);
    assert_eq!(map(&lab, "weft_flows4").capacity, 8);
    assert!(status(&lab, "node1").unwrap().notices.is_empty());
    let server = lab.pod("load/server1")["address"].as_str().unwrap().to_owned();
    let server: SocketAddr = format!("{server}:80").parse().unwrap();
    let mut streams: Vec<TcpStream> = (0..24).map(|_| echo(&lab, "load/client1", server)).collect();
    comes_to(&lab, "node1", |status| {
        let said = |notice: &String| notice.contains("map weft_flows4 is full (8 entries)");
        status.healthy && status.notices.iter().any(said)
    });
    let told = weft(&["status", "--lab", &lab.name]);
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("node1: map weft_flows4 is full (8 entries)"), "{told}");
    let scrape = ["node", "exec", "node1", "--", "curl", "-s", "127.0.0.1:9962/metrics"];
    let page = lab.does(&scrape);
    let notices = page.lines().find(|line| line.contains("notice=\"flows-full\"")).unwrap();
    let counted: f64 = notices.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(counted >= 16.0, "{notices}");
    // Those that found room and those that did not go on.
    streams.iter_mut().for_each(answers);
    let row = map(&lab, "weft_flows4");
    assert!(row.entries <= 8, "{row:?}");
    // With the old ones gone there is room again.
    drop(streams);
    let mut late = echo(&lab, "load/client1", server);
    answers(&mut late);
}

/// Changes of an agent's maps that it did not make.
fn meddle(maps: &dyn Maps) -> Vec<&'static str> {
    let addresses = maps.entries(&ADDRESSES4).unwrap();
    let (gone, kept) = addresses.split_first().unwrap();
    maps.delete(&ADDRESSES4, &[&gone.key]).unwrap();
    // One that is somebody else's now, and one of nobody.
    let wrong = RawEntry { value: gone.value.clone(), ..kept[0].clone() };
    let stray = RawEntry { key: vec![203, 0, 113, 9], value: gone.value.clone() };
    maps.update(&ADDRESSES4, &[wrong, stray]).unwrap();
    let prefix = maps.entries(&PREFIXES4).unwrap().remove(0);
    maps.delete(&PREFIXES4, &[&prefix.key]).unwrap();
    let mut endpoint = maps.entries(&ENDPOINTS).unwrap().remove(0);
    let mut row = Endpoint::from_bytes(&endpoint.value).unwrap();
    row.class += 1;
    endpoint.value = row.to_bytes().into();
    maps.update(&ENDPOINTS, &[endpoint]).unwrap();
    let mut classes = maps.classes().unwrap();
    classes.sort_unstable();
    let emptied = maps.class_entries(classes[0]).unwrap();
    let edits: Vec<ClassEdit> =
        emptied.into_iter().map(|(prefix, _)| ClassEdit::Delete(prefix)).collect();
    maps.class_edit(classes[0], &edits).unwrap();
    maps.class_remove(&classes[1..2]).unwrap();
    vec!["weft_addresses4", "weft_prefixes4", "weft_endpoints", "weft_classes"]
}

#[test]
fn root_what_was_changed_behind_an_agents_back_is_mended_and_said() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pods.yaml");
    fs::write(&file, pods() + BLOCK).unwrap();
    let often = ("WEFT_AGENT_MAP_SWEEP", "1s");
    let lab = Lab::up_with("meddled", &[file.to_str().unwrap()], &[often]);
    let right = lab.probe(&[]);
    let tables = ["addresses4", "prefixes4", "endpoints", "classes"];
    let held = |lab: &Lab| tables.map(|table| dump(lab, table));
    let before = held(&lab);
    let maps = RealKernel::open(&lab.dir().join("node1/bpf"), 1).unwrap().maps;
    let meddled = meddle(&*maps);
    let begun = Instant::now();
    while meddled.iter().any(|name| map(&lab, name).mended == 0) || held(&lab) != before {
        assert!(begun.elapsed() < PATIENCE, "not mended: {:#?}", held(&lab));
        sleep(Duration::from_millis(100));
    }
    is_well(&lab, "node1");
    assert_eq!(lab.probe(&[]), right);
    let told = weft(&["status", "--lab", &lab.name]);
    let told = String::from_utf8(told.stdout).unwrap();
    for name in meddled {
        assert!(told.contains(&format!("node1: map {name}: ")), "{name} is not in\n{told}");
    }
    assert_eq!(map(&lab, "weft_addresses4").mended, 3);
    assert_eq!(map(&lab, "weft_classes").mended, 2);
}
