//! The plugin over the protocol: every command, what is missing, who does not answer.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test"
)]

mod support;

use serde_json::{Value, json};
use std::{
    path::Path,
    time::{Duration, Instant},
};
use support::{Netns, Node, call};

const ADDED: &[u8] = br#"{"ok":{"added":{"address":"10.244.0.7","gateway":"169.254.1.1","host_interface":"wl0123456789ab","host_mac":"02:77:65:66:74:01","mac":"02:57:0a:f4:00:07","mtu":1500}}}
"#;
const DONE: &[u8] = b"{\"ok\":\"done\"}\n";
const NOWHERE: &str = "/nonexistent/netns";

fn failure(kind: &str) -> Vec<u8> {
    format!("{{\"error\":{{\"kind\":\"{kind}\",\"message\":\"as told\"}}}}\n").into_bytes()
}

#[test]
fn without_a_command_it_says_what_it_is() {
    for variables in [vec![], vec![("CNI_COMMAND".into(), "".into())]] {
        let outcome = call(&variables, b"");
        assert!(outcome.success && outcome.output.is_none(), "{outcome:?}");
        assert!(outcome.stderr.contains("1.1.0") && outcome.stderr.contains("0.3.1"));
    }
}

#[test]
fn version_answers_in_the_version_of_who_asks() {
    let command = [("CNI_COMMAND".into(), "VERSION".into())];
    let spoken = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    for (stdin, version) in [
        (r#"{"cniVersion":"0.4.0"}"#, "0.4.0"),
        (r#"{"cniVersion":"1.1.0"}"#, "1.1.0"),
        (r#"{"cniVersion":"9.0.0"}"#, "1.1.0"),
        ("", "1.1.0"),
    ] {
        let outcome = call(&command, stdin.as_bytes());
        let wanted = json!({"cniVersion": version, "supportedVersions": spoken});
        assert!(outcome.success && outcome.output.as_ref() == Some(&wanted), "{outcome:?}");
    }
}

#[test]
fn what_is_missing_has_the_code_of_the_specification() {
    let node = Node::new();
    let config = node.config("1.1.0");
    for (command, left_out, code) in [
        ("ADD", "CNI_CONTAINERID", 4),
        ("ADD", "CNI_NETNS", 4),
        ("ADD", "CNI_IFNAME", 4),
        ("ADD", "CNI_ARGS", 4),
        ("DEL", "CNI_CONTAINERID", 4),
        ("DEL", "CNI_IFNAME", 4),
        ("CHECK", "CNI_NETNS", 4),
    ] {
        let mut variables = Node::variables(command, Path::new("/proc/self/ns/net"));
        variables.retain(|(name, _)| name != left_out);
        let outcome = call(&variables, config.to_string().as_bytes());
        assert_eq!(outcome.code(), Some(code), "{command} {left_out}");
        let named = if left_out == "CNI_ARGS" { "K8S_POD_NAMESPACE" } else { left_out };
        assert!(outcome.message().contains(named), "{outcome:?}");
    }
    let outcome = node.call("UPDATE", Path::new(NOWHERE), &config);
    assert!(outcome.code() == Some(4) && outcome.message().contains("UPDATE"), "{outcome:?}");
}

#[test]
fn configurations_that_cannot_be_used() {
    let node = Node::new();
    let netns = Path::new("/proc/self/ns/net");
    let with = |key: &str, value: Value| {
        let mut config = node.config("1.1.0");
        config[key] = value;
        config
    };
    for (command, config, code) in [
        ("DEL", with("cniVersion", json!("9.0.0")), 1),
        ("DEL", with("cniVersion", json!(1)), 6),
        ("DEL", with("name", json!("")), 7),
        ("DEL", with("socket", json!("agent.sock")), 7),
        ("CHECK", node.config("1.1.0"), 7),
        ("CHECK", with("prevResult", json!([])), 6),
        ("CHECK", with("prevResult", json!({"ips": {}})), 7),
        ("CHECK", node.config("0.3.1"), 1),
        ("STATUS", node.config("1.0.0"), 1),
        ("GC", node.config("1.0.0"), 1),
        (
            "GC",
            with("cni.dev/valid-attachments", json!([{"containerID": "", "ifname": "eth0"}])),
            7,
        ),
        ("GC", with("cni.dev/valid-attachments", json!({})), 6),
    ] {
        let outcome = node.call(command, netns, &config);
        assert_eq!(outcome.code(), Some(code), "{command} {config}: {outcome:?}");
    }
    for stdin in [&b""[..], b"{", b"[]", b"\xff", &[b' '; 2 << 20]] {
        assert_eq!(call(&Node::variables("DEL", netns), stdin).code(), Some(6));
    }
    assert_eq!(node.queued(), [""; 0]);
}

#[test]
fn a_namespace_that_is_none_is_refused_before_the_agent_is_asked() {
    let node = Node::new();
    let asked = node.agent(ADDED);
    for (netns, why) in [
        (NOWHERE, "No such file"),
        ("/proc/self/status", "no network namespace"),
        ("/proc/self/ns/mnt", ""),
        ("/proc/self/ns/net", "own"),
    ] {
        if why.is_empty() {
            // Every kind of namespace is on the same file system; the agent finds out.
            continue;
        }
        let outcome = node.call("ADD", Path::new(netns), &node.config("1.1.0"));
        assert_eq!(outcome.code(), Some(8), "{netns}: {outcome:?}");
        assert!(outcome.message().contains(why), "{outcome:?}");
    }
    assert!(asked.try_recv().is_err());
    // Who says that the plugin's own is meant has it.
    let mut variables = Node::variables("ADD", Path::new("/proc/self/ns/net"));
    variables.push(("CNI_NETNS_OVERRIDE".into(), "true".into()));
    let outcome = call(&variables, node.config("1.1.0").to_string().as_bytes());
    assert!(outcome.success, "{outcome:?}");
}

#[test]
fn root_add_and_check_are_asked_and_answered_in_each_version() {
    let Some(netns) = Netns::new() else { return };
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let node = Node::new();
        let asked = node.agent(ADDED);
        let outcome = node.call("ADD", &netns.path, &node.config(version));
        let result = outcome.output.as_ref().unwrap();
        assert!(outcome.success && result["cniVersion"] == version, "{outcome:?}");
        assert_eq!(result["ips"][0].get("version").is_some(), version.starts_with("0."));
        assert_eq!(result["interfaces"][1].get("mtu").is_some(), version == "1.1.0");
        assert_eq!(result["interfaces"][1]["sandbox"], netns.path.to_str().unwrap());
        let request = asked.recv().unwrap()["request"]["cni_add"].clone();
        assert_eq!(request["attachment"], json!({"container_id": "c0ffee", "interface": "eth0"}));
        assert_eq!(
            (&request["pod_namespace"], &request["pod_name"]),
            (&json!("shop"), &json!("web-0"))
        );
        if version.starts_with("0.3") {
            continue;
        }
        // The answer is no CHECK's, and an answer all the same: it is not refused.
        let mut config = node.config(version);
        config["prevResult"] = result.clone();
        let outcome = node.call("CHECK", &netns.path, &config);
        assert!(outcome.success && outcome.output.is_none(), "{outcome:?}");
        let request = asked.recv().unwrap()["request"]["cni_check"].clone();
        assert_eq!(request["addresses"], json!(["10.244.0.7"]));
    }
}

#[test]
fn root_a_link_that_another_plugin_made_is_taken_over() {
    let Some(netns) = Netns::new() else { return };
    let node = Node::new();
    let asked = node.agent(ADDED);
    let mut config = node.config("1.1.0");
    config["prevResult"] = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "veth7"}, {"name": "eth0", "sandbox": netns.path, "mac": "02:00:00:00:00:07"}],
        "ips": [{"address": "10.244.0.9/24", "gateway": "10.244.0.1", "interface": 1}],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {},
    });
    let outcome = node.call("ADD", &netns.path, &config);
    assert!(outcome.success, "{outcome:?}");
    assert_eq!(asked.recv().unwrap()["request"]["cni_add"]["adopt"], "10.244.0.9");
    assert_eq!(outcome.output, Some(config["prevResult"].clone()));

    // With no address there is nothing to know it by: nobody is asked.
    config["prevResult"]["ips"] = json!([]);
    let outcome = node.call("ADD", &netns.path, &config);
    assert!(outcome.code() == Some(7) && outcome.message().contains("eth0"), "{outcome:?}");
    assert!(asked.try_recv().is_err());
}

