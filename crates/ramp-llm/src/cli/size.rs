//! Sizes in bytes as people write them.

/// Units, the longer names first where one ends with another.
const UNITS: [(&str, u64); 9] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("b", 1),
];

/// Reads `6125440`, `6.1MB`, `5.8 MiB`: decimal and binary units, plain numbers are bytes. A fraction of a byte
/// is dropped: a budget is never exceeded by rounding.
///
/// # Errors
/// When the text is no such size, or is zero or beyond 64 bits.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let fail = || {
        Err(format!("`{text}` is not a size: expected bytes, or a number with kB, MB, GB, KiB, MiB or GiB"))
    };
    let lower = text.trim().to_ascii_lowercase();
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, unit)| Some((lower.strip_suffix(name)?.trim_end(), *unit)))
        .unwrap_or((&lower, 1));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // Twenty-four digits times the largest unit fit 128 bits; decimal arithmetic keeps 6.1MB at 6100000 bytes.
    if !is_number || digits.len() > 24 || fraction.len() > 12 {
        return fail();
    }
    let Ok(value) = digits.parse::<u128>() else { return fail() };
    let bytes = value * u128::from(unit) / 10_u128.pow(fraction.len() as u32);
    match u64::try_from(bytes) {
        Ok(0) => Err(format!("`{text}` is zero bytes")),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err(format!("`{text}` is more than {} bytes", u64::MAX)),
    }
}

/// Decimal unit with three significant digits: `6.13 MB`.
pub(crate) fn human(bytes: u64) -> String {
    let units = [("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)];
    // From 999.5 on, three digits round up to the next unit.
    match units.iter().find(|(_, unit)| bytes as f64 >= unit * 0.9995) {
        Some((name, unit)) => {
            let value = bytes as f64 / unit;
            let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
            format!("{value:.decimals$} {name}")
        }
        None => format!("{bytes} B"),
    }
}

/// Digits in groups of three: `6,125,440`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_in_every_unit() {
        for (text, bytes) in [
            ("6125440", 6_125_440),
            ("6.1MB", 6_100_000),
            ("3.7GB", 3_700_000_000),
            ("5.5MiB", 5_767_168),
            ("1 GiB", 1 << 30),
            ("2kb", 2_000),
            ("2 KiB", 2_048),
            ("17B", 17),
            ("0.5kB", 500),
            (".5kB", 500),
            ("1.TB", 1_000_000_000_000),
            ("1.0009 kB", 1_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_text() {
        let long = format!("{}GB", "9".repeat(40));
        for text in
            ["", "MB", "-1MB", "+1", "1e6", "4G", "4.5.5MB", "4,5MB", ".", "0", "0.0001kB", "nan", &long]
        {
            let error = parse(text).unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
        assert!(parse("18446744073709551616").unwrap_err().contains("more than"));
        assert!(parse("99999999TB").unwrap_err().contains("more than"));
    }

    #[test]
    fn three_significant_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (998, "998 B"),
            (1_000, "1.00 kB"),
            (6_125_440, "6.13 MB"),
            (61_254_400, "61.3 MB"),
            (612_544_000, "613 MB"),
            (999_600, "1.00 MB"),
            (99_960, "100 kB"),
            (13_476_831_232, "13.5 GB"),
        ] {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn groups_of_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (6_125_440, "6,125,440")] {
            assert_eq!(grouped(number), text);
        }
    }
}
