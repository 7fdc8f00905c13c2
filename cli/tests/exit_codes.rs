//! Exit codes of the fixed interface, command by command: 0 done, 1 no, 2 wrong usage, 3 could not reach or do it.
//! Needs no root: there is no lab, and nobody listens.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::{fmt::Write, process::Command};

const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples/shop.yaml");

/// Exit code, what standard error or output must say, the arguments; SHOP, BAD, NOTHING and DIR stand for paths.
const TABLE: &str = "
0 weft                   | --version
0 Usage                  | --help
2 Usage                  | 
2 unrecognized           | nonsense
2 --bogus                | status --bogus
0 shop/cart-0            | policy matrix -f SHOP
0 \"rows\"               | policy matrix -f SHOP -o json --port TCP/80 ICMP/8 --external dns=8.8.8.8
2 1 to 65535             | policy matrix -f SHOP --port TCP/0
2 ICMP type is from      | policy matrix -f SHOP --port ICMP/256
2 GRE                    | policy matrix -f SHOP --port GRE/1
2 NAME=IP                | policy matrix -f SHOP --external 8.8.8.8
2 given twice            | policy matrix -f SHOP --external a=8.8.8.8 --external a=8.8.4.4
2 possible values        | policy matrix -f SHOP -o yaml
2 --filename             | policy matrix
3 /nowhere.yaml          | policy matrix -f /nowhere.yaml
3 spec.bogus             | policy matrix -f BAD
0 allowed by             | policy explain -f SHOP --from shop/frontend-0 --to shop/cart-0 --port TCP/8080
0 denied                 | policy explain -f SHOP --from shop/frontend-0 --to shop/db-0 --port TCP/5432
2 --port                 | policy explain -f SHOP --from shop/frontend-0 --to shop/db-0
3 did you mean shop/frontend-0 | policy explain -f SHOP --from frontend-0 --to shop/db-0 --port TCP/5432
3 nobody                 | policy explain -f SHOP --from nobody --to shop/db-0 --port TCP/5432
0 objects: 2 Namespace, 4 NetworkPolicy, 6 Pod | policy validate -f SHOP
0 objects: none          | policy validate -f NOTHING
0 \"port\":7000          | policy matrix -f SHOP --port TCP/443,UDP/7000 ICMP/8 -o json
1 spec.bogus             | policy validate -f BAD
1 \"field\"              | policy validate -f BAD -o json
1 /nowhere.yaml          | policy validate -f /nowhere.yaml
2 GENERATION.INDEX       | policy wait --revision soon
2 use ms, s or m         | policy wait --timeout 1h
3 operator.sock          | policy wait
3 DIR/run/operator.sock  | policy wait --run-dir DIR/run
3 is lab none up?        | policy wait --lab none
3 agent.sock             | policy list
3 agent.sock             | status
2 leave it out           | status --node node1
2 leave it out           | flows --node node1 --run-dir DIR/run
3 is lab none up?        | status --lab none
3 agent.sock             | endpoint list
3 DIR/run/agent.sock     | identity list --run-dir DIR/run
3 agent.sock             | node list
3 agent.sock             | map list -o json
2 <NAME>                 | map dump
3 agent.sock             | map dump addresses4
3 agent.sock             | flows
2 no time                | flows --since yesterday
2 no verdict             | flows --verdict maybe
2 before the filter      | flows --not
2 cannot be used with    | flows --first 1 --last 1
0                        | lab list
0 []                     | lab list -o json
0 no lab                 | lab down
0 no lab none            | lab down --name none
2 lower-case             | lab up --name NO_SUCH_NAME
2 1..=200                | lab up --nodes 0
2 a store that they share | lab up --operators 3
2 possible values: file, etcd | lab up --store redis
2 comes with fabrics     | lab up --routing vxlan
2 lower-case             | lab up --store file --routing native --name NO_SUCH_NAME
2 no level               | lab up --log-level ,=
2 no level               | lab up --log-level noise
2 no level               | lab up --log-level info,noise
3 none is up             | lab status
3 none is up             | lab probe
2 PROTOCOL/PORT          | lab probe --port x
2 ICMP/8 can             | lab probe --port ICMP/13
3 none is up             | lab probe --port TCP/443,UDP/7000 ICMP/8
2 <TO>                   | lab stream shop/a
3 none is up             | lab stream shop/a shop/b
2 <COMMAND>              | lab exec shop/a
3 none is up             | lab exec shop/a -- true
3 none is up             | lab agent kill
3 none is up             | lab operator start
3 none is up             | lab node exec node1 -- true
2 --filename             | lab apply
3 none is up             | lab delete deployment shop/cart
";

