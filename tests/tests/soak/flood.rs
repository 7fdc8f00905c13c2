//! Flows that nobody answers, more than the table of the unanswered has room for, all the time.

use crate::cluster::NODES;
use serde_json::{Value, json};
use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{JoinHandle, sleep, spawn},
    time::Duration,
};
use weft_tests::lab::Lab;

/// So many new flows, so far apart: a thousand a second, each remembered for a minute where there is room.
const AT_ONCE: u32 = 16;
const PAUSE: Duration = Duration::from_millis(15);
/// Who sends, and who does not listen: on either node, where no policy is, and asked by nobody.
const ENDS: [&str; 2] = ["loud", "deaf"];

/// The two pods.
pub(crate) fn pods() -> [Value; 2] {
    let pod = |(name, node): (&str, &str)| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "flood"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        })
    };
    [pod((ENDS[0], NODES[0])), pod((ENDS[1], NODES[1]))]
}

/// It goes on until it is dropped.
pub(crate) struct Flood {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    pub(crate) fn start(lab: &Lab) -> Self {
        let [loud, deaf] = ENDS.map(|name| format!("flood/{name}"));
        let to: Ipv4Addr = lab.pod(&deaf)["address"].as_str().unwrap().parse().unwrap();
        let (entrance, over) = (lab.entrance(&loud), Arc::new(AtomicBool::new(false)));
        let ends = Arc::clone(&over);
        let thread = spawn(move || {
            entrance.enter();
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            // A port is come back to after a minute, when its flow is forgotten.
            let mut ports = (1..=u16::MAX).cycle();
            while !ends.load(SeqCst) {
                for _ in 0..AT_ONCE {
                    // What cannot be sent opens nothing; the next one does.
                    let _ = socket.send_to(b"?", (to, ports.next().unwrap()));
                }
                sleep(PAUSE);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
