//! What was sent and what came back.

use std::time::Duration;
use tokio::time::Instant;

/// Why a stream ended.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    /// As it was told to.
    Done,
    /// Nothing came back any more.
    Silent,
    /// The connection was reset.
    Reset,
    /// The other side closed it.
    Closed,
    /// Other bytes came back than were sent.
    Wrong,
    /// It could not be opened.
    Unopened(String),
}

/// A stream so far.
pub(super) struct Tally {
    pub(super) begun: Instant,
    /// Bytes.
    pub(super) sent: u64,
    back: u64,
    longest_gap: Duration,
    /// Since when something that was sent is not back, and nothing came.
    pub(super) waiting_since: Option<Instant>,
    last_back: Instant,
    pub(super) ended: Option<Ended>,
    /// What was back when, for who wants to draw it.
    pub(super) course: Option<Vec<(Instant, u64)>>,
}

/// What programs are told.
#[derive(Clone, serde::Serialize)]
pub(super) struct Report {
    seconds: f64,
    sent: u64,
    back: u64,
    lost: u64,
    resets: u64,
    longest_gap_ms: u64,
    ended: Ended,
}

/// Streams side by side: what they come to, and each of several.
#[derive(serde::Serialize)]
pub(super) struct Reports {
    #[serde(flatten)]
    all: Report,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    streams: Vec<Report>,
}

impl Reports {
    /// Of at least one; it ended as the first of them that did not end as it was told to.
    pub(super) fn of(tallies: &[Tally], now: Instant) -> Self {
        let streams: Vec<Report> = tallies.iter().map(|tally| tally.report(now)).collect();
        let sum = |of: fn(&Report) -> u64| streams.iter().map(of).sum();
        let odd = streams.iter().find(|report| report.ended != Ended::Done);
        let all = Report {
            seconds: streams.iter().map(|report| report.seconds).fold(0.0, f64::max),
            sent: sum(|report| report.sent),
            back: sum(|report| report.back),
            lost: sum(|report| report.lost),
            resets: sum(|report| report.resets),
            longest_gap_ms: streams.iter().map(|r| r.longest_gap_ms).max().unwrap_or_default(),
            ended: odd.map_or(Ended::Done, |report| report.ended.clone()),
        };
        Self { all, streams: if streams.len() > 1 { streams } else { Vec::new() } }
    }
}

impl Tally {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            sent: 0,
            back: 0,
            longest_gap: Duration::ZERO,
            waiting_since: None,
            last_back: now,
            ended: None,
            course: None,
        }
    }

    pub(super) fn unopened(why: String, now: Instant) -> Self {
        Self { ended: Some(Ended::Unopened(why)), ..Self::new(now) }
    }

    /// Bytes went out.
    pub(super) fn went(&mut self, bytes: u64, now: Instant) {
        self.sent += bytes;
        if bytes > 0 && self.waiting_since.is_none() {
            self.waiting_since = Some(now);
        }
    }

    /// Bytes came back.
    pub(super) fn came(&mut self, bytes: u64, now: Instant) {
        self.back += bytes;
        self.longest_gap = self.longest_gap.max(self.gap(now));
        self.last_back = now;
        if let Some(course) = &mut self.course {
            course.push((now, self.back));
        }
        self.waiting_since = (self.outstanding() > 0).then_some(now);
    }

    /// Bytes that are on their way, or lost.
    pub(super) fn outstanding(&self) -> u64 {
        self.sent.saturating_sub(self.back)
    }

    fn gap(&self, now: Instant) -> Duration {
        self.waiting_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// The longest time that nothing came back, though something was on its way.
    pub(super) fn longest_gap(&self) -> Duration {
        self.longest_gap
    }

    /// Nothing was lost and it ended as it was told to.
    pub(super) fn is_whole(&self) -> bool {
        self.ended == Some(Ended::Done) && self.outstanding() == 0
    }

    pub(super) fn progress(&self, now: Instant) -> String {
        let gap = self.gap(now);
        let lost = if gap < Duration::from_millis(500) {
            "0 lost".to_owned()
        } else {
            format!("{} missing, nothing for {:.1} s", self.outstanding(), gap.as_secs_f64())
        };
        format!(
            "stream {:5.1} s: {} bytes sent, {} back, {lost}, longest gap {} ms",
            now.saturating_duration_since(self.begun).as_secs_f64(),
            self.sent,
            self.back,
            self.longest_gap.as_millis(),
        )
    }

    pub(super) fn summary(&self, now: Instant) -> String {
        let how = match self.ended.as_ref().unwrap_or(&Ended::Done) {
            Ended::Unopened(why) => return format!("could not be opened: {why}"),
            Ended::Done => "done".to_owned(),
            Ended::Silent => format!(
                "stopped, nothing came back after {:.1} s",
                self.last_back.saturating_duration_since(self.begun).as_secs_f64()
            ),
            Ended::Reset => "stopped, reset".to_owned(),
            Ended::Closed => "stopped, closed by the other side".to_owned(),
            Ended::Wrong => "stopped, other bytes came back than were sent".to_owned(),
        };
        let report = self.report(now);
        format!(
            "{how}\n  {:.1} s, {} bytes sent, {} back, {} lost, {} resets, longest gap {} ms",
            report.seconds,
            report.sent,
            report.back,
            report.lost,
            report.resets,
            report.longest_gap_ms
        )
    }

    pub(super) fn report(&self, now: Instant) -> Report {
        let ended = self.ended.clone().unwrap_or(Ended::Done);
        Report {
            seconds: now.saturating_duration_since(self.begun).as_secs_f64(),
            sent: self.sent,
            back: self.back,
            lost: self.outstanding(),
            resets: u64::from(ended == Ended::Reset),
            longest_gap_ms: u64::try_from(self.longest_gap.as_millis()).unwrap_or(u64::MAX),
            ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_of_several_lost_is_told_of_all() {
        let begun = Instant::now();
        let mut tallies = [Tally::new(begun), Tally::new(begun), Tally::new(begun)];
        for (tally, ended) in tallies.iter_mut().zip([Ended::Done, Ended::Reset, Ended::Done]) {
            tally.went(100, begun);
            tally.ended = Some(ended);
        }
        tallies[0].came(100, begun);
        let several = serde_json::to_value(Reports::of(&tallies, begun)).unwrap();
        assert_eq!((&several["sent"], &several["lost"]), (&300.into(), &200.into()));
        assert_eq!((&several["resets"], &several["ended"]), (&1.into(), &"reset".into()));
        assert_eq!(several["streams"].as_array().map(Vec::len), Some(3));
        let one = serde_json::to_value(Reports::of(&tallies[..1], begun)).unwrap();
        assert_eq!((&one["ended"], one.get("streams")), (&"done".into(), None));
    }

    #[test]
    fn a_gap_is_time_in_which_something_was_missing() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut tally = Tally::new(begun);
        tally.went(100, at(10));
        tally.came(100, at(15));
        assert_eq!(tally.longest_gap, Duration::from_millis(5));
        // Nobody waits for anything between the two.
        tally.went(100, at(500));
        tally.went(100, at(510));
        tally.came(100, at(540));
        assert_eq!(tally.longest_gap, Duration::from_millis(40));
        tally.came(100, at(590));
        assert_eq!((tally.longest_gap, tally.outstanding()), (Duration::from_millis(50), 0));
        assert_eq!(tally.waiting_since, None);
        assert!(!tally.is_whole());
        tally.ended = Some(Ended::Done);
        assert!(tally.is_whole());
        tally.went(1, at(600));
        assert!(!tally.is_whole());
    }
}
