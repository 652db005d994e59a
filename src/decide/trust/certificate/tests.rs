use ed25519_dalek::{Signer as _, SigningKey};

use super::super::wire::put_string;
use super::*;

/// What a certificate consists of, to build wrong ones from.
struct Fields {
    kind: &'static [u8],
    role: u32,
    principals: Vec<&'static [u8]>,
    critical: &'static [&'static [u8]],
    reserved: &'static [u8],
    after: &'static [u8],
    /// Who signs; the certificate names the authority with seed 2.
    signer: u8,
}

fn fields() -> Fields {
    Fields {
        kind: b"ssh-ed25519-cert-v01@openssh.com",
        role: 1,
        principals: vec![b"alice@example.org", b"bob@example.com"],
        critical: &[],
        reserved: b"",
        after: b"",
        signer: 2,
    }
}

fn secret(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> Vec<u8> {
    packed(&[b"ssh-ed25519", secret(seed).verifying_key().as_bytes()])
}

fn packed(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    fields.iter().for_each(|field| put_string(&mut bytes, field));
    bytes
}

/// A certificate for the key with seed 1, good from 1,000 up to 2,000.
fn blob(fields: &Fields) -> Vec<u8> {
    let mut blob = packed(&[fields.kind, b"nonce", secret(1).verifying_key().as_bytes()]);
    blob.extend_from_slice(&7u64.to_be_bytes());
    blob.extend_from_slice(&fields.role.to_be_bytes());
    put_string(&mut blob, b"the name of the certificate");
    put_string(&mut blob, &packed(&fields.principals));
    blob.extend_from_slice(&1_000u64.to_be_bytes());
    blob.extend_from_slice(&2_000u64.to_be_bytes());
    put_string(&mut blob, &packed(fields.critical));
    put_string(&mut blob, &packed(&[b"permit-pty", b""]));
    put_string(&mut blob, fields.reserved);
    put_string(&mut blob, &public(2));
    let signature = secret(fields.signer).sign(&blob).to_bytes();
    put_string(&mut blob, &packed(&[b"ssh-ed25519", &signature]));
    blob.extend_from_slice(fields.after);
    blob
}

/// That certificate, for the tests of who may sign.
pub(in crate::decide::trust) fn certificate() -> Certificate {
    Certificate::from_blob(&blob(&fields())).unwrap()
}

#[test]
fn a_certificate_says_whose_a_key_is_and_for_how_long() {
    let blob = blob(&fields());
    assert!(Certificate::is_one(&blob) && !Certificate::is_one(&public(1)) && !Certificate::is_one(b""));
    let certificate = certificate();
    // The key is the same as without a certificate, byte by byte: so is its fingerprint.
    assert_eq!(certificate.key, PublicKey::from_blob(&public(1)).unwrap());
    assert_eq!(certificate.authority, PublicKey::from_blob(&public(2)).unwrap());
    assert_eq!(certificate.principals, ["alice@example.org", "bob@example.com"]);
    assert_eq!(certificate.principals_in("*@example.org"), ["alice@example.org"]);
    assert!(certificate.principals_in("carol,!bob@example.com").is_empty());
    let valid = |at| !certificate.begins_after(at) && !certificate.ended_before(at);
    assert!(valid(1_000) && valid(1_999));
    assert!(certificate.begins_after(999) && certificate.begins_after(-1) && !certificate.ended_before(-1));
    assert!(certificate.ended_before(2_000) && !certificate.begins_after(2_000));
}

#[test]
fn a_certificate_that_is_not_as_it_should_be_is_refused() {
    let wrong = |change: fn(&mut Fields)| {
        let mut fields = fields();
        change(&mut fields);
        Certificate::from_blob(&blob(&fields)).unwrap_err()
    };
    assert_eq!(wrong(|f| f.kind = b"ssh-ed25519"), CertificateFlaw::Malformed);
    assert_eq!(wrong(|f| f.kind = b"ssh-rot13-cert-v01@openssh.com"), CertificateFlaw::Malformed);
    assert_eq!(wrong(|f| f.role = 0), CertificateFlaw::NotForUsers);
    assert_eq!(wrong(|f| f.role = 2), CertificateFlaw::NotForUsers);
    assert_eq!(wrong(|f| f.principals.clear()), CertificateFlaw::Nobody);
    for odd in [&b""[..], b"a,b", b"a\x1bb", b"\xff"] {
        let fields = Fields { principals: vec![b"alice", odd], ..fields() };
        assert_eq!(Certificate::from_blob(&blob(&fields)), Err(CertificateFlaw::Malformed), "{odd:?}");
    }
    assert_eq!(
        wrong(|f| f.critical = &[b"force-command", b"x"]),
        CertificateFlaw::CriticalOption("force-command".into())
    );
    assert_eq!(wrong(|f| f.reserved = b"x"), CertificateFlaw::Malformed);
    assert_eq!(wrong(|f| f.after = b"x"), CertificateFlaw::Malformed);
    assert_eq!(wrong(|f| f.signer = 3), CertificateFlaw::Signature(Box::new(SignatureFlaw::Wrong)));
}

#[test]
fn every_byte_of_a_certificate_is_covered() {
    let blob = blob(&fields());
    for at in 0..blob.len() {
        let mut changed = blob.clone();
        changed[at] ^= 1;
        assert!(Certificate::from_blob(&changed).is_err(), "byte {at}");
        assert!(Certificate::from_blob(&blob[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn a_kind_of_certificate_has_the_kind_of_its_key() {
    for (name, kind) in [
        ("ssh-rsa-cert-v01@openssh.com", Some("ssh-rsa")),
        ("ecdsa-sha2-nistp384-cert-v01@openssh.com", Some("ecdsa-sha2-nistp384")),
        ("sk-ssh-ed25519-cert-v01@openssh.com", Some("sk-ssh-ed25519@openssh.com")),
        ("ssh-dss-cert-v01@openssh.com", None),
        ("ssh-ed25519", None),
    ] {
        assert_eq!(certified(name.as_bytes()), kind, "{name}");
    }
}
