//! Takes secrets out of what other programs say, before it reaches a report. Reports are safe to publish.
//!
//! Plans need none of this: they are made from marks. But the log of a container that failed is what its program wrote,
//! and programs print their settings when they fail.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::decide::taint;

/// What stands in the place of a secret.
const HIDDEN: &str = "(secret)";
/// The longest line that is kept.
const LONGEST: usize = 300;
/// Pieces of a secret that are shorter are no secret by themselves.
const SHORTEST_PIECE: usize = 6;

/// The last lines of a text, without any of these secrets in any form that programs are known to print.
pub fn last_lines(text: &str, lines: usize, secrets: &[&str]) -> Vec<String> {
    let mut forms: Vec<Zeroizing<String>> = secrets.iter().flat_map(|secret| forms(secret)).collect();
    // The longest first: the part of a secret must not keep the rest of it from being found.
    forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
    forms.dedup();
    let mut clear = Zeroizing::new(taint::readable(text));
    for form in &forms {
        if clear.contains(form.as_str()) {
            clear = Zeroizing::new(clear.replace(form.as_str(), HIDDEN));
        }
    }
    let spoken: Vec<&str> = clear.lines().map(str::trim_end).filter(|line| !line.trim().is_empty()).collect();
    spoken.iter().skip(spoken.len().saturating_sub(lines)).map(|line| printable(line)).collect()
}

/// How a secret may look when it is printed.
fn forms(secret: &str) -> Vec<Zeroizing<String>> {
    let mut forms = Vec::new();
    let mut add = |form: String| {
        if !form.trim().is_empty() {
            forms.push(Zeroizing::new(form));
        }
    };
    add(secret.to_owned());
    add(secret.trim().to_owned());
    // A key or certificate is printed line by line, and a URL by its parts.
    let apart = |character: char| matches!(character, '\n' | '\r' | '/' | '@' | ':' | '&' | '=' | '?');
    for piece in secret.lines().chain(secret.split(apart)).filter(|piece| piece.trim().len() >= SHORTEST_PIECE) {
        add(piece.trim().to_owned());
    }
    if secret.len() >= SHORTEST_PIECE {
        add(secret.escape_default().to_string());
        add(secret.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"));
        add(percent(secret));
        add(hex::encode(secret));
        add(hex::encode_upper(secret));
        // Inside of a longer text, base64 has three ways to write the same bytes; the ends depend on the neighbours.
        for before in 0..3_usize {
            for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
                let padded = [&b"\0\0"[..before], secret.as_bytes()].concat();
                let whole = engine.encode(&padded);
                let first = (before * 8).div_ceil(6);
                let last = padded.len() * 8 / 6;
                add(whole[first..last].to_owned());
            }
        }
    }
    forms
}

fn percent(secret: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    secret.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A line that a terminal shows as it is, and that is not too long.
fn printable(line: &str) -> String {
    let shown = line.chars().take(LONGEST).map(|character| if character.is_control() { ' ' } else { character });
    match line.chars().count() > LONGEST {
        true => shown.chain(['…']).collect(),
        false => shown.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    #[test]
    fn a_secret_is_taken_out_in_every_form() {
        let secret = "hunter2/\"&=ü\\$x";
        let texts = [
            format!("password is {secret}!"),
            format!("basic {}", STANDARD.encode(format!("user:{secret}"))),
            format!("basic {}", STANDARD.encode(format!("u:{secret}"))),
            format!("basic {}", URL_SAFE_NO_PAD.encode(format!("me:{secret};x"))),
            format!("postgres://app:{}@db/x", percent(secret)),
            format!("{secret:?}"),
            serde_json::json!({ "password": secret }).to_string(),
            hex::encode(secret),
        ];
        for text in texts {
            let shown = last_lines(&text, 5, &[secret]).join("\n");
            assert!(shown.contains(HIDDEN), "{text} -> {shown}");
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn the_lines_of_a_key_and_the_parts_of_a_url_are_taken_out_alone() {
        let key = "-----BEGIN KEY-----\nAAAABBBBCCCC\nDDDDEEEEFFFF\n-----END KEY-----\n";
        let url = "https://user:p4ssw0rd@host.example.org/api/push/t0k3n0";
        let shown = last_lines("x DDDDEEEEFFFF y\ntoken t0k3n0, password p4ssw0rd", 5, &[key, url]);
        assert_eq!(shown, ["x (secret) y", "token (secret), password (secret)"]);
    }

    #[test]
    fn a_short_secret_goes_too_and_marks_are_named() {
        assert_eq!(last_lines("pin 1234", 5, &["1234"]), ["pin (secret)"]);
        assert_eq!(last_lines("a __moorline_secret_PIN_0123456789ab__", 5, &[]), ["a (secret PIN)"]);
        assert_eq!(last_lines("nothing", 5, &["", " ", "\n"]), ["nothing"]);
    }

    #[test]
    fn the_last_lines_are_short_and_printable() {
        let text = format!("one\n\n\u{1b}[31mtwo\u{7}\n{}\n", "x".repeat(400));
        let shown = last_lines(&text, 2, &[]);
        assert_eq!(shown[0], " [31mtwo ");
        assert_eq!(shown[1].chars().count(), 301);
    }
}
