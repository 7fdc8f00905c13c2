//! Results: ADD's, in the version that was asked for, and those of the plugins before.

use crate::{
    config::Config,
    error::{CniError, Code},
    version::Version,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;
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

    /// Whether a container has this interface by what the plugins before made.
    pub(crate) fn has(&self, interface: &str, netns: &str) -> bool {
        self.interfaces.iter().any(|device| device.name == interface && device.sandbox == netns)
    }

    /// The IPv4 addresses of a container's interface. Plugins after ours may have added some.
    pub(crate) fn addresses(
        &self,
        interface: &str,
        netns: &str,
    ) -> Result<Vec<Ipv4Addr>, CniError> {
        let different = |what: &str| {
            let message = format!("CHECK: prevResult has no {what} {interface} in {netns}");
            CniError::new(Code::Different, message)
        };
        let ours = |device: &Device| device.name == interface && device.sandbox == netns;
        let index = self.interfaces.iter().position(ours).ok_or_else(|| different("interface"))?;
        let of_it = self.ips.iter().filter(|ip| ip.interface == Some(index));
        let addresses: Vec<Ipv4Addr> =
            of_it.filter_map(|ip| ip.address.split('/').next()?.parse().ok()).collect();
        if addresses.is_empty() {
            return Err(different("IPv4 address of"));
        }
        Ok(addresses)
    }
}

/// ADD's result: what other plugins made before, then ours.
pub(crate) fn of(
    added: &Added,
    interface: &str,
    netns: &str,
    version: Version,
    previous: Option<Previous>,
) -> Value {
    let mut all = previous.unwrap_or_default();
    let device = |name: &str, mac: &str, sandbox: &str| {
        let mut rest = Map::from_iter([("mac".to_owned(), json!(mac))]);
        if version >= Version::V1_1_0 {
            rest.insert("mtu".to_owned(), json!(added.mtu));
        }
        Device { name: name.to_owned(), sandbox: sandbox.to_owned(), rest }
    };
    all.interfaces.push(device(&added.host_interface, &added.host_mac, ""));
    all.interfaces.push(device(interface, &added.mac, netns));
    let mut rest = Map::from_iter([("gateway".to_owned(), json!(added.gateway))]);
    if version < Version::V1_0_0 {
        rest.insert("version".to_owned(), json!("4"));
    }
    all.ips.push(Address {
        address: format!("{}/32", added.address),
        interface: Some(all.interfaces.len() - 1),
        rest,
    });
    all.routes.push(json!({ "dst": "0.0.0.0/0", "gw": added.gateway }));
    json!({
        "cniVersion": version.as_str(),
        "interfaces": all.interfaces,
        "ips": all.ips,
        "routes": all.routes,
        "dns": all.dns,
    })
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
        let result = of(&added(), "eth0", "/run/netns/a", version, None);
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
        let previous = serde_json::from_value(before.clone()).unwrap();
        let result = of(&added(), "eth0", "/run/netns/a", Version::V1_1_0, Some(previous));
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
            let error = again.addresses(interface, netns).unwrap_err();
            assert_eq!(error.code, Code::Different);
        }
    }
}
