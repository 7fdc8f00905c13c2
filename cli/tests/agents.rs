//! Commands that ask agents, against sockets that answer like agents.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixListener,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};
use tempfile::TempDir;

/// A lab of nodes n0, n1… of which the first `answering` answer.
fn lab(nodes: usize, answering: usize) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("t");
    std::fs::create_dir(&dir).unwrap();
    let nodes: Vec<Value> = (0..nodes)
        .map(|n| {
            let socket = dir.join(format!("n{n}.sock"));
            if n < answering {
                listen(&socket, n);
            }
            json!({"name": format!("n{n}"), "address": "172.30.0.11", "pod_cidr": "10.244.1.0/24", "netns": "x",
                   "agent_socket": socket, "bpffs": "/nowhere", "process": null})
        })
        .collect();
    let lab = json!({"version": 1, "name": "t", "operators": [], "nodes": nodes, "pods": [], "server": null});
    std::fs::write(dir.join("lab.json"), lab.to_string()).unwrap();
    root
}

fn listen(socket: &Path, node: usize) {
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let request: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
                let mut answers = String::new();
                for answer in answer(&request["request"], node) {
                    answers += &format!("{answer}\n");
                }
                (&stream).write_all(answers.as_bytes()).unwrap();
                // A follower is left to wait; it goes when it likes.
                if request["request"]["flows"]["follow"] == json!(true) {
                    drop((&stream).read_to_end(&mut Vec::new()));
                }
            });
        }
    });
}

/// Node n has flows at seconds n, n + 2, n + 4…
fn answer(request: &Value, node: usize) -> Vec<String> {
    if let Some(flows) = request.get("flows") {
        let many = (0..5).map(|k| {
            let second = node + 2 * k;
            let verdict = if second == 3 { "DROPPED" } else { "FORWARDED" };
            let flow = json!({"flow": {"time": format!("2026-07-30T12:34:{second:02}Z"), "verdict": verdict,
                "Type": "L3_L4", "node_name": format!("c/n{node}"), "Summary": format!("s{second}")}});
            json!({"ok": flow}).to_string()
        });
        // Node 7 has had a burst.
        if node == 7 {
            return vec![json!({"ok": {"events_lost": 9}}).to_string(), "\"end\"".to_owned()];
        }
        let end = if flows["follow"] == json!(true) { None } else { Some("\"end\"".to_owned()) };
        return many.chain(end).collect();
    }
    let answer = match request.as_str().unwrap() {
        "identities" => json!({"identities": [{"identity": 300, "labels": ["k8s:app=cart"]},
            {"identity": 301 + node, "labels": ["k8s:app=other"]}]}),
        "nodes" => {
            json!({"nodes": [{"name": "n0", "address": "172.30.0.11", "pod_cidrs": ["10.244.1.0/24"]}]})
        }
        "status" => json!({"status": {"node": format!("n{node}"), "version": "1", "healthy": true,
            "received": "1.1", "realised": "1.1", "epoch": 1, "operator": null, "actors": [], "problems": []}}),
        other => panic!("{other}"),
    };
    vec![json!({"ok": answer}).to_string()]
}

fn weft(root: &TempDir, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft"));
    command.args(arguments.split_whitespace()).env("WEFT_LAB_ROOT", root.path());
    command
}

fn run(root: &TempDir, arguments: &str) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = weft(root, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// What stands between the last parentheses of each line.
fn summaries(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.rsplit_once('(').unwrap().1.trim_end_matches(')')).collect()
}

