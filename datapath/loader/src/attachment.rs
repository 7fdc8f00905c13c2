//! How a program is put in front of an interface: a pinned TCX link, or a clsact filter where the kernel has no TCX.
//!
//! Either outlives the agent, and either is replaced in one step: the link is given another program, the
//! filter of the same priority and handle is changed.

use crate::kernel::KernelError;
use aya::{
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        tc::{
            NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
        },
    },
    util::KernelVersion,
};
use std::{error::Error, ffi::CString, fs, mem, path::Path};

/// The first kernel with TCX.
const TCX_SINCE: KernelVersion = KernelVersion::new(6, 6, 0);
/// Priority of our filters: before those that others add later.
const PRIORITY: u16 = 1;
/// Handle of our filters within their priority.
const HANDLE: TcHandle = TcHandle::new(0, 1);

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// TCX links, pinned in bpffs (Linux 6.6 or later).
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

    /// Puts a program in front of an interface, or in the place of the one that was put there before.
    /// `pin` is where a TCX link is kept.
    pub(crate) fn attach(
        self,
        program: &mut SchedClassifier,
        ifindex: u32,
        direction: TcAttachType,
        pin: &Path,
    ) -> Result<(), KernelError> {
        let attached = match self {
            Self::Tcx => attach_tcx(program, ifindex, direction, pin),
            Self::Clsact => attach_clsact(program, ifindex, direction),
        };
        attached.map_err(|e| unusable(format!("attach to interface {ifindex} by {self:?}"), &*e))
    }
}

type Attached = Result<(), Box<dyn Error + Send + Sync>>;

fn attach_tcx(
    program: &mut SchedClassifier,
    ifindex: u32,
    direction: TcAttachType,
    pin: &Path,
) -> Attached {
    if pin.exists() {
        match replace_in_link(program, pin) {
            Ok(()) => return Ok(()),
            // The interface of that index is another one now, and the link is dead.
            Err(_) => fs::remove_file(pin)?,
        }
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(&interface_name(ifindex)?, direction, options)?;
    let link = FdLink::try_from(program.take_link(id)?)?;
    link.pin(pin)?;
    Ok(())
}

fn replace_in_link(program: &mut SchedClassifier, pin: &Path) -> Attached {
    let link = SchedClassifierLink::try_from(FdLink::from(PinnedLink::from_pin(pin)?))?;
    program.attach_to_link(link)?;
    Ok(())
}

fn attach_clsact(program: &mut SchedClassifier, ifindex: u32, direction: TcAttachType) -> Attached {
    let interface = interface_name(ifindex)?;
    match qdisc_add_clsact(&interface) {
        Ok(()) => {}
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let present = SchedClassifierLink::attached(&interface, direction, PRIORITY, HANDLE, None)?;
    let id = match program.attach_to_link(present) {
        Ok(id) => id,
        // There is no filter of ours yet.
        Err(_) => {
            let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
            let options = TcAttachOptions::Netlink(options);
            program.attach_with_options(&interface, direction, options)?
        }
    };
    // Dropped, it would take the filter away, and the pods' packets with it when the agent ends.
    mem::forget(program.take_link(id)?);
    Ok(())
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
