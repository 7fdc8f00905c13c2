//! One agent's flows, over its restarts: who follows misses nothing that the kernel kept meanwhile.

use crate::{output::note, target::Server};
use anyhow::{Result, anyhow};
use std::{
    sync::{Arc, mpsc::Sender},
    thread,
    time::{Duration, SystemTime},
};
use weft_api::{
    agent::{Answer, Request},
    transport::{CallError, Client, Options},
};
use weft_hubble::{flow::Flow, print::LostIn, time};

const PATIENCE: Duration = Duration::from_secs(5);
/// How long an agent that went away has until it is tried again.
const AGAIN: Duration = Duration::from_millis(300);

/// What a source tells.
pub(crate) enum News {
    Flow(Arc<Flow>),
    /// Of whom, where, how many.
    Lost(String, LostIn, u64),
    Ended(Result<()>),
    Interrupted,
}

/// When a source ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// With what is there.
    End,
    /// Never.
    Interrupt,
}

/// One agent's flows.
pub(crate) struct Source {
    agent: Server,
    until: Until,
    /// Only the newest so many, when it is asked first.
    last: Option<u64>,
    /// The time of the newest flow that was told.
    newest: u64,
    /// Whether the agent was reached.
    reached: bool,
}

/// Why the flows of an agent end before their end.
enum Broken {
    /// It went away.
    Away(anyhow::Error),
    /// It will not do this.
    Refused(anyhow::Error),
}

impl Source {
    /// Of all that the agent has.
    pub(crate) fn new(agent: Server, until: Until) -> Self {
        Self { agent, until, last: None, newest: 0, reached: false }
    }

    /// Of what comes from now on.
    pub(crate) fn from_now(agent: Server) -> Self {
        Self { last: Some(0), newest: now_ns(), ..Self::new(agent, Until::Interrupt) }
    }

    /// Tells all of it, and the end.
    pub(crate) fn run(mut self, tell: &Sender<News>) {
        let mut said = false;
        loop {
            let ended = match self.read(tell) {
                Err(Broken::Away(error)) if self.may_return() => {
                    if !said {
                        note!("weft: warning: {error:#}; its flows go on when it is back");
                    }
                    (said, self.last) = (true, None);
                    thread::sleep(AGAIN);
                    continue;
                }
                Err(Broken::Away(error) | Broken::Refused(error)) => Err(error),
                Ok(()) => Ok(()),
            };
            // Nobody listens any more: then there is nothing to tell.
            let _ = tell.send(News::Ended(ended));
            return;
        }
    }

    /// Whether it is waited for: somebody follows, it was there, and its lab still is.
    fn may_return(&self) -> bool {
        let folder = self.agent.socket.parent();
        self.until == Until::Interrupt && self.reached && folder.is_some_and(|f| f.exists())
    }

    /// Reads to the end of the flows, or until nobody listens.
    fn read(&mut self, tell: &Sender<News>) -> Result<(), Broken> {
        let agent = self.agent.clone();
        let what = format!("read the flows of {}", agent.name);
        let failed = |error: CallError| {
            let is_refusal = matches!(error, CallError::Failed(_));
            let error = agent.advised(error).context(what.clone());
            if is_refusal { Broken::Refused(error) } else { Broken::Away(error) }
        };
        let follow = self.until == Until::Interrupt;
        let client = Client::connect(&agent.socket, PATIENCE).map_err(failed)?;
        let deadline = (!follow).then_some(PATIENCE);
        let options =
            Options { deadline, traceparent: weft_process::trace::current(), caller: None };
        let request = Request::Flows { last: self.last, follow };
        // Told already, before the agent went away.
        let (known, again) = (self.newest, std::mem::replace(&mut self.reached, true));
        for answer in client.stream(request, options).map_err(failed)? {
            let news = match answer.map_err(failed)? {
                Answer::Flow(flow) => {
                    let at = time::parse(&flow.time).unwrap_or(u64::MAX);
                    if again && at <= known {
                        continue;
                    }
                    self.newest = self.newest.max(at);
                    News::Flow(flow)
                }
                Answer::FlowsLost(lost) => News::Lost(agent.name.clone(), LostIn::Flows, lost),
                Answer::EventsLost(lost) => News::Lost(agent.name.clone(), LostIn::Kernel, lost),
                _ => return Err(Broken::Refused(anyhow!("{what}: it answered something else"))),
            };
            if tell.send(news).is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
