//! No input of any format makes the SOPS decoder panic, or its reader of `.sops.yaml`, and what opens can be printed.
//!
//! The first byte chooses the format, the rest is the file. `make fuzz` starts from the vectors, each behind one byte for
//! its format. The decoder is compiled in here by its path, with the little that it needs of the rest of moorline.

#![no_main]
#![allow(dead_code, unused_imports, reason = "moorline uses more of the decoder than this")]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

#[path = "../../src/decide/sops/mod.rs"]
mod sops;

#[path = "../../src/model/secret.rs"]
mod secret;
#[path = "../../src/decide/yaml.rs"]
mod yaml;

mod model {
    pub use super::secret::Secret;
}

mod decide {
    pub(crate) use super::yaml;
}

use sops::{CreationRules, Format, Identities};

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
    if let Some(rules) = CreationRules::read(bytes) {
        let _ = rules.of("hosts/alpha/secrets.sops.yaml");
    }
    let _ = sops::metadata(bytes, format);
    let _ = sops::keys_in_clear(bytes, format);
    let _ = sops::unsealed_places(bytes, format);
    if let Ok(document) = sops::decrypt(bytes, format, &HOST) {
        let _ = document.emit();
    }
});
