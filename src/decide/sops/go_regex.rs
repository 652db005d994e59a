//! Go's regular expressions in the words of the `regex` crate.
//!
//! Both descend from RE2, but they differ where it matters for keys: Go's `\d \w \s \b` are ASCII, `\Q…\E`
//! quotes, octal escapes exist, a class has no set operators and no nested class, `{` is a letter where no
//! count follows, and a repetition cannot be repeated. Text to text; `None` where Go refuses.

use super::go_regex_atoms::{character, class_item, literal, perl_class, property};

/// The largest count Go accepts in `{…}`.
const MAX_COUNT: u32 = 1000;

/// Translates an expression.
pub fn translate(go: &str) -> Option<String> {
    let mut translation =
        Translation { rest: go, out: String::with_capacity(go.len() * 2), repeatable: Repeatable::Nothing };
    translation.run()?;
    Some(translation.out)
}

/// What a repetition would apply to.
#[derive(PartialEq, Eq)]
enum Repeatable {
    Nothing,
    Term,
    Repetition,
}

struct Translation<'a> {
    rest: &'a str,
    out: String,
    repeatable: Repeatable,
}

impl Translation<'_> {
    fn run(&mut self) -> Option<()> {
        while let Some(first) = self.rest.chars().next() {
            match first {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.open_group()?,
                ')' => self.put(1, ")", Repeatable::Term),
                '|' => self.put(1, "|", Repeatable::Nothing),
                '*' | '+' | '?' => self.repetition(1, &first.to_string())?,
                '{' => match count(self.rest) {
                    Some((length, range)) => self.repetition(length, &range?)?,
                    None => self.put(1, r"\{", Repeatable::Term),
                },
                '^' | '$' | '.' => self.put(1, &first.to_string(), Repeatable::Term),
                letter => {
                    let text = literal(letter);
                    self.put(letter.len_utf8(), &text, Repeatable::Term);
                }
            }
        }
        Some(())
    }

    fn put(&mut self, consumed: usize, text: &str, repeatable: Repeatable) {
        self.rest = &self.rest[consumed..];
        self.out.push_str(text);
        self.repeatable = repeatable;
    }

    /// `*`, `+`, `?` or a count, each with an optional lazy mark behind it.
    fn repetition(&mut self, length: usize, text: &str) -> Option<()> {
        if self.repeatable != Repeatable::Term {
            return None;
        }
        self.put(length, text, Repeatable::Repetition);
        if self.rest.starts_with('?') {
            self.put(1, "?", Repeatable::Repetition);
        }
        Some(())
    }

    fn escape(&mut self) -> Option<()> {
        let mut after = self.rest[1..].chars();
        match after.next()? {
            'Q' => {
                self.quoted();
                return Some(());
            }
            'E' => {
                // Go lets a stray end of quotation only stand behind its start.
                return None;
            }
            'A' => self.put(2, r"\A", Repeatable::Term),
            'z' => self.put(2, r"\z", Repeatable::Term),
            'b' => self.put(2, r"(?-u:\b)", Repeatable::Term),
            'B' => self.put(2, r"(?-u:\B)", Repeatable::Term),
            letter => {
                if let Some(set) = perl_class(letter) {
                    let negated = letter.is_ascii_uppercase();
                    let text = format!("[{}{set}]", if negated { "^" } else { "" });
                    self.put(2, &text, Repeatable::Term);
                } else if let Some((length, property)) = property(self.rest) {
                    self.put(length, &property?, Repeatable::Term);
                } else {
                    let (length, character) = character(&self.rest[1..])?;
                    self.put(1 + length, &literal(character), Repeatable::Term);
                }
            }
        }
        Some(())
    }

    /// `\Q…\E`, or to the end of the expression.
    fn quoted(&mut self) {
        let body = &self.rest[2..];
        let (text, consumed) = match body.find(r"\E") {
            Some(end) => (&body[..end], 2 + end + 2),
            None => (body, self.rest.len()),
        };
        let translated: String = text.chars().map(literal).collect();
        // A repetition behind a quotation applies to its last letter; behind an empty one to what stood before.
        let repeatable = match text.is_empty() {
            true => std::mem::replace(&mut self.repeatable, Repeatable::Nothing),
            false => Repeatable::Term,
        };
        self.put(consumed, &translated, repeatable);
    }

    fn open_group(&mut self) -> Option<()> {
        let Some(inner) = self.rest.strip_prefix("(?") else {
            self.put(1, "(", Repeatable::Nothing);
            return Some(());
        };
        let name_at = inner.strip_prefix("P<").or_else(|| inner.strip_prefix('<'));
        if let Some(name_at) = name_at {
            let (name, _) = name_at.split_once('>')?;
            let word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            if name.is_empty() || !name.chars().all(word) {
                return None;
            }
            let length = self.rest.len() - name_at.len() + name.len() + 1;
            // The name is of no use to us, and Rust forbids names that start with a digit.
            self.put(length, "(", Repeatable::Nothing);
            return Some(());
        }
        let end = inner.find([':', ')'])?;
        let flags = &inner[..end];
        if !valid_flags(flags) || (flags.is_empty() && inner.starts_with(')')) {
            return None;
        }
        let text = &self.rest[..2 + end + 1];
        self.out.push_str(text);
        self.rest = &self.rest[2 + end + 1..];
        self.repeatable = Repeatable::Nothing;
        Some(())
    }

    fn class(&mut self) -> Option<()> {
        let mut rest = &self.rest[1..];
        let mut out = String::from("[");
        if let Some(after) = rest.strip_prefix('^') {
            out.push('^');
            rest = after;
        }
        let mut first = true;
        loop {
            if rest.starts_with(']') && !first {
                break;
            }
            first = false;
            let (length, text) = class_item(rest)?;
            out.push_str(&text);
            rest = &rest[length..];
        }
        out.push(']');
        let consumed = self.rest.len() - rest.len() + 1;
        self.put(consumed, &out, Repeatable::Term);
        Some(())
    }
}

