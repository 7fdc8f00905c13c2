//! A policy on its way: YAML, log entry, kernel maps, packet; each step where it lies in time.

use super::{
    Change,
    markup::{escape, milliseconds},
};

pub(super) fn section(change: &Change) -> String {
    let end = change.steps.iter().map(|step| step.ended).fold(0.1, f64::max);
    let row = |step: &super::Step| {
        let left = step.begun / end * 100.0;
        let width = ((step.ended - step.begun) / end * 100.0).max(0.35);
        let class = match step.who.as_str() {
            "packet" => "packet",
            "weft" => "weft",
            "operator" => "operator",
            _ => "agent",
        };
        format!(
            "<li class=\"{class}\"><span class=\"who\">{}</span><span class=\"what\">{}</span><span class=\"track\" aria-hidden=\"true\"><i style=\"left:{left:.2}%;width:{width:.2}%\"></i></span><span class=\"when\">{}</span></li>\n",
            escape(&step.who),
            escape(&step.what),
            milliseconds(step.ended)
        )
    };
    let rows: String = change.steps.iter().map(row).collect();
    let trace = match change.trace.as_str() {
        "" => String::new(),
        id => format!(
            " One trace goes through all of it; <code>{}</code> finds its lines in every process's log.",
            escape(id)
        ),
    };
    format!(
        r#"<section id="way" aria-labelledby="way-h"><h2 id="way-h">From YAML to a packet</h2>
<p>This policy became revision {}. {} after it was read, the first packet was judged by it.{trace}</p>
<div class="way"><pre tabindex="0" aria-label="The policy">{}</pre><ol class="steps">{rows}</ol></div></section>
"#,
        escape(&change.revision),
        milliseconds(packet(change).unwrap_or(end)),
        escape(change.yaml.trim())
    )
}

/// When the first packet was judged.
pub(super) fn packet(change: &Change) -> Option<f64> {
    change.steps.iter().find(|step| step.who == "packet").map(|step| step.ended)
}
