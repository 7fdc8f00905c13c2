//! How a program is put in front of an interface: as a filter of a clsact qdisc, as a pinned TCX link, or both.
//!
//! Either outlives the agent, and either is replaced in one step: the link is given another program, the filter of
//! the same priority and handle is changed. A filter is there in some 0.15 ms and lives as long as the interface. A link
//! comes before the filters and costs a packet less, but the kernel makes it in a grace period of RCU (some 10 ms),
//! and it ends with its pin, which whoever cleans bpffs removes.

use crate::kernel::KernelError;
use aya::{
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{
            NlOptions, SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions, TcError,
            TcHandle, qdisc_add_clsact,
        },
    },
    util::KernelVersion,
};
use std::{error::Error, ffi::CString, fs, io, mem, path::Path};

/// The first kernel with TCX.
const TCX_SINCE: KernelVersion = KernelVersion::new(6, 6, 0);
/// Priority of our filters: before those that others add later.
const PRIORITY: u16 = 1;
/// Handle of our filters within their priority.
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// TCX links, pinned in bpffs (Linux 6.6 or later); behind those of a pod there are filters.
    Tcx,
    /// Filters of a clsact qdisc, which the interface keeps (Linux 4.5 or later).
    Clsact,
}

impl Attachment {
    /// The better one that this kernel has.
    pub fn of_this_kernel() -> Self {
        let tcx = KernelVersion::current().is_ok_and(|kernel| kernel >= TCX_SINCE);
        if tcx { Self::Tcx } else { Self::Clsact }
    }

    /// Has a TCX link to a program, kept by `pin`, or none where this is not how programs are attached.
    pub(crate) fn link(
        self,
        program: &mut SchedClassifier,
        ifindex: u32,
        direction: TcAttachType,
        pin: &Path,
    ) -> Result<Placed, KernelError> {
        match self {
            Self::Tcx => link_tcx(program, ifindex, direction, pin)
                .map_err(|e| unusable(format!("link to interface {ifindex} by TCX"), &*e)),
            // That of an agent that attached the other way would judge first.
            Self::Clsact => unlink(pin).map(|()| Placed::Over),
        }
    }
}

/// The clsact qdisc of an interface, where its filters are.
pub(crate) struct Clsact {
    ifindex: u32,
    interface: String,
    /// Made just now, it has no filter that could be looked for.
    is_new: bool,
}

impl Clsact {
    /// Finds it, or makes it.
    pub(crate) fn of(ifindex: u32) -> Result<Self, KernelError> {
        let find = || -> Result<Self, Box<dyn Error + Send + Sync>> {
            let interface = interface_name(ifindex)?;
            let is_new = match qdisc_add_clsact(&interface) {
                Ok(()) => true,
                Err(TcError::NetlinkError(e)) if e.raw_os_error() == Some(libc::EEXIST) => false,
                Err(error) => return Err(error.into()),
            };
            Ok(Self { ifindex, interface, is_new })
        };
        find().map_err(|e| unusable(attach_to(ifindex), &*e))
    }

    /// Puts a program there as a filter, or in the place of the one that was put there before.
    pub(crate) fn filter(
        &self,
        program: &mut SchedClassifier,
        direction: TcAttachType,
    ) -> Result<Placed, KernelError> {
        self.put(program, direction).map_err(|e| unusable(attach_to(self.ifindex), &*e))
    }

    fn put(&self, program: &mut SchedClassifier, direction: TcAttachType) -> Attached {
        let (id, placed) = match self.replace(program, direction)? {
            Some(id) => (id, Placed::Over),
            None => {
                let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
                let options = TcAttachOptions::Netlink(options);
                let id = program.attach_with_options(&self.interface, direction, options)?;
                (id, Placed::Anew)
            }
        };
        // Dropped, it would take the filter away, and the pods' packets with it when the agent ends.
        mem::forget(program.take_link(id)?);
        Ok(placed)
    }

    /// Puts a program in the place of our filter, if there is one.
    fn replace(
        &self,
        program: &mut SchedClassifier,
        direction: TcAttachType,
    ) -> Result<Option<SchedClassifierLinkId>, Box<dyn Error + Send + Sync>> {
        if self.is_new {
            return Ok(None);
        }
        let name = &self.interface;
        let present = SchedClassifierLink::attached(name, direction, PRIORITY, HANDLE, None)?;
        Ok(program.attach_to_link(present).ok())
    }
}

fn attach_to(ifindex: u32) -> String {
    format!("attach to interface {ifindex} by clsact")
}

/// How a program came to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placed {
    /// Over the one of its name, in one step.
    Over,
    /// There was none.
    Anew,
}

type Attached = Result<Placed, Box<dyn Error + Send + Sync>>;

fn link_tcx(
    program: &mut SchedClassifier,
    ifindex: u32,
    direction: TcAttachType,
    pin: &Path,
) -> Attached {
    if let Ok(placed) = replace_in_link(program, pin) {
        return Ok(placed);
    }
    // There is none, or a dead one: the interface of that index is another now, or somebody detached it. What comes
    // until the new one is there is judged behind it.
    unlink(pin)?;
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(&interface_name(ifindex)?, direction, options)?;
    FdLink::try_from(program.take_link(id)?)?.pin(pin)?;
    Ok(Placed::Anew)
}

/// Removes the pin of a TCX link, and the link with it.
pub(crate) fn unlink(pin: &Path) -> Result<(), KernelError> {
    match fs::remove_file(pin) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(unusable(format!("remove {}", pin.display()), &error))
        }
        _ => Ok(()),
    }
}

fn replace_in_link(program: &mut SchedClassifier, pin: &Path) -> Attached {
    let link = SchedClassifierLink::try_from(FdLink::from(PinnedLink::from_pin(pin)?))?;
    let id = program.attach_to_link(link)?;
    // The pin keeps the link.
    drop(program.take_link(id)?);
    Ok(Placed::Over)
}

fn interface_name(ifindex: u32) -> std::io::Result<String> {
    let name: CString = nix::net::if_::if_indextoname(ifindex)?;
    name.into_string().map_err(std::io::Error::other)
}

/// An error with all its causes.
pub(crate) fn unusable(action: String, error: &dyn Error) -> KernelError {
    let mut text = format!("{action}: {error}");
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    KernelError::Unusable(text)
}
