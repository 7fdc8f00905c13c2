//! A store and a disk that fail, or end the process, at the point that a test names.

use std::sync::{Arc, Mutex};
use weft_operator::{config::Config, operator::Operator};
use weft_raft::{Disk, MemberId, Saved, Write};
use weft_store::{Batch, Fence, FileDisk, FileStore, MemberDisk, Store, StoreError};
use weft_types::{Cluster, Identity, LabelSet, Object};

/// Which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Of what an operator begins with.
    StoreRead,
    StoreWrite,
    DiskWrite,
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
    /// It fails and says so, and so does all that comes after.
    FailForGood,
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

    /// Nothing fails any more.
    pub fn heal(&self) {
        *self.plan.lock().unwrap() = None;
    }

    pub async fn operator(&self, config: &Config) -> anyhow::Result<Operator> {
        // A real etcd fails by itself.
        if !config.etcd.is_empty() {
            return Operator::bind(config).await;
        }
        std::fs::create_dir_all(&config.state_dir)?;
        let store = FileStore::open(&config.state_dir.join("store.redb"))?;
        let disk = FileDisk::open(&config.state_dir.join("raft.redb"))?;
        let store = Faulty { inner: store, faults: self.clone() };
        let disk = Faulty { inner: disk, faults: self.clone() };
        Operator::over(config, Box::new(store), Box::new(disk)).await
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
                if fault != Fault::FailForGood {
                    *plan = None;
                }
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
            Some(Fault::Fail | Fault::FailForGood) => {
                Err(StoreError::Failed { action, problem: "a test".to_owned() })
            }
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
    fn founded(&self) -> Result<Option<(Cluster, Fence)>, StoreError> {
        self.faults.run(Call::StoreRead, || Ok(()))?;
        self.inner.founded()
    }

    fn raise(
        &mut self,
        cluster: &Cluster,
        before: Option<Fence>,
        after: Fence,
    ) -> Result<(), StoreError> {
        self.inner.raise(cluster, before, after)
    }

    fn identities(&self) -> Result<Vec<(Identity, LabelSet)>, StoreError> {
        self.inner.identities()
    }

    fn given(&self) -> Result<Option<Identity>, StoreError> {
        self.inner.given()
    }

    fn objects(&self) -> Result<Vec<Object>, StoreError> {
        self.inner.objects()
    }

    fn write(&mut self, fence: Fence, batch: &Batch) -> Result<(), StoreError> {
        let inner = &mut self.inner;
        self.faults.run(Call::StoreWrite, || inner.write(fence, batch))
    }
}

impl<T: MemberDisk> Disk for Faulty<T> {
    type Error = StoreError;

    fn recover(&self) -> Result<Option<Saved>, StoreError> {
        self.inner.recover()
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let inner = &mut self.inner;
        self.faults.run(Call::DiskWrite, || inner.write(writes))
    }
}

impl<T: MemberDisk> MemberDisk for Faulty<T> {
    fn owner(&self) -> Result<Option<(u16, MemberId)>, StoreError> {
        self.inner.owner()
    }

    fn found(&mut self, owner: (u16, MemberId), saved: &Saved) -> Result<(), StoreError> {
        self.inner.found(owner, saved)
    }

    fn begin_life(&mut self) -> Result<u64, StoreError> {
        self.inner.begin_life()
    }
}
