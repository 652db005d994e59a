//! Decides from the last words of git and ssh what went wrong and who must move next. The words are only ever a hint:
//! nothing that git says can make a revision be believed.

/// Why a fetch did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// The server showed a host key that is not the pinned one.
    HostKeyChanged,
    /// No host key is pinned for the server.
    HostKeyUnknown,
    /// The server's TLS certificate is not valid.
    CertificateRefused,
    /// The deploy key was not accepted.
    KeyRefused,
    /// The token was not accepted, or one is needed.
    TokenRefused,
    /// There is no such repository, or we may not see it.
    RepositoryUnknown,
    /// The repository has no such branch.
    BranchUnknown,
    /// The repository has moved to another address.
    RepositoryMoved,
    /// What the server sends breaks git's rules for objects.
    ContentRefused,
    /// It needs more memory, time or space than we give it.
    TooLarge,
    /// The disk is full or not writable.
    DiskFull,
    /// A program is missing.
    ProgramMissing,
    /// The server could not be reached, or broke off.
    Unreachable,
    /// Anything else; a damaged clone, perhaps.
    Unclear,
}

/// What the words mean: the first line of this table of which a piece occurs in them, whatever its case. Pieces that
/// leave no doubt come first, pieces that also follow other troubles last.
const TABLE: &[(Meaning, &[&str])] = &[
    (
        Meaning::ProgramMissing,
        &["failed to execute git", "ssh: not found", "cannot run ssh", "remote-https' is not", "remote-http' is not"],
    ),
    (Meaning::HostKeyChanged, &["remote host identification has changed", "host key for "]),
    (Meaning::HostKeyUnknown, &["host key is known for", "host key verification failed"]),
    (Meaning::KeyRefused, &["permission denied (", "too many authentication failures"]),
    (
        Meaning::CertificateRefused,
        &["ssl certificate problem", "certificate verification failed", "certificate verify failed"],
    ),
    (
        Meaning::TokenRefused,
        &["authentication failed", "could not read username", "could not read password", "error: 401", "error: 403"],
    ),
    (Meaning::RepositoryMoved, &["error: 301", "error: 302", "error: 307", "error: 308", "unable to update url base"]),
    (Meaning::BranchUnknown, &["couldn't find remote ref"]),
    (Meaning::DiskFull, &["no space left on device", "disk quota exceeded", "read-only file system"]),
    (
        Meaning::TooLarge,
        &[
            "out of memory",
            "malloc",
            "mmap failed",
            "died of signal 24",
            "died of signal 25",
            "file size limit",
            "cpu time limit",
        ],
    ),
    (Meaning::ContentRefused, &["fsck error", "mismatched algorithms", "in fsck", "maximum allowed tree depth"]),
    (
        Meaning::RepositoryUnknown,
        &[
            "does not appear to be a git repository",
            "repository not found",
            "error: 404",
            "not valid: is this a git repository",
            "could not be found",
            "cannot find repository",
            "access denied or repository not exported",
            "' not found",
            "does not exist",
        ],
    ),
    (
        Meaning::Unreachable,
        &[
            "could not resolve",
            "connection refused",
            "connection timed out",
            "connection reset",
            "connection closed",
            "operation timed out",
            "failed to connect",
            "couldn't connect",
            "unable to connect",
            "network is unreachable",
            "no route to host",
            "timeout, server",
            "kex_exchange",
            "banner exchange",
            "broken pipe",
            "remote end hung up",
            "early eof",
            "too slow",
            "error: 429",
            "error: 5",
            "empty reply",
            "rpc failed",
            "unexpected disconnect",
            "temporary failure",
            "bad gateway",
        ],
    ),
    (
        Meaning::Unclear,
        &["pack has bad object", "pack is corrupted", "pack signature mismatch", "inflate", "unresolved delta"],
    ),
    // Without a word of its own, whoever unpacks was ended from outside: by a bound.
    (Meaning::TooLarge, &["invalid index-pack output"]),
];

/// What the words mean.
pub fn meaning(words: &str) -> Meaning {
    let words = words.to_lowercase();
    let spoken = |pieces: &&(Meaning, &[&str])| pieces.1.iter().any(|piece| words.contains(piece));
    TABLE.iter().find(spoken).map_or(Meaning::Unclear, |(meaning, _)| *meaning)
}

/// The lines worth showing, at most three: without what git and ssh always say, without control characters, without
/// users and passwords in addresses.
pub fn telling_lines(words: &str, secrets: &[&str]) -> Vec<String> {
    let lines = words.lines().map(str::trim).filter(|line| !line.is_empty() && !idle(line));
    let mut telling: Vec<String> = lines.map(|line| redact(line, secrets)).collect();
    telling.dedup();
    telling.split_off(telling.len().saturating_sub(3))
}

/// What git and ssh say about everything, and so about nothing.
fn idle(line: &str) -> bool {
    const IDLE: &[&str] = &[
        "fatal: Could not read from remote repository.",
        "Please make sure you have the correct access rights",
        "and the repository exists.",
        "Another git process seems to be running",
        "an editor opened by",
        "are terminated then try again.",
        "may have crashed in this repository earlier",
        "remove the file manually to continue.",
        "@@@@@",
        "@ ",
        "IT IS POSSIBLE THAT SOMEONE",
        "Someone could be eavesdropping",
        "It is also possible that a host key",
        "Please contact your system administrator.",
        "Add correct host key in",
        "Offending ",
        "remove with:",
        "ssh-keygen -f",
        "The fingerprint for the",
        "Host key verification failed.",
        "See 'git help",
        "hint:",
    ];
    IDLE.iter().any(|idle| line.starts_with(idle))
}