#[test]
fn flows_of_all_nodes_are_merged_by_time() {
    let root = lab(2, 2);
    let (code, out, err) = run(&root, "flows --all");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(summaries(&out), ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9"]);
    assert_eq!(summaries(&run(&root, "flows --last 2").1), ["s8", "s9"]);
    assert_eq!(summaries(&run(&root, "flows --first 2").1), ["s0", "s1"]);
    assert_eq!(summaries(&run(&root, "flows --last 1 --node n0").1), ["s8"]);
    assert_eq!(summaries(&run(&root, "flows --verdict DROPPED").1), ["s3"]);
    assert_eq!(summaries(&run(&root, "flows --last 1 --not --node-name n1").1), ["s8"]);
    let between = "flows --since 2026-07-30T12:34:02Z --until 2026-07-30T12:34:03Z";
    assert_eq!(summaries(&run(&root, between).1), ["s2", "s3"]);
    let (_, json, _) = run(&root, "flows -o json --verdict DROPPED");
    let line: Value = serde_json::from_str(json.trim()).unwrap();
    assert_eq!(line["node_name"], "c/n1");
    assert_eq!(line["flow"]["verdict"], "DROPPED");
}

#[test]
fn an_agent_that_is_away_is_a_warning_and_all_of_them_an_error() {
    let root = lab(2, 1);
    let (code, out, err) = run(&root, "flows --all");
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(summaries(&out).len(), 5);
    assert!(err.contains("warning") && err.contains("n1.sock"), "{err}");
    let (code, out, err) = run(&root, "identity list -o json");
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap().as_array().unwrap().len(), 2);
    assert!(err.contains("warning") && err.contains("n1.sock"), "{err}");
    let root = lab(2, 0);
    let commands =
        ["flows", "flows -f", "identity list", "node list", "map list", "map dump x", "status"];
    for command in commands {
        let (code, out, err) = run(&root, command);
        assert_eq!((code, out.as_str()), (Some(3), ""), "{command}: {err}");
        assert!(err.contains(".sock"), "{command}: {err}");
    }
    // Of one agent alone, that is one error and not a warning beside it.
    let (_, _, err) = run(&root, "flows --node n1");
    assert_eq!(err.matches("n1.sock").count(), 1, "{err}");
    assert_eq!(run(&root, "flows --verdict maybe").0, Some(2), "wrong usage");
}

#[test]
fn the_status_has_a_row_for_an_agent_that_is_away() {
    let root = lab(2, 1);
    let (code, out, _) = run(&root, "status");
    assert_eq!(code, Some(1), "{out}");
    let row = |node: &str| out.lines().find(|line| line.starts_with(node)).map(str::to_owned);
    assert!(row("n0").is_some_and(|row| row.contains("ok")), "{out}");
    assert!(row("n1").is_some_and(|row| row.contains("away")), "{out}");
    assert!(out.contains("weft lab agent start --lab t --node n1"), "{out}");
    let (code, out, _) = run(&root, "status -o json");
    let rows: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (code, &rows[0]["healthy"], &rows[1]["healthy"]),
        (Some(1), &json!(true), &json!(false))
    );
    assert_eq!(rows[1]["node"], "n1");
    assert!(rows[1]["problems"][0].as_str().unwrap().contains("n1.sock"), "{out}");
    // As in the table: this lab has no operator.
    let kinds: Vec<&str> =
        rows.as_array().unwrap().iter().map(|row| row["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["agent", "agent", "operator"]);
    let told = rows[2]["problems"][0].as_str().unwrap();
    assert!(told.contains("find an operator of lab t"), "{told}");
}

#[test]
fn what_was_lost_is_a_line_of_the_answer_as_in_hubble() {
    let root = lab(8, 8);
    let (code, out, _) = run(&root, "flows --node n7");
    assert_eq!(code, Some(0));
    assert!(out.ends_with(" EVENTS LOST: PERF_EVENT_RING_BUFFER CPU(0) 9\n"), "{out}");
    let (_, out, _) = run(&root, "flows --node n7 -o json");
    let line: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(line["lost_events"]["num_events_lost"], "9");
    assert_eq!(line["node_name"], "n7");
}

#[test]
fn that_there_is_nothing_to_show_is_said() {
    let root = lab(2, 2);
    let (code, out, err) = run(&root, "flows --to-port 1");
    assert_eq!((code, out.as_str()), (Some(0), ""));
    assert_eq!(err, "no flows to show, of 10 that the nodes have\n");
}

#[test]
fn what_several_nodes_say_is_said_once() {
    let root = lab(2, 2);
    let (_, out, _) = run(&root, "identity list");
    // Agents know not who refers to a number.
    assert!(out.starts_with("IDENTITY  LABELS\n"), "{out}");
    let numbers: Vec<&str> =
        out.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(numbers, ["300", "301", "302"]);
    let (_, out, _) = run(&root, "node list");
    assert_eq!(out, "NODE  ADDRESS      POD CIDRS\nn0    172.30.0.11  10.244.1.0/24\n");
}

#[test]
fn following_ends_well_at_an_interrupt_and_when_nobody_reads_on() {
    let root = lab(2, 2);
    let mut child = weft(&root, "flows -f").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(summaries(&lines.next().unwrap().unwrap()), ["s0"]);
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let mut child =
        weft(&root, "flows --all").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), stderr.len()), (Some(0), 0));
}

