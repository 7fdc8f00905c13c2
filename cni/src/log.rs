//! The call's place in a trace, and its line in the log: one JSON object a call, in the form of the agent's
//! logs, in the file that the network configuration names (`log-file`); nowhere when it names none.

use serde_json::json;
use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
    sync::LazyLock,
    time::{Instant, SystemTime},
};
use weft_api::Caller;
use weft_types::TraceContext;

/// One process is one call.
pub(crate) struct Call {
    /// What the agent continues.
    pub(crate) context: TraceContext,
    parent: Option<TraceContext>,
    begun: Instant,
    begun_ns: u64,
}

/// This call: a part of the trace in `TRACEPARENT` where the runtime gave one, else a trace of its own.
pub(crate) fn call() -> &'static Call {
    static CALL: LazyLock<Call> = LazyLock::new(|| {
        let parent: Option<TraceContext> =
            std::env::var("TRACEPARENT").ok().and_then(|text| text.parse().ok());
        let span_id = fastrand::u64(1..);
        let context = match parent {
            Some(parent) => TraceContext { span_id, ..parent },
            None => TraceContext { trace_id: fastrand::u128(1..), span_id, flags: 1 },
        };
        Call { context, parent, begun: Instant::now(), begun_ns: now_ns() }
    });
    &CALL
}

impl Call {
    /// The call's span, which the agent sends to a collector where it has one: the plugin is gone before it could.
    pub(crate) fn caller(&self) -> Caller {
        Caller { begun_ns: self.begun_ns, parent: self.parent }
    }

    /// Writes the line. A log that cannot be written is no failure of the call.
    pub(crate) fn end(&self, file: &Path, command: &str, error: Option<&str>) {
        let _ = self.write(file, command, error);
    }

    fn write(&self, file: &Path, command: &str, error: Option<&str>) -> io::Result<()> {
        let variable = |name: &str| std::env::var(name).unwrap_or_default();
        let mut line = json!({
            "timestamp": weft_hubble::time::rfc3339(now_ns()),
            "level": if error.is_some() { "ERROR" } else { "INFO" },
            "target": "weft_cni",
            "message": error.unwrap_or("done"),
            "span": {
                "name": "cni", "command": command,
                "container": variable("CNI_CONTAINERID"), "interface": variable("CNI_IFNAME"),
            },
            "time.busy": format!("{:?}", self.begun.elapsed()),
            "trace_id": format!("{:032x}", self.context.trace_id),
            "span_id": format!("{:016x}", self.context.span_id),
        });
        if let (Some(parent), Some(keys)) = (&self.parent, line.as_object_mut()) {
            keys.insert("parent_id".to_owned(), format!("{:016x}", parent.span_id).into());
        }
        let mut log = OpenOptions::new().create(true).append(true).open(file)?;
        // One write a line: several calls share the file.
        log.write_all(format!("{line}\n").as_bytes())
    }
}

/// Nanoseconds since 1970.
fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
