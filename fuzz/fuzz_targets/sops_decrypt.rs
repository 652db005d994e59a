//! No input of any format makes the SOPS decoder panic, and what opens can be printed.
//!
//! The first byte chooses the format, the rest is the file. Start from the vectors:
//! `cargo +nightly fuzz run sops_decrypt` with files of `tests/vectors/sops/generated`, each behind
//! one byte for its format.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use moorline::decide::sops::{self, Format, Identities};

const KEY: &str = include_str!("../../tests/vectors/sops/keys/host1.txt");

static HOST: LazyLock<Identities> = LazyLock::new(|| Identities::parse(KEY).expect("a valid key"));

fuzz_target!(|input: &[u8]| {
    let Some((choice, bytes)) = input.split_first() else {
        return;
    };
    let format = match choice % 4 {
        0 => Format::Yaml,
        1 => Format::Json,
        2 => Format::Dotenv,
        _ => Format::Binary,
    };
    let _ = sops::metadata(bytes, format);
    let _ = sops::keys_in_clear(bytes, format);
    let _ = sops::unsealed_places(bytes, format);
    if let Ok(document) = sops::decrypt(bytes, format, &HOST) {
        let _ = document.emit();
    }
});
