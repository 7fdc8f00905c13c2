//! [`Programs`]: loads the embedded objects over the pinned maps and attaches their programs.

use crate::{
    attachment::{Attachment, Clsact, Placed, unlink, unusable},
    kernel::{KernelError, Programs},
    maps::{failed, pin_name},
    objects,
};
use aya::{
    Ebpf, EbpfLoader,
    programs::{ProgramError, SchedClassifier, TcAttachType},
};
use std::{
    collections::BTreeSet,
    fs,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};
use weft_abi::map::{ALL, MapSpec};

/// The programs of a pod's link, and which of its host side's packets they see.
const POD: [(&str, TcAttachType); 2] =
    [("from_pod", TcAttachType::Ingress), ("to_pod", TcAttachType::Egress)];

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

/// What objects are loaded over.
pub(crate) struct Loading<'a> {
    /// Folder of the maps' pins.
    pub(crate) maps: &'a Path,
    /// The node's device.
    pub(crate) uplink: u32,
    /// Entries of maps that are made for others than their declaration says.
    pub(crate) sizes: &'a [(&'a MapSpec, u32)],
}

impl RealPrograms {
    /// Loads both objects; maps are made, or reused from their pins.
    pub(crate) fn load(
        loading: &Loading<'_>,
        links: &Path,
        attachment: Attachment,
    ) -> Result<Self, KernelError> {
        for folder in [loading.maps, links] {
            fs::create_dir_all(folder)
                .map_err(|e| unusable(format!("make {}", folder.display()), &e))?;
        }
        let mut pod = load_object("pod", objects::POD, loading)?;
        let mut net = load_object("net", objects::NET, loading)?;
        for (name, _) in POD {
            load_program(&mut pod, name)?;
        }
        load_program(&mut net, "from_net")?;
        Ok(Self { objects: Mutex::new(Objects { pod, net }), links: links.to_owned(), attachment })
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

fn load_object(name: &str, bytes: &[u8], loading: &Loading<'_>) -> Result<Ebpf, KernelError> {
    let mut loader = EbpfLoader::new();
    for spec in &ALL {
        loader.map_pin_path(spec.name, loading.maps.join(pin_name(spec)));
    }
    for (spec, entries) in loading.sizes {
        loader.map_max_entries(spec.name, *entries);
    }
    loader.override_global("UPLINK_IFINDEX", &loading.uplink, true);
    loader.load(bytes).map_err(|e| unusable(format!("load the object {name}"), &e))
}

fn load_program(object: &mut Ebpf, name: &str) -> Result<(), KernelError> {
    load(classifier(object, name)?).map_err(|e| unusable(format!("load {name}"), &e))
}

/// How long a program whose verification is interrupted is loaded again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Loads a program. The kernel stops verifying it and says EAGAIN when a signal comes, also to who has no handler: a process that
/// is stopped, frozen or traced gets one.
pub fn load(program: &mut SchedClassifier) -> Result<(), ProgramError> {
    let begun = Instant::now();
    loop {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.raw_os_error() == Some(libc::EAGAIN) && begun.elapsed() < PATIENCE => {}
            done => return done,
        }
    }
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
    fn attach_pod(&self, ifindex: u32) -> Result<usize, KernelError> {
        let mut objects = self.objects()?;
        let clsact = Clsact::of(ifindex)?;
        let place = |(name, way)| clsact.filter(classifier(&mut objects.pod, name)?, way);
        missing(POD.into_iter().map(place))
    }

    fn link_pod(&self, ifindex: u32) -> Result<usize, KernelError> {
        let mut objects = self.objects()?;
        let link = |(name, way)| {
            let program = classifier(&mut objects.pod, name)?;
            self.attachment.link(program, ifindex, way, &self.pin(name, ifindex))
        };
        missing(POD.into_iter().map(link))
    }

    fn attach_net(&self, ifindex: u32) -> Result<usize, KernelError> {
        let mut objects = self.objects()?;
        let (name, way) = ("from_net", TcAttachType::Ingress);
        let program = classifier(&mut objects.net, name)?;
        // What it does not take goes by the node's stack, and `to_pod` judges it: there is nothing behind its link.
        let filtered = match self.attachment {
            Attachment::Clsact => Clsact::of(ifindex)?.filter(program, way),
            Attachment::Tcx => Ok(Placed::Over),
        };
        let linked = self.attachment.link(program, ifindex, way, &self.pin(name, ifindex));
        missing([filtered, linked].into_iter())
    }

    fn detach_pod(&self, ifindex: u32) -> Result<(), KernelError> {
        POD.iter().try_for_each(|(name, _)| unlink(&self.pin(name, ifindex)))
    }

    fn pinned(&self) -> Result<BTreeSet<u32>, KernelError> {
        let action = || format!("list {}", self.links.display());
        let mut pinned = BTreeSet::new();
        for entry in fs::read_dir(&self.links).map_err(failed(action()))? {
            let name = entry.map_err(failed(action()))?.file_name();
            let name = name.to_string_lossy();
            let of_pod = POD.iter().find_map(|(program, _)| name.strip_prefix(*program));
            let ifindex = of_pod.and_then(|rest| rest.strip_prefix('_'));
            pinned.extend(ifindex.and_then(|ifindex| ifindex.parse::<u32>().ok()));
        }
        Ok(pinned)
    }
}

/// How many programs were not in their place before; the first error ends it.
fn missing(
    mut placed: impl Iterator<Item = Result<Placed, KernelError>>,
) -> Result<usize, KernelError> {
    placed.try_fold(0, |missing, placed| Ok(missing + usize::from(placed? == Placed::Anew)))
}
