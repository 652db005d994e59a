//! What an attacker makes who knows git's formats: packs that no git would write, and servers that no git would be.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::run::Run as _;

/// The commit that a hostile server has as its branch. It need not exist.
pub const TIP: &str = "4040404040404040404040404040404040404040";

const MIB16: usize = 0x00ff_ffff;

/// An object in a pack.
pub enum Packed {
    /// A commit, as it is.
    Commit(Vec<u8>),
    /// A delta against the object before it in the pack.
    OnPrevious(Vec<u8>),
    /// A delta against an object by its name.
    OnNamed([u8; 20], Vec<u8>),
}

/// Four objects in 13 KB: the third has 2 GiB, and the fourth is 100 bytes of it.
pub fn delta_bomb() -> Vec<Packed> {
    let mut sixteen = vec![];
    for _ in 0..4096 {
        sixteen.extend([0xa0, 0x10]); // 4096 bytes from the start
    }
    let mut two_gigabytes = vec![];
    for _ in 0..128 {
        two_gigabytes.extend([0xf0, 0xff, 0xff, 0xff]);
    }
    vec![
        Packed::Commit(vec![b'x'; 4096]),
        Packed::OnPrevious(delta(4096, 4096 * 4096, &sixteen)),
        Packed::OnPrevious(delta(4096 * 4096, 128 * MIB16, &two_gigabytes)),
        Packed::OnPrevious(delta(128 * MIB16, 100, &[0x90, 100])),
    ]
}

/// Two objects, each a delta against the other.
pub fn delta_circle() -> Vec<Packed> {
    vec![
        Packed::OnNamed([0x20; 20], delta(100, 100, &[0x90, 100])),
        Packed::OnNamed([0x10; 20], delta(100, 100, &[0x90, 100])),
    ]
}

fn delta(base: usize, result: usize, instructions: &[u8]) -> Vec<u8> {
    let mut bytes = varint(base);
    bytes.extend(varint(result));
    bytes.extend(instructions);
    bytes
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = vec![];
    loop {
        let low = (number & 0x7f) as u8;
        number >>= 7;
        bytes.push(if number == 0 { low } else { low | 0x80 });
        if number == 0 {
            return bytes;
        }
    }
}

/// The bytes of a pack with these objects, and where each of them begins.
pub fn pack(objects: &[Packed]) -> (Vec<u8>, Vec<u32>) {
    let mut bytes = b"PACK\0\0\0\x02".to_vec();
    bytes.extend((objects.len() as u32).to_be_bytes());
    let mut offsets: Vec<u32> = vec![];
    for object in objects {
        let here = bytes.len() as u32;
        let (kind, content) = match object {
            Packed::Commit(content) => (1, content),
            Packed::OnPrevious(content) => (6, content),
            Packed::OnNamed(_, content) => (7, content),
        };
        let mut size = content.len() >> 4;
        bytes.push((kind << 4) | (content.len() & 15) as u8 | if size > 0 { 0x80 } else { 0 });
        while size > 0 {
            bytes.push((size & 0x7f) as u8 | if size > 0x7f { 0x80 } else { 0 });
            size >>= 7;
        }
        match object {
            Packed::Commit(_) => {}
            Packed::OnPrevious(_) => bytes.extend(back(here - offsets.last().expect("there is one before"))),
            Packed::OnNamed(base, _) => bytes.extend(base),
        }
        bytes.extend(zlib(content));
        offsets.push(here);
    }
    bytes.extend(sha1(&bytes));
    (bytes, offsets)
}

/// How far back the base of a delta is.
fn back(mut distance: u32) -> Vec<u8> {
    let mut bytes = vec![(distance & 0x7f) as u8];
    distance >>= 7;
    while distance > 0 {
        distance -= 1;
        bytes.insert(0, 0x80 | (distance & 0x7f) as u8);
        distance >>= 7;
    }
    bytes
}

