//! What an endpoint is known by.

use crate::Refusal;
use std::cmp::Ordering;
use weft_api::{FailureKind, cni::Attachment};
use weft_datapath::kernel::HOST_SIDE;

/// The name of its link's host side, which stands for its attachment; so an endpoint whose record was damaged is found by
/// every call that is about it.
#[derive(Clone, Debug)]
pub struct Key {
    /// The name.
    pub link: String,
    /// The attachment, or what is wrong with the record that told it.
    pub attachment: Result<Attachment, String>,
    /// Name of its CNI network, where the record says it.
    pub network: Option<String>,
}

impl Key {
    /// The attachment, for what cannot be done without it.
    pub(super) fn attachment(&self) -> Result<&Attachment, Refusal> {
        let refusal = |why: &String| Refusal { kind: FailureKind::Refused, message: why.clone() };
        self.attachment.as_ref().map_err(refusal)
    }
}

impl From<Attachment> for Key {
    fn from(attachment: Attachment) -> Self {
        Self { link: host_interface(&attachment), attachment: Ok(attachment), network: None }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.link == other.link
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.link.cmp(&other.link)
    }
}

/// The name of the host side: of a length that Linux takes, the same for the same attachment.
pub fn host_interface(attachment: &Attachment) -> String {
    // FNV-1a, 64 bits; a name must be stable over versions of the standard library's hasher.
    let text = [attachment.container_id.as_bytes(), b"/", attachment.interface.as_bytes()].concat();
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{HOST_SIDE}{:012x}", hash & 0xffff_ffff_ffff)
}