#[test]
fn root_what_the_agent_says_becomes_a_code() {
    let Some(netns) = Netns::new() else { return };
    for (kind, add, check, delete, status) in [
        ("try_again", 11, 11, None, 50),
        ("not_found", 3, 3, Some(100), 51),
        ("invalid", 7, 7, Some(100), 51),
        ("refused", 100, 101, Some(100), 51),
        ("internal", 100, 100, Some(100), 51),
    ] {
        let node = Node::new();
        let _asked = node.agent(&failure(kind));
        let mut config = node.config("1.1.0");
        config["prevResult"] = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "eth0", "sandbox": netns.path}],
            "ips": [{"address": "10.244.0.7/32", "interface": 0}],
        });
        for (command, code) in
            [("ADD", Some(add)), ("CHECK", Some(check)), ("DEL", delete), ("STATUS", Some(status))]
        {
            let config = if command == "ADD" { node.config("1.1.0") } else { config.clone() };
            let outcome = node.call(command, &netns.path, &config);
            assert_eq!(outcome.code(), code, "{kind} {command}: {outcome:?}");
        }
        // A DEL that the agent cannot do now waits for it.
        let waiting = if kind == "try_again" { vec!["c0ffee@eth0.json"] } else { vec![] };
        assert_eq!(node.queued(), waiting);
    }
}

