//! Compares text with a file of the repository; `MOORLINE_UPDATE=1` writes the file instead.
#![allow(dead_code, reason = "not every test that is a host in memory compares files")]

use std::path::Path;

/// `path` is relative to the root of the repository.
#[track_caller]
pub fn same_as_golden(path: &str, actual: &str) {
    let whole = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("MOORLINE_UPDATE").is_some_and(|value| value == "1") {
        let directory = whole.parent().expect("a file stands in a directory");
        std::fs::create_dir_all(directory).unwrap_or_else(|error| panic!("{path}: {error}"));
        std::fs::write(&whole, actual).unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let expected = std::fs::read_to_string(&whole).unwrap_or_default();
    assert!(
        expected == actual,
        "{path} is not what it should be; if the change is meant, MOORLINE_UPDATE=1 writes it\n{}",
        difference(&expected, actual)
    );
}

/// The lines around the first difference.
fn difference(expected: &str, actual: &str) -> String {
    let (expected, actual): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let same = expected.iter().zip(&actual).take_while(|(one, two)| one == two).count();
    let part = |lines: &[&str], mark: &str| {
        let shown = lines.iter().skip(same).take(12);
        shown.map(|line| format!("{mark} {line}\n")).collect::<String>()
    };
    let before: String = expected[same.saturating_sub(3)..same].iter().map(|line| format!("  {line}\n")).collect();
    format!("from line {}:\n{before}{}{}", same + 1, part(&expected, "-"), part(&actual, "+"))
}
