//! What a run asked and was answered, as a file: whether an order explains it, the command says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::{fs, path::Path, process::Command};
use weft_sim::{Action, Operation, Outcome, Sabotage, Scenario, run, write};

/// The command's exit code, and what it prints.
fn check(name: &str, history: &[Operation]) -> (Option<i32>, String) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.jsonl"));
    write(history, fs::File::create(&file).unwrap()).unwrap();
    let command = Command::new(env!("CARGO_BIN_EXE_weft-sim")).arg("check").arg(&file).output();
    let output = command.unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn the_history_of_a_run_is_linearizable_until_an_answer_is_changed() {
    let report = run(&Scenario::find("partition").unwrap(), 1, Sabotage::None);
    assert!(report.holds(), "{report}");
    let (code, told) = check("good", &report.history);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(": linearizable"), "{told}");
    let mut changed = report.history;
    let seen = changed.iter_mut().rev().find_map(|operation| match &mut operation.outcome {
        Outcome::Value(Some(value)) => Some(value),
        _ => None,
    });
    "never written".clone_into(seen.expect("somebody saw something"));
    let (code, told) = check("changed", &changed);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("never written"), "{told}");
}

#[test]
fn a_run_has_writes_looks_and_numbers_in_its_history() {
    let report = run(&Scenario::find("leader-kill").unwrap(), 2, Sabotage::None);
    let count = |is: fn(&Action) -> bool| {
        report.history.iter().filter(|operation| is(&operation.operation)).count()
    };
    let writes = count(|action| matches!(action, Action::Write(_)));
    assert!(writes as u64 >= report.counts.answers);
    assert!(count(|action| matches!(action, Action::Read(_))) > 50);
    assert!(count(|action| matches!(action, Action::Number(_))) > 20);
}

#[test]
fn what_is_no_history_is_told() {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("none.jsonl");
    fs::write(&file, "{}\n").unwrap();
    let command = Command::new(env!("CARGO_BIN_EXE_weft-sim")).arg("check").arg(&file).output();
    let output = command.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stderr).unwrap().contains("line 1: missing field"));
}
