//! Changes a ring file by its lines, so that comments and order stay as their author left them.

use crate::model::Revision;

/// The text of a ring file that names `commit`, with the next sequence number if it has one.
pub fn promoted(text: &str, commit: &Revision, sequence: Option<u64>) -> Result<String, &'static str> {
    // Forty digits could be read as a number.
    let text = with_value(text, "commit", &format!("\"{commit}\"")).ok_or("it has no line `commit: REVISION`")?;
    match sequence {
        Some(sequence) => {
            with_value(&text, "sequence", &sequence.to_string()).ok_or("it has no line `sequence: NUMBER`")
        }
        None => Ok(text),
    }
}

/// The commit that a ring file names, as far as its lines tell.
pub fn named(text: &str) -> Option<Revision> {
    let line = text.lines().find_map(|line| line.strip_prefix("commit:"))?;
    line.split('#').next()?.trim().trim_matches(['"', '\'']).parse().ok()
}

fn with_value(text: &str, key: &str, value: &str) -> Option<String> {
    let begin = format!("{key}:");
    let mut found = false;
    let lines = text.split_inclusive('\n').map(|line| {
        if found || !line.starts_with(&begin) {
            return line.to_owned();
        }
        found = true;
        let rest = &line[begin.len()..];
        // A comment begins with a blank and `#`; neither of our values holds one.
        let end = rest.find(" #").unwrap_or_else(|| rest.trim_end_matches(['\n', '\r', ' ']).len());
        format!("{begin} {value}{}", &rest[end..])
    });
    let text = lines.collect();
    found.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_two_values_change() {
        let text = "# Production.\ncommit: 4b7a90d2c7f0a1b3e5d6f8091a2b3c4d5e6f7081   # promoted by hand\n\
                    sequence: 7\n# commit: not this one\nwaves: []";
        let commit: Revision = "0".repeat(40).parse().unwrap();
        let expected = format!(
            "# Production.\ncommit: \"{commit}\" # promoted by hand\nsequence: 8\n# commit: not this one\nwaves: []"
        );
        let edited = promoted(text, &commit, Some(8)).unwrap();
        assert_eq!(edited, expected);
        assert_eq!(named(&edited), Some(commit.clone()));
        assert!(promoted("follow: main\n", &commit, None).is_err());
        assert!(promoted("commit: x\n", &commit, Some(1)).is_err());
    }
}
