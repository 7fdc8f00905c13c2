//! etcd as the store, which several operators share: the keys of every store under a prefix, one transaction a batch.
//!
//! Every write compares the fence in its own transaction, so that who was deposed changes nothing, however late its
//! message comes. A write whose answer did not come is ambiguous: it is there, or it is not, or it is still under way.

mod connection;
mod tls;

pub use tls::EtcdTls;

use crate::{
    Batch, Cluster, Fence, Store, StoreError, failed,
    keys::{
        CLUSTER, FENCE, GIVEN, IDENTITIES, OBJECTS, decode_fence, encode_fence, identity_key,
        object_key,
    },
    table::{decode, encode},
};
use connection::{Connection, Unanswered};
use etcd_client::{
    Compare, CompareOp, GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};
use weft_types::{Identity, LabelSet, Object, object::ObjectKey};

/// What a transaction may have beside the fence (etcd: `--max-txn-ops` is 128 by default).
const MOST_OPERATIONS: usize = 126;
const WRITE: &str = "write to the store";
/// Keys that are listed by one request.
const PAGE: i64 = 1000;

/// A cluster's part of an etcd. A call blocks its thread for at most five seconds.
pub struct EtcdStore {
    etcd: Connection,
    prefix: String,
}

impl EtcdStore {
    /// The part of an etcd under a prefix such as `/weft/blue/`. An etcd that is away is not an error yet: calls wait for it.
    pub fn open(endpoints: &[String], prefix: &str) -> Result<Self, StoreError> {
        Self::open_by(&EtcdTls::default(), endpoints, prefix)
    }