/// `i`, `m`, `s` and `U`, with at most one `-` that must be followed by a flag.
fn valid_flags(flags: &str) -> bool {
    let known = |part: &str| part.chars().all(|flag| "imsU".contains(flag));
    match flags.split_once('-') {
        Some((on, off)) => known(on) && known(off) && !off.is_empty(),
        None => known(flags),
    }
}

/// A count such as `{2}`, `{2,}` or `{2,5}`: its length, and its text if Go accepts the numbers.
fn count(text: &str) -> Option<(usize, Option<String>)> {
    let (body, _) = text[1..].split_once('}')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let padded = text.len() > 1 && text.starts_with('0');
        (digits && !padded).then(|| text.parse::<u32>().unwrap_or(u32::MAX))
    };
    let (least, most) = match body.split_once(',') {
        None => (number(body)?, Some(number(body)?)),
        Some((least, "")) => (number(least)?, None),
        Some((least, most)) => (number(least)?, Some(number(most)?)),
    };
    let accepted = least <= MAX_COUNT && most.is_none_or(|most| most <= MAX_COUNT && least <= most);
    Some((body.len() + 2, accepted.then(|| format!("{{{body}}}"))))
}

#[cfg(test)]
mod tests {
    use super::translate;

    fn matches(go: &str, text: &str) -> bool {
        translate(go)
            .and_then(|translated| regex::bytes::Regex::new(&translated).ok())
            .is_some_and(|regex| regex.is_match(text.as_bytes()))
    }

    #[test]
    fn classes_are_ascii_as_in_go() {
        assert!(matches(r"^k\d$", "k3"));
        assert!(!matches(r"^k\d$", "k٣"));
        assert!(!matches(r"^\w$", "é"));
        assert!(matches(r"^\W$", "é"));
        assert!(!matches(r"^\s$", "\u{b}"));
        assert!(matches(r"^[\d\pL-]+$", "4é-"));
        assert!(matches(r"a\b", "aé"));
    }

    #[test]
    fn quotations_escapes_and_braces_are_those_of_go() {
        assert!(matches(r"^\Qa.b\E$", "a.b"));
        assert!(!matches(r"^\Qa.b\E$", "axb"));
        assert!(matches(r"^\Qa.b", "a.bc"));
        assert!(matches(r"^a{,2}$", "a{,2}"));
        assert!(matches(r"^a{$", "a{"));
        assert!(matches(r"^a{2}$", "aa"));
        assert!(matches(r"^\101\x42\x{43}$", "ABC"));
        assert!(matches(r"\<a\>", "<a>"));
        assert!(matches(r"^[[a&&]+$", "[a&&"));
        assert!(matches(r"^[]a]+$", "]a"));
        assert!(matches(r"^[[:alpha:]-]+$", "ab-"));
        assert!(matches("^(?i)AbC$", "aBc"));
        assert!(matches("^(?P<1st>a)(?<b>b)$", "ab"));
    }

    #[test]
    fn what_go_refuses_matches_nothing() {
        for go in [
            "(",
            ")",
            "a**",
            "*a",
            "a{2}{3}",
            "a{1001}",
            "(?=a)",
            r"\1",
            r"\8",
            r"\Z",
            r"\u0061",
            "(?x)a",
            "[b-a]",
            "[a",
            r"\p{greek}",
            "(?<a",
            "a|*",
            r"\",
            "a{3,2}",
            "[[:foo:]]",
        ] {
            assert!(!matches(go, "a"), "{go}");
        }
    }
}
