//! A lane an operator, one for the store and one for agents: who led, who was down, and what went wrong.

use super::{LANE, LEFT, Scale, escape, seconds, tell, tenths};
use crate::{
    Report,
    fault::Kind,
    story::{Condition, Hit, Struck},
    time::Micros,
};
use std::{collections::BTreeMap, fmt::Write};
use weft_raft::{MemberId, Term};

const TOP: f64 = 44.0;

/// A time in which a member was something.
struct Stretch {
    condition: Condition,
    from: Micros,
    until: Micros,
}

/// A time in which a member led.
struct Led {
    term: Term,
    y: f64,
    from: Micros,
    until: Micros,
}

/// The lanes, and where they end.
pub(super) fn draw(report: &Report, scale: &Scale) -> (String, f64) {
    let story = &report.story;
    let mut text = String::new();
    let mut heights: BTreeMap<MemberId, f64> = BTreeMap::new();
    let mut y = TOP;
    for member in story.members.keys() {
        heights.insert(*member, y);
        text.push_str(&name(&format!("operator {member}"), y));
        y += LANE;
    }
    let others = |store: bool| {
        let on = move |s: &&Struck| match s.on {
            Hit::Store => store,
            Hit::Agents(_) => !store,
            Hit::Member(_) => false,
        };
        story.struck.iter().filter(on)
    };
    for (store, called) in [(true, "store"), (false, "agents")] {
        if others(store).next().is_some() {
            text.push_str(&name(called, y));
            let _ = write!(
                text,
                "<line class=\"warp\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
                scale.right
            );
            others(store).for_each(|struck| text.push_str(&bar(struck, scale, y)));
            y += LANE;
        }
    }
    for struck in &story.struck {
        if let (Hit::Member(member), false) = (struck.on, is_an_end(struck.kind))
            && let Some(y) = heights.get(&member)
        {
            text.push_str(&bar(struck, scale, *y));
        }
    }
    let mut led = Vec::new();
    for (member, told) in &story.members {
        let Some(y) = heights.get(member).copied() else { continue };
        for stretch in stretches(told, scale.end) {
            text.push_str(&life(*member, &stretch, scale, y));
            if let Stretch { condition: Condition::Leads(term), from, until } = stretch {
                led.push(Led { term, y, from, until });
            }
        }
    }
    text.push_str(&thread(&mut led, scale));
    (text, y - LANE / 2.0)
}

/// Those are seen by the lane: it is not there.
fn is_an_end(kind: Kind) -> bool {
    matches!(kind, Kind::Kill | Kind::CutPower | Kind::Restart | Kind::LoseDisk | Kind::Upgrade)
}

fn name(text: &str, y: f64) -> String {
    format!(
        "<text class=\"lane\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        LEFT - 14.0,
        y + 4.5,
        escape(text)
    )
}

fn stretches(told: &[(Micros, Condition)], end: Micros) -> Vec<Stretch> {
    let untils = told.iter().skip(1).map(|(at, _)| *at).chain([end]);
    let stretch = |((from, condition), until): (&(Micros, Condition), Micros)| Stretch {
        condition: *condition,
        from: *from,
        until,
    };
    told.iter().zip(untils).map(stretch).collect()
}

fn bar(struck: &Struck, scale: &Scale, y: f64) -> String {
    let (from, until) = (scale.x(struck.from), scale.x(struck.until));
    let class = if is_an_end(struck.kind) { "down" } else { "trouble" };
    let (begin, end) = (tenths(seconds(struck.from)), tenths(seconds(struck.until)));
    let told = escape(&format!("{begin} s to {end} s: {}", tell(struck)));
    format!(
        "<g class=\"{class}\" data-tell=\"{told}\"><rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"26\" rx=\"4\"/></g>",
        y - 13.0,
        (until - from).max(4.0)
    )
}

/// A member while it is not leading: a warp, a vote asked for, or nothing.
fn life(member: MemberId, stretch: &Stretch, scale: &Scale, y: f64) -> String {
    let (from, until) = (scale.x(stretch.from), scale.x(stretch.until));
    match stretch.condition {
        Condition::Follows | Condition::Leads(_) => format!(
            "<line class=\"warp\" x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{until:.1}\" y2=\"{y:.1}\"/>"
        ),
        Condition::Stands => format!(
            "<line class=\"stands\" x1=\"{from:.1}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
            until.max(from + 2.0)
        ),
        Condition::Gone => String::new(),
        Condition::Down => {
            let (begin, end) = (tenths(seconds(stretch.from)), tenths(seconds(stretch.until)));
            format!(
                "<g class=\"down\" data-tell=\"{begin} s to {end} s: operator {member} is down\"><rect x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"26\" rx=\"4\"/></g>",
                y - 13.0,
                (until - from).max(2.0)
            )
        }
    }
}

/// Who led, as one thread through the lanes. Who leads on, not knowing that another does, is thin.
fn thread(led: &mut [Led], scale: &Scale) -> String {
    led.sort_by_key(|it| (it.term, it.from));
    let mut text = String::new();
    for (at, Led { term, y, from, until }) in led.iter().enumerate() {
        let next = led.get(at + 1);
        let ends = next.map_or(*until, |next| next.from.min(*until)).max(*from);
        let (x0, x1) = (scale.x(*from), scale.x(ends));
        let told =
            format!("{} s to {} s: term {term}", tenths(seconds(*from)), tenths(seconds(ends)));
        let _ = write!(
            text,
            "<g class=\"leads\" data-tell=\"{told}\"><line x1=\"{x0:.1}\" y1=\"{y:.1}\" x2=\"{x1:.1}\" y2=\"{y:.1}\"/></g>"
        );
        if x1 - x0 > 64.0 {
            let _ = write!(
                text,
                "<text class=\"term\" x=\"{:.1}\" y=\"{:.1}\">term {term}</text>",
                x0 + 4.0,
                y - 9.0
            );
        }
        if ends < *until {
            let (x2, told) = (scale.x(*until), "leads on, and does not know yet that another does");
            let _ = write!(
                text,
                "<g class=\"leads stale\" data-tell=\"{told}\"><line x1=\"{x1:.1}\" y1=\"{y:.1}\" x2=\"{x2:.1}\" y2=\"{y:.1}\"/></g>"
            );
        }
        if let Some(next) = next {
            let (x2, y2) = (scale.x(next.from.max(ends)), next.y);
            let pull = ((x2 - x1) / 2.0).max(10.0);
            let _ = write!(
                text,
                "<path class=\"passes\" d=\"M{x1:.1} {y:.1}C{:.1} {y:.1} {:.1} {y2:.1} {x2:.1} {y2:.1}\"/>",
                x1 + pull,
                x2 - pull
            );
        }
    }
    text
}
