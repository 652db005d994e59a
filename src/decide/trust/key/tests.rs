use ed25519_dalek::SigningKey;
use p521::ecdsa::signature::Signer as _;

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

// Made with `ssh-keygen -t rsa -b 3072`, and with `openssl dgst -sha256` and `-sha512` over `content\n`.
const RSA_KEY: &str = "AAAAB3NzaC1yc2EAAAADAQABAAABgQC3tJ9hsSjDwkQ79b7664wYsZMZyvTkmNBPT1x78xq38bK57BjGTuURfGe+kv\
    O6Z/ERt6WgRQ1uOWcux38NJK3f0Ixs67biy6gkURd4zpsMJYyHq80Qf4A9VWow0LAMy3uIw9q7YQbv/xibsF5EMY08\
    njreIIaAwWitT5KuIaPeAMLXC0sg57UPN2IR7exYNl3qoLv1DmaWFRw2E/C6QiKWsBt4KP7lSH0IPuTeyQrFFcmm1T\
    cGvrWOdCLBN872fIpvuCw8QPJzvu6TYc/lodcVdn/sTA98xRjj0knR4PDZbAzQIrtczhfE5uTxo3Be0ViW128PfK5n\
    PF09FPFznFxpCRgvaMk+c3Gt0RRtEwDDa0eF7+aIIK36qHl/MKB29q5I91icC/68y/5aNW3Fy4To+dX7Qvcp0mb4gT\
    DfYFT7HC/PhNM/ufdzVOFmDcHNDcioim9CzN1cwmgGi2GLxtmrxmZuXOksqOm8C6vfZlUezJOXS1DcUdVAGyYS2x7V\
    msE=";
const RSA_SHA256: &str = "EzSWTp7JP+3BZHUSxCyJXdV3uCm9hFYdLm8bU936rCwmhuSfFRjUkhtFat56LKhedH9fZQjIg7e41j0iXNlGGwOnF8\
    iXrKo261bxxrcz2M3bDFjrZebcWQe6FrsThVW/3vz2OFfS4odvmDQbFuvkx8qe7qyLHZMQEbttDuvP0gZF4+OmJJ/t\
    UfkXG7D7JOFXpvJa1TJrHtUqxmo+J3var/e8bL2GhvCWQ0o+MvqapNG5yjR1leL1YFAxHYliYFn39UkEDJRGr2eY2I\
    12PkVm+ovyqHmG2Ml9Eq6btN97xkYhlF7dWwYHFQqZ1M3YoB8z8+XJJTmlY93CfozDYWwB8qLGWhtIaqgSZCMsS7GT\
    V4i6icy9vC/HOlhzuOYnz8GgHWoYnDx9f30GQv2B0GeBkmmImo6w5/3qspWBLTJaBXhuJJJkry7HuIYbzFSEdAS6WT\
    ohwii8kLSnz8r7qvqTrV7VqsRaEh0CW5f9Jt/+bw70RsIOonxQIMYYpjY/07+0";
const RSA_SHA512: &str = "cfPUuN1EVHSsjDpCC5adr8erhTA8RfuYEVOfct3R6urkkKz3XatvX1PtwXOzTv/nZq5tGT/eP1mWTAcGmbEDumNB9N\
    0etxJfKCd3xCUMneRSQIQ/uIRSQjE+X/Zrf24lj7sVOPmRHXRyCCiPmTj+x0dfHx36V06+I297emakd3O5KY+supbi\
    RVeXw8jMZd14u4xl3cuLMHtI3dS4+ZhTPFnQmZwQQ12p5OlEvVYshXJCDSnvAfuE2PByisKaO5Ff33gfsXVmoVEi1V\
    KyxTDbM87XeQ9tAd6NPFk3bnAOGzW5ur6K19YgWMh/2iDeRGDpXU+9JB6WcXzEegaGDV4aba4baIl4D9zH2ikyoomu\
    +0TDStuG3bsjUXm8TCa+mfAaT4OGzsgL4L9RgOuWfzAQRtQHnZp5zeo3X4BLqIhHKs5wT68twphavAxaa6uGGhg6R7\
    QNUwyX7h2mjbyu+wEtmUTm+SxsmjLefaTwd3GW20rN95gqcKg9wwLxxzNyCsjg";

fn packed(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    fields.iter().for_each(|field| put_string(&mut bytes, field));
    bytes
}

