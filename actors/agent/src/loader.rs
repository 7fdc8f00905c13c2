//! The `Loader` actor: programs on interfaces, pods' links, routes. Its calls are slow, so it has a thread of its own.

use crate::{
    Refusal,
    gated::Gated,
    internal,
    runtime::{Life, Role, Serve, Thread, request},
};
use std::net::Ipv4Addr;
use weft_datapath::kernel::{Link, LinkSpec, Links, Programs};

/// Owns programs and links.
pub struct Loader {
    programs: Gated<dyn Programs>,
    links: Gated<dyn Links>,
}

impl Loader {
    /// Over a kernel.
    pub fn new(programs: Gated<dyn Programs>, links: Gated<dyn Links>) -> Self {
        Self { programs, links }
    }
}

impl Role for Loader {
    const THREAD: Thread = Thread::Loader;
}

/// Make a pod's link, with the programs attached and its host side still down.
pub struct Plug(pub LinkSpec);
request!(Plug => Result<Link, Refusal>);

impl Serve<Plug> for Loader {
    async fn serve(&mut self, Plug(spec): Plug, _: &Life<Self>) -> Result<Link, Refusal> {
        let link = self.links.plug(&spec).map_err(internal)?;
        self.programs.attach_pod(link.ifindex).map_err(internal)?;
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
        self.links.unplug(&unplug.host_interface).map_err(internal)?;
        unplug.ifindex.map_or(Ok(()), |ifindex| self.programs.detach_pod(ifindex)).map_err(internal)
    }
}

/// Put this process's programs on the links that are there already.
pub struct Reattach(pub Vec<u32>);
request!(Reattach => Result<(), Refusal>);

impl Serve<Reattach> for Loader {
    async fn serve(&mut self, Reattach(links): Reattach, _: &Life<Self>) -> Result<(), Refusal> {
        links.into_iter().try_for_each(|i| self.programs.attach_pod(i)).map_err(internal)
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
