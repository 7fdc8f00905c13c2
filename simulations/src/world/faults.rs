//! What goes wrong, and how it is made good.

use super::{Cut, Event, GroupChange, QUIET, TICK, World, event::Waiting};
use crate::{
    agent::Told,
    fault::{Fault, Kind, Whom},
    operator::{Operator, Running},
    release::Release,
    story::{Condition, Hit, Struck},
    time::Micros,
};
use weft_raft::{Input, MemberId, MemoryDisk};
use weft_types::Revision;

/// Between a leader's word that another is to lead and its end.
const HAND_OVER: Micros = Micros::millis(200);

impl World {
    /// Give or take a third.
    fn about(&mut self, millis: u64) -> Micros {
        let third = millis * 1000 / 3;
        Micros(millis * 1000 - third + self.rng.u64(0..=2 * third))
    }

    pub(super) fn strike_later(&mut self, fault: usize) {
        let Some(Fault { at, every, .. }) = self.fault(fault) else { return };
        match (self.now, at) {
            (_, 0) => {
                let time = self.about(every);
                self.after(time, Event::Strike(fault));
            }
            (Micros(0), _) => self.after(Micros::millis(at), Event::Strike(fault)),
            (_, _) => {}
        }
    }

    pub(super) fn strike(&mut self, fault: usize) {
        let Some(Fault { kind, whom, at, lasts, .. }) = self.fault(fault) else { return };
        if self.quiet {
            return;
        }
        self.strike_later(fault);
        let lasts = if at > 0 { Micros::millis(lasts) } else { self.about(lasts) };
        match kind {
            Kind::StoreOutage => {
                self.store.down_until = self.now + lasts;
                return self.hit_by(kind, Hit::Store, lasts);
            }
            Kind::RestoreStore => {
                // What is written in between is not in the copy.
                if self.store.back_up() {
                    self.after(lasts, Event::GoBack);
                    self.after(lasts + lasts, Event::PutBack);
                    self.hit_by(kind, Hit::Store, lasts + lasts);
                }
                return;
            }
            Kind::LoseGroup => {
                for member in self.lose_group(lasts) {
                    self.hit_by(kind, Hit::Member(member), lasts);
                }
                return;
            }
            _ => {}
        }
        if let Whom::Agents(percent) = whom {
            let count = self.strike_agents(kind, percent, lasts);
            return self.hit_by(kind, Hit::Agents(count), lasts);
        }
        for member in self.hit(whom) {
            if self.strike_member(kind, member, lasts) {
                self.hit_by(kind, Hit::Member(member), lasts);
            }
        }
    }

    fn hit_by(&mut self, kind: Kind, on: Hit, lasts: Micros) {
        self.counts.faults += 1;
        self.strikes += 1;
        self.ill_until = self.ill_until.max(self.now + lasts);
        self.after(Micros(self.ill_until.0 - self.now.0), Event::Healed(self.strikes));
        self.story.struck.push(Struck { kind, on, from: self.now, until: self.now + lasts });
    }

    /// Whom a fault hits now.
    fn hit(&mut self, whom: Whom) -> Vec<MemberId> {
        let up = |o: &&Operator| o.running.is_some();
        let up: Vec<MemberId> = self.operators.values().filter(up).map(|o| o.member).collect();
        let leader = self.leader();
        match whom {
            Whom::Leader => leader.into_iter().collect(),
            Whom::Follower => {
                let others: Vec<MemberId> = up.into_iter().filter(|m| Some(*m) != leader).collect();
                self.rng.choice(others).into_iter().collect()
            }
            Whom::Next => {
                let later = |member: &MemberId| Some(*member) > self.last_turn;
                self.last_turn = up.iter().copied().find(later).or_else(|| up.first().copied());
                self.last_turn.into_iter().collect()
            }
            Whom::Any => self.rng.choice(up).into_iter().collect(),
            Whom::Majority => {
                let all = self.operators.len();
                self.rng.choose_multiple(up, all / 2 + 1)
            }
            Whom::All => up,
            Whom::Agents(_) => Vec::new(),
        }
    }

