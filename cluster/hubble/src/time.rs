//! Times as Hubble writes them: RFC 3339 in JSON, `Jul 30 12:34:56.789` for people; UTC always.

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// Nanoseconds since 1970 as RFC 3339, with as many digits of the second as it takes (0, 3, 6 or 9).
pub fn rfc3339(ns: u64) -> String {
    let (year, month, day) = date(ns / SECOND / DAY);
    let of_day = ns / SECOND % DAY;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let fraction = match ns % SECOND {
        0 => String::new(),
        f if f % 1_000_000 == 0 => format!(".{:03}", f / 1_000_000),
        f if f % 1000 == 0 => format!(".{:06}", f / 1000),
        f => format!(".{f:09}"),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Nanoseconds since 1970 as `Jul 30 12:34:56.789`.
pub fn stamp(ns: u64) -> String {
    let (_, month, day) = date(ns / SECOND / DAY);
    let month = usize::try_from(month).ok().and_then(|m| MONTHS.get(m.checked_sub(1)?));
    let of_day = ns / SECOND % DAY;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let milli = ns % SECOND / 1_000_000;
    format!("{} {day:>2} {hour:02}:{minute:02}:{second:02}.{milli:03}", month.unwrap_or(&"?"))
}

/// Nanoseconds since 1970 of an RFC 3339 time, or of a date alone.
pub fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00Z"));
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if !(1970..=2500).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (clock, zone) = time.split_at(time.find(['Z', '+', '-']).unwrap_or(time.len()));
    let offset = match zone {
        "Z" | "" => 0,
        zone => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let (hours, minutes) = (hours.parse::<u8>().ok()?, minutes.parse::<u8>().ok()?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60;
            if zone.starts_with('-') { -seconds } else { seconds }
        }
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    if hour > 23 || minute > 59 || second > 60 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let seconds = days(year, month, day) * DAY + hour * 3600 + minute * 60 + second;
    let seconds = seconds.checked_add_signed(offset.checked_neg()?)?;
    seconds.checked_mul(SECOND)?.checked_add(fraction.parse().ok()?)
}

/// (year, month, day) of a day since 1970, by the proleptic Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Days since 0000-03-01, in eras of 400 years: a year that begins in March has its leap day last.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// The day since 1970 of a date.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).saturating_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (ns, text, stamped) in [
            (0, "1970-01-01T00:00:00Z", "Jan  1 00:00:00.000"),
            (1_785_414_896_789_123_456, "2026-07-30T12:34:56.789123456Z", "Jul 30 12:34:56.789"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00Z", "Feb 29 00:00:00.000"),
            (4_107_542_400_500_000_000, "2100-03-01T00:00:00.500Z", "Mar  1 00:00:00.500"),
            (1_735_689_599_000_001_000, "2024-12-31T23:59:59.000001Z", "Dec 31 23:59:59.000"),
        ] {
            assert_eq!(rfc3339(ns), text);
            assert_eq!(stamp(ns), stamped);
            assert_eq!(parse(text), Some(ns), "{text}");
        }
        assert_eq!(parse("1970-01-02"), Some(DAY * SECOND));
        assert_eq!(parse("1970-01-02T01:00:00+01:00"), Some(DAY * SECOND));
        for bad in ["", "x", "2026-13-01", "2026-01-01T25:00:00Z", "2026-01-01T00:00:00.xZ", "1-1"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
        for zone in ["+24:00", "-00:60", "+9999999999999999:00", "+01", "+-1:00", "+"] {
            assert_eq!(parse(&format!("2026-01-01T00:00:00{zone}")), None, "{zone}");
        }
    }

    #[test]
    fn every_day_is_its_own() {
        for day in (0..150_000).step_by(13) {
            let (year, month, of_month) = date(day);
            assert_eq!(days(year, month, of_month), day);
        }
    }
}
