//! Reads JSON into the tree, as Go's token reader does.
//!
//! Keeps order, duplicate keys and the text of numbers, which a JSON library for programs would lose, and
//! which the MAC covers. Nesting is bounded before it is followed.

use super::document::Node;
use super::error::SopsError;
use super::go_text;
use super::limits::{Budget, check_depth};
use crate::model::Secret;

/// Reads one document and nothing behind it.
pub fn parse(text: &str) -> Result<Node, SopsError> {
    let mut reader = Reader { text, position: 0, budget: Budget::full() };
    reader.white_space();
    if reader.peek() != Some(b'{') {
        return Err(reader.malformed("expected a mapping"));
    }
    let node = reader.value(0)?;
    reader.white_space();
    match reader.peek() {
        None => Ok(node),
        Some(_) => Err(reader.malformed("expected the end of the document")),
    }
}

struct Reader<'a> {
    text: &'a str,
    position: usize,
    budget: Budget,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    fn eat(&mut self, wanted: u8) -> bool {
        let found = self.peek() == Some(wanted);
        self.position += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8, problem: &'static str) -> Result<(), SopsError> {
        match self.eat(wanted) {
            true => Ok(()),
            false => Err(self.malformed(problem)),
        }
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.position += 1;
        }
    }

    fn malformed(&self, problem: &'static str) -> SopsError {
        let read = &self.text.as_bytes()[..self.position.min(self.text.len())];
        SopsError::Malformed { format: "json", line: 1 + read.iter().filter(|byte| **byte == b'\n').count(), problem }
    }

    fn value(&mut self, depth: usize) -> Result<Node, SopsError> {
        check_depth(depth)?;
        self.budget.entry()?;
        self.white_space();
        match self.peek() {
            Some(b'{') => self.map(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Node::Str(Secret::new(self.string()?))),
            Some(b't') => self.word("true", Node::Bool(true)),
            Some(b'f') => self.word("false", Node::Bool(false)),
            Some(b'n') => self.word("null", Node::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err(self.malformed("expected a value")),
        }
    }

    fn word(&mut self, word: &str, node: Node) -> Result<Node, SopsError> {
        match self.text.as_bytes()[self.position..].starts_with(word.as_bytes()) {
            true => {
                self.position += word.len();
                Ok(node)
            }
            false => Err(self.malformed("expected a value")),
        }
    }

    fn map(&mut self, depth: usize) -> Result<Node, SopsError> {
        self.position += 1;
        let mut entries = Vec::new();
        self.white_space();
        if self.eat(b'}') {
            return Ok(Node::Map(entries));
        }
        loop {
            self.white_space();
            let key = self.string()?;
            self.white_space();
            self.expect(b':', "expected a colon behind a key")?;
            entries.push((key, self.value(depth + 1)?));
            self.white_space();
            if self.eat(b'}') {
                return Ok(Node::Map(entries));
            }
            self.expect(b',', "expected a comma or the end of the mapping")?;
        }
    }

    fn list(&mut self, depth: usize) -> Result<Node, SopsError> {
        self.position += 1;
        let mut items = Vec::new();
        self.white_space();
        if self.eat(b']') {
            return Ok(Node::List(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.white_space();
            if self.eat(b']') {
                return Ok(Node::List(items));
            }
            self.expect(b',', "expected a comma or the end of the list")?;
        }
    }

    /// A whole number keeps its text. Everything else is read as Go reads it, so that its text form is that
    /// which SOPS authenticated.
    fn number(&mut self) -> Result<Node, SopsError> {
        let start = self.position;
        self.eat(b'-');
        let leading_zero = self.peek() == Some(b'0');
        let whole = self.digits();
        if whole == 0 || (leading_zero && whole > 1) {
            return Err(self.malformed("expected a number"));
        }
        let mut is_whole = true;
        if self.eat(b'.') {
            is_whole = false;
            if self.digits() == 0 {
                return Err(self.malformed("expected digits behind the point"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            is_whole = false;
            self.position += 1;
            if !self.eat(b'+') {
                self.eat(b'-');
            }
            if self.digits() == 0 {
                return Err(self.malformed("expected digits in the exponent"));
            }
        }
        let text = &self.text[start..self.position];
        if is_whole && text != "-0" {
            return Ok(Node::Int(Secret::new(text.to_owned())));
        }
        let number = go_text::parse_float(text).ok_or_else(|| self.malformed("the number is too large"))?;
        Ok(Node::Float(Secret::new(go_text::float_plain(number))))
    }

    fn digits(&mut self) -> usize {
        let start = self.position;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.position += 1;
        }
        self.position - start
    }

    fn string(&mut self) -> Result<String, SopsError> {
        self.expect(b'"', "expected a text in double quotes")?;
        let mut out = String::new();
        loop {
            let plain = self.text.as_bytes()[self.position..]
                .iter()
                .take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f))
                .count();
            // The bytes that end a run are ASCII, so the run ends between two characters.
            out.push_str(&self.text[self.position..self.position + plain]);
            self.position += plain;
            if self.eat(b'"') {
                return Ok(out);
            }
            self.expect(b'\\', "expected the end of a text")?;
            out.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, SopsError> {
        let letter = self.peek();
        self.position += 1;
        Ok(match letter {
            Some(letter @ (b'"' | b'\\' | b'/')) => char::from(letter),
            Some(b'b') => '\x08',
            Some(b'f') => '\x0c',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.unit()?;
                self.surrogates(unit)?
            }
            _ => {
                self.position -= 1;
                return Err(self.malformed("expected an escape"));
            }
        })
    }

    /// Joins a pair of surrogates. A lone one becomes the replacement character, as in Go.
    fn surrogates(&mut self, unit: u32) -> Result<char, SopsError> {
        if (0xd800..0xdc00).contains(&unit) && self.text.as_bytes()[self.position..].starts_with(b"\\u") {
            let before = self.position;
            self.position += 2;
            let low = self.unit()?;
            if (0xdc00..0xe000).contains(&low) {
                let code = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            self.position = before;
        }
        Ok(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn unit(&mut self) -> Result<u32, SopsError> {
        let digits = self.text.as_bytes().get(self.position..self.position + 4);
        let valid = digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let unit = digits
            .filter(|_| valid)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.malformed("expected four hexadecimal digits"))?;
        self.position += 4;
        Ok(unit)
    }
}
