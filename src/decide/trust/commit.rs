//! Reads a raw commit object: what it names, when it was committed, its one signature and the exact bytes that cover.
//!
//! It accepts only what git itself writes. git's own check is laxer: it joins several `gpgsig` headers to one
//! signature and leaves every other header that begins so out of the signed bytes, which lets anybody make new
//! commits out of a signed one.

use super::tree::ObjectId;
use super::wire::shown;
use crate::model::Revision;

/// Far above any real message; a commit is read whole, and a path of thousands of them is held in memory.
const LARGEST: usize = 1024 * 1024;

const SIGNATURE: &[u8] = b"gpgsig";

/// A commit as parsed; its signature has not been looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The root of its files.
    pub tree: ObjectId,
    /// Its parents; the first one is where the branch was before.
    pub parents: Vec<Revision>,
    /// Seconds since 1970, by the committer's clock: a claim, not a fact.
    pub committed_at: i64,
    /// The signature and what it covers, if there is one.
    pub signed: Option<SignedPart>,
}

/// A signature inside a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedPart {
    /// The content of the header, as the signing program wrote it.
    pub signature: Vec<u8>,
    /// The commit's exact bytes without that header.
    pub payload: Vec<u8>,
}

/// What is wrong with a commit object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitFlaw {
    /// More than a commit can need.
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// Programs that end a text at a NUL would see another commit than the one that was signed.
    #[error("it contains a NUL byte")]
    Nul,
    /// No empty line after the headers.
    #[error("its headers have no end")]
    NoEnd,
    /// One of the four headers that every commit begins with.
    #[error("header `{0}` is missing, out of order or not in git's form")]
    Header(&'static str),
    /// A header that may stand only once, or only at the beginning.
    #[error("header `{0}` stands where it does not belong")]
    Misplaced(String),
    /// Something between the headers that is not one.
    #[error("line {0} is not a header")]
    NotAHeader(usize),
    /// git would join them to one signature.
    #[error("it has more than one signature header")]
    TwoSignatures,
    /// git would leave it out of the signed bytes.
    #[error("it has the header `{0}`, which no signature covers")]
    UnknownSignature(String),
}

impl Commit {
    /// Reads the bytes of a commit object.
    pub fn parse(bytes: &[u8]) -> Result<Self, CommitFlaw> {
        if bytes.len() > LARGEST {
            return Err(CommitFlaw::TooLarge);
        }
        if bytes.contains(&0) {
            return Err(CommitFlaw::Nul);
        }
        let mut lines = Lines { bytes, at: 0, number: 0 };
        let tree = lines.header("tree").and_then(ObjectId::from_hex).ok_or(CommitFlaw::Header("tree"))?;
        let mut parents = Vec::new();
        while let Some(parent) = lines.header("parent") {
            parents.push(revision(parent).ok_or(CommitFlaw::Header("parent"))?);
        }
        lines.header("author").and_then(time).ok_or(CommitFlaw::Header("author"))?;
        let committed_at = lines.header("committer").and_then(time).ok_or(CommitFlaw::Header("committer"))?;
        let signed = signed_part(bytes, lines)?;
        Ok(Self { tree, parents, committed_at, signed })
    }
}

/// Reads the headers after the committer, up to the empty line.
fn signed_part(bytes: &[u8], mut lines: Lines<'_>) -> Result<Option<SignedPart>, CommitFlaw> {
    let mut signed = None;
    loop {
        let start = lines.at;
        let line = lines.next().ok_or(CommitFlaw::NoEnd)?;
        if line.is_empty() {
            return Ok(signed);
        }
        let Some((name, first)) = split_header(line) else {
            return Err(CommitFlaw::NotAHeader(lines.number));
        };
        let mut value = first.to_vec();
        value.push(b'\n');
        while let Some(more) = lines.continuation() {
            value.extend_from_slice(more);
            value.push(b'\n');
        }
        if name == SIGNATURE {
            if signed.is_some() {
                return Err(CommitFlaw::TwoSignatures);
            }
            let (before, after) = (bytes.get(..start), bytes.get(lines.at..));
            let payload = [before.unwrap_or_default(), after.unwrap_or_default()].concat();
            signed = Some(SignedPart { signature: value, payload });
        } else if name.starts_with(SIGNATURE) {
            return Err(CommitFlaw::UnknownSignature(shown(name)));
        } else if matches!(name, b"tree" | b"parent" | b"author" | b"committer") {
            return Err(CommitFlaw::Misplaced(shown(name)));
        }
    }
}

/// The lines of a commit, with the position in its bytes.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    fn peek(&self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let end = rest.iter().position(|byte| *byte == b'\n')?;
        rest.get(..end)
    }

    /// The next line, if a line feed ends it.
    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.peek()?;
        self.at += line.len() + 1;
        self.number += 1;
        Some(line)
    }

    /// The value of the next line, if that line is this header.
    fn header(&mut self, name: &str) -> Option<&'a [u8]> {
        let value = self.peek()?.strip_prefix(name.as_bytes())?.strip_prefix(b" ")?;
        self.next();
        Some(value)
    }

    fn continuation(&mut self) -> Option<&'a [u8]> {
        let more = self.peek()?.strip_prefix(b" ")?;
        self.next();
        Some(more)
    }
}

