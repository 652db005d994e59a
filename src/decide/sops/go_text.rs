//! Numbers and times in the text forms of Go, because SOPS authenticates those forms.
//!
//! Pure text to text. A form that Go would not accept gives `None`.

/// A whole number as `strconv.Itoa` prints it.
pub fn integer(text: &str) -> Option<String> {
    if let Ok(number) = text.parse::<i64>() {
        return Some(number.to_string());
    }
    text.parse::<u64>().ok().map(|number| number.to_string())
}

/// A number as `strconv.ParseFloat` reads it.
pub fn parse_float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let named = unsigned.eq_ignore_ascii_case("inf")
        || unsigned.eq_ignore_ascii_case("infinity")
        || text.eq_ignore_ascii_case("nan");
    // Go refuses what overflows; Rust turns it into infinity.
    text.parse::<f64>().ok().filter(|number| named || number.is_finite())
}

/// A number as `strconv.FormatFloat(number, 'f', -1, 64)` prints it.
pub fn float_plain(number: f64) -> String {
    if number.is_nan() {
        String::from("NaN")
    } else if number.is_infinite() {
        String::from(if number > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        format!("{number}")
    }
}

/// A number as go-yaml prints it: `FormatFloat(number, 'g', -1, 64)`.
pub fn float_yaml(number: f64) -> String {
    if number.is_nan() {
        return String::from(".nan");
    }
    if number.is_infinite() {
        return String::from(if number > 0.0 { ".inf" } else { "-.inf" });
    }
    let (digits, exponent) = shortest(number);
    // %g leaves the plain form at an exponent of 6 when it prints the shortest digits.
    if !(-4..6).contains(&exponent) {
        return exponent_form(&digits, exponent, 2);
    }
    float_plain(number)
}

/// A number as `encoding/json` prints it.
pub fn float_json(number: f64) -> String {
    let size = number.abs();
    if number.is_finite() && size != 0.0 && !(1e-6..1e21).contains(&size) {
        let (digits, exponent) = shortest(number);
        // encoding/json cleans up e-09 to e-9, but leaves e+21 alone.
        return exponent_form(&digits, exponent, 1);
    }
    float_plain(number)
}

/// Shortest digits (with sign and point) and decimal exponent.
fn shortest(number: f64) -> (String, i32) {
    let text = format!("{number:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => (digits.to_owned(), exponent.parse().unwrap_or(0)),
        None => (text, 0),
    }
}

fn exponent_form(digits: &str, exponent: i32, width: usize) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:0width$}", exponent.unsigned_abs())
}

/// A point in time as go-yaml recognises it, printed as RFC 3339 with nanoseconds.
pub fn yaml_time(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let starts_with_a_year = bytes.len() > 4 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-';
    if !starts_with_a_year {
        return None;
    }
    let mut rest = Reader(text);
    let date = rest.date()?;
    if rest.is_empty() {
        return Some(format!("{date}T00:00:00Z"));
    }
    if rest.eat(' ') {
        let clock = rest.clock()?;
        return rest.is_empty().then(|| format!("{date}T{clock}Z"));
    }
    if !rest.eat('T') && !rest.eat('t') {
        return None;
    }
    let clock = rest.clock()?;
    let zone = rest.zone()?;
    rest.is_empty().then(|| format!("{date}T{clock}{zone}"))
}

/// Reads the parts of a timestamp as `time.Parse` does.
struct Reader<'a>(&'a str);

impl Reader<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn eat(&mut self, wanted: char) -> bool {
        match self.0.strip_prefix(wanted) {
            Some(rest) => {
                self.0 = rest;
                true
            }
            None => false,
        }
    }

    /// Takes between `least` and `most` digits.
    fn number(&mut self, least: usize, most: usize) -> Option<u32> {
        let length = self.0.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if length < least {
            return None;
        }
        let (digits, rest) = self.0.split_at(length);
        self.0 = rest;
        digits.parse().ok()
    }

    fn date(&mut self) -> Option<String> {
        let year = self.number(4, 4)?;
        let month = self.eat('-').then(|| self.number(1, 2))??;
        let day = self.eat('-').then(|| self.number(1, 2))??;
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            _ => return None,
        };
        (1..=days).contains(&day).then(|| format!("{year:04}-{month:02}-{day:02}"))
    }

    fn clock(&mut self) -> Option<String> {
        let hour = self.number(1, 2)?;
        let minute = self.eat(':').then(|| self.number(1, 2))??;
        let second = self.eat(':').then(|| self.number(1, 2))??;
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        Some(format!("{hour:02}:{minute:02}:{second:02}{}", self.fraction()))
    }

    /// The fraction of a second with its point: nanoseconds at most, no zeros at the end.
    fn fraction(&mut self) -> String {
        let Some(after) = self.0.strip_prefix(['.', ',']) else {
            return String::new();
        };
        let length = after.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return String::new();
        }
        let digits = &after[..length.min(9)];
        self.0 = &after[length..];
        match digits.trim_end_matches('0') {
            "" => String::new(),
            digits => format!(".{digits}"),
        }
    }

    fn zone(&mut self) -> Option<String> {
        if self.eat('Z') {
            return Some(String::from("Z"));
        }
        let Some(sign @ ('+' | '-')) = self.0.chars().next() else {
            return None;
        };
        self.0 = &self.0[1..];
        let hours = self.number(2, 2)?;
        let minutes = self.eat(':').then(|| self.number(2, 2))??;
        if hours > 24 || minutes > 60 {
            return None;
        }
        match (hours, minutes) {
            (0, 0) => Some(String::from("Z")),
            _ => Some(format!("{sign}{hours:02}:{minutes:02}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_have_the_forms_of_go() {
        for (number, plain, yaml, json) in [
            (1.0, "1", "1", "1"),
            (-0.0, "-0", "-0", "-0"),
            (1e6, "1000000", "1e+06", "1000000"),
            (1234567.5, "1234567.5", "1.2345675e+06", "1234567.5"),
            (1e21, "1000000000000000000000", "1e+21", "1e+21"),
            (1e-7, "0.0000001", "1e-07", "1e-7"),
            (u64::MAX as f64, "18446744073709552000", "1.8446744073709552e+19", "18446744073709552000"),
            (f64::INFINITY, "+Inf", ".inf", "+Inf"),
        ] {
            assert_eq!(float_plain(number), plain);
            assert_eq!(float_yaml(number), yaml);
            assert_eq!(float_json(number), json);
        }
    }

    #[test]
    fn times_have_the_form_of_go() {
        for (text, expected) in [
            ("2024-01-31", Some("2024-01-31T00:00:00Z")),
            ("2024-1-2 3:4:5.500", Some("2024-01-02T03:04:05.5Z")),
            ("2024-01-31t10:20:30+00:00", Some("2024-01-31T10:20:30Z")),
            ("2024-01-31T10:20:30.5+02:00", Some("2024-01-31T10:20:30.5+02:00")),
            ("2023-02-29", None),
            ("2024-01-31T10:20:30", None),
            ("20240131", None),
        ] {
            assert_eq!(yaml_time(text).as_deref(), expected, "{text}");
        }
    }
}
