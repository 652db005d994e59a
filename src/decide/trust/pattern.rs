//! OpenSSH's pattern lists (`PATTERNS` in ssh_config(5)): `*`, `?`, commas, and `!` for "not".

/// Whether a list matches a name: one pattern does, and no negated one does.
pub(super) fn list_matches(list: &str, name: &str) -> bool {
    let mut matched = false;
    for pattern in list.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), name.as_bytes()) => return false,
            Some(_) => {}
            None => matched |= matches(pattern.as_bytes(), name.as_bytes()),
        }
    }
    matched
}

/// Goes back to the last `*` only, so the time is bounded by both lengths multiplied, whatever the pattern.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    n = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_match_as_openssh_documents_them() {
        for (list, name, expected) in [
            ("git", "git", true),
            ("git", "gi", false),
            ("git", "gitt", false),
            ("file,git", "git", true),
            ("g*", "git", true),
            ("*", "", true),
            ("", "", true),
            ("", "git", false),
            ("g?t", "git", true),
            ("g?t", "gt", false),
            ("*@example.org", "a@example.org", true),
            ("*a*b*c", "xaxbxcxc", true),
            ("*a*b*c", "xaxbxcxd", false),
            ("!git,*", "git", false),
            ("*,!git", "git", false),
            ("*,!git", "file", true),
            ("!git", "file", false),
        ] {
            assert_eq!(list_matches(list, name), expected, "{list:?} {name:?}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_time() {
        assert!(!list_matches(&format!("{}b", "*a".repeat(500)), &"a".repeat(5_000)));
    }
}