    /// Who leads, in the newest term that anybody leads in.
    pub(super) fn leader(&self) -> Option<MemberId> {
        let leads = |o: &Operator| Some((o.leads()?, o.member));
        self.operators.values().filter_map(leads).max().map(|(_, member)| member)
    }

    fn strike_member(&mut self, kind: Kind, member: MemberId, lasts: Micros) -> bool {
        let others: Vec<MemberId> =
            self.operators.keys().copied().filter(|other| *other != member).collect();
        let from = others.iter().map(|other| (*other, member));
        let to = others.iter().map(|other| (member, *other));
        match kind {
            Kind::Nothing
            | Kind::StoreOutage
            | Kind::RestoreStore
            | Kind::LoseGroup
            | Kind::Disconnect
            | Kind::AgentKill
            | Kind::KernelRefuses => return false,
            Kind::Kill => {
                if self.leader() == Some(member) {
                    self.story.leader_killed(self.now);
                }
                self.kill(member);
                self.after(lasts, Event::Restart(member));
            }
            Kind::CutPower => {
                if let Some(operator) = self.operators.get_mut(&member) {
                    // Whoever is connected to it is told nothing.
                    operator.kill();
                    operator.dark = true;
                    self.story.became(self.now, member, Condition::Down);
                }
                self.after(lasts, Event::Restart(member));
            }
            Kind::Restart | Kind::Upgrade => self.hand_over(member, kind, lasts),
            Kind::ClockJump => (0..lasts.0 / TICK.0).for_each(|_| self.tick_once(member)),
            Kind::Pause => {
                let until = self.now + lasts;
                if let Some(operator) = self.operators.get_mut(&member) {
                    operator.paused_until = until;
                }
            }
            Kind::CutOff => self.cut(from.chain(to).collect(), lasts),
            Kind::Deafen => self.cut(from.collect(), lasts),
            Kind::Mute => self.cut(to.collect(), lasts),
            Kind::LoseDisk => {
                // One at a time: with two of three disks gone the log is gone.
                if !self.wanted.is_empty() {
                    return false;
                }
                self.kill(member);
                self.operators.remove(&member);
                self.story.became(self.now, member, Condition::Gone);
                self.gone.insert(member);
                self.after(lasts, Event::Replace(member));
            }
            Kind::CutStore => drop(self.store.cut_until.insert(member, self.now + lasts)),
            Kind::SlowDisk => {
                let until = self.now + lasts;
                if let Some(operator) = self.operators.get_mut(&member) {
                    operator.slow_until = until;
                }
            }
            Kind::FullDisk => {
                let until = self.now + lasts;
                if let Some(operator) = self.operators.get_mut(&member) {
                    operator.full_until = until;
                }
            }
        }
        true
    }

    pub(super) fn kill(&mut self, member: MemberId) {
        if let Some(operator) = self.operators.get_mut(&member) {
            let ended = operator.kill();
            self.story.became(self.now, member, Condition::Down);
            self.hang_up(ended);
        }
    }

    /// Whoever is connected to a process that ends hears of it.
    fn hang_up(&mut self, ended: Option<Running>) {
        let Some(Running { requests, questions, .. }) = ended else { return };
        for (request, client) in requests {
            let delay = self.delay();
            self.after(delay, Event::HungUp(client, request));
        }
        let waiting: Vec<Waiting> =
            questions.into_iter().map(|(agent, it)| Waiting::new(agent, it.number)).collect();
        let delay = self.delay();
        self.after(delay, Event::Told(waiting, Told::Gone));
    }

    /// Who is about to stop lets another lead, as far as that goes in a short time.
    fn hand_over(&mut self, member: MemberId, kind: Kind, lasts: Micros) {
        let Some(operator) = self.operators.get(&member) else { return };
        let Operator { life, release, .. } = *operator;
        let leads = operator.leads().is_some();
        let is_put_back = release == Release::Now && self.has_raised;
        let changes = kind == Kind::Upgrade && !is_put_back;
        let release = if changes { release.other() } else { release };
        if leads {
            self.feed(member, Input::Transfer(None));
        }
        self.after(HAND_OVER, Event::Stop(member, life, release, lasts));
    }

