//! Histories that are linearizable, and histories that are not.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]
use super::*;

fn operation(client: &str, call: u64, returned: u64, what: Action, outcome: Outcome) -> Operation {
    let returned = (outcome != Outcome::Unknown).then_some(returned);
    Operation { client: client.to_owned(), call, returned, operation: what, outcome }
}

fn write(client: &str, call: u64, end: u64, value: &str, outcome: Outcome) -> Operation {
    let value = (value != "-").then(|| value.to_owned());
    let objects = BTreeMap::from([("x".to_owned(), value)]);
    operation(client, call, end, Action::Write(objects), outcome)
}

fn put(client: &str, call: u64, end: u64, value: &str) -> Operation {
    write(client, call, end, value, Outcome::Done)
}

fn read(client: &str, call: u64, end: u64, value: &str) -> Operation {
    let value = (value != "-").then(|| value.to_owned());
    operation(client, call, end, Action::Read("x".to_owned()), Outcome::Value(value))
}

fn number(client: &str, call: u64, end: u64, labels: &str, number: u32) -> Operation {
    let number = (number > 0).then_some(number);
    let what = Action::Number(labels.to_owned());
    operation(client, call, end, what, Outcome::Number(number))
}

fn allocate(client: &str, call: u64, end: u64, labels: &str) -> Operation {
    operation(client, call, end, Action::Allocate(labels.to_owned()), Outcome::Done)
}

#[track_caller]
fn holds(history: &[Operation]) {
    assert_eq!(check(history).faults, []);
}

#[track_caller]
fn fails(history: &[Operation], says: &str) {
    let faults = check(history).faults;
    assert!(faults.iter().any(|fault| fault.to_string().contains(says)), "{faults:?}");
}

#[test]
fn a_read_sees_what_was_written_before_it() {
    holds(&[read("b", 0, 1, "-"), put("a", 2, 3, "1"), read("b", 4, 5, "1")]);
    fails(&[put("a", 2, 3, "1"), read("b", 4, 5, "-")], "x held 1");
    fails(&[read("b", 0, 1, "1"), put("a", 2, 3, "1")], "x held nothing");
}

#[test]
fn what_is_under_way_may_be_seen_or_not_but_not_first_seen_and_then_not() {
    holds(&[put("a", 0, 9, "1"), read("b", 1, 2, "1"), read("c", 3, 4, "1")]);
    holds(&[put("a", 0, 9, "1"), read("b", 1, 2, "-"), read("c", 3, 4, "1")]);
    fails(&[put("a", 0, 9, "1"), read("b", 1, 2, "1"), read("c", 3, 4, "-")], "x held 1");
    // Reads that overlap may be in either order.
    holds(&[put("a", 0, 9, "1"), read("b", 1, 4, "1"), read("c", 3, 5, "-")]);
}

#[test]
fn writes_that_overlap_have_one_order_for_all() {
    let writes = [put("a", 0, 9, "1"), put("b", 0, 9, "2")];
    let seen = |values: &[&str]| -> Vec<Operation> {
        let reads =
            values.iter().zip(0..).map(|(value, at)| read("c", 10 + 2 * at, 11 + 2 * at, value));
        writes.iter().cloned().chain(reads).collect()
    };
    holds(&seen(&["1", "1"]));
    holds(&seen(&["2", "2"]));
    fails(&seen(&["1", "2"]), "no order");
}

#[test]
fn what_nobody_knows_may_be_so_late_or_never() {
    let unknown = |value| write("a", 0, 0, value, Outcome::Unknown);
    holds(&[unknown("1"), read("b", 5, 6, "-"), read("b", 7, 8, "-")]);
    holds(&[unknown("1"), read("b", 5, 6, "-"), read("b", 7, 8, "1")]);
    fails(&[unknown("1"), read("b", 7, 8, "1"), read("b", 9, 10, "-")], "no order");
    // Not before it was called, not twice, and not when it failed.
    let late = Operation { call: 20, ..unknown("1") };
    fails(&[late, read("b", 5, 6, "1")], "no order");
    let twice = [unknown("1"), put("b", 1, 2, "2"), read("c", 3, 4, "1"), put("b", 5, 6, "2")];
    holds(&twice);
    let twice = [twice.as_slice(), &[read("c", 7, 8, "1")]].concat();
    fails(&twice, "no order");
    fails(&[write("a", 0, 1, "1", Outcome::Failed), read("b", 5, 6, "1")], "no order");
}

#[test]
fn a_removal_is_a_write() {
    holds(&[put("a", 0, 1, "1"), put("a", 2, 3, "-"), read("b", 4, 5, "-")]);
    fails(&[put("a", 0, 1, "1"), put("a", 2, 3, "-"), read("b", 4, 5, "1")], "x held nothing");
}

