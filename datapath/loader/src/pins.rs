//! Where an agent's pins stand: pure functions of the root that it was given.
//!
//! ```text
//! ROOT/maps/weft_endpoints_v1      ROOT/links/pod-7-from_pod
//! ROOT/programs/from_pod           ROOT/links/net-2-from_net
//! ```

use std::path::{Path, PathBuf};
use weft_abi::map::MapSpec;

/// The folders below the root, in the order in which they are made.
pub const FOLDERS: [&str; 3] = ["maps", "programs", "links"];

/// A map's pin; a changed layout is another pin, so that an older agent's map is never misread.
pub fn map(root: &Path, spec: &MapSpec) -> PathBuf {
    root.join("maps").join(format!("{}_v{}", spec.name, spec.version))
}

/// A program's pin.
pub fn program(root: &Path, program: &str) -> PathBuf {
    root.join("programs").join(program)
}

/// The pin of the link by which a program is attached to a pod's host side.
pub fn pod_link(root: &Path, ifindex: u32, program: &str) -> PathBuf {
    root.join("links").join(format!("pod-{ifindex}-{program}"))
}

/// The pin of the link by which a program is attached to a device of the node.
pub fn net_link(root: &Path, ifindex: u32, program: &str) -> PathBuf {
    root.join("links").join(format!("net-{ifindex}-{program}"))
}

/// The interface of a pod link's pin, by the last part of its path; none for any other file.
pub fn pod_of_link(file_name: &str) -> Option<u32> {
    let (index, program) = file_name.strip_prefix("pod-")?.split_once('-')?;
    if program.is_empty() || index.starts_with('+') { None } else { index.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_pinned_by_name_and_version() {
        let spec = MapSpec { version: 7, ..weft_abi::endpoint::ENDPOINTS };
        assert_eq!(map(Path::new("/b"), &spec), Path::new("/b/maps/weft_endpoints_v7"));
    }

    #[test]
    fn a_pod_link_is_found_again_by_its_file_name() {
        let pin = pod_link(Path::new("/b"), 4_000_000_000, "from_pod");
        let name = pin.file_name().and_then(|name| name.to_str()).unwrap();
        assert_eq!(pod_of_link(name), Some(4_000_000_000));
    }

    #[test]
    fn other_files_are_no_pod_links() {
        let net = net_link(Path::new("/b"), 2, "from_net");
        for name in [
            net.file_name().unwrap().to_str().unwrap(),
            "pod-",
            "pod-7",
            "pod-7-",
            "pod-+7-x",
            "pod-x-y",
            "",
        ] {
            assert_eq!(pod_of_link(name), None, "{name}");
        }
    }
}
