//! `weft lab stream`: it goes on without an agent, and ends where a policy ends it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test")]

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{thread::sleep, time::Duration};
use weft_tests::lab::{Lab, example, is_root};

const PAIR: [&str; 2] = ["shop/frontend-0", "shop/cart-1"];
/// Other tests keep the machine busy: only what never comes back is silent.
const PATIENT: [&str; 2] = ["--patience", "20s"];

#[test]
fn root_a_stream_loses_nothing_until_a_policy_ends_it() {
    if !is_root() {
        return;
    }
    let lab = Lab::up("stream", &[&example("shop.yaml")]);

    // As much as it was told to, faster than it could ever be sent: the connection sets the pace.
    let arguments = [&PAIR[..], &PATIENT, &["--bytes", "20m", "--rate", "10g"]].concat();
    let (code, report) = lab.stream(&arguments).end();
    assert_eq!(code, Some(0), "{report}");
    assert_eq!((&report["sent"], &report["back"]), (&20_000_000.into(), &20_000_000.into()));
    assert_eq!((&report["lost"], &report["ended"]), (&0.into(), &"done".into()));

    // On a port that nobody declares, as datagrams.
    let arguments = ["monitoring/scraper", "shop/cart-1:9100", "--udp", "--bytes", "100k"];
    let (code, report) = lab.stream(&arguments).end();
    assert_eq!(code, Some(1), "UDP is not what metrics-from-monitoring allows: {report}");
    let arguments = ["shop/cart-1", "monitoring/scraper:9191", "--udp", "--bytes", "102400"];
    let (code, report) = lab.stream(&[&arguments[..], &PATIENT].concat()).end();
    assert_eq!((code, &report["back"]), (Some(0), &102_400.into()), "{report}");

    // Ctrl-C ends it like anything else does.
    let stream = lab.stream(&[&PAIR[..], &PATIENT].concat());
    sleep(Duration::from_millis(300));
    kill(Pid::from_raw(stream.pid().try_into().unwrap()), Signal::SIGINT).unwrap();
    let (code, report) = stream.end();
    assert_eq!((code, &report["ended"], &report["lost"]), (Some(0), &"done".into(), &0.into()));
    assert!(report["sent"].as_u64().unwrap() > 0, "{report}");

    // The agents go and come back under it, then a policy denies it.
    let stream = lab.stream(&[&PAIR[..], &["--patience", "3s"]].concat());
    for node in ["node1", "node2"] {
        lab.does(&["agent", "kill", "--node", node]);
        sleep(Duration::from_millis(300));
        lab.does(&["agent", "start", "--node", node]);
    }
    lab.does(&["apply", "-f", &example("deny.yaml")]);
    let (code, report) = stream.end();
    assert_eq!((code, &report["ended"]), (Some(1), &"silent".into()), "{report}");
    assert!(report["back"].as_u64().unwrap() > 100_000, "{report}");
    assert!(report["longest_gap_ms"].as_u64().unwrap() < 2_900, "{report}");

    // A new one is not even opened, until the policy goes.
    let (code, report) = lab.stream(&[&PAIR[..], &["--patience", "500ms"]].concat()).end();
    assert_eq!(code, Some(1), "{report}");
    assert!(report["ended"]["unopened"].is_string(), "{report}");
    lab.does(&["delete", "-f", &example("deny.yaml")]);
    let (code, report) =
        lab.stream(&[&PAIR[..], &PATIENT, &["--duration", "300ms"]].concat()).end();
    assert_eq!((code, &report["lost"]), (Some(0), &0.into()), "{report}");
}
