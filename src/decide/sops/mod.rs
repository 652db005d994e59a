//! Opens SOPS files: bytes, format and identities in, an authenticated document out.
//!
//! A pure function of its arguments: no file, no clock, no environment, no thread, no log, no global state.
//! It never prints a value, never accepts a document whose message authentication code is wrong, and never
//! writes a sealed file. What a hostile file may ask for is bounded, see
//! [`MAX_BYTES`], [`MAX_DEPTH`] and [`MAX_ENTRIES`].
//!
//! ```text
//! bytes --yaml | json | dotenv--> tree --metadata--> whom it is sealed for, by which rule
//!                                  |                  |
//!                                  |  identities --data_key (shamir)--> data key
//!                                  +------- open (rules, cipher, MAC) ------> Document --print_*--> sops -d
//! ```
//!
//! The format has limits that no reader can mend. Its MAC covers the sequence of values, but not their types,
//! not the names of unsealed keys, not nulls, comments, empty texts or empty collections, and not the
//! recipients; and whoever knows a recipient can write a complete valid file. The signature of the commit is
//! what says who wrote it.

mod bech32;
mod cipher;
mod creation;
mod data_key;
mod document;
mod dotenv;
mod error;
mod go_regex;
mod go_regex_atoms;
mod go_text;
mod identity;
mod json;
pub mod limits;
mod metadata;
mod open;
mod outline;
mod print_dotenv;
mod print_json;
mod print_yaml;
mod rules;
mod shamir;
mod ssh_key;
mod yaml;
mod yaml_comments;
mod yaml_scalar;
mod yaml_style;

pub use creation::{CreationRules, SealFor};
pub use data_key::DataKey;
pub use document::{Document, Node};
pub use error::SopsError;
pub use identity::{Identities, is_readable};
pub use limits::{MAX_BYTES, MAX_DEPTH, MAX_ENTRIES};
pub use metadata::Metadata;
pub use outline::Outline;

use metadata::bad;

/// The formats a SOPS file can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// YAML, of one or several documents.
    Yaml,
    /// JSON.
    Json,
    /// Lines of `KEY=value`.
    Dotenv,
    /// Any bytes; the sealed file is JSON with one value `data`.
    Binary,
}

impl Format {
    /// The format that the name of a file tells, by the rules of SOPS: anything unknown is binary there, but
    /// must end in `.bin`, `.binary` or `.sops` here so that a misspelled ending is noticed.
    pub fn of_path(path: &str) -> Result<Self, SopsError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let ending = name.rsplit('.').next().unwrap_or_default();
        match ending.to_ascii_lowercase().as_str() {
            "yaml" | "yml" => Ok(Format::Yaml),
            "json" => Ok(Format::Json),
            "env" => Ok(Format::Dotenv),
            "bin" | "binary" | "sops" => Ok(Format::Binary),
            "ini" => Err(SopsError::IniRefused),
            _ => Err(SopsError::UnknownFormat { path: path.to_owned() }),
        }
    }

    /// The format by its name in a command, as `sops --input-type` takes it.
    pub fn of_name(name: &str) -> Result<Self, SopsError> {
        match name {
            "yaml" => Ok(Format::Yaml),
            "json" => Ok(Format::Json),
            "dotenv" => Ok(Format::Dotenv),
            "binary" => Ok(Format::Binary),
            "ini" => Err(SopsError::IniRefused),
            _ => Err(SopsError::UnknownFormat { path: name.to_owned() }),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Format::Yaml => "yaml",
            Format::Json => "json",
            Format::Dotenv => "dotenv",
            Format::Binary => "json",
        }
    }
}

/// Opens a file with the identities of this host.
pub fn decrypt(bytes: &[u8], format: Format, identities: &Identities) -> Result<Document, SopsError> {
    let sealed = SealedFile::read(bytes, format)?;
    let key = DataKey::unseal(&sealed.metadata, identities)?;
    sealed.open(key)
}

/// The data key of a file alone. Together with [`decrypt_with`] the same as [`decrypt`].
pub fn data_key(bytes: &[u8], format: Format, identities: &Identities) -> Result<DataKey, SopsError> {
    let sealed = SealedFile::read(bytes, format)?;
    DataKey::unseal(&sealed.metadata, identities)
}

/// Opens a file with its data key.
pub fn decrypt_with(bytes: &[u8], format: Format, key: &DataKey) -> Result<Document, SopsError> {
    let key = DataKey { bytes: key.bytes.clone(), opened_by: key.opened_by.clone() };
    SealedFile::read(bytes, format)?.open(key)
}

/// What a file says about itself; needs no key.
pub fn metadata(bytes: &[u8], format: Format) -> Result<Metadata, SopsError> {
    SealedFile::read(bytes, format).map(|sealed| sealed.metadata)
}

/// The names of the keys of a file without the values; needs no key. One outline per document.
pub fn keys_in_clear(bytes: &[u8], format: Format) -> Result<Vec<Outline>, SopsError> {
    let sealed = SealedFile::read(bytes, format)?;
    Ok(sealed.documents.iter().map(Outline::of).collect())
}

