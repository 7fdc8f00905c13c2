//! Ctrl-C, SIGTERM and SIGHUP: noted when they come, heeded between two rounds, so that everything is taken down.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

static CAME: AtomicBool = AtomicBool::new(false);

/// From now on the signals are only noted. Before any thread is started; children are not affected.
pub(crate) fn watch() -> Result<()> {
    let mut signals = SigSet::empty();
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|s| signals.add(s));
    signals.thread_block().context("hold back signals")?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            CAME.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// Whether one has come.
pub(crate) fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// An error once one has come.
pub(crate) fn check() -> Result<()> {
    if came() {
        bail!("interrupted");
    }
    Ok(())
}
