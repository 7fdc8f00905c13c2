//! Who speaks with the store: one question after another, on a thread that may wait for a disk or a network.

use crate::metrics::Metrics;
use std::{
    io,
    sync::{
        Arc,
        mpsc::{Sender, channel},
    },
    thread,
};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use weft_process::trace;
use weft_state::leadership::{Ask, Contents, Operation, Stored};
use weft_store::{Store, StoreError};
use weft_types::{Cluster, TraceContext};

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

/// The thread.
#[derive(Debug)]
pub struct Keeper {
    /// Without a bound: its only user waits for each answer, or gives it up after its patience.
    questions: Option<Sender<Question>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread, over the store of a cluster.
    pub fn start(
        mut store: Box<dyn Store>,
        cluster: Cluster,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, UnboundedReceiver<Told>)> {
        let (questions, asked) = channel::<Question>();
        let (tell, told) = unbounded_channel();
        let thread = thread::Builder::new().name("store".to_owned()).spawn(move || {
            for Question { operation, ask, cause } in asked {
                let answer = carry_out(&mut *store, &cluster, ask, cause, &metrics);
                // Whoever asked may have ended; then the process does.
                drop(tell.send(Told { operation, answer }));
            }
        })?;
        Ok((Self { questions: Some(questions), thread: Some(thread) }, told))
    }

    /// Asks; the answer comes to whoever reads what it tells.
    pub fn ask(&self, question: Question) {
        if let Some(questions) = &self.questions {
            // A panic there was the end of the answers, which ended the process.
            drop(questions.send(question));
        }
    }
}

impl Drop for Keeper {
    /// What was asked is done, and a file closed, before this returns.
    fn drop(&mut self) {
        drop(self.questions.take());
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