/// A line that can be shown to anybody.
fn redact(line: &str, secrets: &[&str]) -> String {
    let mut line = line.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        line = line.replace(secret, "…");
    }
    let line = without_users(&line);
    let printable = |char: char| if char.is_control() { ' ' } else { char };
    let mut shown: String = line.chars().take(300).map(printable).collect();
    if line.chars().count() > 300 {
        shown.push('…');
    }
    shown
}

/// `https://user:password@host/` becomes `https://host/`.
fn without_users(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let authority = after.find(|char: char| char == '/' || char == '\'' || char == '"' || char.is_whitespace());
        let end = authority.unwrap_or(after.len());
        let host = after[..end].rfind('@').map_or(0, |at| at + 1);
        clean.push_str(&after[host..end]);
        rest = &after[end..];
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_real_programs_are_understood() {
        for (expected, words) in [
            (
                Meaning::HostKeyChanged,
                "@@@@@@@@@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key for [127.0.0.1]:2222 has \
                 changed and you have requested strict checking.\nHost key verification failed.\nfatal: Could not read",
            ),
            (
                Meaning::HostKeyUnknown,
                "No ED25519 host key is known for git.example.org and you have requested strict checking.\nHost key \
                 verification failed.\nfatal: Could not read from remote repository.",
            ),
            (Meaning::KeyRefused, "git@git.example.org: Permission denied (publickey).\nfatal: Could not read"),
            (Meaning::TokenRefused, "fatal: could not read Username for 'https://h': terminal prompts disabled"),
            (Meaning::TokenRefused, "fatal: Authentication failed for 'https://h/x/'"),
            (Meaning::TokenRefused, "fatal: unable to access 'https://h/x/': The requested URL returned error: 403"),
            (Meaning::CertificateRefused, "fatal: unable to access 'https://h/x/': SSL certificate problem: expired"),
            (
                Meaning::CertificateRefused,
                "fatal: unable to access 'https://h/': server certificate verification failed.",
            ),
            (Meaning::RepositoryUnknown, "fatal: '/x' does not appear to be a git repository\nfatal: Could not read"),
            (Meaning::RepositoryUnknown, "ERROR: Repository not found.\nfatal: Could not read from remote repository."),
            (Meaning::RepositoryUnknown, "fatal: repository 'https://h/x/' not found"),
            (Meaning::RepositoryMoved, "fatal: unable to access 'https://h/x/': The requested URL returned error: 301"),
            (Meaning::BranchUnknown, "fatal: couldn't find remote ref refs/heads/main"),
            (Meaning::Unreachable, "fatal: unable to access 'https://h/': Could not resolve host: h"),
            (Meaning::Unreachable, "ssh: connect to host h port 22: Connection refused\nfatal: Could not read"),
            (Meaning::Unreachable, "fatal: unable to access 'https://h/': The requested URL returned error: 502"),
            (Meaning::Unreachable, "kex_exchange_identification: Connection closed by remote host"),
            (Meaning::DiskFull, "fatal: write error: No space left on device"),
            (Meaning::TooLarge, "fatal: Out of memory, malloc failed (tried to allocate 2147483648 bytes)"),
            (Meaning::TooLarge, "error: index-pack died of signal 25"),
            (Meaning::TooLarge, "fatal: fetch-pack: invalid index-pack output"),
            (Meaning::Unreachable, "fatal: early EOF\nfatal: fetch-pack: invalid index-pack output"),
            (Meaning::Unclear, "fatal: pack has bad object at offset 12\nfatal: fetch-pack: invalid index-pack output"),
            (
                Meaning::ContentRefused,
                "error: object 1234: missingEmail: invalid author\nfatal: fsck error in packed object",
            ),
            (Meaning::ProgramMissing, "prlimit: failed to execute git: No such file or directory"),
            (
                Meaning::Unclear,
                "fatal: bad object refs/heads/main\nerror: https://h/x did not send all necessary objects",
            ),
            (Meaning::Unclear, "error: object file objects/22/b4 is empty"),
        ] {
            assert_eq!(meaning(words), expected, "{words}");
        }
    }

    #[test]
    fn what_is_shown_holds_no_user_no_password_and_no_token() {
        let words = "fatal: unable to access 'https://me:s3cret@host/x@y/': header bG9uZw== refused\n\
                     see ssh://git@host and https://t0k@host";
        assert_eq!(
            telling_lines(words, &["bG9uZw==", ""]),
            ["fatal: unable to access 'https://host/x@y/': header … refused", "see ssh://host and https://host"]
        );
    }

    #[test]
    fn what_is_always_said_is_left_out_and_the_rest_is_short_and_printable() {
        let words = format!(
            "one\ntwo\nthree\n\u{1b}[2Jfour{}\nfour\nfatal: Could not read from remote repository.\n\n\
             Please make sure you have the correct access rights\nand the repository exists.\n",
            "x".repeat(400)
        );
        let lines = telling_lines(&words, &[]);
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0], "three");
        assert!(lines[1].starts_with(" [2Jfour") && lines[1].chars().count() == 301, "{}", lines[1]);
        assert_eq!(lines[2], "four");
    }
}
