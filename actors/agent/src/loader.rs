//! The `Loader` actor: programs on interfaces, pods' links, routes. Its calls are slow, so it has an arbiter of its own.

use crate::{Refusal, internal};
use actix::{Actor, Context, Handler, Message};
use std::{net::Ipv4Addr, sync::Arc};
use weft_datapath::kernel::{Link, LinkSpec, Links, Programs};

/// Owns programs and links.
pub struct Loader {
    programs: Arc<dyn Programs>,
    links: Arc<dyn Links>,
}

impl Loader {
    /// Over a kernel.
    pub fn new(programs: Arc<dyn Programs>, links: Arc<dyn Links>) -> Self {
        Self { programs, links }
    }
}

impl Actor for Loader {
    type Context = Context<Self>;
}

/// Make a pod's link, with the programs attached and its host side still down.
#[derive(Message)]
#[rtype(result = "Result<Link, Refusal>")]
pub struct Plug(pub LinkSpec);

impl Handler<Plug> for Loader {
    type Result = Result<Link, Refusal>;

    fn handle(&mut self, plug: Plug, _: &mut Self::Context) -> Self::Result {
        let link = self.links.plug(&plug.0).map_err(internal)?;
        self.programs.attach_pod(link.ifindex).map_err(internal)?;
        Ok(link)
    }
}

/// Let packets through a pod's link.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Open(pub u32);

impl Handler<Open> for Loader {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, open: Open, _: &mut Self::Context) -> Self::Result {
        self.links.open(open.0).map_err(internal)
    }
}

/// Remove a pod's link.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Unplug {
    /// Name of its host side.
    pub host_interface: String,
    /// Index of its host side.
    pub ifindex: u32,
}

impl Handler<Unplug> for Loader {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, unplug: Unplug, _: &mut Self::Context) -> Self::Result {
        self.links.unplug(&unplug.host_interface).map_err(internal)?;
        self.programs.detach_pod(unplug.ifindex).map_err(internal)
    }
}

/// Put this life's programs on the links that are there already.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct Reattach(pub Vec<u32>);

impl Handler<Reattach> for Loader {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, reattach: Reattach, _: &mut Self::Context) -> Self::Result {
        reattach.0.into_iter().try_for_each(|i| self.programs.attach_pod(i)).map_err(internal)
    }
}

/// Routes to other nodes' prefixes: prefix, length, node.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct SetRoutes(pub Vec<(Ipv4Addr, u8, Ipv4Addr)>);

impl Handler<SetRoutes> for Loader {
    type Result = Result<(), Refusal>;

    fn handle(&mut self, set: SetRoutes, _: &mut Self::Context) -> Self::Result {
        self.links.set_routes(&set.0).map_err(internal)
    }
}