    /// The same by TLS, where an authority is given.
    pub fn open_by(tls: &EtcdTls, endpoints: &[String], prefix: &str) -> Result<Self, StoreError> {
        let etcd =
            Connection::open(endpoints, tls).map_err(|why| failed("connect to etcd", why))?;
        Ok(Self { etcd, prefix: prefix.to_owned() })
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn read(&self, action: &'static str, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.etcd.transact(txn).map_err(|problem| failed(action, problem))
    }

    fn change(&self, action: &'static str, txn: Txn) -> Result<TxnResponse, StoreError> {
        self.etcd.transact(txn).map_err(|problem| unchanged(action, &problem))
    }

    /// Everything under a prefix at one revision, page by page.
    fn list<T: DeserializeOwned>(
        &self,
        action: &'static str,
        prefix: &str,
    ) -> Result<Vec<T>, StoreError> {
        let (mut all, mut revision) = (Vec::new(), 0);
        let mut from = self.key(prefix).into_bytes();
        let end = after_all(&from);
        loop {
            let options =
                GetOptions::new().with_range(end.clone()).with_limit(PAGE).with_revision(revision);
            let page = self.etcd.get(from, options).map_err(|problem| failed(action, problem))?;
            revision = page.header().map_or(revision, etcd_client::ResponseHeader::revision);
            for record in page.kvs() {
                all.push(decode(&self.name(record), record.value())?);
            }
            match page.kvs().last().filter(|_| page.more()) {
                Some(last) => from = [last.key(), &[0]].concat(),
                None => return Ok(all),
            }
        }
    }

    /// A record's key without the prefix.
    fn name(&self, record: &KeyValue) -> String {
        let key = String::from_utf8_lossy(record.key());
        key.strip_prefix(&self.prefix).unwrap_or(&key).to_owned()
    }

    /// What one transaction took, or another time.
    fn written(
        &self,
        fence: Fence,
        batch: &Batch,
        answer: Result<TxnResponse, Unanswered>,
    ) -> Result<(), StoreError> {
        let answer = answer.map_err(|problem| unchanged(WRITE, &problem))?;
        if answer.succeeded() {
            return Ok(());
        }
        // Numbers that are there as the batch says, after an ambiguous answer: nobody removes them meanwhile.
        let known = self.why_not(fence, batch, &answer)?;
        let answer = self.change(WRITE, self.transaction(fence, batch, &known)?)?;
        if answer.succeeded() {
            return Ok(());
        }
        self.why_not(fence, batch, &answer)?;
        Err(failed(WRITE, "somebody else writes to this store"))
    }

    /// The transaction of a batch, whose numbers `known` are there already.
    fn transaction(
        &self,
        fence: Fence,
        batch: &Batch,
        known: &[Identity],
    ) -> Result<Txn, StoreError> {
        let mut compares =
            vec![Compare::value(self.key(FENCE), CompareOp::Equal, encode_fence(fence)?)];
        let mut done = Vec::new();
        let mut otherwise = vec![TxnOp::get(self.key(FENCE), None)];
        for pair in &batch.identities {
            let name = identity_key(pair.0);
            let (key, value) = (self.key(&name), encode(&name, pair)?);
            if known.contains(&pair.0) && !batch.forget.contains(&pair.0) {
                compares.push(Compare::value(key.clone(), CompareOp::Equal, value.clone()));
                otherwise.push(TxnOp::get(key.clone(), None));
            }
            done.push(TxnOp::put(key, value, None));
        }
        // Of numbers that follow each other it is one question whether none is there.
        let is_new = |number: &Identity| !known.contains(number) && !batch.forget.contains(number);
        let new = batch.identities.iter().map(|pair| pair.0).filter(is_new);
        for run in runs(new) {
            let [first, end] = [run.start, run.end].map(|n| self.key(&identity_key(Identity(n))));
            let absent = Compare::create_revision(first.clone(), CompareOp::Equal, 0);
            compares.push(absent.with_range(end.clone()));
            otherwise.push(TxnOp::get(first, Some(GetOptions::new().with_range(end))));
        }
        // What is removed and put is there afterwards, as in every store; a transaction names a key once.
        let given = |number: &Identity| batch.identities.iter().any(|(other, _)| other == number);
        let forgotten: BTreeSet<&Identity> =
            batch.forget.iter().filter(|number| !given(number)).collect();
        done.extend(
            forgotten.into_iter().map(|n| TxnOp::delete(self.key(&identity_key(*n)), None)),
        );
        if let Some(given) = &batch.given {
            done.push(TxnOp::put(self.key(GIVEN), encode(GIVEN, given)?, None));
        }
        let removed = batch.remove.iter().map(|key| (key.clone(), None));
        let put = batch.put.iter().map(|object| (object.key(), Some(object)));
        let objects: BTreeMap<ObjectKey, Option<&Object>> = removed.chain(put).collect();
        for (key, object) in objects {
            let name = object_key(&key);
            done.push(match object {
                Some(object) => TxnOp::put(self.key(&name), encode(&name, object)?, None),
                None => TxnOp::delete(self.key(&name), None),
            });
        }
        Ok(Txn::new().when(compares).and_then(done).or_else(otherwise))
    }

    /// Why a batch was not written: the fence, a number that stands for another label set, or numbers that stand for
    /// what the batch says.
    fn why_not(
        &self,
        fence: Fence,
        batch: &Batch,
        answer: &TxnResponse,
    ) -> Result<Vec<Identity>, StoreError> {
        let mut known = Vec::new();
        for record in records(answer) {
            let name = self.name(&record);
            if name == FENCE {
                let found = decode_fence(record.value())?;
                if found != fence {
                    return Err(fenced(WRITE, Some(fence), Some(found)));
                }
                continue;
            }
            let (number, holder): (Identity, LabelSet) = decode(&name, record.value())?;
            if !batch.identities.contains(&(number, holder.clone())) {
                return Err(StoreError::Taken { number, holder });
            }
            known.push(number);
        }
        if !records(answer).any(|record| self.name(&record) == FENCE) {
            return Err(fenced(WRITE, Some(fence), None));
        }
        Ok(known)
    }
}

impl Store for EtcdStore {
    fn founded(&self) -> Result<Option<(Cluster, Fence)>, StoreError> {
        let both = [CLUSTER, FENCE].map(|key| TxnOp::get(self.key(key), None));
        let answer = self.read("read the fence", Txn::new().and_then(both.to_vec()))?;
        let (mut cluster, mut fence) = (None, None);
        for record in records(&answer) {
            match self.name(&record).as_str() {
                FENCE => fence = Some(decode_fence(record.value())?),
                name => cluster = Some(decode(name, record.value())?),
            }
        }
        Ok(cluster.zip(fence))
    }