#[test]
fn a_label_set_has_one_number_from_then_on() {
    holds(&[number("a", 0, 1, "s", 0), allocate("b", 2, 3, "s"), number("a", 4, 5, "s", 7)]);
    holds(&[number("a", 0, 1, "s", 7), number("b", 2, 3, "s", 7)]);
    fails(&[number("a", 0, 1, "s", 7), number("b", 2, 3, "s", 8)], "the number of s held 7");
    fails(&[allocate("a", 0, 1, "s"), number("b", 2, 3, "s", 0)], "held a number");
    // A copy may be old.
    holds(&[allocate("a", 1, 2, "s"), number("b", 0, 3, "s", 0)]);
}

#[test]
fn a_number_has_one_label_set() {
    holds(&[number("a", 0, 1, "s", 7), number("b", 0, 1, "t", 8)]);
    fails(&[number("a", 0, 1, "s", 7), number("b", 5, 6, "t", 7)], "number 7 held s");
}

#[test]
fn until_it_is_free() {
    let free = |call, end, labels: &str| {
        let what = Action::Free { labels: labels.to_owned(), number: 7 };
        operation("group", call, end, what, Outcome::Done)
    };
    let history = |from, until| {
        let before = [number("a", 0, 1, "s", 7), free(from, until, "s")];
        [&before[..], &[number("b", 10, 11, "t", 7), number("b", 12, 13, "s", 8)]].concat()
    };
    holds(&history(5, 6));
    holds(&history(5, 20));
    fails(&history(12, 20), "number 7 held s");
    fails(&[history(5, 6), vec![number("c", 14, 15, "s", 7)]].concat(), "the number of s held 8");
    let gone = [free(1, 2, "s"), number("b", 5, 6, "s", 0)];
    holds(&gone);
    holds(&[&[number("a", 0, 1, "s", 7)], &gone[..]].concat());
    fails(&[&gone[..1], &[number("c", 3, 4, "s", 7)], &gone[1..]].concat(), "held 7");
}

#[test]
fn objects_label_sets_and_numbers_are_registers_of_their_own() {
    let checked = check(&[put("a", 0, 1, "1"), number("a", 2, 3, "x", 7), read("a", 4, 5, "1")]);
    assert_eq!((checked.operations, checked.registers, checked.faults.len()), (3, 3, 0));
}

/// What one register that is worked on one operation after another answers, with times that are wider than it took.
fn random(rng: &mut fastrand::Rng) -> Vec<Operation> {
    let mut value = "-".to_owned();
    (1..=40)
        .map(|at| {
            let (call, end) = (at * 10 - rng.u64(0..9), at * 10 + rng.u64(0..25));
            match rng.u8(0..4) {
                0 => {
                    value = rng.u8(0..4).to_string();
                    put("w", call, end, &value)
                }
                1 => {
                    value = "-".to_owned();
                    put("w", call, end, "-")
                }
                _ => read("r", call, end, &value),
            }
        })
        .collect()
}

#[test]
fn what_one_register_answers_is_linear_and_other_answers_are_as_all_orders_say() {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut broken = 0;
    for _ in 0..300 {
        let history = random(&mut rng);
        holds(&history);
        // With an answer changed it is as trying every order says.
        let mut changed = history[..7].to_vec();
        let at = rng.usize(0..7);
        if let Outcome::Value(value) = &mut changed[at].outcome {
            *value = Some(rng.u8(0..4).to_string());
        }
        let linear = check(&changed).faults.is_empty();
        assert_eq!(linear, any_order(&changed, Held::Nothing), "{changed:#?}");
        broken += u32::from(!linear);
    }
    assert!(broken > 20, "{broken}");
}

/// Tries every order there is.
fn any_order(left: &[Operation], held: Held) -> bool {
    if left.is_empty() {
        return true;
    }
    let first_end = left.iter().filter_map(|operation| operation.returned).min().unwrap();
    (0..left.len()).any(|at| {
        let operation = &left[at];
        let step = match (&operation.operation, &operation.outcome) {
            (Action::Write(objects), _) => objects["x"].as_deref().map_or(Step::Remove, Step::Put),
            (_, Outcome::Value(seen)) => Step::Read(seen.as_deref()),
            _ => unreachable!(),
        };
        let rest = [&left[..at], &left[at + 1..]].concat();
        operation.call <= first_end && held.after(step).is_some_and(|held| any_order(&rest, held))
    })
}

#[test]
fn many_unknown_writes_do_not_tire_it() {
    let unknown = (0..200).map(|at| write("a", at, 0, &(at % 5).to_string(), Outcome::Unknown));
    let reads = (0..200).map(|at| read("b", 1000 + 2 * at, 1001 + 2 * at, &(at % 5).to_string()));
    let mut history: Vec<Operation> = unknown.chain(reads).collect();
    holds(&history);
    history.push(read("b", 5000, 5001, "9"));
    assert_eq!(check(&history).faults.len(), 1);
}
