//! The numbers of identities: which of them are this cluster's, and when one is given again.

use crate::leader::TICK;
use std::time::Duration;
use weft_state::retirement::Grace;
use weft_types::{IdentitySpace, identity::NoSpace};

/// Numbers.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// This cluster's number among those of a mesh, which begins the numbers of its identities. Fixed when the cluster is founded.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub cluster_number: u32,
    /// Bits that the cluster's number has of the 24 of an identity's, 0 to 12: with 4 a mesh has 16 clusters of a million
    /// identities. Fixed when the cluster is founded.
    #[arg(long, value_name = "BITS", default_value_t = IdentitySpace::default().bits())]
    pub cluster_bits: u8,
    /// How long nothing refers to an identity before agents are to forget it, and how long after that it is free again at
    /// least: no node holds it then. A node without a session for that long holds back what it may know, until it reports
    /// or its Node is deleted.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    pub identity_grace: Duration,
}

impl Config {
    /// Which numbers are this cluster's.
    pub fn space(&self) -> Result<IdentitySpace, NoSpace> {
        IdentitySpace::new(self.cluster_bits, self.cluster_number)
    }

    /// The grace, in ticks of a leader.
    pub fn grace(&self) -> Grace {
        let ticks = self.identity_grace.as_millis() / TICK.as_millis();
        let ticks = u32::try_from(ticks).unwrap_or(u32::MAX);
        Grace { numbers: ticks, nodes: ticks, ..Grace::default() }
    }
}
