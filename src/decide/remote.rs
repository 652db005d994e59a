//! Decides what may stand as `remote` in `agent.toml`, and what it means for git. It opens nothing.

use std::path::Path;

/// The address of the fleet repository, in a form that neither git nor ssh nor a shell can take for anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    address: String,
    transport: Transport,
    host: String,
}

/// How git talks to it. These are git's own names, as `protocol.<name>.allow` takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// With a deploy key and a pinned host key.
    Ssh,
    /// With a token or without.
    Https,
    /// In clear, for tests and for a server on the same host: signatures protect what is fetched, but a token would
    /// be shown to everybody on the way.
    Http,
    /// git's own protocol, in clear.
    Git,
    /// A directory on this host.
    File,
}

/// Why a text is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRemote {
    /// It is none of the known forms.
    #[error("it must be `ssh://user@host/path`, `user@host:path` or `https://host/path`")]
    Form,
    /// It holds a password or a token.
    #[error("it holds a password, and addresses are shown to everybody who lists processes")]
    Password,
    /// It holds a character that has a meaning somewhere.
    #[error("only letters, digits and `._~+@:/%-` may stand in it")]
    Character,
}

impl Transport {
    /// git's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Ssh => "ssh",
            Transport::Https => "https",
            Transport::Http => "http",
            Transport::Git => "git",
            Transport::File => "file",
        }
    }
}

impl Remote {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Self, InvalidRemote> {
        let (transport, authority, path) = split(text).ok_or(InvalidRemote::Form)?;
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if user.is_some_and(|user| transport != Transport::Ssh || user.contains(':')) {
            return Err(InvalidRemote::Password);
        }
        if !text.bytes().all(|byte| plain(byte) || matches!(byte, b'~' | b'%' | b'@' | b':' | b'[' | b']')) {
            return Err(InvalidRemote::Character);
        }
        // A name that begins with a dash would be an option to ssh or to git on the other side.
        let dashed = [user.unwrap_or_default(), host, path].iter().any(|part| part.starts_with('-'));
        let empty = path.is_empty() || user.is_some_and(str::is_empty);
        if dashed || empty || (host.is_empty() != (transport == Transport::File)) {
            return Err(InvalidRemote::Form);
        }
        let host = without_port(host).to_owned();
        Ok(Self { address: text.to_owned(), transport, host })
    }

    /// The address, as git takes it. It holds no secret.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How git talks to it.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The server's name, without user and port; empty for a directory.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// What its host keys are listed under in `known_hosts`, if it is asked over ssh.
    pub fn pinned_name(&self) -> Option<String> {
        if self.transport != Transport::Ssh {
            return None;
        }
        // Without a scheme the colon begins the path.
        let Some(rest) = self.address.strip_prefix("ssh://") else { return Some(self.host.clone()) };
        let authority = rest.split('/').next().unwrap_or_default();
        let port =
            authority.rsplit_once(':').map(|(_, port)| port).filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
        Some(match port {
            Some(port) if port != "22" => format!("[{}]:{port}", self.host.trim_matches(['[', ']'])),
            _ => self.host.trim_matches(['[', ']']).to_owned(),
        })
    }

