//! Results: ADD's, in the version that was asked for, and those of the plugins before.

use crate::{
    config::Config,
    error::{CniError, Code},
    version::Version,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::{fmt, net::Ipv4Addr};
use weft_api::cni::Added;

/// What other plugins made of an attachment; kept as it is where it is none of ours.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Previous {
    #[serde(default)]
    interfaces: Vec<Device>,
    #[serde(default)]
    ips: Vec<Address>,
    #[serde(default)]
    routes: Vec<Value>,
    #[serde(default)]
    dns: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Device {
    name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    sandbox: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Address {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<usize>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Previous {
    /// That of a configuration, if it has one.
    pub(crate) fn read(config: &Config) -> Result<Option<Self>, CniError> {
        let read = |previous: Map<String, Value>| {
            serde_json::from_value(previous.into()).map_err(|error| {
                CniError::new(Code::InvalidConfig, format!("prevResult is no result: {error}"))
            })
        };
        config.previous.clone().map(read).transpose()
    }

    /// The address of an interface that a plugin before made, which is to be taken over; none where none made it.
    pub(crate) fn adopted(
        &self,
        interface: &str,
        netns: &str,
    ) -> Result<Option<Ipv4Addr>, CniError> {
        match self.addresses(interface, netns) {
            Ok(addresses) => Ok(addresses.first().copied()),
            Err(Lacks::Interface) => Ok(None),
            Err(Lacks::Address) => Err(CniError::new(
                Code::InvalidConfig,
                format!(
                    "ADD: a plugin before weft-cni made {interface}, and prevResult has no IPv4 address of it"
                ),
            )),
        }
    }

    /// The IPv4 addresses of a container's interface, at least one. Plugins after ours may have added some.
    pub(crate) fn addresses(&self, interface: &str, netns: &str) -> Result<Vec<Ipv4Addr>, Lacks> {
        let it = |device: &Device| device.name == interface && device.sandbox == netns;
        let index = self.interfaces.iter().position(it).ok_or(Lacks::Interface)?;
        let of_it = self.ips.iter().filter(|ip| ip.interface == Some(index));
        let addresses: Vec<Ipv4Addr> =
            of_it.filter_map(|ip| ip.address.split('/').next()?.parse().ok()).collect();
        if addresses.is_empty() { Err(Lacks::Address) } else { Ok(addresses) }
    }

    /// ADD's result: what other plugins made before, then ours.
    pub(crate) fn with(
        mut self,
        added: &Added,
        interface: &str,
        netns: &str,
        version: Version,
    ) -> Value {
        let device = |name: &str, mac: &str, sandbox: &str| {
            let mut rest = Map::from_iter([("mac".to_owned(), json!(mac))]);
            if version >= Version::V1_1_0 {
                rest.insert("mtu".to_owned(), json!(added.mtu));
            }
            Device { name: name.to_owned(), sandbox: sandbox.to_owned(), rest }
        };
        self.interfaces.push(device(&added.host_interface, &added.host_mac, ""));
        self.interfaces.push(device(interface, &added.mac, netns));
        let mut rest = Map::from_iter([("gateway".to_owned(), json!(added.gateway))]);
        if version < Version::V1_0_0 {
            rest.insert("version".to_owned(), json!("4"));
        }
        self.ips.push(Address {
            address: format!("{}/32", added.address),
            interface: Some(self.interfaces.len() - 1),
            rest,
        });
        self.routes.push(json!({ "dst": "0.0.0.0/0", "gw": added.gateway }));
        self.said(version)
    }

    /// ADD's result where it took over what another plugin made: that. Which of the node's interfaces is the other side is
    /// not said, and that has another hardware address now: none is told that may not be so.
    pub(crate) fn with_a_link_taken_over(mut self, version: Version) -> Value {
        for device in self.interfaces.iter_mut().filter(|device| device.sandbox.is_empty()) {
            device.rest.remove("mac");
        }
        self.said(version)
    }

    fn said(self, version: Version) -> Value {
        json!({
            "cniVersion": version.as_str(),
            "interfaces": self.interfaces,
            "ips": self.ips,
            "routes": self.routes,
            "dns": self.dns,
        })
    }
}

/// What a result lacks, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lacks {
    Interface,
    Address,
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interface => "interface",
            Self::Address => "IPv4 address of",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added() -> Added {
        Added {
            address: [10, 244, 0, 7].into(),
            gateway: [169, 254, 1, 1].into(),
            host_interface: "wl0123456789ab".to_owned(),
            host_mac: "02:77:65:66:74:01".to_owned(),
            mac: "02:57:0a:f4:00:07".to_owned(),
            mtu: 1500,
        }
    }

    fn golden(version: Version, line: &str) {
        let result = Previous::default().with(&added(), "eth0", "/run/netns/a", version);
        assert_eq!(result, serde_json::from_str::<Value>(line).unwrap(), "{result}");
    }

    #[test]
    fn each_version_has_its_shape() {
        for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0] {
            golden(
                version,
                &r#"{"cniVersion":"VERSION","interfaces":[{"name":"wl0123456789ab","mac":"02:77:65:66:74:01"},{"name":"eth0","mac":"02:57:0a:f4:00:07","sandbox":"/run/netns/a"}],"ips":[{"version":"4","address":"10.244.0.7/32","gateway":"169.254.1.1","interface":1}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}],"dns":{}}"#
                    .replace("VERSION", version.as_str()),
            );
        }
        golden(
            Version::V1_0_0,
            r#"{"cniVersion":"1.0.0","interfaces":[{"name":"wl0123456789ab","mac":"02:77:65:66:74:01"},{"name":"eth0","mac":"02:57:0a:f4:00:07","sandbox":"/run/netns/a"}],"ips":[{"address":"10.244.0.7/32","gateway":"169.254.1.1","interface":1}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}],"dns":{}}"#,
        );
        golden(
            Version::V1_1_0,
            r#"{"cniVersion":"1.1.0","interfaces":[{"name":"wl0123456789ab","mac":"02:77:65:66:74:01","mtu":1500},{"name":"eth0","mac":"02:57:0a:f4:00:07","mtu":1500,"sandbox":"/run/netns/a"}],"ips":[{"address":"10.244.0.7/32","gateway":"169.254.1.1","interface":1}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}],"dns":{}}"#,
        );
    }

    #[test]
    fn what_other_plugins_made_stays_before_ours() {
        let before = json!({
            "cniVersion": "1.1.0",
            "interfaces": [{"name": "net9", "mac": "02:00:00:00:00:09", "sandbox": "/run/netns/a", "pciID": "x"}],
            "ips": [{"address": "192.0.2.9/24", "interface": 0}],
            "routes": [{"dst": "192.0.2.0/24", "priority": 7}],
            "dns": {"nameservers": ["192.0.2.53"]},
        });
        let previous: Previous = serde_json::from_value(before.clone()).unwrap();
        assert_eq!(previous.adopted("eth0", "/run/netns/a").unwrap(), None);
        let result = previous.with(&added(), "eth0", "/run/netns/a", Version::V1_1_0);
        for key in ["interfaces", "ips", "routes"] {
            assert_eq!(result[key][0], before[key][0], "{key}");
        }
        assert_eq!(result["dns"], before["dns"]);
        assert_eq!(result["interfaces"][2]["name"], "eth0");
        assert_eq!(result["ips"][1]["interface"], 2);
        let again: Previous = serde_json::from_value(result).unwrap();
        let ours = again.addresses("eth0", "/run/netns/a").unwrap();
        assert_eq!(ours, [Ipv4Addr::new(10, 244, 0, 7)]);
        for (interface, netns) in [("eth1", "/run/netns/a"), ("eth0", "/run/netns/b")] {
            assert_eq!(again.addresses(interface, netns), Err(Lacks::Interface));
        }
    }

    #[test]
    fn what_was_taken_over_is_told_as_it_is() {
        let before = json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                {"name": "vethd", "mac": "02:00:00:00:00:08"},
                {"name": "eth0", "mac": "02:00:00:00:00:09", "sandbox": "/run/netns/a"},
            ],
            "ips": [{"address": "fd00::9/64", "interface": 1}, {"address": "10.244.0.9/24", "interface": 1}],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dns": {},
        });
        let previous: Previous = serde_json::from_value(before.clone()).unwrap();
        let address = previous.adopted("eth0", "/run/netns/a").unwrap();
        assert_eq!(address, Some(Ipv4Addr::new(10, 244, 0, 9)));
        let mut wanted = before.clone();
        wanted["interfaces"][0].as_object_mut().unwrap().remove("mac");
        assert_eq!(previous.with_a_link_taken_over(Version::V1_1_0), wanted);

        let mut only_ipv6 = before;
        only_ipv6["ips"].as_array_mut().unwrap().pop();
        let previous: Previous = serde_json::from_value(only_ipv6).unwrap();
        let error = previous.adopted("eth0", "/run/netns/a").unwrap_err();
        assert_eq!(error.code, Code::InvalidConfig);
    }
}
