//! A node's kernel, and the part of its agent that makes it hold what was published: the shipped cores of policy, addresses and
//! map contents, over a model of the maps.

mod classes;
mod fresh;
pub mod maps;
mod packet;
mod realiser;
mod rows;
mod shell;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use packet::Packet;
pub(crate) use realiser::{Realiser, Turn};

use maps::{Maps, Refused, Write};
use std::{
    cell::{Ref, RefCell},
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

/// The maps, and the one batch that is being written. Copies are the same kernel.
#[derive(Clone, Default)]
pub(crate) struct Kernel(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    maps: Maps,
    batch: VecDeque<Write>,
    /// What became of the batch, until who wrote it asks.
    answer: Option<Result<(), Refused>>,
}

impl Kernel {
    /// What the maps hold now.
    pub(crate) fn maps(&self) -> Ref<'_, Maps> {
        Ref::map(self.0.borrow(), |state| &state.maps)
    }

    /// Has a batch written, in its order; what is refused leaves the rest undone.
    fn write(&self, batch: impl IntoIterator<Item = Write>) -> Written<'_> {
        let mut state = self.0.borrow_mut();
        state.batch = batch.into_iter().collect();
        // Nothing to do takes no time.
        state.answer = state.batch.is_empty().then_some(Ok(()));
        Written(self)
    }

    /// Does so many writes of the batch, and refuses the next one where it is to; whether the batch is over.
    fn work(&self, most: usize, refuses: bool) -> bool {
        let mut state = self.0.borrow_mut();
        for _ in 0..most {
            let Some(write) = state.batch.pop_front() else { break };
            if let Err(refused) = state.maps.write(write) {
                return state.end(Err(refused));
            }
        }
        match (refuses, state.batch.is_empty()) {
            (true, false) => state.end(Err(Refused)),
            (_, true) => state.end(Ok(())),
            (false, false) => false,
        }
    }

    /// What was refused counts as done.
    fn believe(&self) {
        if let Some(answer) = &mut self.0.borrow_mut().answer {
            *answer = Ok(());
        }
    }

    /// Who wrote is no more, and what it had not written yet is not.
    fn forget_batch(&self) {
        let mut state = self.0.borrow_mut();
        state.batch.clear();
        state.answer = None;
    }
}

impl State {
    fn end(&mut self, answer: Result<(), Refused>) -> bool {
        self.batch.clear();
        self.answer = Some(answer);
        true
    }
}

/// The end of a batch.
struct Written<'a>(&'a Kernel);

impl Future for Written<'_> {
    type Output = Result<(), Refused>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.0.borrow_mut().answer.take().map_or(Poll::Pending, Poll::Ready)
    }
}
