//! etcd as the store, which several operators share: the keys of every store under a prefix, one transaction a batch.
//!
//! Every write compares the fence in its own transaction, so that who was deposed changes nothing, however late its
//! message comes. A write whose answer did not come is ambiguous: it is there, or it is not, or it is still under way.

mod connection;
mod listing;
mod parts;
mod records;
mod tls;

pub use tls::EtcdTls;

use crate::{
    Batch, Cluster, Fence, Store, StoreError, failed,
    keys::{
        CLUSTER, FENCE, GIVEN, OBJECTS, RECORDS, decode_fence, decode_layout, encode_fence,
        encode_layout, object_key,
    },
    table::{decode, encode},
};
use connection::{Connection, Unanswered};
use etcd_client::{
    Compare, CompareOp, KeyValue, ResponseHeader, Txn, TxnOp, TxnOpResponse, TxnResponse,
};
use parts::{Write, parts};
use records::Records;
use std::{cell::RefCell, collections::BTreeMap};
use weft_types::{Identity, LabelSet, Object, object::ObjectKey};

const WRITE: &str = "write to the store";

/// A cluster's part of an etcd. A call blocks its thread for at most five seconds.
pub struct EtcdStore {
    etcd: Connection,
    prefix: String,
    /// Identities as they are known here; not at all before they were listed, or after an answer was lost.
    records: RefCell<Option<Records>>,
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
        Ok(Self { etcd, prefix: prefix.to_owned(), records: RefCell::default() })
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

    /// Identities, and the records that they are in.
    fn read_records(&self) -> Result<(Records, Vec<(Identity, LabelSet)>), StoreError> {
        let (mut records, mut all) = (Records::default(), Vec::new());
        for record in self.list("list identities", RECORDS)? {
            let key = self.name(&record);
            all.extend(records.read(&key, record.mod_revision(), record.value())?);
        }
        all.sort_unstable_by_key(|(number, _)| *number);
        Ok((records, all))
    }

    /// A record's key without the prefix.
    fn name(&self, record: &KeyValue) -> String {
        let key = String::from_utf8_lossy(record.key());
        key.strip_prefix(&self.prefix).unwrap_or(&key).to_owned()
    }

    /// Writes a batch, if all is as it is known here; false when a record is not.
    fn attempt(&self, fence: Fence, batch: &Batch) -> Result<bool, StoreError> {
        // Until everything is answered it is not known.
        let known = self.records.take();
        let mut records =
            known.map_or_else(|| self.read_records().map(|(records, _)| records), Ok)?;
        let writes = match self.writes(&records, batch) {
            Ok(writes) => writes,
            Err(error) => {
                self.records.replace(Some(records));
                // Whoever is deposed is told that first.
                let txn = self.transaction(fence, &[], fence)?;
                self.written(fence, self.etcd.transact(txn))?;
                return Err(error);
            }
        };
        let mut parts = parts(writes);
        let last = parts.pop().unwrap_or_default();
        let alone = parts.is_empty();
        let mut answers = Vec::new();
        if !alone {
            let txns = parts.iter().map(|part| self.transaction(fence, part, fence));
            answers = self.etcd.transact_all(txns.collect::<Result<_, _>>()?);
        }
        // The fence goes up when all is there: a copy of the store that lacks some of it is behind then.
        if answers.iter().all(|answer| answer.as_ref().is_ok_and(TxnResponse::succeeded)) {
            let txn = self.transaction(fence, &last, fence.after_a_write())?;
            answers.push(self.etcd.transact(txn));
            parts.push(last);
        }
        let written = answers.into_iter().map(|answer| self.written(fence, answer));
        let written = written.collect::<Result<Vec<_>, _>>().map_err(|error| match error {
            StoreError::Failed { action, problem } if !alone => {
                StoreError::Ambiguous { action, problem }
            }
            error => error,
        })?;
        for (part, revision) in parts.into_iter().zip(&written) {
            let Some(revision) = revision else { return Ok(false) };
            let changes = part.into_iter().filter_map(|write| write.record);
            changes.for_each(|change| records.made(change, *revision));
        }
        self.records.replace(Some(records));
        Ok(true)
    }

