//! Reads packs ahead. rustic asks for one piece of data at a time, and a server answers each question after a round trip:
//! 40,000 small files would take as many.

use std::sync::Mutex;

use bytes::Bytes;
use rustic_core::Id;

use super::store::{Part, Store};
use super::trouble::{Kind, Trouble};

/// How much is read ahead when a pack is gone through from front to back: a little at first, then four times as much each
/// time, in bytes. So whoever jumps about reads hardly more than was asked for.
const FIRST: u32 = 256 * 1024;
const MOST: u32 = 8 * 1024 * 1024;
const GROWTH: u32 = 4;
/// How many packs are gone through by turns: content and directories, and two that restic filled at the same time.
const STREAMS: usize = 4;

/// What was read of the packs that were asked for last.
#[derive(Debug, Default)]
pub struct Ahead {
    /// The one that was used last is last.
    streams: Mutex<Vec<Stream>>,
}

/// A pack that is gone through.
#[derive(Debug)]
struct Stream {
    pack: Id,
    /// How long the pack is; asked for when it is first read ahead.
    size: Option<u64>,
    /// Where `bytes` stand in it.
    begin: u64,
    bytes: Bytes,
    window: u32,
}

impl Ahead {
    /// A part of a pack, which lies at this path of the store.
    pub fn read(&self, store: &dyn Store, pack: &Id, path: &str, part: Part) -> Result<Bytes, Trouble> {
        let mut streams = self.streams.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut stream = match streams.iter().position(|stream| stream.pack == *pack) {
            Some(at) => streams.remove(at),
            None => Stream { pack: *pack, size: None, begin: part.offset, bytes: Bytes::new(), window: 0 },
        };
        let found = match stream.find(part) {
            Some(found) => found,
            None => stream.fill(store, path, part)?,
        };
        if streams.len() == STREAMS {
            streams.remove(0);
        }
        streams.push(stream);
        Ok(found)
    }
}

impl Stream {
    fn end(&self) -> u64 {
        self.begin + self.bytes.len() as u64
    }

    fn find(&self, part: Part) -> Option<Bytes> {
        let begin = usize::try_from(part.offset.checked_sub(self.begin)?).ok()?;
        let end = begin.checked_add(part.length as usize)?;
        (part.length > 0 && end <= self.bytes.len()).then(|| self.bytes.slice(begin..end))
    }

    fn fill(&mut self, store: &dyn Store, path: &str, part: Part) -> Result<Bytes, Trouble> {
        // What lies between two pieces belongs to files that are not wanted.
        let is_next = (self.begin..=self.end() + u64::from(self.window)).contains(&part.offset);
        self.window = match is_next && !self.bytes.is_empty() {
            true => self.window.saturating_mul(GROWTH).clamp(FIRST, MOST),
            false => 0,
        };
        if self.window > 0 && self.size.is_none() {
            self.size = store.size(path)?;
        }
        let left = self.size.unwrap_or_default().saturating_sub(part.offset);
        let length = u32::try_from(left).unwrap_or(u32::MAX).min(self.window).max(part.length);
        self.bytes = match store.read(path, Some(Part { length, ..part })) {
            // What follows is damaged; what was asked for may be whole.
            Err(trouble) if length > part.length && trouble.kind != Kind::Away => store.read(path, Some(part))?,
            read => read?,
        };
        self.begin = part.offset;
        Ok(self.bytes.slice(..part.length as usize))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::super::store::Entry;
    use super::*;

    /// One pack, whose end cannot be read; and what was asked.
    #[derive(Debug)]
    pub struct Pack {
        pub bytes: Vec<u8>,
        pub readable: u64,
        pub asked: Mutex<Vec<Part>>,
        /// What it says where it cannot be read.
        pub otherwise: Kind,
    }

    impl Pack {
        pub fn new(size: usize) -> Self {
            let bytes: Vec<u8> = (0..size).map(|at| (at / 7 % 251) as u8).collect();
            Self { readable: bytes.len() as u64, bytes, asked: Mutex::default(), otherwise: Kind::Damaged }
        }

        /// Reads pieces of this length, each this far from the one before; how many questions and bytes that took.
        fn asked(&self, ahead: &Ahead, offsets: impl Iterator<Item = u64>, length: u32) -> (usize, u64) {
            for offset in offsets {
                let read = ahead.read(self, &Id::default(), "data/00/pack", Part { offset, length }).unwrap();
                let at = usize::try_from(offset).unwrap();
                assert_eq!(read, self.bytes[at..at + length as usize], "{offset}");
            }
            let asked = self.asked.lock().unwrap();
            (asked.len(), asked.iter().map(|part| u64::from(part.length)).sum())
        }
    }

    impl Store for Pack {
        fn name(&self) -> String {
            "a pack".to_owned()
        }

        fn list(&self, _: &[String]) -> Result<Vec<Entry>, Trouble> {
            Ok(Vec::new())
        }

        fn size(&self, _: &str) -> Result<Option<u64>, Trouble> {
            Ok(Some(self.bytes.len() as u64))
        }

        fn read(&self, _: &str, part: Option<Part>) -> Result<Bytes, Trouble> {
            let part = part.unwrap();
            let end = part.offset + u64::from(part.length);
            if end > self.readable {
                return Err(Trouble::new(self.otherwise, "it is cut off"));
            }
            self.asked.lock().unwrap().push(part);
            Ok(self.bytes[usize::try_from(part.offset).unwrap()..usize::try_from(end).unwrap()].to_vec().into())
        }

        fn write(&self, _: &str, _: &[Bytes]) -> Result<(), Trouble> {
            Ok(())
        }

        fn remove(&self, _: &str) -> Result<(), Trouble> {
            Ok(())
        }

        fn make_directories(&self, _: &[String]) -> Result<(), Trouble> {
            Ok(())
        }

        fn free(&self) -> Result<Option<u64>, Trouble> {
            Ok(None)
        }
    }

    #[test]
    fn a_pack_that_is_gone_through_takes_few_questions() {
        let pack = Pack::new(3_000_000);
        let (questions, bytes) = pack.asked(&Ahead::default(), (0..30_000).map(|number| number * 100), 100);
        assert!(questions <= 4 && bytes < 3_001_000, "{questions} questions, {bytes} bytes");
    }

    #[test]
    fn whoever_jumps_about_reads_what_was_asked_for() {
        let pack = Pack::new(3_000_000);
        let offsets = [2_000_000, 1_000_000, 2_500_000, 500_000, 1_500_000, 0];
        assert_eq!(pack.asked(&Ahead::default(), offsets.into_iter(), 100), (6, 600));
    }

    #[test]
    fn what_stands_before_the_damage_is_read() {
        let pack = Pack { readable: 10_000, ..Pack::new(400_000) };
        let ahead = Ahead::default();
        pack.asked(&ahead, (0..100).map(|number| number * 100), 100);
        assert!(ahead.read(&pack, &Id::default(), "data/00/pack", Part { offset: 10_000, length: 100 }).is_err());
    }
}
