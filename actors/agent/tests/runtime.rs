//! Actors crash, hang and come back: what the others see of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test"
)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use weft_agent::runtime::{
    Edge, Fault, Gate, Life, Lost, Refeed, Request, Role, Runtime, Seat, Serve, Thread,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Counts what it is told; forgets with its life.
struct Counter {
    count: u64,
    gate: Gate,
    written: Arc<AtomicU64>,
}

impl Role for Counter {
    const THREAD: Thread = Thread::Maps;
    const MAILBOX: usize = 4;
}

struct Add(u64);
impl Request for Add {
    type Answer = u64;
}
impl Serve<Add> for Counter {
    async fn serve(&mut self, add: Add, _: &Life<Self>) -> u64 {
        self.count += add.0;
        self.count
    }
}

/// Blocks its thread, then writes if it still may.
struct WriteAfter(Duration);
impl Request for WriteAfter {
    type Answer = bool;
}
impl Serve<WriteAfter> for Counter {
    async fn serve(&mut self, write: WriteAfter, _: &Life<Self>) -> bool {
        std::thread::sleep(write.0);
        let may = self.gate.is_open();
        if may {
            self.written.fetch_add(1, Ordering::SeqCst);
        }
        may
    }
}

/// Yields in the middle: the next message must wait all the same.
struct Slowly(u64);
impl Request for Slowly {
    type Answer = (u64, u64);
}
impl Serve<Slowly> for Counter {
    async fn serve(&mut self, slowly: Slowly, _: &Life<Self>) -> (u64, u64) {
        let before = self.count;
        tokio::time::sleep(Duration::from_millis(slowly.0)).await;
        self.count += 1;
        (before, self.count)
    }
}

fn counter(runtime: &Runtime) -> (Seat<Counter>, Arc<AtomicU64>) {
    let written = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&written);
    let seat = runtime.role("counter", move |life| Counter {
        count: 0,
        gate: life.gate(),
        written: Arc::clone(&shared),
    });
    (seat, written)
}

#[actix::test]
async fn a_panic_ends_one_life_and_the_next_begins_from_nothing() {
    let runtime = Runtime::start();
    let edge = counter(&runtime).0.edge();
    assert_eq!(edge.ask(Add(2)).await, Ok(2));
    assert_eq!(edge.ask(Add(3)).await, Ok(5));
    assert_eq!(edge.ask(Fault::Panic).await, Err(Lost::Died("counter")));
    assert_eq!(edge.ask(Add(1)).await, Ok(1), "nothing of the life before is left");
    assert_eq!(edge.incarnation(), 2);
    let row = runtime.actors().into_iter().find(|row| row.name == "counter").unwrap();
    assert!(row.last_failure.unwrap().contains("asked for by fault injection"), "says why");
}

/// Is served until it may end; says when it began.
struct Hold {
    begun: std::sync::mpsc::Sender<()>,
    end: std::sync::mpsc::Receiver<()>,
}
impl Request for Hold {
    type Answer = ();
}
impl Serve<Hold> for Counter {
    async fn serve(&mut self, hold: Hold, _: &Life<Self>) {
        hold.begun.send(()).unwrap();
        let _ = hold.end.recv();
    }
}

