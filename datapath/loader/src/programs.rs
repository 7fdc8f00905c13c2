//! [`Programs`]: loads the embedded objects over the pinned maps, attaches them by pinned TCX links.

use crate::{
    kernel::{KernelError, Programs},
    maps::pin_name,
    objects,
};
use aya::{
    Ebpf, EbpfLoader,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use std::{
    ffi::CString,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
};
use weft_abi::map::ALL;

/// The loaded programs and the folder of their links' pins.
pub struct RealPrograms {
    // The kernel's own objects: one call at a time, from the loader arbiter.
    objects: Mutex<Objects>,
    links: PathBuf,
}

struct Objects {
    pod: Ebpf,
    net: Ebpf,
}

impl RealPrograms {
    /// Loads both objects; maps are made, or reused from the pins in `maps`.
    pub(crate) fn load(maps: &Path, links: &Path, uplink: u32) -> Result<Self, KernelError> {
        for folder in [maps, links] {
            fs::create_dir_all(folder)
                .map_err(|e| unusable(format!("make {}", folder.display()), &e))?;
        }
        let mut pod = load_object("pod", objects::POD, maps, uplink)?;
        let mut net = load_object("net", objects::NET, maps, uplink)?;
        load_program(&mut pod, "from_pod")?;
        load_program(&mut pod, "to_pod")?;
        load_program(&mut net, "from_net")?;
        Ok(Self { objects: Mutex::new(Objects { pod, net }), links: links.to_owned() })
    }

    fn with<T>(
        &self,
        act: impl FnOnce(&mut Objects, &Path) -> Result<T, KernelError>,
    ) -> Result<T, KernelError> {
        let mut objects = self
            .objects
            .lock()
            .map_err(|_| KernelError::Unusable("the loader failed before".to_owned()))?;
        act(&mut objects, &self.links)
    }
}

fn load_object(name: &str, bytes: &[u8], maps: &Path, uplink: u32) -> Result<Ebpf, KernelError> {
    let mut loader = EbpfLoader::new();
    for spec in &ALL {
        loader.map_pin_path(spec.name, maps.join(pin_name(spec)));
    }
    loader.override_global("UPLINK_IFINDEX", &uplink, true);
    loader.load(bytes).map_err(|e| unusable(format!("load the object {name}"), &e))
}

fn load_program(object: &mut Ebpf, name: &str) -> Result<(), KernelError> {
    classifier(object, name)?.load().map_err(|e| unusable(format!("load {name}"), &e))
}

fn classifier<'o>(
    object: &'o mut Ebpf,
    name: &str,
) -> Result<&'o mut SchedClassifier, KernelError> {
    object
        .program_mut(name)
        .ok_or_else(|| KernelError::Unusable(format!("the object has no program {name}")))?
        .try_into()
        .map_err(|e| unusable(format!("use {name}"), &e))
}

/// Attaches a program, or puts it into the link that is pinned already, in one step.
fn attach(
    object: &mut Ebpf,
    name: &str,
    ifindex: u32,
    direction: TcAttachType,
    pin: &Path,
) -> Result<(), KernelError> {
    let action = || format!("attach {name} to interface {ifindex}");
    let program = classifier(object, name)?;
    if pin.exists() {
        let replaced = PinnedLink::from_pin(pin)
            .map_err(|e| unusable(action(), &e))
            .and_then(|link| {
                SchedClassifierLink::try_from(FdLink::from(link))
                    .map_err(|e| unusable(action(), &e))
            })
            .and_then(|link| program.attach_to_link(link).map_err(|e| unusable(action(), &e)));
        match replaced {
            Ok(_) => return Ok(()),
            // The interface of that index is another one now, and the link is dead.
            Err(_) => fs::remove_file(pin).map_err(|e| unusable(action(), &e))?,
        }
    }
    let interface = interface_name(ifindex).map_err(|e| unusable(action(), &e))?;
    let id = program
        .attach_with_options(&interface, direction, TcAttachOptions::TcxOrder(LinkOrder::default()))
        .map_err(|e| unusable(action(), &e))?;
    let link = program.take_link(id).map_err(|e| unusable(action(), &e))?;
    FdLink::try_from(link)
        .map_err(|e| unusable(action(), &e))?
        .pin(pin)
        .map_err(|e| unusable(action(), &e))?;
    Ok(())
}

fn interface_name(ifindex: u32) -> std::io::Result<String> {
    let name: CString = nix::net::if_::if_indextoname(ifindex)?;
    name.into_string().map_err(std::io::Error::other)
}

fn unusable(action: String, error: &dyn std::error::Error) -> KernelError {
    let mut text = format!("{action}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    KernelError::Unusable(text)
}

impl Programs for RealPrograms {
    fn attach_pod(&self, ifindex: u32) -> Result<(), KernelError> {
        self.with(|objects, links| {
            let pin = |direction: &str| links.join(format!("pod_{direction}_{ifindex}"));
            attach(&mut objects.pod, "from_pod", ifindex, TcAttachType::Ingress, &pin("in"))?;
            attach(&mut objects.pod, "to_pod", ifindex, TcAttachType::Egress, &pin("out"))
        })
    }

    fn attach_net(&self, ifindex: u32) -> Result<(), KernelError> {
        self.with(|objects, links| {
            let pin = links.join(format!("net_in_{ifindex}"));
            attach(&mut objects.net, "from_net", ifindex, TcAttachType::Ingress, &pin)
        })
    }

    fn detach_pod(&self, ifindex: u32) -> Result<(), KernelError> {
        for direction in ["in", "out"] {
            let pin = self.links.join(format!("pod_{direction}_{ifindex}"));
            match fs::remove_file(&pin) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(unusable(format!("remove {}", pin.display()), &e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn attached_pods(&self) -> Result<Vec<u32>, KernelError> {
        let entries = fs::read_dir(&self.links)
            .map_err(|e| unusable(format!("list {}", self.links.display()), &e))?;
        Ok(entries
            .flatten()
            .filter_map(|e| e.file_name().to_str()?.strip_prefix("pod_in_")?.parse().ok())
            .collect())
    }
}
