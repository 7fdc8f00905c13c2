//! Ctrl-C, SIGTERM and SIGHUP: noted when they come, heeded between two steps, so that every step can be undone.

use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

static CAME: AtomicBool = AtomicBool::new(false);
/// The longest that one is not heeded.
const LOOK: Duration = Duration::from_millis(20);

/// One has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// From now on they are only noted. They are handled rather than blocked: what is blocked is so in every process that is
/// started, too.
pub fn watch() -> io::Result<()> {
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
pub fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// An error once one has come.
pub fn check() -> Result<(), Interrupted> {
    if came() { Err(Interrupted) } else { Ok(()) }
}

/// As long as that, or until one comes.
pub fn sleep(time: Duration) {
    let until = Instant::now() + time;
    while !came() {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left.min(LOOK));
    }
}

/// Tries until it works; false when it did not in time.
pub fn poll<E: From<Interrupted>>(
    patience: Duration,
    mut works: impl FnMut() -> Result<bool, E>,
) -> Result<bool, E> {
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
