//! [`Programs`]: loads the embedded objects over the pinned maps and attaches their programs.

use crate::{
    attachment::{Attachment, unusable},
    kernel::{KernelError, Programs},
    maps::pin_name,
    objects,
};
use aya::{
    Ebpf, EbpfLoader,
    programs::{SchedClassifier, TcAttachType},
};
use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};
use weft_abi::map::ALL;

/// The loaded programs and the folder of their links' pins.
pub struct RealPrograms {
    // The kernel's own objects: one call at a time, from the loader arbiter.
    objects: Mutex<Objects>,
    links: PathBuf,
    attachment: Attachment,
}

struct Objects {
    pod: Ebpf,
    net: Ebpf,
}

impl RealPrograms {
    /// Loads both objects; maps are made, or reused from the pins in `maps`.
    pub(crate) fn load(
        maps: &Path,
        links: &Path,
        uplink: u32,
        attachment: Attachment,
    ) -> Result<Self, KernelError> {
        for folder in [maps, links] {
            fs::create_dir_all(folder)
                .map_err(|e| unusable(format!("make {}", folder.display()), &e))?;
        }
        let mut pod = load_object("pod", objects::POD, maps, uplink)?;
        let mut net = load_object("net", objects::NET, maps, uplink)?;
        load_program(&mut pod, "from_pod")?;
        load_program(&mut pod, "to_pod")?;
        load_program(&mut net, "from_net")?;
        Ok(Self { objects: Mutex::new(Objects { pod, net }), links: links.to_owned(), attachment })
    }

    /// Attaches a program, or puts it in the place of the one of its name that is there already.
    fn attach(
        &self,
        object: impl FnOnce(&mut Objects) -> &mut Ebpf,
        name: &str,
        ifindex: u32,
        direction: TcAttachType,
    ) -> Result<(), KernelError> {
        let mut objects = self.objects()?;
        let program = classifier(object(&mut objects), name)?;
        self.attachment.attach(program, ifindex, direction, &self.pin(name, ifindex))
    }

    /// A descriptor of one of the programs.
    pub(crate) fn descriptor(&self, name: &str) -> Result<OwnedFd, KernelError> {
        let mut objects = self.objects()?;
        let Objects { pod, net } = &mut *objects;
        let program = classifier(if name == "from_net" { net } else { pod }, name)?;
        let opened = program.fd().map_err(|e| unusable(format!("open {name}"), &e))?;
        opened.as_fd().try_clone_to_owned().map_err(|e| unusable(format!("open {name}"), &e))
    }

    fn objects(&self) -> Result<MutexGuard<'_, Objects>, KernelError> {
        let failed = |_| KernelError::Unusable("the loader failed before".to_owned());
        self.objects.lock().map_err(failed)
    }

    fn pin(&self, name: &str, ifindex: u32) -> PathBuf {
        self.links.join(format!("{name}_{ifindex}"))
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

impl Programs for RealPrograms {
    fn attach_pod(&self, ifindex: u32) -> Result<(), KernelError> {
        self.attach(|objects| &mut objects.pod, "from_pod", ifindex, TcAttachType::Ingress)?;
        self.attach(|objects| &mut objects.pod, "to_pod", ifindex, TcAttachType::Egress)
    }

    fn attach_net(&self, ifindex: u32) -> Result<(), KernelError> {
        self.attach(|objects| &mut objects.net, "from_net", ifindex, TcAttachType::Ingress)
    }

    fn detach_pod(&self, ifindex: u32) -> Result<(), KernelError> {
        for name in ["from_pod", "to_pod"] {
            let pin = self.pin(name, ifindex);
            match fs::remove_file(&pin) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(unusable(format!("remove {}", pin.display()), &e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