    /// Whether a token may be sent there.
    pub fn may_see_token(&self) -> bool {
        let loopback = matches!(self.host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
        self.transport == Transport::Https || (self.transport == Transport::Http && loopback)
    }

    /// `https://host:port/`: the part of the address that a header with a token is tied to.
    pub fn origin(&self) -> String {
        let end = self.address.match_indices('/').nth(2).map_or(self.address.len(), |(at, _)| at);
        format!("{}/", &self.address[..end])
    }
}

/// The command that git starts for an ssh remote.
///
/// Only ssh's own options are used, no file of the user or the system: the one deploy key, the pinned host keys,
/// nobody to ask.
///
/// git hands a command with spaces to a shell. We let it: the only parts that are not constant are two paths, and a
/// path is refused unless it is made of characters that mean nothing to any shell. (`GIT_SSH` would avoid the shell,
/// but takes a program without arguments, and a program of our own in between is more that can break than two checked
/// words. What comes from the address reaches ssh as arguments.)
pub fn ssh_command(deploy_key: &Path, known_hosts: &Path) -> Result<String, InvalidPath> {
    let (deploy_key, known_hosts) = (plain_path(deploy_key)?, plain_path(known_hosts)?);
    Ok(format!(
        "ssh -F /dev/null -i {deploy_key} -o UserKnownHostsFile={known_hosts} -o GlobalKnownHostsFile=/dev/null \
         -o StrictHostKeyChecking=yes -o UpdateHostKeys=no -o VerifyHostKeyDNS=no -o CheckHostIP=no \
         -o BatchMode=yes -o IdentitiesOnly=yes -o IdentityAgent=none -o PreferredAuthentications=publickey \
         -o ClearAllForwardings=yes -o PermitLocalCommand=no -o ControlMaster=no -o ControlPath=none \
         -o ConnectTimeout=20 -o ServerAliveInterval=15 -o ServerAliveCountMax=3"
    ))
}

/// A path that cannot be handed to ssh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the path `{shown}` is not absolute or holds other characters than letters, digits and `._+/-`")]
pub struct InvalidPath {
    shown: String,
}

fn plain_path(path: &Path) -> Result<&str, InvalidPath> {
    match path.to_str() {
        Some(text) if path.is_absolute() && text.bytes().all(plain) => Ok(text),
        _ => Err(InvalidPath { shown: path.display().to_string().escape_debug().to_string() }),
    }
}

/// Whether a text can be the name of a branch: git's rules, and only characters that mean nothing in a refspec.
pub fn is_branch(name: &str) -> bool {
    let component = |part: &str| {
        !part.is_empty() && !part.starts_with(['.', '-']) && !part.ends_with(['.']) && !part.ends_with(".lock")
    };
    // In a refspec a plus sign in front of a name means force, so no name needs one.
    let allowed = |byte| plain(byte) && byte != b'+';
    name.len() <= 200 && !name.contains("..") && name.bytes().all(allowed) && name.split('/').all(component)
}

/// Characters that are only themselves: to a shell, to ssh's configuration, in a refspec.
fn plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'/' | b'-')
}

