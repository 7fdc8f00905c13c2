//! DELs that wait on disk for an agent that is away.

use std::{
    fs::{self, DirBuilder},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::Path,
};
use weft_api::cni::Attachment;

/// Writes one down; it is on the disk when this returns. Once more is no error.
pub(crate) fn put(folder: &Path, attachment: &Attachment) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Others may write the same at this moment.
    let new = folder.join(format!("{}.{}.new", attachment.queue_name(), std::process::id()));
    let written = (|| {
        let mut file = fs::File::create(&new)?;
        file.write_all(&serde_json::to_vec(attachment)?)?;
        file.sync_all()?;
        fs::rename(&new, folder.join(attachment.queue_name()))
    })();
    if written.is_err() {
        // What is half written is nobody's.
        drop(fs::remove_file(&new));
    }
    written
}