#[test]
fn every_command_ends_with_the_code_that_the_interface_fixes() {
    let dir = tempfile::tempdir().unwrap();
    let bad = dir.path().join("bad.yaml");
    let policy = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, bogus: 1}\n";
    std::fs::write(&bad, policy).unwrap();
    let nothing = dir.path().join("nothing.yaml");
    std::fs::write(&nothing, "# a comment\n").unwrap();
    let mut wrong = String::new();
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        let place = |text: &str| {
            text.replace("SHOP", SHOP)
                .replace("BAD", bad.to_str().unwrap())
                .replace("NOTHING", nothing.to_str().unwrap())
                .replace("DIR", dir.path().to_str().unwrap())
        };
        let (expected, arguments) = line.split_once('|').expect("a column");
        let (code, part) = expected.split_once(' ').expect("a code");
        let output = Command::new(env!("CARGO_BIN_EXE_weft"))
            .args(place(arguments).split_whitespace())
            .env("WEFT_LAB_ROOT", dir.path().join("labs"))
            .env_remove("WEFT_RUN_DIR")
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let part = place(part.trim());
        if output.status.code() != code.parse().ok() || !said.contains(&part) {
            let code = output.status.code();
            writeln!(wrong, "{line}\n  ended with {code:?} and said {said:?}").unwrap();
        }
        assert!(!said.contains('\u{1b}'), "colours where no terminal is: {line}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Labs of nothing, as far as their records go.
fn labs(names: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in names {
        let dir = root.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let lab = serde_json::json!({"version": 1, "name": name, "operators": [], "nodes": [], "pods": [], "server": null});
        std::fs::write(dir.join("lab.json"), lab.to_string()).unwrap();
    }
    root
}

#[track_caller]
fn says(root: &tempfile::TempDir, arguments: &str, code: i32, part: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(arguments.split_whitespace())
        .env("WEFT_LAB_ROOT", root.path())
        .env_remove("WEFT_RUN_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments}: {said}");
    assert!(said.contains(part), "{arguments}: {said}");
    said
}

#[test]
fn who_does_not_say_which_of_several_labs_is_told_the_flag_that_says_it() {
    let root = labs(&["one", "two"]);
    for command in ["status", "flows", "policy wait", "lab status", "lab probe", "lab down"] {
        let said = says(&root, command, 3, "--lab: one, two");
        assert!(!said.contains("--name"), "{said}");
    }
    // The advice is good: each has the flag.
    for command in ["lab status --lab one", "status --lab one", "flows --lab one"] {
        let said = says(&root, command, if command.starts_with("lab") { 1 } else { 0 }, "");
        assert!(!said.contains("unexpected"), "{said}");
    }
    says(&root, "lab list -o json", 0, "\"name\": \"two\"");
}

#[test]
fn a_folder_of_sockets_that_is_named_is_asked_whatever_labs_there_are() {
    let root = labs(&["one"]);
    let said = says(&root, "status --run-dir /nowhere", 3, "/nowhere/agent.sock");
    assert!(!said.contains("--lab one"), "{said}");
    says(&root, "policy wait --run-dir /nowhere", 3, "/nowhere/operator.sock");
}

#[test]
fn a_record_that_cannot_be_read_is_told_with_the_way_out() {
    let root = labs(&["one"]);
    let record = root.path().join("one/lab.json");
    std::fs::write(&record, "{").unwrap();
    says(&root, "lab status", 3, "`weft lab down --lab one` takes it down");
    says(&root, "lab list", 0, "one");
    std::fs::remove_file(&record).unwrap();
    says(&root, "lab status", 3, "`weft lab down --lab one` tidies up");
}

#[test]
fn a_full_disk_is_told_of_as_what_it_is() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let output = Command::new(env!("CARGO_BIN_EXE_weft"))
        .args(["policy", "matrix", "-f", SHOP])
        .stdout(full)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("write to standard output: No space left"), "{said}");
}
