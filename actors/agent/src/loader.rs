//! The `Loader` actor: programs on interfaces, pods' links, routes. Its calls are slow, so it has a thread of its own.

use crate::{
    Refusal,
    gated::Gated,
    internal,
    metrics::Counts,
    runtime::{Life, Role, Serve, Thread, request},
};
use std::{
    collections::{BTreeSet, VecDeque},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use weft_datapath::kernel::{KernelError, Link, LinkSpec, Links, Programs};

/// What the owner of programs is told.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// How often programs that somebody removed are attached again; looking costs some 0.3 ms a pod.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    pub program_sweep: Duration,
    /// How long no pod was plugged before TCX links are made and programs looked at. Making one keeps all others from
    /// the kernel's links for some 10 ms, and a runtime that starts many pods at once waits for each.
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = humantime::parse_duration)]
    pub program_lull: Duration,
}

impl Default for Config {
    fn default() -> Self {
        weft_process::config::defaults()
    }
}

/// What is done when no pod waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chore {
    /// Make the TCX links of a pod that was plugged; until then its filters judge.
    Link(u32),
    /// See that all programs of a pod are in their place.
    Mend(u32),
    /// See that the node's device has its own, and what its MTU is.
    MendDevice,
}

/// The node's own device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its number.
    pub ifindex: u32,
    /// The node's address, which it has.
    pub address: Ipv4Addr,
    /// Where the MTU of pods that are plugged is said, if it is to be the device's.
    pub mtu: Option<Arc<watch::Sender<u32>>>,
}

impl Device {
    /// Says what MTU it has now; pods that are there keep theirs, and are told by the node's stack what is too long.
    fn follow(&self, links: &Gated<dyn Links>) -> Result<(), KernelError> {
        let Some(told) = &self.mtu else { return Ok(()) };
        let (_, mtu) = links.device_of(self.address)?;
        if told.send_if_modified(|before| std::mem::replace(before, mtu) != mtu) {
            tracing::info!(mtu, "the device's MTU changed: pods get it from now on");
        }
        Ok(())
    }
}

/// Owns programs and links.
pub struct Loader {
    config: Config,
    device: Device,
    programs: Gated<dyn Programs>,
    links: Gated<dyn Links>,
    counts: Counts,
    chores: VecDeque<Chore>,
    /// How many pods were plugged in this life.
    plugs: u64,
}

impl Loader {
    /// Over a kernel.
    pub fn new(
        config: Config,
        device: Device,
        (programs, links): (Gated<dyn Programs>, Gated<dyn Links>),
        counts: Counts,
    ) -> Self {
        Self { config, device, programs, links, counts, chores: VecDeque::new(), plugs: 0 }
    }

    /// Every program of a pod's link; how many were not there.
    fn attach(&self, ifindex: u32) -> Result<usize, KernelError> {
        Ok(self.programs.attach_pod(ifindex)? + self.programs.link_pod(ifindex)?)
    }

    /// The index of a link by its host side's name, if it is there.
    fn index(&self, host_interface: &str) -> Result<Option<u32>, KernelError> {
        let links = self.links.plugged()?;
        Ok(links.into_iter().find(|(name, _)| name == host_interface).map(|(_, index)| index))
    }

    /// Adds chores, and begins with them after a lull if there were none.
    fn later(&mut self, chores: impl IntoIterator<Item = Chore>, life: &Life<Self>) {
        let idle = self.chores.is_empty();
        self.chores.extend(chores);
        if idle && !self.chores.is_empty() {
            self.after_a_lull(life);
        }
    }

    fn after_a_lull(&self, life: &Life<Self>) {
        let (me, plugs, lull) = (life.edge(), self.plugs, self.config.program_lull);
        life.spawn(async move {
            tokio::time::sleep(lull).await;
            drop(me.ask(NextChore { plugs }).await);
        });
    }

    /// Does one.
    fn work(&self, chore: Chore) -> Result<(), KernelError> {
        let (ifindex, attached) = match chore {
            Chore::Link(ifindex) => return self.programs.link_pod(ifindex).map(drop),
            Chore::Mend(ifindex) => (ifindex, self.attach(ifindex)),
            Chore::MendDevice => {
                self.device.follow(&self.links)?;
                (self.device.ifindex, self.programs.attach_net(self.device.ifindex))
            }
        };
        let missing = attached?;
        if missing > 0 {
            self.counts.programs_mended(ifindex, missing);
        }
        Ok(())
    }
}

impl Role for Loader {
    const THREAD: Thread = Thread::Loader;

    async fn born(&mut self, life: &Life<Self>) -> Result<(), Refusal> {
        life.every(self.config.program_sweep, || Sweep);
        Ok(())
    }
}

/// See that all programs are in their place.
pub struct Sweep;
request!(Sweep => ());

impl Serve<Sweep> for Loader {
    async fn serve(&mut self, _: Sweep, life: &Life<Self>) {
        // As long as there is something to do, it is too early to look for more.
        if !self.chores.is_empty() {
            return;
        }
        match self.links.plugged() {
            Ok(links) => {
                let pods = links.into_iter().map(|(_, ifindex)| Chore::Mend(ifindex));
                self.later(pods.chain([Chore::MendDevice]), life);
            }
            Err(error) => tracing::error!(%error, "sweep of the programs: list the links"),
        }
    }
}

/// Do one chore, if no pod was plugged meanwhile.
pub struct NextChore {
    /// How many had been.
    plugs: u64,
}
request!(NextChore => ());