    fn raise(
        &mut self,
        cluster: &Cluster,
        before: Option<Fence>,
        after: Fence,
    ) -> Result<(), StoreError> {
        let action = "raise the fence";
        let key = self.key(FENCE);
        let compare = match before {
            Some(fence) => Compare::value(key.clone(), CompareOp::Equal, encode_fence(fence)?),
            None => Compare::create_revision(key.clone(), CompareOp::Equal, 0),
        };
        let puts = [
            TxnOp::put(self.key(CLUSTER), encode(CLUSTER, cluster)?, None),
            TxnOp::put(key.clone(), encode_fence(after)?, None),
        ];
        let txn = Txn::new().when([compare]).and_then(puts).or_else([TxnOp::get(key, None)]);
        let answer = self.change(action, txn)?;
        if answer.succeeded() {
            return Ok(());
        }
        let found = records(&answer).next().map(|record| decode_fence(record.value()));
        Err(fenced(action, before, found.transpose()?))
    }

    fn identities(&self) -> Result<Vec<(Identity, LabelSet)>, StoreError> {
        self.list("list identities", IDENTITIES)
    }

    fn given(&self) -> Result<Option<Identity>, StoreError> {
        let get = TxnOp::get(self.key(GIVEN), None);
        let answer = self.read("read which number was given last", Txn::new().and_then([get]))?;
        let given = records(&answer).next().map(|record| decode(GIVEN, record.value()));
        given.transpose()
    }

    fn objects(&self) -> Result<Vec<Object>, StoreError> {
        self.list("list objects", OBJECTS)
    }

    /// More than a transaction takes is written by several, side by side. When one of them is not, it is open how much is
    /// there: numbers stand for what they will stand for, objects are adopted and numbered then.
    fn write(&mut self, fence: Fence, batch: &Batch) -> Result<(), StoreError> {
        let parts = parts(batch);
        let txns = parts.iter().map(|part| self.transaction(fence, part, &[]));
        let answers = self.etcd.transact_all(txns.collect::<Result<_, _>>()?);
        let written =
            parts.iter().zip(answers).map(|(part, answer)| self.written(fence, part, answer));
        // Each of them has ended before anything is said.
        let written: Vec<Result<(), StoreError>> = written.collect();
        let alone = written.len() == 1;
        written.into_iter().collect::<Result<(), _>>().map_err(|error| match error {
            StoreError::Failed { action, problem } if !alone => {
                StoreError::Ambiguous { action, problem }
            }
            error => error,
        })
    }
}

/// A change that has no answer, and that is there only if nobody said that it is not.
fn unchanged(action: &'static str, problem: &Unanswered) -> StoreError {
    match problem.changed_nothing() {
        true => failed(action, problem),
        false => StoreError::Ambiguous { action, problem: problem.to_string() },
    }
}

fn fenced(action: &'static str, expected: Option<Fence>, found: Option<Fence>) -> StoreError {
    StoreError::Fenced { action, expected, found }
}

/// What the gets of a transaction found.
fn records(answer: &TxnResponse) -> impl Iterator<Item = KeyValue> + use<> {
    answer.op_responses().into_iter().flat_map(|response| match response {
        TxnOpResponse::Get(found) => found.kvs().to_vec(),
        _ => Vec::new(),
    })
}

/// A batch in parts that a transaction takes each, what it forgets and then numbers first; an empty one is one, which
/// compares the fence.
fn parts(batch: &Batch) -> Vec<Batch> {
    let mut parts = vec![Batch::default()];
    let mut room = MOST_OPERATIONS;
    let mut add = |change: &dyn Fn(&mut Batch)| {
        if room == 0 {
            parts.push(Batch::default());
            room = MOST_OPERATIONS;
        }
        room -= 1;
        parts.iter_mut().last().map(change);
    };
    if batch.given.is_some() {
        add(&|part| part.given = batch.given);
    }
    for number in &batch.forget {
        add(&|part| part.forget.push(*number));
    }
    for pair in &batch.identities {
        add(&|part| part.identities.push(pair.clone()));
    }
    for key in &batch.remove {
        add(&|part| part.remove.push(key.clone()));
    }
    for object in &batch.put {
        add(&|part| part.put.push(object.clone()));
    }
    parts
}

/// Numbers as few ranges.
fn runs(numbers: impl Iterator<Item = Identity>) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for Identity(number) in numbers {
        match runs.last_mut() {
            Some(run) if run.end == number => run.end += 1,
            _ => runs.push(number..number + 1),
        }
    }
    runs
}

/// The first key after all that begin with a prefix.
fn after_all(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            break;
        }
    }
    end
}
