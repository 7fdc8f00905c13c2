//! What was published, told to those who realise it, in an order in which every packet meets rules of before or of after.

use crate::{
    Refusal,
    published::Advance,
    runtime::{Edge, Serve},
};

/// Tells policies, addresses and endpoints. All are told even if one fails: what one has missed it gets whole.
///
/// Classes come before the addresses that they are asked for. But addresses that are told anew come first, since no prefix that
/// policies name is written before they were told: classes would change, and the trie would not.
pub async fn tell_all<P, I, E>(
    (policy, ipcache, endpoints): (&Edge<P>, &Edge<I>, &Edge<E>),
    changes: &Advance,
    whole: impl Fn() -> Advance,
) -> Result<(), Refusal>
where
    P: Serve<Advance>,
    I: Serve<Advance>,
    E: Serve<Advance>,
{
    let is_new = ipcache.is_hungry();
    let first = if is_new { Some(tell(ipcache, changes, &whole).await) } else { None };
    let policy = tell(policy, changes, &whole).await;
    let ipcache = match first {
        Some(told) => told,
        None => tell(ipcache, changes, &whole).await,
    };
    policy.and(ipcache).and(tell(endpoints, changes, &whole).await)
}

/// Tells a column what changed, or everything when it is new or may have missed something.
async fn tell<R: Serve<Advance>>(
    column: &Edge<R>,
    changes: &Advance,
    whole: impl Fn() -> Advance,
) -> Result<(), Refusal> {
    let life = column.incarnation();
    let advance = if column.is_hungry() { whole() } else { changes.clone() };
    column.starve();
    column.ask(advance).await??;
    column.fed(life);
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;
    use crate::runtime::{Life, Role, Runtime, Thread};
    use std::sync::{Arc, Mutex};
    use weft_types::Revision;

    type Told = Arc<Mutex<Vec<(&'static str, bool)>>>;

    /// Notes that it was told, and whether that was everything.
    struct Column(&'static str, Told);

    impl Role for Column {
        const THREAD: Thread = Thread::Control;
    }

    impl Serve<Advance> for Column {
        async fn serve(&mut self, advance: Advance, _: &Life<Self>) -> Result<(), Refusal> {
            self.1.lock().unwrap().push((self.0, advance.whole));
            Ok(())
        }
    }

    #[actix::test]
    async fn classes_come_before_addresses_but_for_addresses_that_are_new() {
        let (runtime, told) = (Runtime::start(), Told::default());
        let column = |name| {
            let told = Arc::clone(&told);
            runtime.role(name, move |_| Column(name, Arc::clone(&told))).edge()
        };
        let (policy, ipcache, endpoints) =
            (column("policy"), column("ipcache"), column("endpoints"));
        let advance =
            |whole| Advance { revision: Revision::new(1, 1), whole, deltas: Vec::new().into() };
        let all = (&policy, &ipcache, &endpoints);
        // Who is told before its first life began is told all of it twice.
        while [&policy, &ipcache, &endpoints].iter().any(|column| column.incarnation() == 0) {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        for _ in 0..2 {
            tell_all(all, &advance(false), || advance(true)).await.unwrap();
        }
        let new = [("ipcache", true), ("policy", true), ("endpoints", true)];
        let then = [("policy", false), ("ipcache", false), ("endpoints", false)];
        assert_eq!(*told.lock().unwrap(), [new, then].concat());
    }
}
