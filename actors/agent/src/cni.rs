//! The CNI calls: how long each waits, and DELs that were left while the agent was away.

use crate::{
    Refusal,
    endpoints::{Add, CanPlug, Check, Delete, Endpoints, Key, ListHeld},
    internal,
    loader::{Loader, Plugged},
    runtime::{Edge, Seat},
    try_again,
    uplink::Progress,
};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{oneshot, watch};
use weft_api::{
    FailureKind,
    agent::Answer,
    cni::{self, Attachment},
};
use weft_core::{endpoint::Phase, patience};
use weft_types::Revision;

/// What CNI calls are told.
#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub struct Config {
    /// How long CNI calls take at most, unless their caller waits less: ADD waits for its pod to become known.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub cni_patience: Duration,
}

/// How often ADD looks.
const PAUSE: Duration = Duration::from_millis(20);
/// How often the folder of DELs that came while the agent was away is looked at.
const DRAIN: Duration = Duration::from_secs(5);
/// A file that is being written for so long was left by a plugin that was killed.
const ABANDONED: Duration = Duration::from_secs(60);

/// Answers CNI calls.
#[derive(Clone)]
pub struct Cni {
    config: Config,
    endpoints: Rc<Edge<Endpoints>>,
    loader: Rc<Edge<Loader>>,
    progress: watch::Receiver<Progress>,
    /// Where `weft-cni` leaves DELs while the agent is away.
    queue: PathBuf,
}

impl Cni {
    /// In front of the endpoints and their links.
    pub fn new(
        config: Config,
        endpoints: &Seat<Endpoints>,
        loader: &Seat<Loader>,
        progress: watch::Receiver<Progress>,
        queue: PathBuf,
    ) -> Self {
        let (endpoints, loader) = (Rc::new(endpoints.edge()), Rc::new(loader.edge()));
        Self { config, endpoints, loader, progress, queue }
    }

    /// ADD; a pod that is not known yet is waited for. An older DEL of the attachment comes first.
    pub async fn add(&self, add: cni::Add, patience: Option<Duration>) -> Result<Answer, Refusal> {
        let waiting = self.queue.join(add.attachment.queue_name());
        if tokio::fs::try_exists(&waiting).await.unwrap_or(false) {
            // Done later, it would take away what is plugged now.
            self.drain_one(&waiting).await.map_err(|error| {
                try_again(format!("an older DEL of this container comes first: {error}"))
            })?;
        }
        let start = Instant::now();
        let patience = self.patience(patience);
        loop {
            let (answer, answered) = oneshot::channel();
            self.endpoints.ask(Add(add.clone(), answer)).await?;
            let left = patience.saturating_sub(start.elapsed());
            let added = tokio::time::timeout(left, answered)
                .await
                .map_err(|_| try_again(format!("not plugged after {patience:?}")))?
                // The actor was made anew meanwhile; the same ADD goes on from its file.
                .unwrap_or_else(|_| Err(try_again("interrupted")));
            match added {
                Err(refusal)
                    if refusal.kind == FailureKind::TryAgain
                        && start.elapsed() < self.as_long_as_it_helps(patience) =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                result => return result.map(Answer::Added).map_err(|refusal| self.alone(refusal)),
            }
        }
    }

    fn patience(&self, of_caller: Option<Duration>) -> Duration {
        of_caller
            .map_or(self.config.cni_patience, |patience| patience.min(self.config.cni_patience))
    }

    fn as_long_as_it_helps(&self, patience: Duration) -> Duration {
        match self.progress.borrow().operator {
            Some(_) => patience,
            None => patience.min(patience::ALONE),
        }
    }

    /// A refusal with what may be behind it.
    fn alone(&self, refusal: Refusal) -> Refusal {
        match self.progress.borrow().operator {
            None if refusal.kind == FailureKind::TryAgain => {
                try_again(format!("{refusal}; no operator is connected to this node"))
            }
            _ => refusal,
        }
    }

    /// DEL.
    pub async fn delete(
        &self,
        attachment: Attachment,
        patience: Option<Duration>,
    ) -> Result<Answer, Refusal> {
        self.unplug(Key::from(attachment), patience).await?;
        Ok(Answer::Done)
    }

