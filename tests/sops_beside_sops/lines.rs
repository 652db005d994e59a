//! Random dotenv files and random bytes.

use crate::dice::Dice;

pub fn dotenv(dice: &mut Dice) -> Vec<u8> {
    let end = if dice.one_in(6) { "\r\n" } else { "\n" };
    let mut out = String::new();
    for index in 0..1 + dice.below(10) {
        let key = dice.key().replace([' ', '.'], "_").to_uppercase();
        let one_line = dice.text().replace(['\n', '\r'], " ");
        out += &match dice.below(12) {
            0 => format!("# {one_line}"),
            1 => format!("#{}", dice.pick(&["", " clear", "seal it", "A=b"])),
            2 => String::new(),
            3 => format!("{key}{index}=\"{one_line}\""),
            4 => format!("{key}{index}='{one_line}'"),
            5 => format!("{key}{index}={}\\n{}", one_line, dice.key()),
            6 => format!("export {key}{index}={one_line}"),
            7 => format!("{key}{index}= {one_line} "),
            8 => format!("{key}{index}="),
            9 => format!("{key}{index}={}", "x".repeat(dice.below(3000))),
            10 => format!("{key}{index}={}", dice.pick(&["8080", "true", "1.50", "null", "a=b=c", "x # y", "$HOME"])),
            _ => format!("{}={one_line}", dice.key()),
        };
        out += end;
    }
    if dice.one_in(4) {
        out.truncate(out.trim_end().len());
    }
    out.into_bytes()
}

pub fn binary(dice: &mut Dice) -> Vec<u8> {
    match dice.below(5) {
        0 => dice.text().into_bytes(),
        1 => format!("{{\"data\": \"{}\"}}", dice.key()).into_bytes(),
        2 => (0..dice.below(5000)).map(|_| dice.below(256) as u8).collect(),
        3 => vec![0; dice.below(40)],
        _ => [dice.text().as_bytes(), b"\0\xff\xfe\r\n", dice.text().as_bytes()].concat(),
    }
}