/// The fields of an ECDSA signature: two numbers, each in its shortest form.
fn numbers(signature: &[u8]) -> Vec<u8> {
    let short = |number: &[u8]| {
        let number = &number[number.iter().position(|byte| *byte != 0).unwrap()..];
        if number[0] < 0x80 { number.to_vec() } else { [&[0], number].concat() }
    };
    let (r, s) = signature.split_at(signature.len() / 2);
    packed(&[&short(r), &short(s)])
}

/// A key of each curve, and what it signs. The seeds give numbers that begin with zeros, too.
fn on_curve(curve: Curve, seed: u8, message: &[u8]) -> (PublicKey, Vec<u8>) {
    let (name, point, signature): (&[u8], Vec<u8>, Vec<u8>) = match curve {
        Curve::P256 => {
            let key = p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap();
            let signature: p256::ecdsa::Signature = key.sign(message);
            (b"nistp256", key.verifying_key().to_encoded_point(false).as_bytes().to_vec(), signature.to_vec())
        }
        Curve::P384 => {
            let key = p384::ecdsa::SigningKey::from_slice(&[seed; 48]).unwrap();
            let signature: p384::ecdsa::Signature = key.sign(message);
            (b"nistp384", key.verifying_key().to_encoded_point(false).as_bytes().to_vec(), signature.to_vec())
        }
        Curve::P521 => {
            let key = p521::ecdsa::SigningKey::from_slice(&[&[0; 2][..], &[seed; 64]].concat()).unwrap();
            let point = p521::ecdsa::VerifyingKey::from(&key).to_encoded_point(false).as_bytes().to_vec();
            let signature: p521::ecdsa::Signature = key.sign(message);
            (b"nistp521", point, signature.to_vec())
        }
    };
    let key = PublicKey::from_blob(&packed(&[curve.kind().as_bytes(), name, &point])).unwrap();
    (key, numbers(&signature))
}

#[test]
fn a_key_on_each_curve_signs_what_it_signed_in_one_form() {
    let message = b"content\n";
    for (curve, expected) in [(Curve::P256, "P256"), (Curve::P384, "P384"), (Curve::P521, "P521")] {
        for seed in 1..10 {
            let (key, numbers) = on_curve(curve, seed, message);
            assert!(key.is_supported() && key.kind() == curve.kind() && PublicKey::is_kind(key.kind()));
            assert!(format!("{key:?}").contains(&format!("Point({expected})")));
            let kind = key.kind().as_bytes();
            let check = |numbers: &[u8], message: &[u8]| key.check(message, &packed(&[kind, numbers]));
            assert_eq!(check(&numbers, message), Ok(()), "{curve:?} {seed}");
            assert_eq!(check(&numbers, b"content"), Err(SignatureFlaw::Wrong), "{curve:?} {seed}");
            assert_eq!(check(&[&numbers[..], &[0]].concat(), message), Err(SignatureFlaw::Malformed));
            assert_eq!(check(&numbers[..numbers.len() - 1], message), Err(SignatureFlaw::Malformed));
            let long = packed(&[&[1; 67], &[1]]);
            assert_eq!(check(&long, message), Err(SignatureFlaw::Malformed));
            let after = [packed(&[kind, &numbers]), vec![0]].concat();
            assert_eq!(key.check(message, &after), Err(SignatureFlaw::Malformed));
        }
    }
}

#[test]
fn a_point_must_be_on_the_curve_that_its_key_names() {
    let (key, _) = on_curve(Curve::P256, 1, b"");
    let point = &key.blob[key.blob.len() - 65..];
    let read =
        |name: &[u8], point: &[u8]| PublicKey::from_blob(&packed(&[b"ecdsa-sha2-nistp256", name, point])).map(drop);
    assert_eq!(read(b"nistp256", point), Ok(()));
    assert_eq!(read(b"nistp384", point), Err(KeyFlaw::Malformed));
    assert_eq!(read(b"nistp256", &point[..64]), Err(KeyFlaw::Malformed));
    assert_eq!(read(b"nistp256", &[&[2], &point[1..33]].concat()), Err(KeyFlaw::Malformed));
    assert_eq!(read(b"nistp256", &[&[6], &point[1..]].concat()), Err(KeyFlaw::Malformed));
    let mut off = point.to_vec();
    off[64] ^= 1;
    assert_eq!(read(b"nistp256", &off), Err(KeyFlaw::Weak));
}

