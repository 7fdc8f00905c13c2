//! What container runtimes do on nodes: they hear of pods as operators do, and not from them.

use super::{Event, World};
use crate::{Invariant, pods::Added, time::Micros};
use weft_state::leadership::Change;
use weft_types::{NodeName, Object};

impl World {
    /// Pods are wanted: their runtimes add them at once, and those of where they were before do not any more.
    pub(super) fn runtimes_hear(&mut self, client: usize, change: &Change) {
        let Some(who) = self.clients.get(client) else { return };
        let before = change.put.iter().chain(&change.remove).filter_map(|object| who.known(object));
        let before: Vec<Object> = before.cloned().collect();
        for object in before {
            if let Object::Pod(pod) = object
                && let Some(agent) = self.agent_of(pod.node.as_ref())
            {
                agent.pods.withdraw(&pod.name);
            }
        }
        let now = self.now;
        for object in &change.put {
            let Object::Pod(pod) = object else { continue };
            let up = self.agent_of(pod.node.as_ref()).filter(|agent| agent.down_until <= now);
            let Some(agent) = up else { continue };
            if let Added::Refused(why) = agent.pods.add(&pod.name, now) {
                self.pod_refused(&why);
            }
        }
    }

    fn agent_of(&mut self, node: Option<&NodeName>) -> Option<&mut crate::agent::Agent> {
        // Their names count them.
        let number: usize = node?.0.strip_prefix("node")?.parse().ok()?;
        self.agents.get_mut(number.checked_sub(1)?)
    }

    pub(super) fn restart_pod_later(&mut self) {
        let every = self.scenario.habits.restart_every;
        if every > 0 {
            self.after(Micros::millis(every), Event::RestartPod);
        }
    }

    /// A runtime starts a pod anew where it is, which its node knows.
    pub(super) fn restart_pod(&mut self) {
        if self.quiet {
            return;
        }
        self.restart_pod_later();
        let now = self.now;
        let up = self.agents.iter_mut().zip(0..).filter(|(agent, _)| agent.down_until <= now);
        let with_pods = up.filter(|(agent, _)| agent.pods.wanted().next().is_some());
        let Some((agent, number)) = self.rng.choice(with_pods.collect::<Vec<_>>()) else { return };
        let pods: Vec<_> = agent.pods.wanted().cloned().collect();
        let Some(pod) = self.rng.choice(pods) else { return };
        let added = agent.pods.restart(&pod);
        agent.run(now);
        self.wake(number);
        match added {
            Added::Done => self.counts.restarts += 1,
            Added::TryAgain => self.pod_refused("what its node knows is to try again"),
            Added::Refused(why) => self.pod_refused(&why),
        }
    }

    /// Pods that were to end have, and ADDs that waited long enough are answered.
    pub(super) fn runtimes_tire(&mut self) {
        let now = self.now;
        let up = self.agents.iter_mut().zip(0..).filter(|(agent, _)| agent.down_until <= now);
        let mut ended = Vec::new();
        for (agent, number) in up {
            if agent.pods.end(now) {
                agent.run(now);
                ended.push(number);
            }
        }
        ended.into_iter().for_each(|number| self.wake(number));
        let told =
            self.agents.iter_mut().filter(|agent| agent.down_until <= now).flat_map(|agent| {
                let alone = agent.is_alone();
                agent.pods.tire(now, alone)
            });
        for added in told.collect::<Vec<_>>() {
            match added {
                Added::TryAgain => self.counts.refusals += 1,
                Added::Done => self.pod_refused("it was known, and its ADD waited"),
                Added::Refused(why) => self.pod_refused(&why),
            }
        }
    }

    fn pod_refused(&mut self, why: &str) {
        self.invariants.violated(Invariant::PodsStart, self.now, format!("a pod: {why}"));
    }
}