#[test]
fn root_an_agent_that_is_away_is_told_quickly() {
    let Some(netns) = Netns::new() else { return };
    let node = Node::new();
    let mut config = node.config("1.1.0");
    config["prevResult"] = json!({
        "interfaces": [{"name": "eth0", "sandbox": netns.path}],
        "ips": [{"address": "10.244.0.7/32", "interface": 0}],
    });
    let begun = Instant::now();
    for (command, code) in [("ADD", 11), ("CHECK", 11), ("GC", 11), ("STATUS", 50)] {
        let config = if command == "ADD" { node.config("1.1.0") } else { config.clone() };
        let outcome = node.call(command, &netns.path, &config);
        assert_eq!(outcome.code(), Some(code), "{command}: {outcome:?}");
        assert!(outcome.message().contains("agent.sock"), "{outcome:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "four calls took {:?}", begun.elapsed());
}

#[test]
fn del_succeeds_without_agent_namespace_and_previous_result_and_waits_on_disk() {
    let node = Node::new();
    for version in ["0.3.1", "1.1.0", "1.1.0"] {
        let mut variables = Node::variables("DEL", Path::new(NOWHERE));
        variables.retain(|(name, _)| name != "CNI_ARGS" && name != "CNI_NETNS");
        let outcome = call(&variables, node.config(version).to_string().as_bytes());
        assert!(outcome.success && outcome.output.is_none(), "{outcome:?}");
    }
    assert_eq!(node.queued(), ["c0ffee@eth0.json"]);
    let written = std::fs::read(node.dir.path().join("delete-queue/c0ffee@eth0.json")).unwrap();
    // Golden: an agent of another release reads it.
    assert_eq!(written, br#"{"container_id":"c0ffee","interface":"eth0"}"#);

    // Where it cannot be written down, DEL says so.
    let mut config = node.config("1.1.0");
    config["queue"] = json!("/proc/self/nowhere");
    let outcome = node.call("DEL", Path::new(NOWHERE), &config);
    assert!(outcome.code() == Some(5) && outcome.message().contains("/proc/self"), "{outcome:?}");
}

#[test]
fn root_an_agent_that_talks_nonsense_is_an_error_and_no_more() {
    let Some(netns) = Netns::new() else { return };
    for answer in [&b"\n"[..], b"{}\n", b"", b"\xff\xfe\n", b"{\"ok\":{\"added\":{}}}\n", DONE] {
        let node = Node::new();
        let _asked = node.agent(answer);
        let outcome = node.call("ADD", &netns.path, &node.config("1.1.0"));
        assert!(matches!(outcome.code(), Some(11 | 100)), "{answer:?}: {outcome:?}");
    }
}

#[test]
fn the_caller_s_trace_reaches_the_agent() {
    let node = Node::new();
    let asked = node.agent(DONE);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut variables = Node::variables("DEL", Path::new(NOWHERE));
    for (given, same) in [(trace, true), ("nonsense", false)] {
        variables.push(("TRACEPARENT".into(), given.into()));
        assert!(call(&variables, node.config("1.1.0").to_string().as_bytes()).success);
        let told = asked.recv().unwrap()["traceparent"].as_str().unwrap().to_owned();
        // The call is a part of the caller's trace, or begins its own.
        assert_eq!(told[..35] == trace[..35], same, "{told}");
        assert_ne!(told, trace);
    }
}

/// A note, not a promise: a runtime starts the plugin for every call of every pod.
#[test]
fn how_long_a_start_takes_is_said() {
    let typical = |program: &str| {
        let mut times: Vec<Duration> = (0..21)
            .map(|_| {
                let begun = Instant::now();
                let mut command = std::process::Command::new(program);
                command.env("CNI_COMMAND", "VERSION").stdin(std::process::Stdio::null());
                assert!(command.output().unwrap().status.success());
                begun.elapsed()
            })
            .collect();
        times.sort();
        times[times.len() / 2]
    };
    let (plugin, nothing) = (env!("CARGO_BIN_EXE_weft-cni"), "/bin/true");
    let size = std::fs::metadata(plugin).unwrap().len();
    eprintln!("weft-cni {:?}, {nothing} {:?}; {size} bytes", typical(plugin), typical(nothing));
}
