use super::*;

// Made with `ssh-keygen -Y sign -n git` over `content\n`.
const SHA512: &str = "-----BEGIN SSH SIGNATURE-----\n\
    U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgACowY1jT/kP37Avvz0qRzq9v1I\n\
    MzW/kCW+5NBFojdtoAAAADZ2l0AAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1NTE5\n\
    AAAAQJvSW4YVUvW6U/NJX8oFVVTyxnR71NnN6lF5JXXm1uG51dyIA1vQdLftvR3vPTSooT\n\
    rgPPvuTeXuu4WBfqXn7wM=\n\
    -----END SSH SIGNATURE-----\n";
const SHA256: &str = "-----BEGIN SSH SIGNATURE-----\n\
    U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgACowY1jT/kP37Avvz0qRzq9v1I\n\
    MzW/kCW+5NBFojdtoAAAADZ2l0AAAAAAAAAAZzaGEyNTYAAABTAAAAC3NzaC1lZDI1NTE5\n\
    AAAAQEyVv2IX5lbnQUKFbqDf+6hi4qptbCp6bLObx8On8OFinu+FZ6FJOKOqRn3hYaSesd\n\
    TJpyuLuJRlxWuKjr5HTQ8=\n\
    -----END SSH SIGNATURE-----\n";

/// The fields of a signature, to build wrong ones from.
struct Fields {
    magic: &'static [u8],
    version: u32,
    key: Vec<u8>,
    namespace: &'static [u8],
    reserved: &'static [u8],
    hash: &'static [u8],
    signature: Vec<u8>,
    after: &'static [u8],
}

fn fields() -> Fields {
    let genuine = Signature::parse(SHA512.as_bytes()).unwrap();
    let mut key = Vec::new();
    put_string(&mut key, b"ssh-ed25519");
    put_string(&mut key, &STANDARD.decode("ACowY1jT/kP37Avvz0qRzq9v1IMzW/kCW+5NBFojdto=").unwrap());
    Fields {
        magic: MAGIC,
        version: 1,
        key,
        namespace: b"git",
        reserved: b"",
        hash: b"sha512",
        signature: genuine.signature,
        after: b"",
    }
}

fn check(fields: &Fields) -> Result<(), SignatureFlaw> {
    let mut blob = fields.magic.to_vec();
    blob.extend_from_slice(&fields.version.to_be_bytes());
    for field in [&fields.key, fields.namespace, fields.reserved, fields.hash, &fields.signature] {
        put_string(&mut blob, field);
    }
    blob.extend_from_slice(fields.after);
    Signature::from_blob(&blob)?.verify("git", b"content\n")
}

#[test]
fn what_ssh_keygen_signed_is_accepted_with_both_hashes() {
    for text in [SHA512, SHA256] {
        let signature = Signature::parse(text.as_bytes()).unwrap();
        assert_eq!(signature.verify("git", b"content\n"), Ok(()));
        assert_eq!(signature.key().fingerprint(), "SHA256:pWIHlF3BcaBhh+6v2zbPfIaKibvBo33k5SiZNZ0+u7E");
        assert_eq!(signature.verify("git", b"content"), Err(SignatureFlaw::Wrong));
        assert_eq!(
            signature.verify("file", b"content\n"),
            Err(SignatureFlaw::Namespace { found: "git".into(), wanted: "file".into() })
        );
    }
}

#[test]
fn every_field_that_is_not_as_it_should_be_is_refused() {
    assert_eq!(check(&fields()), Ok(()));
    let wrong = |change: fn(&mut Fields)| {
        let mut fields = fields();
        change(&mut fields);
        check(&fields).unwrap_err()
    };
    assert_eq!(wrong(|f| f.magic = b"SSHSIX"), SignatureFlaw::Malformed);
    assert_eq!(wrong(|f| f.version = 0), SignatureFlaw::Version(0));
    assert_eq!(wrong(|f| f.version = 2), SignatureFlaw::Version(2));
    assert_eq!(wrong(|f| f.reserved = b"x"), SignatureFlaw::Malformed);
    assert_eq!(wrong(|f| f.after = b"x"), SignatureFlaw::Malformed);
    assert_eq!(wrong(|f| f.hash = b"sha1"), SignatureFlaw::Hash("sha1".into()));
    assert_eq!(wrong(|f| f.hash = b"sha256"), SignatureFlaw::Wrong);
    assert!(matches!(wrong(|f| f.namespace = b"file"), SignatureFlaw::Namespace { .. }));
    assert_eq!(wrong(|f| f.key.truncate(20)), SignatureFlaw::Key(KeyFlaw::Malformed));
    assert_eq!(wrong(|f| f.signature.truncate(30)), SignatureFlaw::Malformed);
    assert_eq!(wrong(|f| f.signature.push(0)), SignatureFlaw::Malformed);
    // The last bit of the scalar: a verifier that reduces it would accept a second form of the same signature.
    assert_eq!(wrong(|f| *f.signature.last_mut().unwrap() |= 0x80), SignatureFlaw::Wrong);
}

#[test]
fn kinds_that_are_not_verified_are_refused_by_name() {
    let mut dss = fields();
    dss.key.clear();
    put_string(&mut dss.key, b"ssh-dss");
    assert_eq!(check(&dss), Err(SignatureFlaw::Unsupported("keys of kind ssh-dss are not supported".into())));
    let mut nonsense = fields();
    nonsense.key.clear();
    put_string(&mut nonsense.key, b"rot13");
    assert_eq!(check(&nonsense), Err(SignatureFlaw::Key(KeyFlaw::UnknownKind("rot13".into()))));
    let mut other = fields();
    other.signature.clear();
    put_string(&mut other.signature, b"ssh-rsa");
    put_string(&mut other.signature, &[0; 64]);
    assert_eq!(
        check(&other),
        Err(SignatureFlaw::OtherAlgorithm { key: "ssh-ed25519".into(), found: "ssh-rsa".into() })
    );
}

#[test]
fn only_the_armour_and_line_feeds_may_stand_around_the_text() {
    let parse = |text: &str| Signature::parse(text.as_bytes()).map(|_| ());
    assert_eq!(parse(&SHA512.replace("\nMzW", "MzW")), Ok(()));
    assert_eq!(parse(SHA512.trim_end()), Ok(()));
    for wrong in [
        format!("x{SHA512}"),
        format!("\n{SHA512}"),
        format!("{SHA512}x"),
        format!("{SHA512}\n"),
        format!("{SHA512}{SHA512}"),
        SHA512.replace("SSH SIG", "PGP SIG"),
        String::new(),
        "a".repeat(LARGEST + 1),
    ] {
        assert!(matches!(parse(&wrong), Err(SignatureFlaw::NotArmoured | SignatureFlaw::Base64)), "{wrong:?}");
    }
    for wrong in [SHA512.replace("\nMzW", "\r\nMzW"), SHA512.replace("\nMzW", " MzW"), SHA512.replace("wM=", "wN=")] {
        assert_eq!(parse(&wrong), Err(SignatureFlaw::Base64), "{wrong:?}");
    }
}

#[test]
fn a_signature_may_have_16_kib_of_text() {
    let padded = |length: usize| SHA512.replacen('\n', &"\n".repeat(1 + length - SHA512.len()), 1);
    assert_eq!(padded(16_384).len(), 16_384);
    assert!(Signature::parse(padded(16_384).as_bytes()).is_ok());
    assert_eq!(Signature::parse(padded(16_385).as_bytes()).map(drop), Err(SignatureFlaw::NotArmoured));
}
