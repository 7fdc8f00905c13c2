//! A connection to etcd that is driven by a thread of its own, between calls too.

use super::{EtcdTls, tls::Seen};
use etcd_client::{
    Client, ConnectOptions, Error, GetOptions, GetResponse, KvClient, Txn, TxnResponse,
};
use std::{cell::RefCell, error::Error as _, fmt, future::Future, sync::mpsc, time::Duration};
use tokio::{
    runtime::Runtime,
    time::{Instant, sleep, timeout_at},
};
use tonic::Code;

/// How long a call may take: some of etcd's elections (1 s each by default), less than anybody waits for an answer.
const WITHIN: Duration = Duration::from_secs(5);
/// Before another member is tried when one is not there.
const PAUSE: Duration = Duration::from_millis(50);

/// What a call brings; no error of etcd's when it was too late.
type Answer<T> = Result<T, Option<Error>>;

/// To all members; calls go to each in turn.
pub(super) struct Connection {
    endpoints: Vec<String>,
    tls: EtcdTls,
    used: RefCell<Used>,
    runtime: Background,
}

/// What calls go by.
struct Used {
    kv: KvClient,
    /// The files that were looked at last; others are looked at once.
    seen: Seen,
    /// Why those are not used, if they are not.
    refused: Option<String>,
}

impl Connection {
    /// Nobody need be there yet.
    pub(super) fn open(endpoints: &[String], tls: &EtcdTls) -> Result<Self, String> {
        let runtime = Background::start().map_err(|error| error.to_string())?;
        // Before they are read: what is written meanwhile is read once more.
        let seen = tls.seen();
        let kv = Self::begin(endpoints, tls, &runtime)?;
        let used = RefCell::new(Used { kv, seen, refused: None });
        Ok(Self { endpoints: endpoints.to_vec(), tls: tls.clone(), used, runtime })
    }

    fn begin(
        endpoints: &[String],
        tls: &EtcdTls,
        runtime: &Background,
    ) -> Result<KvClient, String> {
        let at = endpoints.join(", ");
        let mut options = ConnectOptions::new()
            .with_connect_timeout(WITHIN)
            .with_keep_alive(WITHIN, WITHIN)
            .with_keep_alive_while_idle(true);
        if let Some(tls) = tls.options(endpoints)? {
            options = options.with_tls(tls);
        }
        let endpoints = endpoints.to_vec();
        let client = runtime
            .wait(async move { Client::connect(endpoints, Some(options)).await })
            .ok_or_else(|| format!("{at}: no connection was begun"))?
            .map_err(|error| format!("{at}: {error}"))?;
        Ok(client.kv_client())
    }

    /// By the files as they are now; as they were, when they cannot be used: they may be about to be written.
    fn newest(&self) -> KvClient {
        let mut used = self.used.borrow_mut();
        let now = self.tls.seen();
        if now != used.seen {
            used.seen = now;
            match Self::begin(&self.endpoints, &self.tls, &self.runtime) {
                Ok(kv) => (used.kv, used.refused) = (kv, None),
                Err(why) => used.refused = Some(why),
            }
        }
        used.kv.clone()
    }

    pub(super) fn transact(&self, txn: Txn) -> Result<TxnResponse, Unanswered> {
        self.wait(self.transacting(txn))
    }

    /// Several side by side, in no order; the answer of each.
    pub(super) fn transact_all(&self, txns: Vec<Txn>) -> Vec<Result<TxnResponse, Unanswered>> {
        let calls: Vec<_> = txns.into_iter().map(|txn| self.transacting(txn)).collect();
        let count = calls.len();
        let all = async move {
            let under_way: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
            let mut answers = Vec::with_capacity(count);
            for call in under_way {
                answers.push(call.await.unwrap_or(Err(None)));
            }
            answers
        };
        let answers = self.runtime.wait(all).unwrap_or_default();
        let lost = std::iter::repeat_with(|| Err(None));
        let answers = answers.into_iter().chain(lost).take(count);
        answers.map(|answer| answer.map_err(|error| self.unanswered(error))).collect()
    }

