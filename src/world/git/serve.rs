//! The process that reads objects for the keeper: it bounds itself, opens the object database, and answers questions
//! until its input ends.
//!
//! A pack that a hostile server or a hostile courier made can ask for any amount of memory and time: an object of
//! 100 bytes may be a delta against one of 2 GiB. That object's header says 100, so only a bounded process is a bound.

use std::io::{self, BufRead, Write};
use std::path::Path;

use git2::{ErrorClass, ObjectType, Odb, Oid};

use super::Question;
use crate::world::dialogue::bound;

/// Memory of the process, with the packs that are mapped into it.
const MEMORY: u64 = 512 * 1024 * 1024;
/// Processor seconds for all questions of one run.
const SECONDS: u64 = 20;

/// Answers questions from standard input about the repository's objects.
pub fn serve(repository: &Path) -> io::Result<()> {
    bound(MEMORY, SECONDS)?;
    let odb = open(repository);
    let (input, mut output) = (io::stdin().lock(), io::stdout().lock());
    for line in input.lines() {
        let line = line?;
        match (&odb, Question::parse(&line)) {
            (Ok(odb), Some(question)) => answer(odb, &question, &mut output)?,
            (Err(error), _) => say_error(error, &mut output)?,
            (_, None) => return Err(io::Error::other("this is no question")),
        }
        output.flush()?;
    }
    Ok(())
}

/// Neither the repository's configuration nor its refs are interpreted: only the objects are opened.
fn open(repository: &Path) -> Result<Odb<'static>, git2::Error> {
    let odb = Odb::new()?;
    odb.add_disk_alternate(&repository.join("objects").to_string_lossy())?;
    Ok(odb)
}

fn answer(odb: &Odb<'_>, question: &Question, output: &mut impl Write) -> io::Result<()> {
    let (oid, wanted, limit) = match question {
        Question::Size(id) => (id, None, usize::MAX),
        Question::Read { id, kind, limit } => (id, Some(*kind), *limit),
    };
    let oid = Oid::from_bytes(oid.as_bytes()).unwrap_or(Oid::ZERO_SHA1);
    // The header first: of a delta too, libgit2 reads only where it says how long the result is.
    let (size, found) = match odb.read_header(oid) {
        Ok(header) => header,
        Err(error) => return say_error(&error, output),
    };
    match wanted {
        None => writeln!(output, "size {size}"),
        Some(kind) if object_type(kind) != found => writeln!(output, "other {}", found.str()),
        Some(_) if size > limit => writeln!(output, "large {size}"),
        // libgit2 hashes what it reads, with collision detection, and refuses bytes that do not belong to their name.
        Some(_) => match odb.read(oid) {
            Ok(object) => {
                writeln!(output, "bytes {}", object.data().len())?;
                output.write_all(object.data())
            }
            Err(error) => say_error(&error, output),
        },
    }
}

fn object_type(kind: super::Kind) -> ObjectType {
    match kind {
        super::Kind::Commit => ObjectType::Commit,
        super::Kind::Tree => ObjectType::Tree,
        super::Kind::Blob => ObjectType::Blob,
    }
}

fn say_error(error: &git2::Error, output: &mut impl Write) -> io::Result<()> {
    let words: String = error.message().chars().filter(|character| !character.is_control()).take(300).collect();
    let is_memory = error.class() == ErrorClass::NoMemory || words.contains("annot allocate memory");
    writeln!(output, "{} {words}", if is_memory { "memory" } else { "damaged" })
}
