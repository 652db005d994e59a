//! The user that the courier's unit names, where the package made one. Without it the courier is whoever starts it.

use std::fs;

/// Its name, and that of its group (`systemd/moorline.sysusers`).
pub const NAME: &str = "moorline-courier";

/// Its group, which may read what is meant for the courier.
pub fn group() -> Option<u32> {
    group_in(&fs::read_to_string("/etc/passwd").ok()?)
}

/// `name:x:uid:gid:...`
fn group_in(passwd: &str) -> Option<u32> {
    let mut users = passwd.lines().map(|line| line.split(':'));
    users.find_map(|mut fields| fields.next().filter(|name| *name == NAME).and_then(|_| fields.nth(2)?.parse().ok()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_group_is_that_of_the_user_with_this_name_and_no_other() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\nmoorline-courier2:x:1:2::/:\nmoorline-courier:x:990:989::/:/usr/sbin/nologin\n";
        assert_eq!(super::group_in(passwd), Some(989));
        assert_eq!(super::group_in("root:x:0:0::/root:/bin/sh\nmoorline-courier\n"), None);
    }
}
