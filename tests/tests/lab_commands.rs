//! Commands of manifests run only when asked to, and then can do little.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::{
    fs, thread,
    time::{Duration, Instant},
};
use weft_tests::lab::{Lab, is_root, weft_reads};

/// What the command says of itself, and then it stays.
const TOLD: &str = r#"
id -u; id -g; id -G; echo pid $$; hostname 2>/dev/null || cat /proc/sys/kernel/hostname
grep -E '^(CapInh|CapPrm|CapEff|CapAmb|NoNewPrivs|Uid)' /proc/self/status
echo root: $(ls /); echo run: $(ls /run 2>/dev/null); echo processes: $(ls /proc | grep -c '^[0-9]')
for place in /x /usr/x /etc/x /proc/sys/net/ipv4/ip_forward /dev/x; do (echo 1 > $place) 2>/dev/null && echo wrote $place; done
echo 1 > /tmp/x && echo wrote /tmp/x
cat /etc/shadow 2>/dev/null && echo read /etc/shadow
echo devices: $(grep -c : /proc/net/dev)
echo that is all
exec sleep 1000
"#;

fn pods(script: &str) -> String {
    let script = script.replace('\n', "\n    ");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: told, namespace: x, labels: {{app: told}}}}\nspec:\n  containers:\n  - \
         name: c\n    image: i\n    ports: [{{containerPort: 80}}]\n    command: [sh, -c]\n    args:\n    - |\n      {}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: other, namespace: x}}\n\
         spec: {{containers: [{{name: c, image: i, ports: [{{containerPort: 80}}]}}]}}\n",
        script.trim().replace("\n    ", "\n      ")
    )
}

#[track_caller]
fn log(lab: &Lab, end: &str) -> String {
    let path = lab.dir().join("pod-x-told.log");
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let text = fs::read_to_string(&path).unwrap_or_default();
        if text.lines().any(|line| line == end) {
            return text;
        }
        assert!(Instant::now() < until, "no {end:?}: {text}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn root_a_command_gets_little() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("told");
    weft_reads(&["lab", "up", "--name", &lab.name, "--run-commands", "-f", "-"], &pods(TOLD));
    let text = log(&lab, "that is all");
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..5], ["65534", "65534", "65534", "pid 1", "told"], "{text}");
    for line in ["CapInh:\t0000000000000000", "CapPrm:\t0000000000000000"] {
        assert!(lines.contains(&line), "{text}");
    }
    for line in ["CapEff:\t0000000000000000", "CapAmb:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(lines.contains(&line), "{text}");
    }
    assert!(lines.contains(&"Uid:\t65534\t65534\t65534\t65534"), "{text}");
    let root = lines.iter().find_map(|line| line.strip_prefix("root: ")).unwrap();
    let shown =
        ["bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "tmp", "usr"];
    assert!(root.split(' ').all(|name| shown.contains(&name)), "{text}");
    assert!(lines.contains(&"run:"), "{text}");
    let processes = lines.iter().find_map(|line| line.strip_prefix("processes: ")).unwrap();
    assert!(processes.parse::<u32>().unwrap() <= 4, "{text}");
    let wrote: Vec<&&str> = lines.iter().filter(|line| line.starts_with("wrote")).collect();
    assert_eq!(wrote, [&"wrote /tmp/x"], "{text}");
    assert!(!text.contains("read /etc/shadow"), "{text}");
    // Its network is its pod's: lo and eth0.
    assert!(lines.contains(&"devices: 2"), "{text}");
    assert_eq!(lab.pod("x/told")["command"], "runs");

    // It serves nothing, but its refusal is an answer; a policy leaves none.
    assert_eq!(lab.reaches("x/other", "x/told", "TCP", 80), Some(true));
    assert_eq!(lab.reaches("x/told", "x/other", "TCP", 80), Some(true));
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, \
                  metadata: {name: closed, namespace: x}, spec: {podSelector: {matchLabels: {app: told}}}}";
    lab.change("apply", policy);
    assert_eq!(lab.reaches("x/other", "x/told", "TCP", 80), Some(false));
    lab.change("delete", policy);

    // Another command takes its place; without the flag it stays.
    let again = pods("echo again; exec sleep 1000");
    weft_reads(&["lab", "apply", "--name", &lab.name, "--run-commands", "-f", "-"], &again);
    log(&lab, "again");
    lab.change("apply", &pods("echo never; exec sleep 1000"));
    assert_eq!(lab.pod("x/told")["command"], "runs");
    assert!(!log(&lab, "again").contains("never"));

    let begun = Instant::now();
    lab.does(&["delete", "pod", "x/told"]);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn root_without_the_flag_no_command_runs() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("untold");
    lab.change("up", &pods(TOLD));
    assert_eq!(lab.pod("x/told")["command"], serde_json::Value::Null);
    assert!(!lab.dir().join("pod-x-told.log").exists());
    assert_eq!(lab.reaches("x/other", "x/told", "TCP", 80), Some(true));
}

#[test]
fn root_a_pod_whose_command_ended_or_whose_namespace_is_gone_is_not_well() {
    if !is_root() {
        return;
    }
    let lab = Lab::named("unwell");
    weft_reads(&["lab", "up", "--name", &lab.name, "--run-commands", "-f", "-"], &pods("exit 1"));
    let told = || lab.pod("x/told")["problem"].clone();
    let until = Instant::now() + Duration::from_secs(20);
    while told() != "its command ended" {
        assert!(Instant::now() < until, "{}", lab.status());
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(lab.pod("x/other")["problem"], serde_json::Value::Null);
    let namespace = lab.pod("x/other")["netns"].as_str().unwrap().to_owned();
    let gone = std::process::Command::new("ip").args(["netns", "delete", &namespace]).status();
    assert!(gone.unwrap().success());
    let status = lab.run(&["status"]);
    let table = String::from_utf8(status.stdout).unwrap();
    assert_eq!(status.status.code(), Some(1), "{table}");
    let row = table.lines().find(|line| line.starts_with("x/other")).unwrap();
    assert!(row.ends_with("its network namespace is gone"), "{table}");
}
