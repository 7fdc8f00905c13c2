//! Words and numbers as HTML and SVG have them.

use std::fmt::Display;

/// A text that is safe between tags and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Control characters are no characters of HTML.
            c if c.is_control() && c != '\n' => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// A number with what is counted: `1 pod`, `2 pods`.
pub(super) fn count(number: impl Display, thing: &str) -> String {
    let number = number.to_string();
    let plural = if number == "1" { "" } else { "s" };
    format!("{} {thing}{plural}", grouped(&number))
}

/// Digits by threes: `1 234 567`, with spaces that neither break nor stretch.
pub(super) fn grouped(digits: &str) -> String {
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Milliseconds for people: `0.84 ms`, `7.4 ms`, `312 ms`, `1.6 s`; a line never ends before the unit.
pub(super) fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 1.0 => format!("{ms:.2}\u{a0}ms"),
        ms if ms < 100.0 => format!("{ms:.1}\u{a0}ms"),
        ms if ms < 1000.0 => format!("{ms:.0}\u{a0}ms"),
        ms => format!("{:.1}\u{a0}s", ms / 1000.0),
    }
}

/// Bytes for people, by thousands.
pub(super) fn bytes(bytes: f64) -> String {
    match bytes {
        b if b < 1000.0 => format!("{b:.0}\u{a0}B"),
        b if b < 1e6 => format!("{:.0}\u{a0}kB", b / 1e3),
        b if b < 1e9 => format!("{:.1}\u{a0}MB", b / 1e6),
        b => format!("{:.1}\u{a0}GB", b / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_end_what_they_stand_in() {
        let hostile = "</script><b a='1' b=\"2\">&amp;\u{1b}[31m";
        let safe = escape(hostile);
        assert!(!safe.contains(['<', '>', '"', '\'', '\u{1b}']), "{safe}");
        assert!(safe.contains("&amp;amp;"), "{safe}");
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(grouped("1234567"), "1\u{202f}234\u{202f}567");
        assert_eq!((count(1, "pod"), count(0, "pod")), ("1 pod".to_owned(), "0 pods".to_owned()));
        let told: Vec<String> = [0.844, 7.42, 312.2, 1640.0].map(milliseconds).to_vec();
        assert_eq!(told, ["0.84\u{a0}ms", "7.4\u{a0}ms", "312\u{a0}ms", "1.6\u{a0}s"]);
        assert_eq!(
            [12.0, 25_600.0, 1_024_000.0].map(bytes),
            ["12\u{a0}B", "26\u{a0}kB", "1.0\u{a0}MB"]
        );
    }
}