#[actix::test]
async fn what_a_full_mailbox_does_not_take_is_counted_and_the_rest_is_served() {
    const OFFERS: u64 = 100;
    let runtime = Runtime::start();
    let edge = counter(&runtime).0.edge();
    assert_eq!(edge.ask(Add(0)).await, Ok(0), "it lives");
    let ((begun, has_begun), (end, may_end)) =
        (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    assert!(edge.offer(Hold { begun, end: may_end }));
    has_begun.recv_timeout(PATIENCE).unwrap();
    let taken = (0..OFFERS).filter(|_| edge.offer(Add(1))).count() as u64;
    assert!((1..=Counter::MAILBOX as u64 + 1).contains(&taken), "{taken} of a mailbox of 4");
    drop(end);
    assert_eq!(edge.ask_within(PATIENCE, Add(0)).await, Ok(taken), "what was taken is served");
    let shed = || runtime.actors().iter().find(|row| row.name == "counter").map(|row| row.shed);
    let begun = Instant::now();
    while shed() != Some(OFFERS - taken) {
        assert!(begun.elapsed() < PATIENCE, "{taken} taken, {:?} counted", shed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix::test]
async fn messages_wait_while_one_is_served() {
    let runtime = Runtime::start();
    let (seat, _) = counter(&runtime);
    let (one, other) = (seat.edge(), seat.edge());
    let (first, second) = tokio::join!(one.ask(Slowly(20)), other.ask(Slowly(1)));
    // Whichever came first was over before the other began.
    let mut both = [first.unwrap(), second.unwrap()];
    both.sort_unstable();
    assert_eq!(both, [(0, 1), (1, 2)]);
}

#[actix::test]
async fn a_stalled_thread_is_replaced_and_the_sleeper_changes_nothing() {
    let runtime = Runtime::start();
    let (seat, written) = counter(&runtime);
    let (edge, other) = (seat.edge(), seat.edge());
    assert_eq!(edge.ask(Add(1)).await, Ok(1));
    let begun = Instant::now();
    let asleep = edge.ask_within(PATIENCE, WriteAfter(Duration::from_secs(9)));
    let next = async {
        while other.incarnation() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        other.ask_within(PATIENCE, Add(7)).await
    };
    let (asleep, next) = tokio::join!(asleep, next);
    assert_eq!(asleep, Err(Lost::Died("counter")), "whoever waits is told at once");
    assert_eq!(next, Ok(7));
    assert!(begun.elapsed() < Duration::from_secs(9), "before it woke: {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_secs(10).saturating_sub(begun.elapsed())).await;
    assert_eq!(written.load(Ordering::SeqCst), 0, "the sleeper found its gate closed");
}

/// Tells a counter, after a while in which it blocks its thread.
struct Teller {
    counter: Edge<Counter>,
}
impl Role for Teller {
    const THREAD: Thread = Thread::Control;
}
struct TellAfter(Duration);
impl Request for TellAfter {
    type Answer = ();
}
impl Serve<TellAfter> for Teller {
    async fn serve(&mut self, tell: TellAfter, _: &Life<Self>) {
        std::thread::sleep(tell.0);
        drop(self.counter.ask(Add(1)).await);
        let _ = self.counter.offer(Add(1));
    }
}

#[actix::test]
async fn a_sleeper_tells_nobody_anything_nor_serves_what_waited_for_it() {
    let runtime = Runtime::start();
    let (counter, _) = counter(&runtime);
    let edge = counter.edge();
    let seat = runtime.role("teller", move |_| Teller { counter: counter.edge() });
    let tellers = [seat.edge(), seat.edge(), seat.edge()];
    let after = |seconds| TellAfter(Duration::from_secs(seconds));
    assert_eq!(tellers[0].ask(after(0)).await, Ok(()));
    let begun = Instant::now();
    let (asleep, first, second) = tokio::join!(
        tellers[0].ask_within(PATIENCE, after(7)),
        tellers[1].ask_within(PATIENCE, after(0)),
        tellers[2].ask_within(PATIENCE, after(0)),
    );
    let died = Err(Lost::Died("teller"));
    assert_eq!((asleep, first, second), (died.clone(), died.clone(), died));
    assert!(begun.elapsed() < Duration::from_secs(7), "before it woke: {:?}", begun.elapsed());
    // Whoever takes its place is heard.
    assert_eq!(tellers[0].ask_within(PATIENCE, after(0)).await, Ok(()));
    tokio::time::sleep(Duration::from_secs(8).saturating_sub(begun.elapsed())).await;
    assert_eq!(edge.ask(Add(0)).await, Ok(4), "the new life alone was heard");
}

/// Fails to be born.
struct Fragile;
impl Role for Fragile {
    const THREAD: Thread = Thread::Control;
}

#[actix::test]
async fn an_actor_that_cannot_live_is_given_up_with_the_reason() {
    let runtime = Runtime::start();
    let births = Arc::new(Mutex::new(Vec::new()));
    let born = Arc::clone(&births);
    let _seat: Seat<Fragile> = runtime.role("fragile", move |_| {
        born.lock().unwrap().push(Instant::now());
        panic!("no disk")
    });
    let why = tokio::time::timeout(Duration::from_secs(120), runtime.failed()).await.unwrap();
    assert!(why.contains("fragile") && why.contains("no disk"), "{why}");
    // Each wait is twice the one before, up to 2 s; a busy machine makes them longer, never shorter.
    let births = births.lock().unwrap();
    let waits: Vec<Duration> = births.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(waits.len(), 12, "{waits:?}");
    for (number, wait) in (0..).zip(&waits) {
        let least = Duration::from_millis(10 << number).min(Duration::from_secs(2));
        assert!(*wait >= least, "wait {number} was {wait:?} and not {least:?}");
    }
}

/// Feeds a counter: tells it all again when it is new.
struct Feeder {
    counter: Edge<Counter>,
    told: mpsc::UnboundedSender<u64>,
}
impl Role for Feeder {
    const THREAD: Thread = Thread::Control;

    async fn born(&mut self, life: &Life<Self>) -> Result<(), weft_agent::Refusal> {
        life.refeed_after(&self.counter);
        self.feed().await;
        Ok(())
    }
}
impl Feeder {
    async fn feed(&self) {
        while self.counter.is_hungry() {
            let life = self.counter.incarnation();
            if life == 0 {
                // Between two lives: whom it would reach is not known, and it would be told twice.
                tokio::task::yield_now().await;
                continue;
            }
            if let Ok(sum) = self.counter.ask(Add(10)).await {
                self.counter.fed(life);
                self.told.send(sum).unwrap();
            }
        }
    }
}
impl Serve<Refeed> for Feeder {
    async fn serve(&mut self, _: Refeed, _: &Life<Self>) {
        self.feed().await;
    }
}

#[actix::test]
async fn whoever_fed_the_dead_feeds_the_living() {
    let runtime = Runtime::start();
    let (seat, _) = counter(&runtime);
    let edge = seat.edge();
    let (told, mut hear) = mpsc::unbounded_channel();
    let _feeder =
        runtime.role("feeder", move |_| Feeder { counter: seat.edge(), told: told.clone() });
    // Each life begins from nothing. Who asks between two lives does not know which one answers, and tells it again.
    for _ in 0..3 {
        while tokio::time::timeout(PATIENCE, hear.recv()).await.unwrap() != Some(10) {}
        drop(edge.ask(Fault::Panic).await);
    }
    assert!(!runtime.inject("nobody", Fault::Panic).await);
}

/// How often a mailbox that is full is knocked at.
const FLOOD: u64 = 100_000;

#[actix::test]
async fn a_full_mailbox_sheds_what_is_offered_counts_it_and_has_askers_wait() {
    let runtime = Runtime::start();
    let (seat, _) = counter(&runtime);
    let (busy, edge, asker) = (seat.edge(), seat.edge(), seat.edge());
    assert_eq!(edge.ask(Add(0)).await, Ok(0));
    let flood = async {
        let taken = (0..FLOOD).filter(|_| edge.offer(Add(1))).count() as u64;
        // More than wait in a mailbox: none is lost, and each is served in its turn.
        let asked = (0..100).map(|_| asker.ask_within(PATIENCE, Add(1)));
        (taken, futures_util::future::join_all(asked).await)
    };
    let (slow, (taken, asked)) = tokio::join!(busy.ask_within(PATIENCE, Slowly(3000)), flood);
    assert_eq!(slow, Ok((0, 1)));
    assert!(taken <= Counter::MAILBOX as u64 + 1, "{taken} waited in a mailbox of 4");
    assert!(asked.iter().all(Result::is_ok), "{asked:?}");
    assert_eq!(edge.ask(Add(0)).await, Ok(1 + taken + 100));
    let shed = async {
        let shed = || runtime.actors().into_iter().find(|row| row.name == "counter").unwrap().shed;
        while shed() != FLOOD - taken {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, shed).await.expect("what was shed is counted");
}

#[actix::test]
async fn who_waits_too_long_is_told_so_and_what_nobody_waits_for_is_not_begun() {
    let runtime = Runtime::start();
    let (seat, _) = counter(&runtime);
    let (busy, edge) = (seat.edge(), seat.edge());
    assert_eq!(edge.ask(Add(0)).await, Ok(0));
    let little = Duration::from_millis(50);
    let (slow, overdue) =
        tokio::join!(busy.ask_within(PATIENCE, Slowly(1000)), edge.ask_within(little, Add(5)));
    assert_eq!(slow, Ok((0, 1)));
    assert_eq!(overdue, Err(Lost::Overdue("counter", little)));
    assert_eq!(edge.ask(Add(0)).await, Ok(1), "its turn came when nobody waited any more");
}
