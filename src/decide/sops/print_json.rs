//! Prints the tree as Go's JSON printer does, indented with tabs.

use super::document::Node;
use super::error::SopsError;
use super::go_text;

/// The bytes `sops -d` prints for a JSON file.
pub fn print(root: &Node) -> Result<Vec<u8>, SopsError> {
    let mut out = String::with_capacity(root.room());
    value(root, "", 0, &mut out)?;
    out.push('\n');
    Ok(out.into_bytes())
}

fn value(node: &Node, key: &str, depth: usize, out: &mut String) -> Result<(), SopsError> {
    match node {
        Node::Map(_) => {
            let entries = node.entries().map(|(key, value)| (Some(key), value));
            collection(entries, ['{', '}'], depth, out)?;
        }
        Node::List(_) => {
            let items = node.items().map(|item| (None, item));
            collection(items, ['[', ']'], depth, out)?;
        }
        Node::Str(text) | Node::Time(text) => string(text.expose(), out),
        Node::Int(text) => out.push_str(text.expose()),
        Node::Float(text) => {
            let number = go_text::parse_float(text.expose()).filter(|number| number.is_finite()).ok_or_else(|| {
                SopsError::BadValue { path: key.to_owned(), problem: "is not a finite number, which json cannot hold" }
            })?;
            out.push_str(&go_text::float_json(number));
        }
        Node::Bool(true) => out.push_str("true"),
        Node::Bool(false) => out.push_str("false"),
        Node::Bytes(bytes) => string(&String::from_utf8_lossy(bytes.expose()), out),
        Node::Null | Node::Comment(_) => out.push_str("null"),
    }
    Ok(())
}

fn collection<'a>(
    children: impl Iterator<Item = (Option<&'a str>, &'a Node)>,
    [open, close]: [char; 2],
    depth: usize,
    out: &mut String,
) -> Result<(), SopsError> {
    let indent = |depth: usize, out: &mut String| {
        out.push('\n');
        out.extend(std::iter::repeat_n('\t', depth));
    };
    out.push(open);
    let mut any = false;
    for (key, child) in children {
        if any {
            out.push(',');
        }
        any = true;
        indent(depth + 1, out);
        if let Some(key) = key {
            string(key, out);
            out.push_str(": ");
        }
        value(child, key.unwrap_or_default(), depth + 1, out)?;
    }
    if any {
        indent(depth, out);
    }
    out.push(close);
    Ok(())
}

/// Go escapes what would be unsafe inside HTML and JavaScript, and names only five control characters.
fn string(text: &str, out: &mut String) {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '<' | '>' | '&' | '\0'..='\x1f' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(letter)));
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
}