/// zlib's format, without compressing anything.
fn zlib(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x78, 0x01];
    let pieces = content.chunks(0xffff).count();
    for (index, piece) in content.chunks(0xffff).enumerate() {
        bytes.push(u8::from(index + 1 == pieces));
        bytes.extend((piece.len() as u16).to_le_bytes());
        bytes.extend((!(piece.len() as u16)).to_le_bytes());
        bytes.extend(piece);
    }
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in content {
        a = (a + u32::from(*byte)) % 65_521;
        b = (b + a) % 65_521;
    }
    bytes.extend(((b << 16) | a).to_be_bytes());
    bytes
}

pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    let printed = Command::new("sha1sum").run_with(bytes).succeeds();
    let mut id = [0; 20];
    hex::decode_to_slice(&printed[..40], &mut id).expect("sha1sum prints it first");
    id
}

/// Puts a pack into a bare repository, as a courier that was taken over can: the objects are called `1010...`,
/// `2020...` and so on, whatever they are.
pub fn plant(repository: &Path, objects: &[Packed]) {
    let (pack, offsets) = pack(objects);
    let trailer = &pack[pack.len() - 20..];
    let mut index = b"\xfftOc\0\0\0\x02".to_vec();
    for first in 0..=255_usize {
        index.extend((offsets.len().min(first >> 4) as u32).to_be_bytes());
    }
    for number in 1..=offsets.len() {
        index.extend([(number << 4) as u8; 20]);
    }
    index.extend(vec![0; 4 * offsets.len()]);
    index.extend(offsets.iter().flat_map(|offset| offset.to_be_bytes()));
    index.extend(trailer);
    index.extend(sha1(&index));
    let name = repository.join("objects/pack").join(format!("pack-{}", hex::encode(trailer)));
    std::fs::write(name.with_extension("pack"), &pack).expect("the repository is ours");
    std::fs::write(name.with_extension("idx"), index).expect("the repository is ours");
}

/// One line of git's protocol.
pub fn packet(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [format!("{:04x}", content.len() + 4).as_bytes(), content].concat()
}

/// A piece of a pack on its band.
pub fn band(number: u8, content: &[u8]) -> Vec<u8> {
    packet([&[number], content].concat())
}

/// A server that speaks git's protocol until it is asked for objects.
pub struct HostileServer {
    address: SocketAddr,
    ending: Arc<AtomicBool>,
}

impl HostileServer {
    /// `refs` writes the answer to the question for refs, `objects` what comes after `packfile`.
    pub fn start(
        refs: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
        objects: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let ending = Arc::new(AtomicBool::new(false));
        let (is_ending, refs, objects) = (ending.clone(), Arc::new(refs), Arc::new(objects));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if is_ending.load(Ordering::SeqCst) {
                    return;
                }
                let (refs, objects) = (refs.clone(), objects.clone());
                // A client that hangs up is what we want to see.
                std::thread::spawn(move || converse(stream, &*refs, &*objects).ok());
            }
        });
        Self { address, ending }
    }

    /// The refs of a server with one branch.
    pub fn one_branch(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(&[packet(format!("{TIP} refs/heads/main\n")), b"0000".to_vec()].concat())
    }

    pub fn url(&self) -> String {
        format!("http://{}/fleet.git", self.address)
    }
}

impl Drop for HostileServer {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
    }
}

fn converse(
    mut stream: TcpStream,
    refs: &dyn Fn(&mut TcpStream) -> std::io::Result<()>,
    objects: &dyn Fn(&mut TcpStream) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    let is_get = line.starts_with("GET");
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = String::from_utf8_lossy(&body);
    let kind = if is_get { "advertisement" } else { "result" };
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-{kind}\r\nCache-Control: no-cache\r\nConnection: \
         close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())?;
    if is_get {
        for piece in [
            "# service=git-upload-pack\n",
            "",
            "version 2\n",
            "ls-refs\n",
            "fetch=shallow\n",
            "object-format=sha1\n",
            "",
        ] {
            stream.write_all(&if piece.is_empty() { b"0000".to_vec() } else { packet(piece) })?;
        }
        return Ok(());
    }
    if body.contains("command=ls-refs") {
        return refs(&mut stream);
    }
    if !body.contains("done\n") {
        // The client offered what it has; this is enough for us.
        stream.write_all(&[packet("acknowledgments\n"), packet("ready\n"), b"0001".to_vec()].concat())?;
    }
    stream.write_all(&packet("packfile\n"))?;
    objects(&mut stream)
}
