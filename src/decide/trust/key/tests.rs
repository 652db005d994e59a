use super::*;

// Made with `ssh-keygen -t ed25519`; the fingerprint is what `ssh-keygen -l` printed.
const KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAAqMGNY0/5D9+wL789Kkc6vb9SDM1v5AlvuTQRaI3ba";

#[test]
fn kind_and_encoded_key_must_agree() {
    let key = PublicKey::from_words("ssh-ed25519", KEY).unwrap();
    assert_eq!(key.fingerprint(), "SHA256:pWIHlF3BcaBhh+6v2zbPfIaKibvBo33k5SiZNZ0+u7E");
    assert_eq!(
        PublicKey::from_words("ssh-rsa", KEY),
        Err(KeyFlaw::OtherKind { inside: "ssh-ed25519".into(), before: "ssh-rsa".into() })
    );
    assert_eq!(PublicKey::from_words("ssh-ed25519", "not base64"), Err(KeyFlaw::Base64));
}

#[test]
fn a_point_for_which_anybody_can_sign_is_no_key() {
    let mut blob = Vec::new();
    put_string(&mut blob, b"ssh-ed25519");
    let mut identity = [0; 32];
    identity[0] = 1;
    put_string(&mut blob, &identity);
    assert_eq!(PublicKey::from_blob(&blob), Err(KeyFlaw::Weak));
}

#[test]
fn bytes_after_the_key_are_refused() {
    let mut blob = STANDARD.decode(KEY).unwrap();
    blob.push(0);
    assert_eq!(PublicKey::from_blob(&blob), Err(KeyFlaw::Malformed));
}
