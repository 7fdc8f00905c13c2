//! How far agents were behind, and how many changes were answered, over time.

use super::{LEFT, Scale, seconds, tenths};
use crate::{Report, time::Micros};
use std::fmt::Write;

const HEIGHT: f64 = 110.0;
/// Bars of the lower chart are at least so wide.
const BAR: u64 = 5;

/// The lag of agents, and where the chart ends.
pub(super) fn lag(report: &Report, scale: &Scale, top: f64) -> (String, f64) {
    let lag = &report.story.lag;
    let most = lag.iter().map(|it| seconds(it.most)).fold(0.1, f64::max) * 1.05;
    let low = top + HEIGHT;
    let y = |time: Micros| low - HEIGHT * seconds(time) / most;
    let mut text = frame("agents behind", &format!("{} s", tenths(most)), scale, top);
    // The worst of what falls on one point of the picture.
    let mut points: Vec<(f64, Micros, Micros)> = Vec::new();
    for it in lag {
        let x = scale.x(it.at).round();
        match points.last_mut() {
            Some((last, half, most)) if *last >= x => {
                (*half, *most) = ((*half).max(it.half), (*most).max(it.most));
            }
            _ => points.push((x, it.half, it.most)),
        }
    }
    let path = |of: fn(&(f64, Micros, Micros)) -> Micros| {
        points.iter().fold(String::new(), |mut path, point| {
            let _ = write!(path, "L{:.1} {:.1}", point.0, y(of(point)));
            path
        })
    };
    let (half, furthest) = (path(|point| point.1), path(|point| point.2));
    if let (Some(first), Some(last)) = (points.first(), points.last()) {
        let _ = write!(
            text,
            "<path class=\"area\" d=\"M{:.1} {low:.1}{furthest}L{:.1} {low:.1}Z\"/><path class=\"furthest\" d=\"{}\"/><path class=\"line\" d=\"{}\"/>",
            first.0,
            last.0,
            furthest.replacen('L', "M", 1),
            half.replacen('L', "M", 1)
        );
    }
    let _ = write!(
        text,
        "<text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\">thin: who is furthest behind · thick: half of them are no further</text>",
        LEFT + 6.0,
        top - 8.0
    );
    (text, low)
}

/// Changes answered a second, and where the chart ends.
pub(super) fn answers(report: &Report, scale: &Scale, top: f64) -> (String, f64) {
    let low = top + HEIGHT * 0.6;
    let bars = (scale.units / BAR).max(1);
    let wide = Micros(report.end.0.div_ceil(bars).max(1));
    let mut counts: Vec<u32> = (0..bars).map(|_| 0).collect();
    for at in &report.story.answers {
        if let Some(count) = usize::try_from(at.0 / wide.0).ok().and_then(|bar| counts.get_mut(bar))
        {
            *count += 1;
        }
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let rate = f64::from(most) / seconds(wide);
    let mut text = frame("answers", &format!("{rate:.0}/s"), scale, top);
    let mut path = String::new();
    for (bar, count) in (0_u64..).zip(&counts) {
        if *count > 0 {
            let x = scale.x(Micros(wide.0 * bar));
            let tall = (low - top) * f64::from(*count) / f64::from(most);
            let _ = write!(path, "M{:.1} {low:.1}v-{tall:.1}", x + BAR as f64 / 2.0);
        }
    }
    let _ = write!(text, "<path class=\"answers\" d=\"{path}\"/>");
    let _ = write!(
        text,
        "<line class=\"base\" x1=\"{LEFT}\" y1=\"{low:.1}\" x2=\"{:.1}\" y2=\"{low:.1}\"/>",
        scale.right
    );
    (text, low)
}

/// The name of a chart, and what its top stands for.
fn frame(name: &str, most: &str, scale: &Scale, top: f64) -> String {
    let x = LEFT - 14.0;
    format!(
        "<line class=\"rule\" x1=\"{LEFT}\" y1=\"{top:.1}\" x2=\"{:.1}\" y2=\"{top:.1}\"/>\
         <text class=\"tick\" x=\"{x:.0}\" y=\"{:.1}\" text-anchor=\"end\">{most}</text>\
         <text class=\"lane\" x=\"{x:.0}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
        scale.right,
        top + 4.0,
        top + 34.0
    )
}