    async fn unplug(&self, key: Key, patience: Option<Duration>) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.endpoints.ask(Delete(key, answer)).await?;
        let patience = self.patience(patience);
        let deleted = tokio::time::timeout(patience, answered);
        deleted
            .await
            .map_err(|_| try_again(format!("not unplugged after {patience:?}")))?
            .map_err(|_| try_again("interrupted"))?
    }

    /// CHECK.
    pub async fn check(&self, check: cni::Check) -> Result<Answer, Refusal> {
        self.endpoints.ask(Check(check)).await??;
        Ok(Answer::Done)
    }

    /// STATUS. What may pass by itself is [`FailureKind::TryAgain`]; else pods that are plugged may suffer, too.
    pub async fn status(&self) -> Result<Answer, Refusal> {
        let Progress { realised, problem, .. } = self.progress.borrow().clone();
        if realised == Revision::ZERO {
            return Err(try_again("no operator has sent this node its state yet"));
        }
        if let Some(problem) = problem {
            return Err(internal(format!("the kernel does not hold the newest state: {problem}")));
        }
        // An actor that is made anew is back before a runtime asks again, and one that does not come back ends the agent.
        self.endpoints.ask(CanPlug).await??;
        Ok(Answer::Done)
    }

    /// GC: every attachment of the network that is not in the runtime's list is deleted; one that cannot be keeps none of
    /// the others.
    pub async fn collect(&self, asked: cni::Collect) -> Result<Answer, Refusal> {
        let listed: BTreeSet<Key> = asked.valid.into_iter().map(Key::from).collect();
        let links: BTreeSet<String> =
            self.loader.ask(Plugged).await??.into_iter().map(|(link, _)| link).collect();
        let mut problems = Vec::new();
        for (key, endpoint) in self.endpoints.ask(ListHeld).await? {
            let goes = !listed.contains(&key)
                && match &key.network {
                    Some(network) => *network == asked.network,
                    // Whose it is nobody can say: it goes when nothing is left of it.
                    None => endpoint.phase == Phase::Ready && !links.contains(&key.link),
                };
            if goes {
                tracing::info!(link = key.link, pod = %endpoint.pod, "GC: nobody has it any more");
                let pod = endpoint.pod;
                let deleted = self.unplug(key, None).await;
                problems.extend(deleted.err().map(|why| format!("pod {pod}: {why}")));
            }
        }
        if problems.is_empty() { Ok(Answer::Done) } else { Err(internal(problems.join("; "))) }
    }

    /// How many DELs wait.
    pub async fn waiting(&self) -> usize {
        let queue = self.queue.clone();
        tokio::task::spawn_blocking(move || queued(&queue).len()).await.unwrap_or_default()
    }

    /// Does the DELs that came while the agent was away, again and again: one may be left behind at any time.
    pub async fn drain(self) {
        loop {
            for file in queued(&self.queue) {
                if let Err(error) = self.drain_one(&file).await {
                    tracing::warn!(file = %file.display(), %error, "queued DEL");
                }
            }
            tokio::time::sleep(DRAIN).await;
        }
    }

    async fn drain_one(&self, file: &Path) -> Result<(), Refusal> {
        let bytes = match fs::read(file) {
            // Another call was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(internal)?,
        };
        match serde_json::from_slice(&bytes) {
            Ok(attachment) => drop(self.delete(attachment, None).await?),
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "a queued DEL that is none is removed");
            }
        }
        remove(file);
        Ok(())
    }
}

fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(file = %file.display(), %error, "remove a queued DEL");
    }
}

/// The files of queued DELs; what plugins left half written long ago is removed.
fn queued(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut whole = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let written = entry.metadata().and_then(|metadata| metadata.modified());
        let age = written.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        if path.extension().is_some_and(|extension| extension == "json") {
            whole.push(path);
        } else if age.is_ok_and(|age| age > ABANDONED) {
            remove(&path);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_half_written_goes_and_what_is_being_written_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["c0ffee@eth0.json", "c0ffee@eth1.json.17.new", "c0ffee@eth2.json.18.new"] {
            fs::write(at(name), b"{}").unwrap();
        }
        let old = fs::File::options().write(true).open(at("c0ffee@eth1.json.17.new")).unwrap();
        old.set_modified(SystemTime::now() - 2 * ABANDONED).unwrap();
        assert_eq!(queued(folder.path()), [at("c0ffee@eth0.json")]);
        assert!(!at("c0ffee@eth1.json.17.new").exists());
        assert!(at("c0ffee@eth2.json.18.new").exists());
        assert_eq!(queued(&at("nowhere")), [""; 0].map(PathBuf::from));
    }
}
