//! Chance that is the same in every run.

pub struct Dice(u64);

impl Dice {
    pub fn new(name: &str, number: u64) -> Self {
        let seed = name.bytes().fold(number, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below the limit.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }

    pub fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Any text: letters that some format has a rule for, more often than others.
    pub fn text(&mut self) -> String {
        const ODD: [&str; 56] = [
            " ", "  ", "\n", "\n\n", "\t", "\r\n", "'", "\"", "\\", "\\n", "|", ">", "&", "*", "!", "%", "@", "`", "{",
            "}", "[", "]", ",", ":", ": ", " #", "#", "?", "-", "- ", "---", "...", "=", "$", "${X}", "$$", "<<", "~",
            "\u{85}", "\u{2028}", "\u{feff}", "\u{7f}", "\u{1}", "\0", "é", "ß", "中", "😀", "\u{e000}", "\u{301}",
            "<", ">", "/", "0", "1", "ENC[",
        ];
        const WORDS: [&str; 16] = [
            "hunter2",
            "null",
            "true",
            "Yes",
            "on",
            "0x1F",
            "0o17",
            "017",
            "1e3",
            ".inf",
            "12:30:45",
            "2024-01-31",
            "1_000",
            "=",
            "a long text with words in it",
            "x",
        ];
        match self.below(10) {
            0 => String::new(),
            1..=3 => self.pick(&WORDS).to_owned(),
            4 => "long ".repeat(self.below(60)),
            5 => (0..1 + self.below(4)).map(|_| format!("line {}\n", self.below(9))).collect(),
            6 => format!("{}{}", self.pick(&ODD), self.pick(&WORDS)),
            7 => format!("{}{}", self.pick(&WORDS), self.pick(&ODD)),
            _ => (0..1 + self.below(6))
                .map(|_| if self.one_in(3) { self.pick(&WORDS) } else { self.pick(&ODD) })
                .collect(),
        }
    }

    /// The name of a key, some of which a rule has an eye on.
    pub fn key(&mut self) -> &'static str {
        self.pick(&[
            "a",
            "b",
            "c",
            "password",
            "PASSWORD",
            "api_secret",
            "name",
            "port",
            "a_clear",
            "x_unencrypted",
            "url",
            "list",
            "map",
            "note",
            "d",
            "e",
            "f",
            "g",
            "a.b",
            "a b",
            "ünï",
            "a-b",
            "k1",
            "k2",
            "k3",
            "k4",
            "k5",
            "k6",
            "k7",
            "k8",
        ])
    }
}
