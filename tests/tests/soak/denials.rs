//! What agents say that policies kept from passing, whatever breaks meanwhile: each of it a policy state of its moment has to
//! deny, in that direction. Whoever waits for an answer sees a denial that is over soon as a packet lost, if at all.

use crate::{
    agents,
    cluster::{NODES, PORTS},
    probes::World,
};
use std::{
    net::Ipv4Addr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, SystemTime},
};
use weft_api::{
    agent::{Answer, Request},
    transport::{Client, Options},
};
use weft_hubble::flow::{Flow, Layer4};
use weft_tests::{lab::Lab, timeline::Seen};

/// An agent that is away, or has nothing to say, is asked again.
const SILENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(50);
/// What is older was told late, by an agent that was away: nobody knows any more what was possible then.
const LATE: Duration = Duration::from_secs(20);

/// Reads every agent's flows until it is dropped.
pub(crate) struct Witnesses {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Witnesses {
    pub(crate) fn start(world: &Arc<World>, lab: &Lab) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let witness = |node: &str| {
            let (world, over) = (Arc::clone(world), Arc::clone(&over));
            let socket = lab.dir().join(node).join("agent.sock");
            spawn(move || {
                while !over.load(SeqCst) {
                    // Agents are killed: whatever ends this, the next one is asked.
                    let _ = reads(&socket, &over, |flow| judge(&world, flow));
                    sleep(PAUSE);
                }
            })
        };
        Self { threads: NODES.map(witness).into(), over }
    }
}

impl Witnesses {
    /// Returns when they have ended, as they did.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.over.store(true, SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

impl Drop for Witnesses {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

/// Follows an agent's flows until it ends or is silent.
fn reads(socket: &Path, over: &AtomicBool, mut judge: impl FnMut(&Flow)) -> Option<()> {
    let client = Client::connect(socket, agents::PATIENCE).ok()?;
    let request = Request::Flows { last: Some(0), follow: true };
    for answer in client.stream(request, Options::within(SILENCE)).ok()? {
        if over.load(SeqCst) {
            break;
        }
        if let Answer::Flow(flow) = answer.ok()? {
            judge(&flow);
        }
    }
    Some(())
}

fn judge(world: &World, flow: &Flow) {
    let Some((ends, protocol, seen)) = denial(flow) else { return };
    let age =
        humantime::parse_rfc3339(&flow.time).ok().map(|at| SystemTime::now().duration_since(at));
    // A clock that was set back meanwhile makes it younger than it is.
    let age = age.unwrap().unwrap_or_default();
    if age < LATE {
        world.denied(ends, protocol, seen, world.now().saturating_sub(age));
    }
}

/// Between whom, of which protocol and how a policy kept something from passing that a probe may have asked.
fn denial(flow: &Flow) -> Option<((Ipv4Addr, Ipv4Addr), &'static str, Seen)> {
    if flow.drop_reason_desc != "POLICY_DENIED" {
        return None;
    }
    let (protocol, port) = match flow.l4.as_ref()? {
        Layer4::Tcp(tcp) => ("TCP", tcp.destination_port),
        Layer4::Udp(ports) => ("UDP", ports.destination_port),
        Layer4::Sctp(_) | Layer4::Icmp4(_) => return None,
    };
    // An answer that comes when its flow is forgotten is judged as what it looks like, and no probe asks that.
    let (protocol, _) = PORTS.into_iter().find(|(p, n)| (*p, u32::from(*n)) == (protocol, port))?;
    let ip = flow.ip.as_ref()?;
    let seen = match flow.traffic_direction.as_str() {
        "EGRESS" => Seen::KeptIn,
        "INGRESS" => Seen::KeptOut,
        other => panic!("a denial in direction {other:?}: {flow:?}"),
    };
    Some(((ip.source.parse().unwrap(), ip.destination.parse().unwrap()), protocol, seen))
}
