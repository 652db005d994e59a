//! The packets of SFTP, version 3 (draft-ietf-secsh-filexfer-02), as far as we speak it. Every length that the server
//! says is held against what has arrived.

use super::super::super::trouble::{Kind, Trouble};

pub const INIT: u8 = 1;
pub const VERSION: u8 = 2;
pub const OPEN: u8 = 3;
pub const CLOSE: u8 = 4;
pub const READ: u8 = 5;
pub const WRITE: u8 = 6;
pub const OPENDIR: u8 = 11;
pub const READDIR: u8 = 12;
pub const REMOVE: u8 = 13;
pub const MKDIR: u8 = 14;
pub const STAT: u8 = 17;
pub const RENAME: u8 = 18;
pub const STATUS: u8 = 101;
pub const HANDLE: u8 = 102;
pub const DATA: u8 = 103;
pub const NAME: u8 = 104;
pub const ATTRS: u8 = 105;
pub const EXTENDED: u8 = 200;
pub const EXTENDED_REPLY: u8 = 201;

/// Statuses.
pub const OK: u32 = 0;
pub const END: u32 = 1;
pub const NO_SUCH_FILE: u32 = 2;
pub const PERMISSION_DENIED: u32 = 3;
pub const FAILURE: u32 = 4;

/// Flags of `OPEN`.
pub const FOR_READING: u32 = 0x01;
/// Writing a new file over what is there.
pub const FOR_WRITING: u32 = 0x02 | 0x08 | 0x10;

/// The longest packet: OpenSSH's own bound.
pub const LONGEST: usize = 256 * 1024;
/// The longest name, path or handle.
const LONGEST_TEXT: usize = 4096;

const HAS_SIZE: u32 = 0x01;
const HAS_OWNER: u32 = 0x02;
const HAS_PERMISSIONS: u32 = 0x04;
const HAS_TIMES: u32 = 0x08;
const HAS_EXTENSIONS: u32 = 0x8000_0000;

/// The part of attributes that we use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Bytes.
    pub size: Option<u64>,
    /// Type and permissions.
    pub mode: Option<u32>,
}

impl Attributes {
    /// Whether they are those of a directory.
    pub fn is_directory(self) -> bool {
        self.mode.is_some_and(|mode| mode & 0o170_000 == 0o040_000)
    }
}

/// A packet to be sent.
#[derive(Debug)]
pub struct Request(Vec<u8>);

impl Request {
    /// A request of a kind; its length is filled in at the end.
    pub fn new(kind: u8, id: u32) -> Self {
        let mut bytes = vec![0; 4];
        bytes.push(kind);
        Self(bytes).number(id)
    }

    pub fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub fn long(mut self, number: u64) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub fn text(self, text: &[u8]) -> Self {
        // What we send is far below 4 GiB: handles, paths, and pieces of the window's size.
        let mut with = self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        with.0.extend_from_slice(text);
        with
    }

    pub fn bytes(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 4).unwrap_or(u32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// A packet that arrived, read from front to back.
#[derive(Debug)]
pub struct Reply {
    pub kind: u8,
    body: Vec<u8>,
    at: usize,
}

impl Reply {
    /// From what follows the length.
    pub fn new(packet: Vec<u8>) -> Result<Self, Trouble> {
        let kind = *packet.first().ok_or_else(nonsense)?;
        Ok(Self { kind, body: packet, at: 1 })
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Trouble> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.body.len()).ok_or_else(nonsense)?;
        let taken = &self.body[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub fn number(&mut self) -> Result<u32, Trouble> {
        let bytes = self.take(4)?;
        Ok(bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    pub fn long(&mut self) -> Result<u64, Trouble> {
        Ok(u64::from(self.number()?) << 32 | u64::from(self.number()?))
    }

    /// A name, a path or a handle.
    pub fn text(&mut self) -> Result<Vec<u8>, Trouble> {
        let length = self.number()? as usize;
        if length > LONGEST_TEXT {
            return Err(nonsense());
        }
        self.take(length).map(<[u8]>::to_vec)
    }

    /// Content of a file.
    pub fn data(&mut self) -> Result<&[u8], Trouble> {
        let length = self.number()? as usize;
        self.take(length)
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.body.len()
    }

    pub fn attributes(&mut self) -> Result<Attributes, Trouble> {
        let flags = self.number()?;
        let mut found = Attributes::default();
        if flags & HAS_SIZE != 0 {
            found.size = Some(self.long()?);
        }
        if flags & HAS_OWNER != 0 {
            self.long()?;
        }
        if flags & HAS_PERMISSIONS != 0 {
            found.mode = Some(self.number()?);
        }
        if flags & HAS_TIMES != 0 {
            self.long()?;
        }
        if flags & HAS_EXTENSIONS != 0 {
            // Each takes at least eight bytes of what has arrived, so a large number ends early.
            for _ in 0..self.number()? {
                self.text()?;
                self.text()?;
            }
        }
        Ok(found)
    }
}

/// The server does not speak SFTP as it should.
pub fn nonsense() -> Trouble {
    Trouble::new(Kind::Away, "the server's answer makes no sense")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_its_length_in_front() {
        let bytes = Request::new(OPENDIR, 7).text(b"ab").bytes();
        assert_eq!(bytes, [0, 0, 0, 11, OPENDIR, 0, 0, 0, 7, 0, 0, 0, 2, b'a', b'b']);
    }

    #[test]
    fn a_length_that_goes_beyond_the_packet_is_refused_before_anything_is_taken() {
        let mut reply = Reply::new(vec![NAME, 0xff, 0xff, 0xff, 0xff, 1]).unwrap();
        assert!(reply.text().is_err());
        let mut reply = Reply::new(vec![DATA, 0, 0, 0, 9, 1, 2]).unwrap();
        assert!(reply.data().is_err());
        let mut reply = Reply::new(vec![ATTRS, 0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]).unwrap();
        assert!(reply.attributes().is_err());
        assert!(Reply::new(Vec::new()).is_err());
    }

    #[test]
    fn attributes_that_we_do_not_use_are_passed_over() {
        let mut packet = vec![ATTRS, 0, 0, 0, 0x0f];
        packet.extend(5_u64.to_be_bytes());
        packet.extend([0; 8]);
        packet.extend(0o040_755_u32.to_be_bytes());
        packet.extend([0; 8]);
        let mut reply = Reply::new(packet).unwrap();
        let found = reply.attributes().unwrap();
        assert!(found.is_directory() && found.size == Some(5) && reply.is_at_end());
    }
}