/// The agent ends after a flow and comes back with that one and another: who follows gets each once.
#[test]
fn following_goes_on_when_an_agent_is_back() {
    let root = lab(1, 0);
    let listener = UnixListener::bind(root.path().join("t/n0.sock")).unwrap();
    thread::spawn(move || {
        for (life, stream) in listener.incoming().flatten().enumerate() {
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            // After now: only what is new is asked for.
            for second in 0..=life {
                let flow = json!({"time": format!("2500-01-01T00:00:{second:02}Z"), "verdict": "FORWARDED",
                    "Type": "L3_L4", "Summary": format!("s{second}")});
                writeln!(&stream, "{}", json!({"ok": {"flow": flow}})).unwrap();
            }
            if life > 0 {
                drop((&stream).read_to_end(&mut Vec::new()));
            }
        }
    });
    let mut child =
        weft(&root, "flows -f").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
    let next = || told.recv_timeout(std::time::Duration::from_secs(30)).unwrap();
    assert_eq!(summaries(&next()), ["s0"]);
    assert_eq!(summaries(&next()), ["s1"]);
    child.kill().unwrap();
    let said = child.wait_with_output().unwrap().stderr;
    let said = String::from_utf8(said).unwrap();
    assert_eq!(said.matches("its flows go on when it is back").count(), 1, "{said}");
}

#[test]
fn nobody_who_reads_is_no_reason_to_panic() {
    let root = lab(2, 1);
    let manifests = root.path().join("pods.yaml");
    let pod = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n\
             spec: {{containers: [{{name: c, image: i, ports: [{{containerPort: 80}}]}}]}}\n---\n"
        )
    };
    let strange = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n";
    std::fs::write(&manifests, [pod("a"), pod("b"), strange.to_owned()].concat()).unwrap();
    let file = manifests.display();
    for (arguments, code) in [
        (format!("policy matrix -f {file}"), 0),
        (format!("policy matrix -f {file} -o json"), 0),
        (format!("policy explain -f {file} --from default/a --to default/b --port TCP/80"), 0),
        (format!("policy validate -f {file} -o json"), 0),
        ("identity list".to_owned(), 0),
        ("lab list".to_owned(), 0),
        ("lab status".to_owned(), 1),
        ("node list --node none".to_owned(), 3),
    ] {
        // Pipes whose other end is closed before anything is written, one for each output.
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        };
        let status = weft(&root, &arguments).stdout(closed()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{arguments}");
    }
}

#[test]
fn what_to_do_about_it_follows_what_went_wrong() {
    let root = lab(1, 0);
    let (code, _, err) = run(&root, "node list");
    assert_eq!(code, Some(3));
    let start = "it does not run: start it with `weft lab agent start --lab t --node n0`";
    assert!(err.contains("connect to") && err.contains(start), "{err}");
    // Who answered that it cannot is up.
    let socket = root.path().join("t/n0.sock");
    let listener = UnixListener::bind(socket).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
            let failure = json!({"error": {"kind": "refused", "message": "not now"}});
            stream.write_all(format!("{failure}\n").as_bytes()).unwrap();
        }
    });
    let (code, _, err) = run(&root, "node list");
    assert_eq!(code, Some(3));
    assert!(err.contains("not now") && !err.contains("start it"), "{err}");
}

#[test]
fn the_version_says_what_it_speaks() {
    let root = tempfile::tempdir().unwrap();
    let (code, out, _) = run(&root, "--version");
    assert_eq!(code, Some(0));
    for part in ["weft 0.", "(commit ", ", ABI ", ", wire ", ", local API "] {
        assert!(out.contains(part), "{part} is not in {out}");
    }
}
