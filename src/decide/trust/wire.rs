//! Reads the length-prefixed fields of SSH keys and signatures (RFC 4251, section 5), and shows foreign text safely.

/// How much of a foreign text a message repeats.
const SHOWN: usize = 80;

/// What is left to read of a binary structure.
pub(super) struct Wire<'a>(&'a [u8]);

/// The bytes ended before the structure did, or are not of its form.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Short;

impl<'a> Wire<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Short> {
        self.take(1)?.first().copied().ok_or(Short)
    }

    pub(super) fn number(&mut self) -> Result<u32, Short> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], Short> {
        let length = usize::try_from(self.number()?).map_err(|_| Short)?;
        self.take(length)
    }

    /// Eight bytes: a serial number, or a time.
    pub(super) fn long(&mut self) -> Result<u64, Short> {
        Ok(u64::from(self.number()?) << 32 | u64::from(self.number()?))
    }

    /// The magnitude of a number greater than zero, in the one form that RFC 4251 allows for it. Other forms of the
    /// same number would be other bytes under the same signature.
    pub(super) fn positive(&mut self) -> Result<&'a [u8], Short> {
        match self.string()? {
            [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => Ok(rest),
            number @ [first, ..] if (1..0x80).contains(first) => Ok(number),
            _ => Err(Short),
        }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Bytes after the end would be covered by no check at all, so everything must have been read.
    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// Appends a field the way [`Wire::string`] reads it.
pub(super) fn put_string(to: &mut Vec<u8>, field: &[u8]) {
    // Fields here are names and digests; no caller comes near 4 GiB.
    let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(field);
}

/// Foreign bytes for a message: no control characters, no escape sequences, not long.
pub(super) fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes.get(..SHOWN).unwrap_or(bytes));
    let mut shown: String = text.chars().flat_map(escaped).collect();
    if bytes.len() > SHOWN {
        shown.push_str("...");
    }
    shown
}

fn escaped(character: char) -> Box<dyn Iterator<Item = char>> {
    match character {
        // `escape_debug` would also escape quotes, which are harmless here and common in options.
        '"' | '\'' => Box::new(std::iter::once(character)),
        _ => Box::new(character.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_longer_than_what_is_left_is_short_not_a_panic() {
        assert_eq!(Wire::new(&[0, 0, 0, 2, 65]).string(), Err(Short));
        assert_eq!(Wire::new(&[0xff; 8]).string(), Err(Short));
        assert_eq!(Wire::new(&[0, 0, 0]).number(), Err(Short));
        let mut wire = Wire::new(&[0, 0, 0, 1, 65, 66]);
        assert_eq!(wire.string(), Ok(&b"A"[..]));
        assert!(!wire.is_at_end());
    }

    #[test]
    fn a_number_has_one_form() {
        for (bytes, expected) in [
            (&[0, 0, 0, 1, 1][..], Ok(&[1][..])),
            (&[0, 0, 0, 1, 0x7f], Ok(&[0x7f])),
            (&[0, 0, 0, 2, 0, 0x80], Ok(&[0x80])),
            // Zero in two forms, a zero too many, and a negative number.
            (&[0, 0, 0, 0], Err(Short)),
            (&[0, 0, 0, 1, 0], Err(Short)),
            (&[0, 0, 0, 2, 0, 0x7f], Err(Short)),
            (&[0, 0, 0, 1, 0x80], Err(Short)),
        ] {
            assert_eq!(Wire::new(bytes).positive(), expected, "{bytes:?}");
        }
        assert_eq!(Wire::new(&[0, 0, 0, 1, 0, 0, 0, 2]).long(), Ok(0x1_0000_0002));
        assert_eq!(Wire::new(&[]).byte(), Err(Short));
    }

    #[test]
    fn foreign_text_is_shown_without_escape_sequences_and_cut() {
        assert_eq!(shown(b"a\x1b[31m\n\"b\""), "a\\u{1b}[31m\\n\"b\"");
        assert_eq!(shown(&[b'x'; 200]), format!("{}...", "x".repeat(80)));
        assert_eq!(shown(&[b'x'; 80]), "x".repeat(80));
        assert_eq!(shown("\u{202e}".as_bytes()), "\\u{202e}");
    }
}
