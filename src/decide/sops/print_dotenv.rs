//! Prints the tree as SOPS prints dotenv: nothing quoted, line breaks as a backslash and an n.

use super::document::Node;
use super::error::SopsError;

/// The bytes `sops -d` prints for a dotenv file.
pub fn print(root: &Node) -> Result<Vec<u8>, SopsError> {
    let mut out = Vec::with_capacity(root.room());
    let entries: &[(String, Node)] = match root {
        Node::Map(entries) => entries,
        _ => &[],
    };
    for (key, value) in entries {
        let bytes: &[u8] = match value {
            Node::Comment(text) => {
                out.push(b'#');
                out.extend_from_slice(text.expose().as_bytes());
                out.push(b'\n');
                continue;
            }
            Node::Bytes(bytes) => bytes.expose(),
            Node::Null => b"",
            scalar => scalar
                .scalar_text()
                .ok_or_else(|| SopsError::BadValue {
                    path: key.clone(),
                    problem: "is a mapping or a list, which dotenv cannot hold",
                })?
                .as_bytes(),
        };
        out.extend_from_slice(key.as_bytes());
        out.push(b'=');
        for byte in bytes {
            match byte {
                b'\n' => out.extend_from_slice(b"\\n"),
                byte => out.push(*byte),
            }
        }
        out.push(b'\n');
    }
    Ok(out)
}
