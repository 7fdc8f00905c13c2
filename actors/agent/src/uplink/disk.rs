//! What was published, kept on disk: before anyone is told of it, and durable before it is acknowledged.

use super::{Setting, Uplink};
use crate::{
    Refusal, internal,
    journal::Journal,
    published::Advance,
    runtime::{Life, Serve, request},
};
use std::{fs, io, sync::Arc, time::Duration};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};

/// The file with the cluster's name, which flows carry before the first session.
const CLUSTER: &str = "cluster";

/// Keeps the cluster's name, as an operator said it, for the next life.
pub(super) async fn keep_cluster(setting: &Setting, name: &str) {
    let (path, name) = (setting.state_dir.join(CLUSTER), name.to_owned());
    let write = move || {
        let new = path.with_extension("new");
        fs::write(&new, name)?;
        fs::rename(&new, &path)
    };
    let written = spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)));
    if let Err(error) = written {
        tracing::warn!(%error, "write the cluster's name to disk: flows lack it after a restart");
    }
}

/// How long a disk that took nothing is left alone.
const AGAIN: Duration = Duration::from_secs(5);

/// A record on its way from the page cache to the disk.
pub(super) struct Durable(Option<JoinHandle<io::Result<()>>>);

impl Durable {
    /// Until it is there.
    pub(super) async fn wait(self) {
        let Some(syncing) = self.0 else { return };
        let done = syncing.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        if let Err(error) = done {
            tracing::error!(%error, "sync the state on disk");
        }
    }
}

/// Keep what could not be kept, if nobody has meanwhile.
pub(super) struct Keep;
request!(Keep => ());

impl Serve<Keep> for Uplink {
    async fn serve(&mut self, _: Keep, life: &Life<Self>) {
        self.keeping = false;
        if self.setting.progress.borrow().unkept.is_some() {
            let revision = self.published.revision();
            let nothing_new = Advance { revision, whole: false, deltas: Arc::new([]) };
            self.record(&nothing_new, life).await.wait().await;
        }
    }
}

impl Uplink {
    /// Reads what the life before held: the kernel goes on from there, whether an operator can be reached or not.
    pub(super) async fn recover(&mut self) -> Result<(), Refusal> {
        let path = self.setting.state_dir.join(CLUSTER);
        if let Ok(Ok(cluster)) = spawn_blocking(|| fs::read_to_string(path)).await {
            self.setting.progress.send_modify(|progress| progress.cluster = cluster);
        }
        let journal = Journal::new(&self.setting.state_dir);
        let (read, journal) =
            spawn_blocking(move || (journal.read(), journal)).await.map_err(internal)?;
        match read {
            Ok(Some(published)) => {
                tracing::info!(revision = %published.revision(), "going on from the state on disk");
                self.published = published;
                self.pending = true;
            }
            Ok(None) => {}
            Err(error) => {
                let file = journal.path().display();
                tracing::error!(%file, %error, "the state on disk is ignored: an operator is waited for");
            }
        }
        self.journal = Some(journal);
        Ok(())
    }

    /// Writes a change down before anyone is told of it. That it cannot be keeps nobody from being told.
    pub(super) async fn record(&mut self, changes: &Advance, life: &Life<Self>) -> Durable {
        // Taken out while it is written; a task that died over it had its file.
        let mut journal =
            self.journal.take().unwrap_or_else(|| Journal::new(&self.setting.state_dir));
        let whole = journal.wants_whole();
        if !whole && changes.deltas.is_empty() && changes.revision == self.recorded {
            self.journal = Some(journal);
            return Durable(None);
        }
        let advance = if whole { self.published.whole() } else { changes.clone() };
        let (revision, gate) = (advance.revision, life.gate());
        let write = move || {
            // Who was replaced has no say in what is on disk.
            let done = if gate.is_open() { journal.record(&advance) } else { Ok(()) };
            (done.and_then(|()| journal.unsynced()), journal)
        };
        let written = match spawn_blocking(write).await {
            Ok((written, journal)) => {
                self.journal = Some(journal);
                written
            }
            Err(died) => Err(io::Error::other(died)),
        };
        match written {
            Ok(file) => {
                self.recorded = revision;
                self.setting.progress.send_if_modified(|p| p.unkept.take().is_some());
                Durable(file.map(|file| spawn_blocking(move || file.sync_data())))
            }
            Err(error) => {
                tracing::error!(%error, "write the state to disk: a restart without operators would know nothing");
                self.setting.progress.send_modify(|p| p.unkept = Some(error.to_string()));
                self.keep_later(life);
                Durable(None)
            }
        }
    }

    fn keep_later(&mut self, life: &Life<Self>) {
        if !std::mem::replace(&mut self.keeping, true) {
            let me = life.edge();
            life.spawn(async move {
                sleep(AGAIN).await;
                drop(me.ask(Keep).await);
            });
        }
    }
}