    pub(super) fn get(&self, key: Vec<u8>, options: GetOptions) -> Result<GetResponse, Unanswered> {
        self.wait(self.calling(move |mut kv| {
            let (key, options) = (key.clone(), options.clone());
            async move { kv.get(key, Some(options)).await }
        }))
    }

    fn transacting(&self, txn: Txn) -> impl Future<Output = Answer<TxnResponse>> + Send + use<> {
        self.calling(move |mut kv| {
            let txn = txn.clone();
            async move { kv.txn(txn).await }
        })
    }

    fn wait<T: Send + 'static>(
        &self,
        calling: impl Future<Output = Answer<T>> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let answer = self.runtime.wait(calling).unwrap_or(Err(None));
        answer.map_err(|error| self.unanswered(error))
    }

    fn unanswered(&self, error: Option<Error>) -> Unanswered {
        let at = self.endpoints.join(", ");
        Unanswered { at, error, refused: self.used.borrow().refused.clone() }
    }

    /// Whoever is not there is passed over: what was not sent may be sent again.
    fn calling<T, F, C>(&self, call: C) -> impl Future<Output = Answer<T>> + Send + use<T, F, C>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send,
        C: Fn(KvClient) -> F + Send + 'static,
    {
        let kv = self.newest();
        async move {
            let until = Instant::now() + WITHIN;
            loop {
                match timeout_at(until, call(kv.clone())).await {
                    Ok(Err(error)) if was_not_sent(&error) && Instant::now() + PAUSE < until => {
                        sleep(PAUSE).await;
                    }
                    Ok(answer) => return answer.map_err(Some),
                    Err(_) => return Err(None),
                }
            }
        }
    }
}

/// Whether no connection was made.
fn was_not_sent(error: &Error) -> bool {
    let Error::GRpcStatus(status) = error else { return false };
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) struct Unanswered {
    at: String,
    /// None when it was too late.
    error: Option<Error>,
    /// Why renewed certificates are not used, if they are not.
    refused: Option<String>,
}

impl Unanswered {
    /// Whether what was asked for is of a revision that etcd has no more.
    pub(super) fn was_compacted(&self) -> bool {
        matches!(&self.error, Some(Error::GRpcStatus(status)) if status.code() == Code::OutOfRange)
    }

    /// Whether etcd said that it did not do it; all else leaves it open.
    pub(super) fn changed_nothing(&self) -> bool {
        let Some(Error::GRpcStatus(status)) = &self.error else { return false };
        matches!(
            status.code(),
            Code::InvalidArgument
                | Code::ResourceExhausted
                | Code::PermissionDenied
                | Code::Unauthenticated
                | Code::FailedPrecondition
        )
    }
}

impl fmt::Display for Unanswered {
    /// With the first cause, without those between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "etcd at {}: ", self.at)?;
        match &self.error {
            None => write!(f, "no answer within {} s", WITHIN.as_secs()),
            Some(Error::GRpcStatus(status)) => {
                write!(f, "{}", status.message())?;
                let mut cause = status.source();
                while let Some(deeper) = cause.and_then(std::error::Error::source) {
                    cause = Some(deeper);
                }
                cause.map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            Some(other) => write!(f, "{other}"),
        }?;
        match &self.refused {
            Some(why) => write!(f, "; renewed certificates cannot be used: {why}"),
            None => Ok(()),
        }
    }
}

/// None once it is dropped, which waits for nothing.
struct Background(Option<Runtime>);

impl Background {
    fn start() -> std::io::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("etcd").enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    /// What comes of something there; none if it came to no end. The caller's thread may be one that runs tasks of its own.
    fn wait<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> Option<T> {
        let (tell, told) = mpsc::sync_channel(1);
        self.0.as_ref()?.spawn(async move {
            // Who asked waits for it.
            drop(tell.send(what.await));
        });
        told.recv().ok()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
