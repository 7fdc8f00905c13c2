//! Who speaks with the store: one question after another, on a thread that may wait for a disk or a network.

use crate::metrics::Metrics;
use std::{
    io,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
        mpsc::{Sender, channel},
    },
    thread,
    time::Duration,
};
use tokio::{
    sync::{
        mpsc::{UnboundedReceiver, unbounded_channel},
        watch,
    },
    time::timeout,
};
use weft_process::trace;
use weft_state::leadership::{Ask, Contents, Operation, Stored};
use weft_store::{Store, StoreError};
use weft_types::{Cluster, TraceContext};

/// How long whoever looks waits for the store.
const WITHIN: Duration = Duration::from_secs(1);

/// What the store is asked.
#[derive(Debug)]
pub struct Question {
    /// What its answer is known by.
    pub operation: Operation,
    /// What.
    pub ask: Ask,
    /// The call that it is part of.
    pub cause: Option<TraceContext>,
}

/// What the store says.
#[derive(Debug)]
pub struct Told {
    /// To what.
    pub operation: Operation,
    /// Its answer.
    pub answer: Result<Stored, StoreError>,
}

/// What the thread does next.
#[derive(Debug)]
enum Work {
    Ask(Question),
    Look,
}

/// The thread.
#[derive(Debug)]
pub struct Keeper {
    /// Without a bound: who leads waits for each answer, or gives it up after its patience, and one look waits at most.
    work: Option<Arc<Sender<Work>>>,
    thread: Option<thread::JoinHandle<()>>,
    looks: Looks,
}

/// Looks whether the store answers, for who does not lead has no other reason to ask it.
#[derive(Clone, Debug)]
pub struct Looks {
    /// It ends with the keeper, whoever may look.
    work: Weak<Sender<Work>>,
    /// Whether a look is under way: the next one to come shares its answer.
    under_way: Arc<AtomicBool>,
    seen: watch::Receiver<Option<String>>,
}

impl Looks {
    /// Why the store does not answer, if so.
    pub async fn problem(&self) -> Option<String> {
        let mut seen = self.seen.clone();
        seen.mark_unchanged();
        if !self.under_way.swap(true, Ordering::Relaxed) {
            let work = self.work.upgrade()?;
            drop(work.send(Work::Look));
        }
        match timeout(WITHIN, seen.changed()).await {
            Ok(_) => seen.borrow().clone(),
            Err(_) => Some(format!("look at the store: it did not answer within {WITHIN:?}")),
        }
    }
}

impl Keeper {
    /// Starts the thread, over the store of a cluster.
    pub fn start(
        mut store: Box<dyn Store>,
        cluster: Cluster,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, UnboundedReceiver<Told>)> {
        let (work, given) = channel();
        let (tell, told) = unbounded_channel();
        let (show, seen) = watch::channel(None);
        let (work, under_way) = (Arc::new(work), Arc::new(AtomicBool::new(false)));
        let looks = Looks { work: Arc::downgrade(&work), under_way: Arc::clone(&under_way), seen };
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || {
            for work in given {
                match work {
                    Work::Ask(Question { operation, ask, cause }) => {
                        let answer = carry_out(&mut *store, &cluster, ask, cause, &metrics);
                        // Whoever asked may have ended; then the process does.
                        drop(tell.send(Told { operation, answer }));
                    }
                    Work::Look => {
                        let seen = metrics.timed("store_read", || store.founded());
                        under_way.store(false, Ordering::Relaxed);
                        show.send_replace(seen.err().map(|error| error.to_string()));
                    }
                }
            }
        })?;
        Ok((Self { work: Some(work), thread: Some(thread), looks }, told))
    }

    /// For whoever looks.
    pub fn looks(&self) -> Looks {
        self.looks.clone()
    }

    /// Asks; the answer comes to whoever reads what it tells.
    pub fn ask(&self, question: Question) {
        if let Some(work) = &self.work {
            // A panic there was the end of the answers, which ended the process.
            drop(work.send(Work::Ask(question)));
        }
    }
}

impl Drop for Keeper {
    /// What was asked is done, and a file closed, before this returns.
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn carry_out(
    store: &mut dyn Store,
    cluster: &Cluster,
    ask: Ask,
    cause: Option<TraceContext>,
    metrics: &Metrics,
) -> Result<Stored, StoreError> {
    match ask {
        Ask::Founded => metrics.timed("store_read", || store.founded()).map(Stored::Founded),
        Ask::Raise(before, after) => {
            let raised = metrics.timed("store_raise", || store.raise(cluster, before, after));
            raised.map(|()| Stored::Done)
        }
        Ask::List => metrics.timed("store_list", || {
            let (identities, given) = (store.identities()?, store.given()?);
            Ok(Stored::Contents(Contents { identities, given, objects: store.objects()? }))
        }),
        Ask::Write(fence, batch) => {
            let changed = batch.put.len() + batch.remove.len();
            let span = tracing::debug_span!(parent: None, "store.write", changed);
            let _inside = trace::adopt(span, cause).entered();
            let written = metrics.timed("store_write", || store.write(fence, &batch));
            written.map(|()| Stored::Done)
        }
    }
}