/// Places that stand in plaintext though the rule of the file wants them sealed; needs no key.
pub fn unsealed_places(bytes: &[u8], format: Format) -> Result<Vec<String>, SopsError> {
    let sealed = SealedFile::read(bytes, format)?;
    Ok(outline::unsealed_places(&sealed.documents, &sealed.metadata.rule))
}

/// The places of empty values: `sops` seals none of them.
pub fn empty_places(bytes: &[u8], format: Format) -> Result<Vec<String>, SopsError> {
    SealedFile::read(bytes, format).map(|sealed| outline::empty_places(&sealed.documents))
}

/// A file taken apart: its tree without the metadata, and the metadata.
struct SealedFile {
    format: Format,
    documents: Vec<Node>,
    metadata: Metadata,
}

impl SealedFile {
    fn read(bytes: &[u8], format: Format) -> Result<Self, SopsError> {
        limits::check_size(bytes)?;
        let mut documents = match format {
            Format::Yaml => yaml::parse(text(bytes, format)?)?,
            Format::Json => vec![json::parse(text(bytes, format)?)?],
            // What is sealed as binary is JSON; anything else has never been sealed.
            Format::Binary => vec![text(bytes, format).and_then(json::parse).map_err(|error| match error {
                SopsError::Malformed { .. } => SopsError::NotSealed,
                other => other,
            })?],
            Format::Dotenv => vec![dotenv::parse(bytes)?],
        };
        // Every document of a YAML file repeats the metadata; SOPS reads that of the first one.
        let mut metadata = None;
        for (index, document) in documents.iter_mut().enumerate() {
            let found = take_metadata(document)?;
            if index == 0 {
                metadata = found;
            }
        }
        let metadata = Metadata::read(&metadata.ok_or(SopsError::NotSealed)?)?;
        Ok(Self { format, documents, metadata })
    }

    fn open(self, key: DataKey) -> Result<Document, SopsError> {
        let mut documents = open::open(&self.documents, &self.metadata, &key.bytes)?;
        match self.format {
            Format::Binary => documents = vec![binary_content(&documents)?],
            Format::Json => documents.iter_mut().for_each(restore_whole_numbers),
            Format::Yaml | Format::Dotenv => {}
        }
        Ok(Document { format: self.format, documents, opened_by: key.opened_by })
    }
}

/// The bytes as text, without a byte order mark.
fn text(bytes: &[u8], format: Format) -> Result<&str, SopsError> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        SopsError::Malformed {
            format: format.name(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            problem: "the text is not valid utf-8",
        }
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

fn take_metadata(document: &mut Node) -> Result<Option<Node>, SopsError> {
    let Node::Map(entries) = document else {
        return Ok(None);
    };
    let Some(index) = entries.iter().position(|(key, _)| key == "sops") else {
        return Ok(None);
    };
    let (_, sops) = entries.remove(index);
    if entries.iter().any(|(key, _)| key == "sops") {
        return Err(bad("sops", "stands twice"));
    }
    Ok(Some(sops))
}

/// Before 3.13.2, SOPS read every number of a JSON file as a float and sealed it as such. One whose text has
/// neither point nor exponent is the whole number that it was.
fn restore_whole_numbers(node: &mut Node) {
    match node {
        Node::Map(entries) => entries.iter_mut().for_each(|(_, value)| restore_whole_numbers(value)),
        Node::List(items) => items.iter_mut().for_each(restore_whole_numbers),
        Node::Float(text) if is_whole(text.expose()) => *node = Node::Int(text.clone()),
        _ => {}
    }
}

/// Beyond 21 digits JSON prints an exponent, and minus zero is no whole number.
fn is_whole(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits.len() <= 21 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain && text != "-0" && !digits.is_empty()
}

fn binary_content(documents: &[Node]) -> Result<Node, SopsError> {
    let content = documents.first().and_then(|root| root.get("data"));
    match content {
        Some(content @ (Node::Str(_) | Node::Bytes(_))) => Ok(content.clone()),
        _ => Err(SopsError::BadValue {
            path: String::from("data"),
            problem: "is missing, or is not the content of a binary file",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_tells_its_format_and_ini_is_refused_by_name() {
        assert_eq!(Format::of_path("hosts/a/secrets.sops.yaml"), Ok(Format::Yaml));
        assert_eq!(Format::of_path("a/.env"), Ok(Format::Dotenv));
        assert_eq!(Format::of_path("a/b.JSON"), Ok(Format::Json));
        assert_eq!(Format::of_path("a/key.pem.sops"), Ok(Format::Binary));
        assert_eq!(Format::of_path("a/b.ini"), Err(SopsError::IniRefused));
        assert!(Format::of_path("a/b.toml").is_err());
        assert!(SopsError::IniRefused.to_string().starts_with("ini files"));
    }
}
