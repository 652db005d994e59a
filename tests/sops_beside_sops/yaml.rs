//! Random YAML, as text: every style of a scalar, comments at every place, flow, anchors, tags, several documents.

use crate::dice::Dice;

pub fn text(dice: &mut Dice) -> String {
    let mut out = String::new();
    if dice.one_in(20) {
        out.push('\u{feff}');
    }
    let documents = if dice.one_in(8) { 1 + dice.below(3) } else { 1 };
    // Comments are what differs most between libraries, so half of the files have none.
    let mut writer = Writer { comments: dice.one_in(2), anchors: 0, dice, out };
    for number in 0..documents {
        if number > 0 || writer.dice.one_in(6) {
            writer.out.push_str("---\n");
        }
        writer.anchors = 0;
        let before = writer.out.len();
        writer.map(0, 0, true);
        if writer.out.len() == before {
            writer.out.push_str("{}\n");
        }
    }
    let out = writer.out;
    match dice.one_in(12) {
        true => out.replace('\n', "\r\n"),
        false => out,
    }
}

struct Writer<'a> {
    comments: bool,
    anchors: usize,
    dice: &'a mut Dice,
    out: String,
}

impl Writer<'_> {
    fn map(&mut self, indent: usize, depth: usize, mut at_start: bool) {
        let mut seen = Vec::new();
        for _ in 0..1 + self.dice.below(if depth == 0 { 8 } else { 4 }) {
            let key = self.key();
            if seen.contains(&key) {
                continue;
            }
            if !at_start || depth == 0 {
                self.maybe_comment(indent);
                self.spaces(indent);
            }
            at_start = false;
            self.out.push_str(&key);
            seen.push(key);
            self.out.push(':');
            self.value(indent, depth);
        }
        if self.dice.one_in(6) {
            self.maybe_comment(indent);
        }
    }

    fn list(&mut self, indent: usize, depth: usize) {
        for _ in 0..1 + self.dice.below(4) {
            self.maybe_comment(indent);
            self.spaces(indent);
            self.out.push('-');
            match self.dice.below(8) {
                0 if depth < 5 => {
                    self.out.push(' ');
                    self.map(indent + 2, depth + 1, true);
                }
                1 if depth < 5 => {
                    self.out.push('\n');
                    self.list(indent + 2, depth + 1);
                }
                _ => self.value(indent, depth.max(4)),
            }
        }
        if self.dice.one_in(6) {
            self.maybe_comment(indent);
        }
    }

    /// What stands behind a key or a dash, and the end of the line.
    fn value(&mut self, indent: usize, depth: usize) {
        if depth < 4 && self.dice.one_in(4) {
            let anchor = self.anchor();
            self.out.push_str(&anchor);
            self.end_of_line();
            let deeper = indent + self.dice.pick(&[2, 2, 4]);
            match self.dice.one_in(2) {
                true => self.map(deeper, depth + 1, false),
                false => {
                    let at = if self.dice.one_in(3) { indent } else { deeper };
                    self.list(at, depth + 1);
                }
            }
            return;
        }
        self.out.push(' ');
        match self.dice.below(14) {
            0 => return self.block(indent),
            1 => self.flow(depth),
            2 if self.anchors > 0 => {
                let number = 1 + self.dice.below(self.anchors);
                self.out.push_str(&format!("*a{number}"));
            }
            3 => {
                let anchor = self.anchor();
                self.out.push_str(anchor.trim_start());
                self.out.push(' ');
                self.scalar();
            }
            _ => self.scalar(),
        }
        self.end_of_line();
    }

    fn anchor(&mut self) -> String {
        if !self.dice.one_in(8) {
            return String::new();
        }
        self.anchors += 1;
        format!(" &a{}", self.anchors)
    }

    fn scalar(&mut self) {
        const PLAIN: [&str; 76] = [
            "x",
            "a b c",
            "8080",
            "-7",
            "0",
            "00",
            "017",
            "0o17",
            "0x1F",
            "0X1f",
            "0b11",
            "1_000",
            "9223372036854775807",
            "-9223372036854775808",
            "99999999999999999999",
            "1.5",
            "1e3",
            "1E3",
            "1e-7",
            ".5",
            "5.",
            "1.10",
            "-0",
            "-0.0",
            "1e999",
            "1e21",
            "123456789.125",
            ".inf",
            "-.inf",
            "+.Inf",
            ".nan",
            ".NaN",
            "true",
            "True",
            "TRUE",
            "false",
            "yes",
            "No",
            "on",
            "off",
            "y",
            "n",
            "null",
            "Null",
            "~",
            "",
            "2024-01-31",
            "2024-01-31T10:20:30Z",
            "2024-01-31 10:20:30.5 +2",
            "2024-01-31T10:20:30.123456789+02:00",
            "2024-1-2",
            "12:30:45",
            "1:2",
            "a:b",
            "a#b",
            "-x",
            "?x",
            ":x",
            "a: b",
            "=",
            "<<",
            "!!str 5",
            "!!int 5",
            "!!int \"5\"",
            "!!float 5",
            "!!binary aGVsbG8=",
            "!!binary /wD/",
            "!own tagged",
            "!!null ''",
            "!!timestamp 2024-01-31",
            "postgres://u:p@h:5/d?x=y&z",
            "+5",
            "0.1e1",
            "08",
            "0_7",
            "1__0",
        ];
        let scalar = match self.dice.below(6) {
            0..=2 => self.dice.pick(&PLAIN).to_owned(),
            3 => format!("'{}'", self.one_line().replace('\'', "''")),
            _ => self.double(),
        };
        self.out.push_str(&scalar);
    }

    fn one_line(&mut self) -> String {
        let text = self.dice.text();
        text.chars()
            .filter(|letter| !letter.is_control() && !matches!(letter, '\u{85}' | '\u{2028}' | '\u{feff}'))
            .collect()
    }

    fn double(&mut self) -> String {
        let mut out = String::from("\"");
        for letter in self.dice.text().chars() {
            match letter {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                letter if letter.is_control() || matches!(letter, '\u{2028}' | '\u{feff}') => {
                    out.push_str(&format!("\\u{:04x}", u32::from(letter)));
                }
                letter => out.push(letter),
            }
        }
        out + "\""
    }

    /// A literal or folded block with its lines.
    fn block(&mut self, indent: usize) {
        let header = self.dice.pick(&["|", "|-", "|+", ">", ">-", ">+"]);
        self.out.push_str(header);
        self.end_of_line();
        let mut any = false;
        for _ in 0..1 + self.dice.below(5) {
            match any && self.dice.one_in(4) {
                true => self.out.push('\n'),
                false => {
                    let text = self.one_line();
                    let more = if any { self.dice.pick(&["", "", "", " ", "  "]) } else { "" };
                    let text = text.trim();
                    let text = if text.is_empty() { "x" } else { text };
                    self.spaces(indent + 2);
                    self.out.push_str(&format!("{more}{text}\n"));
                    any = true;
                }
            }
        }
    }

    fn flow(&mut self, depth: usize) {
        match self.dice.below(6) {
            0 => self.out.push_str("{}"),
            1 => self.out.push_str("[]"),
            2 => self.out.push_str("[ ]"),
            3 if depth < 6 => {
                self.out.push('{');
                for index in 0..1 + self.dice.below(3) {
                    let text = self.double();
                    self.out.push_str(&format!("{}f{index}: {text}", if index > 0 { ", " } else { " " }));
                }
                self.out.push('}');
            }
            _ => {
                self.out.push('[');
                for index in 0..1 + self.dice.below(3) {
                    self.out.push_str(if index > 0 { ", " } else { "" });
                    match self.dice.one_in(4) && depth < 6 {
                        true => self.flow(depth + 1),
                        false => {
                            let text = self.double();
                            self.out.push_str(&text);
                        }
                    }
                }
                self.out.push(']');
            }
        }
    }

    fn key(&mut self) -> String {
        match self.dice.below(12) {
            0 => self
                .dice
                .pick(&[
                    "\"123\"",
                    "'true'",
                    "'~'",
                    "'quoted key'",
                    "\"tab\\t\"",
                    "'2024-01-31'",
                    "''",
                    "yes",
                    "-a",
                    "a:b",
                    "\"multi\\nline\"",
                    "'it''s'",
                    "a#b",
                    "=",
                    "'1e3'",
                    "<x",
                ])
                .to_owned(),
            1 => self.double(),
            _ => self.dice.key().to_owned(),
        }
    }

    fn maybe_comment(&mut self, indent: usize) {
        if !self.comments || !self.dice.one_in(5) {
            return;
        }
        if self.dice.one_in(4) {
            self.out.push('\n');
        }
        for _ in 0..1 + self.dice.below(2) {
            self.spaces(indent);
            self.comment();
            self.out.push('\n');
        }
        if self.dice.one_in(6) {
            self.out.push('\n');
        }
    }

    fn end_of_line(&mut self) {
        if self.comments && self.dice.one_in(10) {
            self.out.push(' ');
            self.comment();
        }
        self.out.push('\n');
    }

    fn comment(&mut self) {
        let comment = self.dice.pick(&[
            "# note",
            "#",
            "#tight",
            "# clear",
            "# seal this",
            "## two",
            "# a: b",
            "# - x",
            "# ünï \"q\" 'r'",
            "#  spaces  ",
        ]);
        self.out.push_str(comment);
    }

    fn spaces(&mut self, count: usize) {
        self.out.extend(std::iter::repeat_n(' ', count));
    }
}
