//! Shows on a terminal how far long work is: one line that is written over.

use std::io::{IsTerminal, stderr};

use super::show;
use crate::world::restic::order;

/// The line. Nothing is shown where nobody looks.
#[derive(Debug)]
pub struct Progress {
    word: &'static str,
    is_seen: bool,
    is_shown: bool,
}

impl Progress {
    /// `word` says what was done to the bytes.
    pub fn new(word: &'static str) -> Self {
        Self { word, is_seen: stderr().is_terminal(), is_shown: false }
    }

    /// Shows how far it is.
    pub fn show(&mut self, stack: &str, at: order::Progress) {
        self.show_with(stack, at, "");
    }

    /// The same, with a remark behind it.
    pub fn show_with(&mut self, stack: &str, at: order::Progress, remark: &str) {
        if self.is_seen {
            let of = if at.total > 0 { format!(" of {}", show::size(at.total)) } else { String::new() };
            let (bytes, files) = (show::size(at.bytes), at.files);
            show::trouble(&format!("\r\x1b[K{stack}: {files} files, {bytes}{of} {}{remark}", self.word));
            self.is_shown = true;
        }
    }

    /// Takes the line away.
    pub fn end(&self) {
        if self.is_shown {
            show::trouble("\r\x1b[K");
        }
    }
}
