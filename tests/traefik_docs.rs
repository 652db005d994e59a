//! docs/traefik-keys.md has every key of the table that labels and files are checked with.
#![allow(clippy::disallowed_methods, reason = "tests touch files themselves")]

use moorline::decide::traefik::schema::{Kind, Leaf, Schema, Speaker};

#[path = "sim/golden.rs"]
mod golden;

fn kind(leaf: &Leaf) -> String {
    match &leaf.kind {
        Kind::List(of) => format!("list of {}", of.wanted()),
        Kind::Group(_) => "`true` in a label, `{}` in a file".into(),
        other => other.wanted(),
    }
}

#[test]
fn every_label_and_every_key_of_a_file_is_listed() {
    let mut text = String::from(
        "# Keys of Traefik's dynamic configuration\n\nOf Traefik 3.7, as labels and dynamic files are checked with. Labels begin with \
         `traefik.`, and capitals do not matter in\nthem. Written by `MOORLINE_UPDATE=1 cargo nextest run --test traefik_docs`.\n",
    );
    let leaves = Schema::known().leaves();
    let labels = leaves.iter().filter(|leaf| leaf.speaker != Speaker::FileOnly);
    text.push_str("\n## Labels\n\n| label | value |\n|---|---|\n");
    for leaf in labels {
        text.push_str(&format!("| `{}` | {} |\n", leaf.label, kind(leaf)));
    }
    text.push_str(
        "\n## Only in dynamic files\n\nEverything above may stand in a file, too.\n\n| key | value |\n|---|---|\n",
    );
    let servers = |leaf: &&Leaf| leaf.file.contains(".servers[n]") && leaf.speaker != Speaker::LabelOnly;
    for leaf in leaves.iter().filter(|leaf| leaf.speaker == Speaker::FileOnly || servers(leaf)) {
        text.push_str(&format!("| `{}` | {} |\n", leaf.file, kind(leaf)));
    }
    golden::same_as_golden("docs/traefik-keys.md", &text);
}