#[test]
fn an_rsa_key_signs_with_both_hashes_and_neither_for_the_other() {
    let key = PublicKey::from_words(RSA, RSA_KEY).unwrap();
    let [sha256, sha512] = [RSA_SHA256, RSA_SHA512].map(|text| STANDARD.decode(text).unwrap());
    let check = |name: &str, bytes: &[u8]| key.check(b"content\n", &packed(&[name.as_bytes(), bytes]));
    assert_eq!(check("rsa-sha2-256", &sha256), Ok(()));
    assert_eq!(check("rsa-sha2-512", &sha512), Ok(()));
    assert_eq!(check("rsa-sha2-512", &sha256), Err(SignatureFlaw::Wrong));
    assert_eq!(check("rsa-sha2-256", &sha512), Err(SignatureFlaw::Wrong));
    let other = SignatureFlaw::OtherAlgorithm { key: RSA.into(), found: RSA.into() };
    assert_eq!(check(RSA, &sha256), Err(other));
}

#[test]
fn an_rsa_key_has_3072_to_8192_bits() {
    let why = |first: &[u8], bytes: usize| {
        let number = [first, &vec![1; bytes - 1]].concat();
        let key = PublicKey::from_blob(&packed(&[RSA.as_bytes(), &[1, 0, 1], &number])).unwrap();
        key.unsupported().map(|why| why.to_string())
    };
    assert_eq!(why(&[0, 0x80], 384), None);
    assert_eq!(why(&[0, 0x80], 1024), None);
    assert_eq!(why(&[0x7f], 384).unwrap(), "an RSA key of 3071 bits is too short; 3072 is the least");
    assert_eq!(why(&[1], 1025).unwrap(), "an RSA key of 8193 bits is too long; 8192 is the most");
}

#[test]
fn a_key_in_a_security_key_signs_when_somebody_touched_it() {
    let inside = SigningKey::from_bytes(&[5; 32]);
    let point = inside.verifying_key();
    let key = PublicKey::from_blob(&packed(&[SK_ED25519.as_bytes(), point.as_bytes(), b"ssh:"])).unwrap();
    let signed = |flags: u8, counter: u32| {
        let head = [&Sha256::digest(b"ssh:")[..], &[flags], &counter.to_be_bytes()].concat();
        let bytes = inside.sign(&[&head[..], &Sha256::digest(b"content\n")].concat()).to_bytes();
        [&packed(&[SK_ED25519.as_bytes(), &bytes])[..], &[flags], &counter.to_be_bytes()].concat()
    };
    for (flags, expected) in
        [(1, Ok(())), (5, Ok(())), (0, Err(SignatureFlaw::NotTouched)), (4, Err(SignatureFlaw::NotTouched))]
    {
        assert_eq!(key.check(b"content\n", &signed(flags, 7)), expected, "{flags}");
    }
    let good = signed(1, 7);
    let last = good.len() - 1;
    assert_eq!(key.check(b"content", &good), Err(SignatureFlaw::Wrong));
    assert_eq!(key.check(b"content\n", &[&good[..last], &[8]].concat()), Err(SignatureFlaw::Wrong));
    assert_eq!(key.check(b"content\n", &good[..last]), Err(SignatureFlaw::Malformed));
    assert_eq!(key.check(b"content\n", &[&good[..], &[0]].concat()), Err(SignatureFlaw::Malformed));
    let point = p256::ecdsa::SigningKey::from_slice(&[3; 32]).unwrap().verifying_key().to_encoded_point(false);
    let ecdsa = packed(&[SK_ECDSA.as_bytes(), b"nistp256", point.as_bytes(), b"ssh:"]);
    assert_eq!(PublicKey::from_blob(&ecdsa).unwrap().kind(), SK_ECDSA);
    let short = packed(&[SK_ECDSA.as_bytes(), b"nistp256", point.as_bytes()]);
    assert_eq!(PublicKey::from_blob(&short), Err(KeyFlaw::Malformed));
}

#[test]
fn a_kind_that_signs_nothing_here_says_what_to_do() {
    let why = |kind: &str| {
        assert!(PublicKey::is_kind(kind));
        let key = PublicKey::from_blob(&packed(&[kind.as_bytes()])).unwrap();
        assert!(!key.is_supported());
        assert!(matches!(key.check(b"", b""), Err(SignatureFlaw::Unsupported(_))));
        key.unsupported().unwrap().to_string()
    };
    assert_eq!(why("ssh-dss"), "keys of kind ssh-dss are not supported");
    let certificate =
        "a certificate (ssh-rsa-cert-v01@openssh.com) signs nothing here; list its authority with cert-authority";
    assert_eq!(why("ssh-rsa-cert-v01@openssh.com"), certificate);
    assert!(!PublicKey::is_kind("ssh-rot13"));
}