/// A name of visible characters, one space, a value that may be empty.
fn split_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let (name, value) = (line.get(..space)?, line.get(space + 1..)?);
    (!name.is_empty() && name.iter().all(u8::is_ascii_graphic)).then_some((name, value))
}

fn revision(hex: &[u8]) -> Option<Revision> {
    std::str::from_utf8(hex).ok()?.parse().ok()
}

/// The time at the end of `Name <mail> 1760000000 +0200`.
fn time(person: &[u8]) -> Option<i64> {
    let mail = person.iter().rposition(|byte| *byte == b'>')?;
    if !person.get(..mail)?.contains(&b'<') {
        return None;
    }
    let rest = std::str::from_utf8(person.get(mail + 1..)?).ok()?;
    let (seconds, zone) = rest.strip_prefix(' ')?.split_once(' ')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let offset = zone.strip_prefix(['+', '-'])?;
    if !digits(seconds) || offset.len() != 4 || !digits(offset) {
        return None;
    }
    seconds.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\
        parent 9f2c1e07aa00bb11cc22dd33ee44ff5566778899\n\
        author A <a@example.org> 1760000000 +0200\n\
        committer C <c@example.org> 1760000001 -0930\n";

    fn parse(rest: &str) -> Result<Commit, CommitFlaw> {
        Commit::parse(format!("{HEAD}{rest}").as_bytes())
    }

    #[test]
    fn the_payload_is_everything_but_the_signature_header() {
        let commit =
            parse("encoding UTF-8\ngpgsig one\n two\n \n three\nmergetag object x\n gpgsig y\n\nmessage\ngpgsig z\n");
        let commit = commit.unwrap();
        let signed = commit.signed.unwrap();
        assert_eq!(signed.signature, b"one\ntwo\n\nthree\n");
        let payload = format!("{HEAD}encoding UTF-8\nmergetag object x\n gpgsig y\n\nmessage\ngpgsig z\n");
        assert_eq!(String::from_utf8(signed.payload).unwrap(), payload);
        assert_eq!(commit.committed_at, 1_760_000_001);
        assert_eq!(commit.parents.len(), 1);
    }

    #[test]
    fn an_unsigned_commit_is_not_malformed() {
        assert_eq!(parse("\nmessage").unwrap().signed, None);
        assert_eq!(parse("\n").unwrap().signed, None);
    }

    #[test]
    fn altered_headers_are_refused() {
        use CommitFlaw::*;
        for (rest, flaw) in [
            ("gpgsig a\ngpgsig b\n\n", TwoSignatures),
            ("gpgsig a\nencoding x\ngpgsig b\n\n", TwoSignatures),
            ("gpgsig a\ngpgsig-sha256 b\n\n", UnknownSignature("gpgsig-sha256".into())),
            ("gpgsigx b\n\n", UnknownSignature("gpgsigx".into())),
            ("gpgsig\n\n", NotAHeader(5)),
            (" continued\n\n", NotAHeader(5)),
            ("gpgsig a\n", NoEnd),
            ("", NoEnd),
            ("parent 9f2c1e07aa00bb11cc22dd33ee44ff5566778899\n\n", Misplaced("parent".into())),
            ("tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\n\n", Misplaced("tree".into())),
            ("author A <a@example.org> 1 +0000\n\n", Misplaced("author".into())),
            ("committer A <a@example.org> 1 +0000\n\n", Misplaced("committer".into())),
            ("\nmessage\0hidden", Nul),
        ] {
            assert_eq!(parse(rest), Err(flaw), "{rest:?}");
        }
    }

    #[test]
    fn the_four_first_headers_are_in_gits_form_or_refused() {
        let good = format!("{HEAD}\n");
        assert!(Commit::parse(good.as_bytes()).is_ok());
        for (from, to, header) in [
            ("tree 4b", "tree 4B", "tree"),
            ("tree 4b", "tree  4b", "tree"),
            ("parent 9f", "parent f", "parent"),
            ("author A", "authr A", "author"),
            ("1760000000", "-1760000000", "author"),
            ("<a@", "a@", "author"),
            ("1760000001", "99999999999999999999", "committer"),
            ("-0930", "-930", "committer"),
            ("-0930", "0930", "committer"),
            ("<c@example.org> ", "<c@example.org>", "committer"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            assert_eq!(Commit::parse(bad.as_bytes()), Err(CommitFlaw::Header(header)), "{from} -> {to}");
        }
    }

    #[test]
    fn a_commit_may_have_one_mebibyte() {
        let padded = |length: usize| parse(&format!("\n{}", "m".repeat(length - HEAD.len() - 1)));
        assert!(padded(1_048_576).is_ok());
        assert_eq!(padded(1_048_577), Err(CommitFlaw::TooLarge));
    }
}
