//! Says what a failed fetch means to a person or to the next run.

use super::Fetch;
use crate::decide::fault::{Code, Fault};
use crate::decide::last_words::{Meaning, meaning};
use crate::decide::remote::Transport;
use crate::world::transport::Failure;

impl Fetch {
    /// What a person or the next run needs to know about a failure.
    pub(super) fn fault(&self, failure: Failure) -> Fault {
        let (all, telling) = match failure {
            Failure::Fault(fault) => return *fault,
            Failure::Words { all, telling } => (all, telling),
        };
        let (host, branch) = (self.git.remote.host(), &self.branch);
        let server = if host.is_empty() { "the directory" } else { host };
        let known_hosts = self.known_hosts.display();
        let meaning = meaning(&all);
        let (code, sentence, hint) = match meaning {
            Meaning::HostKeyChanged => (
                Code::FetchRefused,
                format!("{host} showed another host key than the pinned one"),
                Some(format!(
                    "if the server's owner confirms the new key: `ssh-keygen -R {host} -f {known_hosts}`, then `ssh-keyscan {host} \
                     >> {known_hosts}` and compare the fingerprint"
                )),
            ),
            Meaning::HostKeyUnknown => (
                Code::FetchRefused,
                format!("no host key of {host} is pinned"),
                Some(format!(
                    "`ssh-keyscan {host} >> {known_hosts}`, then compare with the fingerprint the server publishes"
                )),
            ),
            Meaning::CertificateRefused => (
                Code::FetchRefused,
                format!("the TLS certificate of {host} is not valid"),
                Some(format!("`curl -v https://{host}/` on this host shows why")),
            ),
            Meaning::KeyRefused => (
                Code::FetchRefused,
                format!("{host} refused the deploy key"),
                self.deploy_key.as_ref().map(|key| {
                    format!("register what `ssh-keygen -yf {}` prints as a deploy key, to read only", key.display())
                }),
            ),
            Meaning::TokenRefused => (
                Code::FetchRefused,
                format!("{host} refused the token, or wants one"),
                Some("put a token that may read the repository into the `token_file` that agent.toml names".into()),
            ),
            Meaning::RepositoryUnknown => (
                Code::FetchRefused,
                format!("{server} has no repository at this address, or hides it from this key"),
                Some("check `remote` in /etc/moorline/agent.toml, and what the key or token may read".into()),
            ),
            Meaning::RepositoryMoved => (
                Code::FetchRefused,
                format!("{host} says that the repository has moved"),
                Some("write the new address as `remote` in /etc/moorline/agent.toml".into()),
            ),
            Meaning::BranchUnknown => (
                Code::FetchRefused,
                format!("the repository has no branch `{branch}`"),
                Some("check `branch` in /etc/moorline/agent.toml".into()),
            ),
            Meaning::ContentRefused => (
                Code::FetchRefused,
                format!("what {server} sent for `{branch}` breaks git's rules"),
                Some("`git fsck` in a checkout names the object".into()),
            ),
            Meaning::TooLarge => (
                Code::ResourceLimit,
                "the fetch needs more memory, time or space than it may have".into(),
                Some("keep large files out of the fleet repository: `git count-objects -vH` shows its size".into()),
            ),
            Meaning::DiskFull => {
                (Code::StateUnwritable, format!("{} cannot be written", self.repository.display()), None)
            }
            Meaning::ProgramMissing => {
                let packages = match self.git.remote.transport() {
                    Transport::Ssh => "git openssh-client",
                    _ => "git",
                };
                (Code::FetchRefused, "git or ssh is missing".into(), Some(format!("`apt install {packages}`")))
            }
            Meaning::Unreachable => (Code::FetchFailed, format!("{server} could not be asked"), None),
            Meaning::Unclear => (Code::FetchFailed, format!("git could not fetch from {server}"), None),
        };
        let mut fault = Fault::new(code, sentence).at("nothing was fetched");
        fault.because = match meaning {
            Meaning::HostKeyChanged => fingerprint(&all),
            _ => telling,
        };
        fault.hint = hint;
        fault
    }
}

/// What ssh says about the key it was shown.
fn fingerprint(words: &str) -> Vec<String> {
    let shown = words.lines().map(str::trim).find(|line| line.starts_with("SHA256:"));
    shown.map(|key| format!("it showed {}", key.trim_end_matches('.'))).into_iter().collect()
}
