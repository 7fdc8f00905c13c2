//! `--port`: what is asked about, `PROTOCOL/PORT` or `ICMP/TYPE`.

use std::{fmt, str::FromStr};
use weft_types::policy::Protocol;

/// `PROTOCOL/PORT`, and `ICMP/TYPE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    pub(crate) protocol: PortProtocol,
    /// The port; of ICMP, the type.
    pub(crate) number: u16,
}

/// What comes before the `/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PortProtocol {
    /// One that has ports.
    Transport(Protocol),
    /// ICMP, which has types.
    Icmp,
}

impl Port {
    /// As rows spell it.
    pub(crate) fn protocol(self) -> &'static str {
        match self.protocol {
            PortProtocol::Transport(protocol) => protocol.as_str(),
            PortProtocol::Icmp => "ICMP",
        }
    }

    /// As packets spell it.
    pub(crate) fn protocol_number(self) -> u8 {
        match self.protocol {
            PortProtocol::Transport(protocol) => protocol.number(),
            PortProtocol::Icmp => 1,
        }
    }
}

impl From<(Protocol, u16)> for Port {
    fn from((protocol, number): (Protocol, u16)) -> Self {
        Self { protocol: PortProtocol::Transport(protocol), number }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol(), self.number)
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = || format!("{text:?} is not PROTOCOL/PORT, such as TCP/80, or ICMP/TYPE");
        let (protocol, number) = text.split_once('/').ok_or_else(wanted)?;
        let number: u16 = number.parse().map_err(|_| wanted())?;
        let protocol = match protocol.to_ascii_uppercase().as_str() {
            "TCP" => PortProtocol::Transport(Protocol::Tcp),
            "UDP" => PortProtocol::Transport(Protocol::Udp),
            "SCTP" => PortProtocol::Transport(Protocol::Sctp),
            "ICMP" if number <= 255 => PortProtocol::Icmp,
            "ICMP" => return Err(format!("{text:?}: an ICMP type is from 0 to 255")),
            _ => return Err(format!("{protocol:?} is not TCP, UDP, SCTP or ICMP")),
        };
        if number == 0 && protocol != PortProtocol::Icmp {
            return Err(format!("{text:?}: a port is from 1 to 65535"));
        }
        Ok(Self { protocol, number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_a_protocol() {
        for good in ["TCP/80", "UDP/53", "SCTP/1", "ICMP/0", "ICMP/255"] {
            assert_eq!(good.parse::<Port>().map(|port| port.to_string()), Ok(good.to_owned()));
        }
        assert_eq!("tcp/80".parse::<Port>().map(|port| port.to_string()), Ok("TCP/80".to_owned()));
        for bad in ["80", "TCP", "TCP/", "TCP/0", "TCP/65536", "ICMP/256", "GRE/1", "TCP/-1"] {
            assert!(bad.parse::<Port>().is_err(), "{bad}");
        }
    }
}