/// Transport, user with host and port, path.
fn split(text: &str) -> Option<(Transport, &str, &str)> {
    let Some((scheme, rest)) = text.split_once("://") else {
        // `user@host:path`, as scp writes it. A slash before the colon would make it a local path.
        let (authority, path) = text.split_once(':')?;
        return (!authority.contains('/')).then_some((Transport::Ssh, authority, path));
    };
    let transport = match scheme {
        "ssh" => Transport::Ssh,
        "https" => Transport::Https,
        "http" => Transport::Http,
        "git" => Transport::Git,
        "file" => Transport::File,
        _ => return None,
    };
    let (authority, path) = rest.split_once('/')?;
    Some((transport, authority, path))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // In `[::1]` the colons belong to the address.
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_usual_form_is_read() {
        for (text, transport, host) in [
            ("ssh://git@git.example.org/ops/fleet.git", Transport::Ssh, "git.example.org"),
            ("ssh://git@git.example.org:2222/~ops/fleet.git", Transport::Ssh, "git.example.org"),
            ("ssh://git@[2001:db8::1]:2222/fleet", Transport::Ssh, "[2001:db8::1]"),
            ("git@github.com:ops/fleet.git", Transport::Ssh, "github.com"),
            ("https://git.example.org/ops/fleet.git", Transport::Https, "git.example.org"),
            ("https://git.example.org:8443/ops/fleet.git", Transport::Https, "git.example.org"),
            ("http://127.0.0.1:8090/fleet.git", Transport::Http, "127.0.0.1"),
            ("git://127.0.0.1:9418/fleet.git", Transport::Git, "127.0.0.1"),
            ("file:///srv/fleet.git", Transport::File, ""),
        ] {
            let remote = Remote::parse(text).unwrap();
            assert_eq!((remote.transport(), remote.host()), (transport, host), "{text}");
            assert_eq!(remote.address(), text);
        }
    }

    #[test]
    fn a_port_stands_in_the_name_of_a_pinned_key() {
        for (text, name) in [
            ("ssh://git@git.example.org/ops/fleet.git", Some("git.example.org")),
            ("ssh://git@git.example.org:2222/~ops/fleet.git", Some("[git.example.org]:2222")),
            ("ssh://git@[2001:db8::1]:2222/fleet", Some("[2001:db8::1]:2222")),
            ("ssh://git@[2001:db8::1]/fleet", Some("2001:db8::1")),
            ("git@github.com:ops/fleet.git", Some("github.com")),
            ("https://git.example.org/ops/fleet.git", None),
        ] {
            assert_eq!(Remote::parse(text).unwrap().pinned_name().as_deref(), name, "{text}");
        }
    }

    #[test]
    fn an_address_cannot_hold_a_password() {
        for text in ["https://user:pass@host/x", "https://token@host/x", "ssh://git:pass@host/x", "http://u@host/x"] {
            assert_eq!(Remote::parse(text), Err(InvalidRemote::Password), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_an_address() {
        for text in [
            "",
            "/srv/fleet.git",
            "fleet",
            "ext::sh -c id",
            "ftp://host/x",
            "https://host",
            "https:///x",
            "ssh://@host/x",
            "-oProxyCommand=id:x",
            "git@-oProxyCommand=id:x",
            "ssh://-oProxyCommand=id/x",
            "git@host:-x",
            "git@host:",
            "file://host/x",
            "./a:b",
        ] {
            assert!(Remote::parse(text).is_err(), "{text}");
        }
        for text in ["git@host:a b", "https://host/$(id)", "https://host/a\nb", "git@host:a'b", "https://host/x?y#z"] {
            assert_eq!(Remote::parse(text), Err(InvalidRemote::Character), "{text}");
        }
    }

    #[test]
    fn a_token_is_sent_over_tls_or_not_at_all() {
        let may = |text| Remote::parse(text).unwrap().may_see_token();
        assert!(may("https://git.example.org/x") && may("http://127.0.0.1:8090/x") && may("http://[::1]:80/x"));
        assert!(!may("http://git.example.org/x") && !may("ssh://git@git.example.org/x"));
    }

    #[test]
    fn a_token_is_tied_to_the_server() {
        let origin = |text| Remote::parse(text).unwrap().origin();
        assert_eq!(origin("https://git.example.org:8443/ops/fleet.git"), "https://git.example.org:8443/");
        assert_eq!(origin("http://127.0.0.1/fleet.git"), "http://127.0.0.1/");
    }

    #[test]
    fn no_path_can_become_a_command() {
        let key = Path::new("/etc/moorline/ssh/id");
        for path in ["/a b", "/a;b", "/$(id)", "/a'b", "/a\nb", "relative", "/%h", "/~/x", "/\"", "/a=b"] {
            assert!(ssh_command(key, Path::new(path)).is_err(), "{path}");
            assert!(ssh_command(Path::new(path), key).is_err(), "{path}");
        }
        assert!(
            ssh_command(key, Path::new("/etc/moorline/ssh/known_hosts")).unwrap().contains(" -i /etc/moorline/ssh/id ")
        );
    }

    #[test]
    fn a_branch_is_a_name_and_nothing_more() {
        for name in ["main", "ops/main", "release-1.2", "v1_x"] {
            assert!(is_branch(name), "{name}");
        }
        for name in
            ["", "-x", "a..b", "/a", "a/", "a//b", ".a", "a.lock", "a:b", "a*", "a b", "a~1", "@{u}", "a.", "a/.b"]
        {
            assert!(!is_branch(name), "{name}");
        }
    }
}
