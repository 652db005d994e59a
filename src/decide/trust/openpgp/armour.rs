//! Takes the text armour off OpenPGP bytes: one block, nothing before it, nothing after it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The bytes inside one armoured block of a kind, `PGP SIGNATURE` say. `None` if the text is anything else.
///
/// The checksum line, an aid against noise on telephone lines, is passed over: the signature says more.
pub(super) fn open(text: &[u8], kind: &str) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut lines = text.split('\n');
    let mut next = lines.next()?;
    if next != format!("-----BEGIN {kind}-----") {
        return None;
    }
    // `Version: GnuPG v2` and the like, up to an empty line.
    loop {
        next = lines.next()?;
        if next.is_empty() {
            break;
        }
        next.split_once(": ")?;
    }
    let mut encoded = String::new();
    let end = loop {
        next = lines.next()?;
        match next.strip_prefix('=') {
            Some(checksum) if checksum.len() == 4 => break lines.next()?,
            _ if next.starts_with('-') => break next,
            _ => encoded.push_str(next),
        }
    };
    if end != format!("-----END {kind}-----") || lines.any(|line| !line.is_empty()) {
        return None;
    }
    STANDARD.decode(encoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_and_nothing_around_it() {
        let good = "-----BEGIN X-----\nComment: a\n\nAAEC\nAwQF\n=abcd\n-----END X-----\n";
        assert_eq!(open(good.as_bytes(), "X"), Some(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(open(good.replace("=abcd\n", "").as_bytes(), "X"), Some(vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(open(good.replace("Comment: a\n", "").as_bytes(), "X"), Some(vec![0, 1, 2, 3, 4, 5]));
        for bad in [
            good.replace("BEGIN X", "BEGIN Y"),
            good.replace("END X", "END Y"),
            good.replace("-----END X-----\n", ""),
            good.replace("Comment: a\n\n", ""),
            good.replace("AwQF", "AwQ"),
            good.replace("AwQF", "Aw F"),
            good.replace("=abcd\n", "=abcd\nAAEC\n"),
            good.replace("=abcd\n", "=abcde\n"),
            good.replace('\n', "\r\n"),
            format!("before\n{good}"),
            format!("{good}after"),
            format!("{good}{good}"),
            String::new(),
        ] {
            assert_eq!(open(bad.as_bytes(), "X"), None, "{bad:?}");
        }
    }
}