impl Serve<NextChore> for Loader {
    async fn serve(&mut self, NextChore { plugs }: NextChore, life: &Life<Self>) {
        if plugs != self.plugs {
            return self.after_a_lull(life);
        }
        let Some(chore) = self.chores.pop_front() else { return };
        if let Err(error) = self.work(chore) {
            tracing::warn!(?chore, %error, "it is tried again with the next sweep");
        }
        if !self.chores.is_empty() {
            // One a message: whoever waits is served in between.
            let me = life.edge();
            life.spawn(async move { drop(me.ask(NextChore { plugs }).await) });
        }
    }
}

/// Make a pod's link, with programs that judge its packets and its host side still down.
pub struct Plug(pub LinkSpec);
request!(Plug => Result<Link, Refusal>);

impl Serve<Plug> for Loader {
    async fn serve(&mut self, Plug(spec): Plug, life: &Life<Self>) -> Result<Link, Refusal> {
        let link = self.links.plug(&spec).map_err(internal)?;
        self.programs.attach_pod(link.ifindex).map_err(internal)?;
        self.plugs += 1;
        self.later([Chore::Link(link.ifindex)], life);
        Ok(link)
    }
}

/// Let packets through a pod's link.
pub struct Open(pub LinkSpec);
request!(Open => Result<(), Refusal>);

impl Serve<Open> for Loader {
    async fn serve(&mut self, Open(spec): Open, _: &Life<Self>) -> Result<(), Refusal> {
        self.links.open(&spec).map_err(internal)
    }
}

/// Remove a pod's link.
pub struct Unplug {
    /// Name of its host side.
    pub host_interface: String,
    /// Index of its host side, where it is known.
    pub ifindex: Option<u32>,
}
request!(Unplug => Result<(), Refusal>);

impl Serve<Unplug> for Loader {
    async fn serve(&mut self, unplug: Unplug, _: &Life<Self>) -> Result<(), Refusal> {
        let ifindex = match unplug.ifindex {
            Some(ifindex) => Some(ifindex),
            // An ADD that did not end told nobody the index, and may have left pins.
            None => self.index(&unplug.host_interface).map_err(internal)?,
        };
        self.links.unplug(&unplug.host_interface).map_err(internal)?;
        let Some(ifindex) = ifindex else { return Ok(()) };
        self.chores
            .retain(|chore| !matches!(chore, Chore::Link(i) | Chore::Mend(i) if *i == ifindex));
        self.programs.detach_pod(ifindex).map_err(internal)
    }
}

/// Remove pins of interfaces that are gone.
pub struct Unpin;
request!(Unpin => Result<(), Refusal>);

impl Serve<Unpin> for Loader {
    async fn serve(&mut self, _: Unpin, _: &Life<Self>) -> Result<(), Refusal> {
        // In this order: a link is there before its pins.
        let mut pins = self.programs.pinned().map_err(internal)?;
        for (_, ifindex) in self.links.plugged().map_err(internal)? {
            pins.remove(&ifindex);
        }
        pins.into_iter().try_for_each(|gone| self.programs.detach_pod(gone)).map_err(internal)
    }
}

/// The links and pins there are.
pub struct LookAtLinks;
request!(LookAtLinks => Result<(Vec<(String, u32)>, BTreeSet<u32>), Refusal>);

impl Serve<LookAtLinks> for Loader {
    async fn serve(
        &mut self,
        _: LookAtLinks,
        _: &Life<Self>,
    ) -> Result<(Vec<(String, u32)>, BTreeSet<u32>), Refusal> {
        // In this order: a link is there before its pins.
        let pins = self.programs.pinned().map_err(internal)?;
        Ok((self.links.plugged().map_err(internal)?, pins))
    }
}

/// Put this process's programs on the links that are there already.
pub struct Reattach(pub Vec<u32>);
request!(Reattach => Result<(), Refusal>);

impl Serve<Reattach> for Loader {
    async fn serve(&mut self, Reattach(links): Reattach, _: &Life<Self>) -> Result<(), Refusal> {
        links.into_iter().try_for_each(|i| self.attach(i).map(drop)).map_err(internal)
    }
}

/// The links there are: host side's name and index.
pub struct Plugged;
request!(Plugged => Result<Vec<(String, u32)>, Refusal>);

impl Serve<Plugged> for Loader {
    async fn serve(&mut self, _: Plugged, _: &Life<Self>) -> Result<Vec<(String, u32)>, Refusal> {
        self.links.plugged().map_err(internal)
    }
}

/// Index of a link's host side, if the other end is in the pod's network namespace.
pub struct Joined(pub LinkSpec);
request!(Joined => Result<Option<u32>, Refusal>);

impl Serve<Joined> for Loader {
    async fn serve(
        &mut self,
        Joined(spec): Joined,
        _: &Life<Self>,
    ) -> Result<Option<u32>, Refusal> {
        self.links.joined(&spec).map_err(internal)
    }
}

/// How a link differs from what was made.
pub struct Inspect(pub LinkSpec);
request!(Inspect => Result<Vec<String>, Refusal>);

impl Serve<Inspect> for Loader {
    async fn serve(
        &mut self,
        Inspect(spec): Inspect,
        _: &Life<Self>,
    ) -> Result<Vec<String>, Refusal> {
        self.links.inspect(&spec).map_err(internal)
    }
}

/// Routes to other nodes' prefixes: prefix, length, node.
pub struct SetRoutes(pub Vec<(Ipv4Addr, u8, Ipv4Addr)>);
request!(SetRoutes => Result<(), Refusal>);

impl Serve<SetRoutes> for Loader {
    async fn serve(&mut self, SetRoutes(routes): SetRoutes, _: &Life<Self>) -> Result<(), Refusal> {
        self.links.set_routes(&routes).map_err(internal)
    }
}
