//! Says who came over the network to type a command, from what sshd and Tailscale say of the connection.

use core::net::IpAddr;

use serde_json::Value as Json;

/// Nobody reads more of a name in a status line.
const LONGEST: usize = 64;

/// Where a connection comes from: `SSH_CONNECTION` is the client's address and port, then the server's.
pub fn client(connection: &str) -> Option<(IpAddr, u16)> {
    let mut words = connection.split(' ');
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// The login and the machine that `tailscale whois --json` names.
pub fn whois(json: &[u8]) -> Option<String> {
    let answer: Json = serde_json::from_slice(json).ok()?;
    let login = answer.pointer("/UserProfile/LoginName")?.as_str().filter(|login| !login.is_empty())?;
    let names = ["/Node/ComputedName", "/Node/Name"].into_iter().filter_map(|place| answer.pointer(place)?.as_str());
    let machine = names.map(|name| name.trim_end_matches('.')).find(|name| !name.is_empty());
    Some(match machine {
        Some(machine) => format!("{} on {}", shown(login), shown(machine)),
        None => shown(login),
    })
}

/// The owner of a hold: the user here, and who that is elsewhere.
pub fn owner(user: &str, whois: Option<&str>, from: Option<IpAddr>) -> String {
    match (whois, from) {
        (Some(whois), Some(from)) => format!("{user} ({whois}, {from})"),
        (None, Some(from)) => format!("{user} (from {from})"),
        (_, None) => user.to_owned(),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(LONGEST).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_an_address_and_a_port_or_nothing() {
        assert_eq!(client("100.64.0.9 51544 100.64.0.7 22"), Some(("100.64.0.9".parse().unwrap(), 51544)));
        assert!(client("fd7a:115c::9 51544 fd7a:115c::7 22").is_some());
        for odd in ["", "100.64.0.9", "--help 1 x 2", "100.64.0.9 x", "alice 22 x 22"] {
            assert_eq!(client(odd), None, "{odd}");
        }
    }

    #[test]
    fn who_it_is_elsewhere_stands_behind_the_user_as_far_as_it_is_known() {
        let from = "100.64.0.9".parse().ok();
        let known = whois(br#"{"Node":{"Name":"laptop.tail1.ts.net.","ComputedName":"laptop"},"UserProfile":{"LoginName":"alice@example.org"}}"#);
        assert_eq!(owner("root", known.as_deref(), from), "root (alice@example.org on laptop, 100.64.0.9)");
        assert_eq!(owner("root", None, from), "root (from 100.64.0.9)");
        assert_eq!(owner("root", None, None), "root");
        assert_eq!(whois(br#"{"UserProfile":{"LoginName":"a\nb"}}"#).as_deref(), Some("a\\nb"));
        for odd in [&b"peer not found"[..], b"{}", br#"{"UserProfile":{"LoginName":""}}"#, br#"{"UserProfile":[]}"#] {
            assert_eq!(whois(odd), None);
        }
    }
}
