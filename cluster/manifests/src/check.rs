//! The API server's rules for names, labels and ports. Each check gives the rule that a text breaks.

use weft_types::policy::Protocol;

/// RFC 1123 label: names of namespaces.
pub(crate) fn dns_label(text: &str) -> Option<&'static str> {
    let fits = text.len() <= 63 && is_dns_label(text);
    (!fits).then_some(
        "must be at most 63 of a-z, 0-9 and '-', beginning and ending with a letter or digit",
    )
}

/// RFC 1123 subdomain: names of most objects.
pub(crate) fn dns_subdomain(text: &str) -> Option<&'static str> {
    let fits = text.len() <= 253 && text.split('.').all(is_dns_label);
    (!fits).then_some(
        "must be at most 253 of a-z, 0-9, '-' and '.', each part beginning and ending with a letter or digit",
    )
}

/// A label's key: `name` or `dns.prefix/name`.
pub(crate) fn label_key(text: &str) -> Option<&'static str> {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    let fits = prefix.is_none_or(|prefix| dns_subdomain(prefix).is_none())
        && (1..=63).contains(&name.len())
        && is_qualified(name);
    (!fits).then_some(
        "is no label key: an optional DNS prefix and '/', then at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit",
    )
}

/// A label's value.
pub(crate) fn label_value(text: &str) -> Option<&'static str> {
    let fits = text.len() <= 63 && (text.is_empty() || is_qualified(text));
    (!fits).then_some(
        "is no label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, or empty",
    )
}

/// A port's name: an IANA service name.
pub(crate) fn port_name(text: &str) -> Option<&'static str> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Some("is a port name without a letter: write a number without quotes");
    }
    let fits = (1..=15).contains(&text.len())
        && is_dns_label(text)
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && !text.contains("--");
    (!fits).then_some(
        "is no port name: at most 15 of a-z, 0-9 and '-', one letter at least, no '-' at an end or twice in a row",
    )
}

/// A port's number.
pub(crate) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|n| *n > 0)
}

/// A protocol as the API spells it; TCP when absent.
pub(crate) fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        _ => None,
    }
}

fn is_dns_label(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_qualified(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && edge(text.chars().next())
        && edge(text.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agree(check: fn(&str) -> Option<&'static str>, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(check(text), None, "{text}");
        }
        for text in bad {
            assert!(check(text).is_some(), "{text}");
        }
    }

    #[test]
    fn names_are_dns_names() {
        let long = "a".repeat(64);
        agree(dns_label, &["a", "0", "shop-1"], &["", "-a", "a-", "A", "a.b", "a_b", &long]);
        let (most, over) = ([&"a".repeat(63) as &str; 4].join("."), "a.".repeat(127) + "a");
        assert_eq!(most.len(), 255);
        agree(
            dns_subdomain,
            &["a", "a.b", "a-b.0"],
            &["", ".", "a..b", "a.", "-a.b", "A", &most, &over],
        );
    }

    #[test]
    fn labels_are_qualified_names() {
        let (long, full) = ("a".repeat(64), "a".repeat(63));
        agree(
            label_key,
            &["app", "A_b.c-d", "example.org/app", "a/b", &full],
            &["", "/", "a/", "/a", "a/b/c", "-a", "a-", "a b", "Ex.org/a", "ä", &long],
        );
        agree(
            label_value,
            &["", "a", "A_b.c-d", "1.0", &full],
            &["-a", "a-", "a b", "a/b", "ä", &long],
        );
    }

    #[test]
    fn ports_have_names_and_numbers() {
        agree(
            port_name,
            &["http", "h2", "2h", "a-b", "abcdefghijklmno"],
            &["", "80", "-a", "a-", "a--b", "HTTP", "a.b", "abcdefghijklmnop"],
        );
        for (number, port) in [
            (1, Some(1)),
            (65535, Some(65535)),
            (0, None),
            (-1, None),
            (65536, None),
            (i32::MAX, None),
        ] {
            assert_eq!(port_number(number), port);
        }
    }
}
