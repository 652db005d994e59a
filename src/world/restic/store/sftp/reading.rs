//! How a part of a file is read in an SFTP session: in pieces, many of which are under way at the same time.

use std::collections::{BTreeMap, VecDeque};

use super::super::super::trouble::{Kind, Trouble};
use super::packet::{self, nonsense};
use super::session::{Refusal, Session, judge};

/// How many pieces may be under way: enough to fill a line with 12 ms of delay.
const READS: usize = 32;
/// What is asked for at most in a repository of ours: a pack, with a little more.
const LIKELY: u64 = 20 * 1024 * 1024;

impl Session {
    /// A part of a file, all of it.
    pub fn read(&mut self, path: &str, offset: u64, length: u64) -> Result<Vec<u8>, Refusal> {
        let request = self.request(packet::OPEN).text(path.as_bytes()).number(packet::FOR_READING).number(0);
        let handle = self.open_handle(path, request)?;
        let read = self.read_handle(&handle, path, offset, length);
        if let Err(Refusal::Broken(_)) = read {
            return read;
        }
        // What was read is what it is, however it is closed.
        let request = self.request(packet::CLOSE).text(&handle);
        self.ssh.send(&request.bytes())?;
        self.unheard.insert(self.next);
        read
    }

    fn read_handle(&mut self, handle: &[u8], path: &str, offset: u64, length: u64) -> Result<Vec<u8>, Refusal> {
        let mut bytes: Vec<u8> = Vec::with_capacity(index(length.min(LIKELY))?);
        // Pieces still to be asked for, by where they begin; a server may give less than was asked for.
        let mut wanted: VecDeque<(u64, u64)> = VecDeque::new();
        let mut next = 0;
        let mut under_way: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        let mut refusal = None;
        loop {
            while refusal.is_none() && under_way.len() < READS {
                let Some((at, size)) = wanted.pop_front().or_else(|| {
                    let size = self.read_piece.min(length - next);
                    (size > 0).then_some((next, size))
                }) else {
                    break;
                };
                next = next.max(at + size);
                let piece = u32::try_from(size).unwrap_or(u32::MAX);
                let request = self.request(packet::READ).text(handle).long(offset + at).number(piece);
                self.ssh.send(&request.bytes())?;
                under_way.insert(self.next, (at, size));
            }
            if under_way.is_empty() {
                break;
            }
            let (id, reply) = self.receive()?;
            let (at, size) = under_way.remove(&id).ok_or_else(nonsense)?;
            match judge(reply, path) {
                Ok(mut reply) if reply.kind == packet::DATA => {
                    let data = reply.data()?;
                    let (at_index, got) = (index(at)?, data.len() as u64);
                    if got == 0 || got > size {
                        return Err(nonsense().into());
                    }
                    // Beyond that it grows only by what has arrived, not by what was promised, but for holes of the window's size.
                    if bytes.len() < at_index + data.len() {
                        bytes.resize(at_index + data.len(), 0);
                    }
                    bytes[at_index..at_index + data.len()].copy_from_slice(data);
                    if got < size {
                        wanted.push_back((at + got, size - got));
                    }
                }
                Ok(_) => return Err(nonsense().into()),
                Err(Refusal::Status { status: packet::END, .. }) => {
                    let trouble = Trouble::new(Kind::Damaged, format!("{path} is cut off"));
                    refusal.get_or_insert(Refusal::File(trouble));
                }
                Err(refused) => _ = refusal.get_or_insert(refused),
            }
        }
        refusal.map_or(Ok(bytes), Err)
    }
}

fn index(at: u64) -> Result<usize, Trouble> {
    usize::try_from(at).map_err(|_| nonsense())
}
