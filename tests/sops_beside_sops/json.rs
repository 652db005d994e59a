//! Random JSON, as text: with white space, escapes and numbers as people and programs write them.

use crate::dice::Dice;

pub fn text(dice: &mut Dice) -> String {
    let mut out = String::new();
    if dice.one_in(20) {
        out.push('\u{feff}');
    }
    map(dice, 0, &mut out);
    if dice.one_in(2) {
        out.push('\n');
    }
    out
}

fn map(dice: &mut Dice, depth: usize, out: &mut String) {
    out.push('{');
    let count = dice.below(6) + usize::from(depth == 0);
    for index in 0..count {
        if index > 0 {
            out.push(',');
        }
        space(dice, out);
        match dice.one_in(6) {
            true => string(&dice.text(), dice, out),
            false => string(dice.key(), dice, out),
        }
        out.push(':');
        space(dice, out);
        value(dice, depth + 1, out);
    }
    space(dice, out);
    out.push('}');
}

fn value(dice: &mut Dice, depth: usize, out: &mut String) {
    match dice.below(if depth > 4 { 8 } else { 12 }) {
        0..=2 => string(&dice.text(), dice, out),
        3 => out.push_str(dice.pick(&["true", "false", "null"])),
        4..=5 => {
            out.push_str(dice.pick(&[
                "0",
                "-1",
                "8080",
                "9223372036854775807",
                "-9223372036854775808",
                "123456789012",
            ]));
        }
        6 => out.push_str(dice.pick(&[
            "18446744073709551615",
            "9007199254740993",
            "1.5",
            "-0",
            "0.0",
            "1e3",
            "1E-7",
            "1e21",
            "123456789.125",
            "2.50",
            "1.0",
            "-0.0",
            "1e20",
            "100000000000000000000000",
            "5e-324",
            "0.1e1",
        ])),
        7 => out.push_str(dice.pick(&["{}", "[]", "\"\"", "{ }", "[ ]"])),
        8..=9 => map(dice, depth, out),
        _ => {
            out.push('[');
            for index in 0..dice.below(4) {
                if index > 0 {
                    out.push(',');
                }
                space(dice, out);
                value(dice, depth + 1, out);
            }
            out.push(']');
        }
    }
}

fn space(dice: &mut Dice, out: &mut String) {
    out.push_str(dice.pick(&["", " ", "\n", "\t", "\r\n", "\n    "]));
}

fn string(text: &str, dice: &mut Dice, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '/' if dice.one_in(2) => out.push_str("\\/"),
            letter if letter < ' ' || dice.one_in(20) => {
                let mut units = [0; 2];
                letter.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
            }
            letter => out.push(letter),
        }
    }
    if dice.one_in(30) {
        out.push_str("\\ud800");
    }
    out.push('"');
}