    pub(super) fn stop(&mut self, member: MemberId, life: u64, release: Release, lasts: Micros) {
        let now = self.now;
        if let Some(operator) = self.operators.get_mut(&member).filter(|o| o.life == life) {
            let ended = operator.stop(now);
            operator.release = if self.quiet { Release::Now } else { release };
            self.story.became(now, member, Condition::Down);
            self.hang_up(ended);
            self.after(lasts, Event::Restart(member));
        }
    }

    fn strike_agents(&mut self, kind: Kind, percent: u8, lasts: Micros) -> usize {
        let count = (self.agents.len() * usize::from(percent) / 100).max(1);
        let until = self.now + lasts;
        for agent in self.rng.choose_multiple(0..self.agents.len(), count) {
            match (kind, self.agents.get_mut(agent)) {
                (Kind::Kill, Some(who)) => {
                    who.go_down(until);
                    self.after(lasts, Event::Poll(vec![agent]));
                }
                (Kind::CutOff, Some(who)) => who.cut_until = until,
                (Kind::AgentKill, Some(_)) => self.kill_agent(agent, lasts),
                (Kind::KernelRefuses, Some(who)) => who.refuses_until = until,
                (Kind::Upgrade, Some(who)) => {
                    who.release = who.release.other();
                    self.reconnect(agent);
                }
                _ => self.reconnect(agent),
            }
        }
        count
    }

    fn cut(&mut self, ways: Cut, lasts: Micros) {
        for way in &ways {
            *self.cuts.entry(*way).or_default() += 1;
        }
        self.after(lasts, Event::Over(ways));
    }

    pub(super) fn mend(&mut self, ways: &Cut) {
        for way in ways {
            match self.cuts.get_mut(way) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(self.cuts.remove(way)),
            }
        }
    }

    /// A new member, with a number that nobody had, for one whose disk is lost.
    pub(super) fn replace(&mut self, lost: MemberId) {
        let new = self.new_member();
        let disk = (MemoryDisk::default(), self.generation);
        self.operators.insert(new, Operator::new(new, disk, self.scenario.begins()));
        self.wanted.extend([
            GroupChange::AddLearner(new, new.to_string()),
            GroupChange::Promote(new),
            GroupChange::Remove(lost),
        ]);
        self.start(new);
    }

    /// Everything is well, unless something struck meanwhile: what is wanted now is to be so in a while.
    pub(super) fn healed(&mut self, strikes: u64) {
        let newest = self.views.newest().unwrap_or(Revision::ZERO);
        if strikes == self.strikes && !self.quiet {
            self.after(QUIET, Event::Recovered(strikes, newest));
        }
    }

    /// Everything is made good, and nobody wants anything new.
    pub(super) fn heal(&mut self) {
        self.quiet = true;
        self.cuts.clear();
        self.store.down_until = self.now;
        self.store.put_back();
        self.store.cut_until.clear();
        let now = self.now;
        for operator in self.operators.values_mut() {
            (operator.slow_until, operator.full_until) = (now, now);
        }
        for struck in &mut self.story.struck {
            if struck.kind.is_made_good() {
                struck.until = struck.until.min(now);
            }
        }
        for agent in &mut self.agents {
            (agent.release, agent.cut_until, agent.refuses_until) = (Release::Now, now, now);
        }
        let before = self.operators.values().filter(|o| o.release == Release::Before);
        let before: Vec<MemberId> = before.map(|o| o.member).collect();
        for (member, number) in before.into_iter().zip(0..) {
            // One after the other, as one does.
            self.after(Micros::seconds(number), Event::Upgrade(member));
        }
    }

    /// A member that is of the older release at the end is upgraded.
    pub(super) fn upgrade(&mut self, member: MemberId) {
        let Some(operator) = self.operators.get_mut(&member) else { return };
        if operator.running.is_some() {
            self.hand_over(member, Kind::Upgrade, Micros::millis(500));
        } else {
            operator.release = Release::Now;
        }
    }
}
