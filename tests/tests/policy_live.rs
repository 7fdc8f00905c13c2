//! Live equals offline: what real connections find is what `weft policy matrix` computes and what the slow
//! evaluator reads from the API's words, for policy sets of every feature of NetworkPolicy.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use std::{collections::BTreeMap, thread, time::Instant};
use weft_tests::{
    lab::{Lab, Pair, is_root, rows, weft_reads},
    oracle::{Endpoint, Oracle, Port},
};

const PODS: &str = include_str!("policy_live/pods.yaml");

/// A policy's namespace and spec.
type Policy = (&'static str, &'static str);

/// The sets by name.
fn sets() -> Vec<(&'static str, Vec<Policy>)> {
    let mut sets: Vec<(&str, Vec<Policy>)> = Vec::new();
    for line in include_str!("policy_live/sets.txt").lines() {
        if let Some(name) = line.strip_prefix("= ") {
            sets.push((name, Vec::new()));
        } else if let (Some(set), Some(policy)) = (sets.last_mut(), line.split_once(" {")) {
            let (namespace, _) = policy;
            set.1.push((namespace, line.strip_prefix(namespace).unwrap()));
        }
    }
    sets
}

/// Where pods are and what addresses they got: what the lab knows and manifests do not say.
fn as_it_runs(lab: &Lab) -> (String, BTreeMap<String, String>) {
    let status = lab.status();
    let mut text = PODS.to_owned();
    let mut addresses = BTreeMap::new();
    for pod in status["pods"].as_array().unwrap() {
        let (name, address) = (pod["name"].as_str().unwrap(), pod["address"].as_str().unwrap());
        text = text.replace(&format!("ADDRESS({name})"), address);
        addresses.insert(name.to_owned(), address.to_owned());
    }
    assert!(!text.contains("ADDRESS("), "{text}");
    for process in status["processes"].as_array().unwrap() {
        if let (Some(name), Some(address)) = (process["name"].as_str(), process["address"].as_str())
        {
            text.push_str(&format!(
                "---\n{{apiVersion: v1, kind: Node, metadata: {{name: {name}}}, \
                 status: {{addresses: [{{type: InternalIP, address: {address}}}]}}}}\n"
            ));
        }
    }
    (text, addresses)
}

/// The documents of a set.
fn documents(number: usize, set: &[Policy], addresses: &BTreeMap<String, String>) -> String {
    let mut text = String::new();
    for (at, (namespace, spec)) in set.iter().enumerate() {
        let mut spec = (*spec).to_owned();
        for (pod, address) in addresses {
            spec = spec.replace(&format!("<{pod}>"), address);
        }
        assert!(!spec.contains('<'), "{spec}");
        text.push_str(&format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: set-{number}-{at}, namespace: {namespace}}}\nspec: {spec}\n"
        ));
    }
    text
}

/// What the evaluator says of the same pairs.
fn judged(cluster: &str, policies: &str, pairs: &BTreeMap<Pair, bool>) -> BTreeMap<Pair, bool> {
    let mut oracle = Oracle::parse(cluster).unwrap();
    oracle.add(policies).unwrap();
    let judge = |(from, to, protocol, port): &Pair| {
        let port = Port { protocol: protocol.clone(), number: u16::try_from(*port).unwrap() };
        let (from, to) = (Endpoint::Pod(from.clone()), Endpoint::Pod(to.clone()));
        oracle.judge(&from, &to, &port).unwrap().allowed()
    };
    pairs.keys().map(|pair| (pair.clone(), judge(pair))).collect()
}

/// The rows that `weft policy matrix` has for pods.
fn computed(cluster: &str, policies: &str) -> BTreeMap<Pair, bool> {
    let text = format!("{cluster}\n{policies}");
    let mut rows = rows(&weft_reads(&["policy", "matrix", "-f", "-", "-o", "json"], &text));
    rows.retain(|(from, to, ..), _| !from.starts_with("node:") && !to.starts_with("node:"));
    rows
}

/// What real connections find. A pair that should answer and did not is asked once more: on a busy machine an
/// answer can be late, while a pair that should not answer never does.
fn live(lab: &Lab, wanted: &BTreeMap<Pair, bool>) -> BTreeMap<Pair, bool> {
    let found = lab.probe(&[]);
    let late = |(pair, allowed): &(&Pair, &bool)| wanted.get(*pair) == Some(&true) && !**allowed;
    let leaks = |(pair, allowed): (&Pair, &bool)| wanted.get(pair) != Some(&true) && *allowed;
    match found.iter().filter(late).count() {
        0 => found,
        _ if found.iter().any(leaks) => found,
        late => {
            eprintln!("{late} answers were late or missing: asking again");
            lab.probe(&[])
        }
    }
}

#[test]
fn root_live_equals_offline() {
    if !is_root() {
        return;
    }
    let sets = sets();
    assert!(sets.len() >= 60 && sets.iter().all(|(_, set)| !set.is_empty()), "{sets:?}");
    let lab = Lab::named("live");
    // A pod without an address of its own is what a lab is given.
    let pods = PODS.lines().filter(|line| !line.starts_with("status:")).collect::<Vec<_>>();
    weft_reads(&["lab", "up", "--name", &lab.name, "-f", "-"], &pods.join("\n"));
    let (cluster, addresses) = as_it_runs(&lab);
    let open = lab.probe(&[]);
    assert!(open.len() == 60 && open.values().all(|allowed| *allowed), "{open:?}");
    let begun = Instant::now();
    let (mut denied, mut all) = (0, 0);
    let mut before: Option<String> = None;
    for (number, (name, set)) in sets.iter().enumerate() {
        let policies = documents(number, set, &addresses);
        // One set takes the place of another, as in a cluster that lives.
        lab.change("apply", &policies);
        if let Some(before) = before.replace(policies.clone()) {
            lab.change("delete", &before);
        }
        weft_reads(&["policy", "wait", "--lab", &lab.name], "");
        let wanted = judged(&cluster, &policies, &open);
        let (found, offline) = thread::scope(|scope| {
            let offline = scope.spawn(|| computed(&cluster, &policies));
            (live(&lab, &wanted), offline.join().unwrap())
        });
        assert_eq!(offline, wanted, "{name}: `policy matrix` and the evaluator, {policies}");
        assert_eq!(found, wanted, "{name}: the lab and the evaluator, {policies}");
        all += wanted.len();
        denied += wanted.values().filter(|allowed| !**allowed).count();
    }
    lab.change("delete", &before.unwrap());
    assert_eq!(live(&lab, &open), open, "without policies all is open again");
    eprintln!("{} sets in {:?}; {denied} of {all} rows denied", sets.len(), begun.elapsed());
    // A test whose every answer is the same would not notice much.
    assert!(denied * 4 > all && denied * 4 < all * 3, "{denied} of {all} rows denied");
}
