//! An agent killed under a stream: what came back meanwhile, and what new connections came to.

use super::{
    Kill, Verdict,
    markup::{bytes, count, escape, grouped, milliseconds},
    short,
};

/// The picture's measures, in its own units.
const WIDTH: f64 = 960.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = WIDTH - 16.0;
const TOP: f64 = 30.0;
const LOW: f64 = 190.0;
const LANES: f64 = 246.0;
const LANE: f64 = 36.0;

pub(super) fn section(kill: &Kill) -> String {
    let (from, to, node) = (escape(&kill.from), escape(&kill.to), escape(&kill.node));
    let odd = kill.attempts.iter().filter(|attempt| attempt.found != attempt.expected).count();
    let away = milliseconds(kill.back - kill.killed);
    let lost = match kill.lost {
        0 => "<b class=\"good\">0 bytes</b> were lost".to_owned(),
        lost => format!("<b class=\"bad\">{}</b> were lost", bytes(lost as f64)),
    };
    let attempts = match odd {
        0 => "each came to what the policies say".to_owned(),
        odd => format!("<b class=\"bad\">{odd}</b> came to something else than the policies say"),
    };
    format!(
        r#"<section id="kill" aria-labelledby="kill-h"><h2 id="kill-h">Without an agent</h2>
<p>The agent of {node} was killed (SIGKILL) under an open stream from {from} to {to} ({}), and started again {away} later. Of {} bytes {lost}; nothing came back for {} at the longest. {} were tried meanwhile, and {attempts}.</p>
<figure class="scroll" tabindex="0" aria-label="Throughput and probes across the kill">{}</figure></section>
"#,
        escape(&kill.port),
        grouped(&kill.sent.to_string()),
        milliseconds(kill.longest_gap),
        count(kill.attempts.len(), "new connection"),
        picture(kill)
    )
}

/// The chart: bytes a second above, new connections below, the time without an agent behind both.
pub(super) fn picture(kill: &Kill) -> String {
    let scale = |ms: f64| LEFT + (RIGHT - LEFT) * (ms / kill.end.max(1.0)).clamp(0.0, 1.0);
    let rates = rates(&kill.samples);
    let most = rates.iter().map(|(_, rate)| *rate).fold(1.0, f64::max) * 1.15;
    let height = |rate: f64| LOW - (LOW - TOP) * rate / most;
    let points: String =
        rates.iter().map(|(at, rate)| format!("L{:.1} {:.1}", scale(*at), height(*rate))).collect();
    let first = rates.first().map_or(LEFT, |(at, _)| scale(*at));
    let last = rates.last().map_or(LEFT, |(at, _)| scale(*at));
    let lanes = lanes(kill, &scale);
    let bottom = LANES + LANE * lanes.1 as f64 + 4.0;
    let (from, until) = (scale(kill.killed), scale(kill.back));
    let mut axis = String::new();
    let seconds = (0..3600_u32).take_while(|second| f64::from(*second) * 1000.0 <= kill.end);
    for second in seconds {
        let x = scale(f64::from(second) * 1000.0);
        axis.push_str(&format!("<line class=\"rule\" x1=\"{x:.1}\" y1=\"{LOW}\" x2=\"{x:.1}\" y2=\"{:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second} s</text>", LOW + 5.0, LOW + 19.0));
    }
    for part in [0.5, 1.0] {
        let rate = most / 1.15 * part;
        let y = height(rate);
        axis.push_str(&format!("<line class=\"rule\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/><text class=\"tick\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}/s</text>", LEFT - 8.0, y + 4.0, bytes(rate)));
    }
    format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {bottom:.0}\" role=\"img\" aria-label=\"Bytes a second and new connections over time\">\
         <rect class=\"away\" x=\"{from:.1}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{:.1}\"/>\
         <text class=\"note\" x=\"{:.1}\" y=\"20\" text-anchor=\"middle\">no agent on {}</text>{axis}\
         <path class=\"area\" d=\"M{first:.1} {LOW}{points}L{last:.1} {LOW}Z\"/><path class=\"line\" d=\"{}\"/>\
         <line class=\"base\" x1=\"{LEFT}\" y1=\"{LOW}\" x2=\"{RIGHT}\" y2=\"{LOW}\"/>{}</svg>",
        TOP - 4.0,
        until - from,
        bottom - TOP,
        (from + until) / 2.0,
        escape(&kill.node),
        points.replacen('L', "M", 1),
        lanes.0
    )
}

/// Bytes a second between each two samples, at the middle of them.
fn rates(samples: &[(f64, u64)]) -> Vec<(f64, f64)> {
    let pairs = samples.iter().zip(samples.iter().skip(1));
    let rate = |((t0, b0), (t1, b1)): (&(f64, u64), &(f64, u64))| {
        let seconds = (t1 - t0) / 1000.0;
        (seconds > 0.0).then(|| ((t0 + t1) / 2.0, b1.saturating_sub(*b0) as f64 / seconds))
    };
    pairs.filter_map(rate).collect()
}

/// A lane a target: a mark an attempt. With it the number of lanes.
fn lanes(kill: &Kill, scale: &impl Fn(f64) -> f64) -> (String, usize) {
    let mut targets: Vec<(&str, Verdict)> = Vec::new();
    for attempt in &kill.attempts {
        let key = (attempt.to.as_str(), attempt.expected);
        if !targets.contains(&key) {
            targets.push(key);
        }
    }
    let mut text = String::new();
    for (lane, (to, expected)) in targets.iter().enumerate() {
        let y = LANES + LANE * lane as f64;
        // Above its lane: a name may be of any length.
        let name = escape(short(to));
        text.push_str(&format!("<text class=\"lane\" x=\"{LEFT}\" y=\"{:.1}\">{name}</text><line class=\"rule\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\"/>", y - 10.0));
        for attempt in
            kill.attempts.iter().filter(|a| (a.to.as_str(), a.expected) == (*to, *expected))
        {
            text.push_str(&mark(
                attempt.found,
                attempt.found == *expected,
                scale(attempt.at),
                y,
                to,
                attempt.at,
            ));
        }
    }
    (text, targets.len())
}

fn mark(found: Verdict, right: bool, x: f64, y: f64, to: &str, at: f64) -> String {
    let odd = if right { "" } else { " odd" };
    let (word, shape) = match found {
        Verdict::Allowed => {
            ("opened", format!("<circle class=\"open{odd}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>"))
        }
        Verdict::Denied => (
            "stayed shut",
            format!(
                "<path class=\"shut{odd}\" d=\"M{:.1} {:.1}l7 7m0 -7l-7 7\"/>",
                x - 3.5,
                y - 3.5
            ),
        ),
    };
    let told = escape(&format!("{}: {to} {word}", milliseconds(at)));
    format!("<g><title>{told}</title>{shape}</g>")
}
