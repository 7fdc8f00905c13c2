//! Ctrl-C and SIGTERM: noted when they come, heeded between two steps, so that every step can be undone.

use anyhow::{Result, bail};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

static CAME: AtomicBool = AtomicBool::new(false);

/// From now on the signals are only noted.
pub(crate) fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let mut signals = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::hangup())?,
    );
    drop(guard);
    thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = signals.0.recv() => {}
                _ = signals.1.recv() => {}
                _ = signals.2.recv() => {}
            }
        });
        CAME.store(true, Ordering::Relaxed);
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

/// Tries until it works; false when it did not in time.
pub(crate) fn poll(patience: Duration, mut works: impl FnMut() -> Result<bool>) -> Result<bool> {
    let until = Instant::now() + patience;
    while !works()? {
        check()?;
        if Instant::now() >= until {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(true)
}
