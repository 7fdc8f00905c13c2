//! A store and a log that fail, or end the process, at the point that a test names.

use std::sync::{Arc, Mutex};
use weft_operator::{config::Config, operator::Operator};
use weft_store::{Batch, Fence, FileLog, FileStore, Log, LogEntry, Recovered, Store, StoreError};
use weft_types::{Identity, LabelSet, Object};

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    StoreWrite,
    LogAppend,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process ends before it is done.
    DieBefore,
    /// The process ends when it is done, before anyone knows.
    DieAfter,
    /// It fails and says so.
    Fail,
    /// It is done, and nobody can say.
    AmbiguousDone,
    /// It is not done, and nobody can say.
    AmbiguousNot,
}

/// What fails next: a call, how many of it pass before, and the fault.
#[derive(Clone, Default)]
pub struct Faults {
    plan: Arc<Mutex<Option<(Call, usize, Fault)>>>,
}

impl Faults {
    pub fn plan(&self, call: Call, after: usize, fault: Fault) {
        *self.plan.lock().unwrap() = Some((call, after, fault));
    }

    pub async fn operator(&self, config: &Config) -> anyhow::Result<Operator> {
        // A real etcd fails by itself.
        if !config.etcd.is_empty() {
            return Operator::bind(config).await;
        }
        std::fs::create_dir_all(&config.state_dir)?;
        let store = FileStore::open(&config.state_dir.join("store.redb"))?;
        let log = FileLog::open(&config.state_dir.join("log.redb"))?;
        let store = Faulty { inner: store, faults: self.clone() };
        let log = Faulty { inner: log, faults: self.clone() };
        Operator::over(config, Box::new(store), Box::new(log)).await
    }

    fn due(&self, call: Call) -> Option<Fault> {
        let mut plan = self.plan.lock().unwrap();
        match plan.as_mut() {
            Some((planned, after, fault)) if *planned == call => {
                if *after > 0 {
                    *after -= 1;
                    return None;
                }
                let fault = *fault;
                *plan = None;
                Some(fault)
            }
            _ => None,
        }
    }

    fn run(
        &self,
        call: Call,
        work: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let action = "do what a test forbids";
        let ambiguous = || StoreError::Ambiguous { action, problem: "a test".to_owned() };
        match self.due(call) {
            None => work(),
            Some(Fault::DieBefore) => std::process::abort(),
            Some(Fault::DieAfter) => {
                work().unwrap();
                std::process::abort()
            }
            Some(Fault::Fail) => Err(StoreError::Failed { action, problem: "a test".to_owned() }),
            Some(Fault::AmbiguousDone) => work().and_then(|()| Err(ambiguous())),
            Some(Fault::AmbiguousNot) => Err(ambiguous()),
        }
    }
}

struct Faulty<T> {
    inner: T,
    faults: Faults,
}

impl<T: Store> Store for Faulty<T> {
    fn founded(&self) -> Result<Option<(String, Fence)>, StoreError> {
        self.inner.founded()
    }

    fn raise(
        &mut self,
        cluster: &str,
        before: Option<Fence>,
        after: Fence,
    ) -> Result<(), StoreError> {
        self.inner.raise(cluster, before, after)
    }

    fn identities(&self) -> Result<Vec<(Identity, LabelSet)>, StoreError> {
        self.inner.identities()
    }

    fn objects(&self) -> Result<Vec<Object>, StoreError> {
        self.inner.objects()
    }

    fn write(&mut self, fence: Fence, batch: &Batch) -> Result<(), StoreError> {
        let inner = &mut self.inner;
        self.faults.run(Call::StoreWrite, || inner.write(fence, batch))
    }

    fn holds(&self, batch: &Batch) -> Result<bool, StoreError> {
        self.inner.holds(batch)
    }
}

impl<T: Log> Log for Faulty<T> {
    fn recover(&self) -> Result<Option<Recovered>, StoreError> {
        self.inner.recover()
    }

    fn found(&mut self, generation: u16, snapshot: &[u8]) -> Result<(), StoreError> {
        self.inner.found(generation, snapshot)
    }

    fn append(&mut self, entries: &[LogEntry]) -> Result<(), StoreError> {
        let inner = &mut self.inner;
        self.faults.run(Call::LogAppend, || inner.append(entries))
    }

    fn last_index(&self) -> Result<u64, StoreError> {
        self.inner.last_index()
    }

    fn compact(&mut self, index: u64, snapshot: &[u8]) -> Result<(), StoreError> {
        self.inner.compact(index, snapshot)
    }
}
