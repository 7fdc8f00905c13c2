//! A process that ends with whoever started it.

use anyhow::{Context, Result};
use std::{
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

/// It is killed when this is dropped, and by the kernel when this process dies before that.
pub(super) struct Owned(Child);

impl Owned {
    /// A command for [`Owned::start`]; arguments may be added.
    pub(super) fn command(program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program);
        command
    }

    /// Starts it; what it says goes to a file.
    pub(super) fn start(mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("make {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let what = format!("start {:?}", command.get_args().nth(2).unwrap_or_default());
        command.spawn().map(Self).context(what)
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended, if it did.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // One that has ended already is what is wanted.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