    /// What a batch does with each key.
    fn writes(&self, records: &Records, batch: &Batch) -> Result<Vec<Write>, StoreError> {
        let mut writes = Vec::new();
        if let Some(given) = &batch.given {
            writes.push(Write::of(self.key(GIVEN), Some(encode(GIVEN, given)?)));
        }
        for change in records.changes(batch)? {
            writes.push(Write::of_record(self.key(&change.key()), change));
        }
        // What is removed and put is there afterwards, as in every store.
        let removed = batch.remove.iter().map(|key| (key.clone(), None));
        let put = batch.put.iter().map(|object| (object.key(), Some(object)));
        let objects: BTreeMap<ObjectKey, Option<&Object>> = removed.chain(put).collect();
        for (key, object) in objects {
            let name = object_key(&key);
            let value = object.map(|object| encode(&name, object)).transpose()?;
            writes.push(Write::of(self.key(&name), value));
        }
        Ok(writes)
    }

    /// Under a fence, which is another one then if it is to be.
    fn transaction(&self, fence: Fence, writes: &[Write], after: Fence) -> Result<Txn, StoreError> {
        let key = self.key(FENCE);
        let mut compares =
            vec![Compare::value(key.clone(), CompareOp::Equal, encode_fence(fence)?)];
        compares.extend(writes.iter().filter_map(Write::compare));
        let mut done: Vec<TxnOp> = writes.iter().map(Write::operation).collect();
        if after != fence {
            done.push(TxnOp::put(key.clone(), encode_fence(after)?, None));
        }
        Ok(Txn::new().when(compares).and_then(done).or_else([TxnOp::get(key, None)]))
    }

    /// At which revision a transaction was done; none when a record was not as it was known.
    fn written(
        &self,
        fence: Fence,
        answer: Result<TxnResponse, Unanswered>,
    ) -> Result<Option<i64>, StoreError> {
        let answer = answer.map_err(|problem| unchanged(WRITE, &problem))?;
        if answer.succeeded() {
            return Ok(Some(answer.header().map_or(0, ResponseHeader::revision)));
        }
        let found = records(&answer).next().map(|record| decode_fence(record.value()));
        match found.transpose()? {
            Some(found) if found == fence => Ok(None),
            found => Err(fenced(WRITE, Some(fence), found)),
        }
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
                _ => cluster = Some(decode_layout(record.value())?),
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
            TxnOp::put(self.key(CLUSTER), encode_layout(cluster)?, None),
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
        let (records, all) = self.read_records()?;
        self.records.replace(Some(records));
        Ok(all)
    }

    fn given(&self) -> Result<Option<Identity>, StoreError> {
        let get = TxnOp::get(self.key(GIVEN), None);
        let answer = self.read("read which number was given last", Txn::new().and_then([get]))?;
        let given = records(&answer).next().map(|record| decode(GIVEN, record.value()));
        given.transpose()
    }

    fn objects(&self) -> Result<Vec<Object>, StoreError> {
        let all = self.list("list objects", OBJECTS)?;
        all.into_iter().map(|record| decode(&self.name(&record), record.value())).collect()
    }

    /// More than a transaction takes is written by several, side by side but for the last. When one of them is not, it is
    /// open how much is there: numbers stand for what they will stand for, objects are adopted and numbered then.
    fn write(&mut self, fence: Fence, batch: &Batch) -> Result<(), StoreError> {
        // What was ambiguous before may have come about since.
        if self.attempt(fence, batch)? || self.attempt(fence, batch)? {
            return Ok(());
        }
        Err(failed(WRITE, "somebody else writes to this store"))
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
