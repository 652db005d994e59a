use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::decide::trust::mutations::Damage;

// Made with gpg 2.2: a primary key that certifies, and below it one that signs until 2026-01-01.
const KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n\
    mDMEZZIAgBYJKwYBBAHaRw8BAQdAhLGgZgT1187qt1rKpWGRK3uh8qSXPyh2ydXD\n\
    1Sw/ySy0GWFsaWNlIDxhbGljZUBleGFtcGxlLm9yZz6IkAQTFggAOBYhBLAkgy5G\n\
    E/+1iFdfTnmfBB3ZDgmpBQJlkgCAAhsBBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheA\n\
    AAoJEHmfBB3ZDgmpJbgA/iebHXV1SbqbT/N19MzYIy0B2SIrtFLXqqBvD5Wt7ZIt\n\
    AQDcq1wmGshlcEtI4+SK5/HZ9wscseAMszgQuFU8SnxNBbgzBGWSAIAWCSsGAQQB\n\
    2kcPAQEHQAelWLHuN10jnUIfpV6s8mNPLVq6Ra21LNdK0uPVX32DiPUEGBYIACYW\n\
    IQSwJIMuRhP/tYhXX055nwQd2Q4JqQUCZZIAgAIbAgUJA8O4gACBCRB5nwQd2Q4J\n\
    qXYgBBkWCAAdFiEELrTDfvMpE4YJ1nx1ORjDQJJP4YoFAmWSAIAACgkQORjDQJJP\n\
    4YofQgEAovbYeBgWA3a2nDvZJmCcYvPoFY4QIAactE3OmT7fkXkA/0AuPSoQylTc\n\
    fsr1VeFIRSTmKtmMCOWFvjDDXK0EqHAFYzoA/R9A6CXx4yPu438IJ/KGEykhWK/e\n\
    nlo/ZiVuEIunoaGMAQCoy9J88+jISkt5DzW38CEu6mVk82M8XZVb9eUZWEV2Cg==\n\
    =dcc2\n\
    -----END PGP PUBLIC KEY BLOCK-----\n";
// The same, of keys without subkeys: with `--cert-digest-algo SHA1`, and `--cert-notation '!x@example.org=y'`.
const KEY_BY_SHA1: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n\
    mDMEZZIAgBYJKwYBBAHaRw8BAQdAQ+YThdHiu+oGBLRHGd9nmFbnJYKoXa0ZtTlH\n\
    STjD5EO0BHNoYTGIkAQTFgIAOBYhBH0hBrVApXr0bjvKa2K05MVISoYIBQJlkgCA\n\
    AhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEGK05MVISoYItC0BAMNJ2P8C\n\
    RYSIC+2LVnVtXDuOGGkYKEnQOt8KwZVABwJyAPsGRUsr7dSj5r7fAEYUt0ehM+/U\n\
    AYto0n5zl/P/XwoHDg==\n\
    =72VK\n\
    -----END PGP PUBLIC KEY BLOCK-----\n";
const KEY_WITH_CONDITION: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n\
    mDMEZZIAgBYJKwYBBAHaRw8BAQdAOGp20hS4onhhvqpEjN9OAGAyCyRYFbsKzasS\n\
    OsT5Xcy0BGNvbmSIqAQTFggAUBYhBEzsF44aRBuzZat9ZlgT5MyR4BObBQJlkgCA\n\
    F5SAAAAAAA0AAXhAZXhhbXBsZS5vcmd5AhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4B\n\
    AheAAAoJEFgT5MyR4BOb1FMA/1dzzMCqz6vqRma5b/W0pVDrEiKGLT1wVxGhFTnt\n\
    M7otAP9AEkYdVMrcxeEIV+Z0INkigqtd8FUJ7Vy9spjHIOHkDg==\n\
    =nCpm\n\
    -----END PGP PUBLIC KEY BLOCK-----\n";
// The same, of other algorithms.
const KEY_NISTP256: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n\
    mFIEZZIAgBMIKoZIzj0DAQcCAwTt+lT3xplq+xxDXNEuG/kxM4Mjy06RIwT0smHB\n\
    y81hbTW0zHFHjD3DZMCyk7YACJo97IyTRWjSzEd4PBgg9KErtAlrbmlzdHAyNTaI\n\
    kAQTEwgAOBYhBNzmIiSDFX+qCZiP5bKMO7KYXtVqBQJlkgCAAhsDBQsJCAcCBhUK\n\
    CQgLAgQWAgMBAh4BAheAAAoJELKMO7KYXtVqnwoA/jnpW/gm8yFompBZcYNNboVz\n\
    3XxVZQKFGR/n/pt0el13AP4qfVqStA3ZKzrWswi6FyPskoC1swiHYy4w4OExdbI1\n\
    9A==\n\
    =jEz3\n\
    -----END PGP PUBLIC KEY BLOCK-----\n";
const KEY_RSA_2048: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n\
    mQENBGWSAIABCADffYTdBCC60+GY1vJe72WjWPmcKAhY/WLYwp8MwJ7OGoaVYxDU\n\
    2TMDJTZIyuwQ4pX73HH/T0a8K+J+FoPmoW1m6tFJcgzY4uLkM55ePc8hqDA8i2lR\n\
    7vRJ7UdkQn2DEDiRAM7hwWJm98QzZEZ1/8NqLZia8kznmqPoenZacTRAsDQCjTrV\n\
    5o6Cb2+iSx99CRcL7GzNv13FC1VPNCvgM7BX6hStNiZJG3Tzpcd+jJi2gdYuuQW9\n\
    3+Zbwk1wJa9pH+OBvkOzsabzO4d8AhaNsOaywNhIEvf2YBpnx/54FP3L3l4qpIp2\n\
    PaZl/xE9HxSycsiTPr+VSBXqLmRccTPAa2hBABEBAAG0CGtyc2EyMDQ4iQFOBBMB\n\
    CgA4FiEEbXycTlicmQqPY3p/4m5EQIRiG4gFAmWSAIACGwMFCwkIBwIGFQoJCAsC\n\
    BBYCAwECHgECF4AACgkQ4m5EQIRiG4htDwf/ZTCFRsSxWsWG6t5VzYVPWrSuINXP\n\
    ODAUc3vfdepYWZZ1NSzlW8Vl65PJYITP4JAkVfN+VDpi81x3RNqwefGQbsfLKu78\n\
    pOOGZeNR0kLte1kI4qdDV/0Hm3H6qrGKJjdzyNeLKAvRHfBlGWBKLJsOLiEuQFGT\n\
    I/aR9GpLKQxjkv2USObHeixYozAia51+bbwIkNLP0VxsRMe4NUmM63EODB1DDdJp\n\
    wOXZTDnw7XAX/SlOdBGvPf5cfHPtMEjHgIv58Xz51J9Vb2mVSQ4lpYGEq4kmIHis\n\
    pKHhTtiCOqjIKz0PzmRfhRfGuhjFvGEX9Qr12wJieLJN5GRqzC3n7TDAqQ==\n\
    =s2s0\n\
    -----END PGP PUBLIC KEY BLOCK-----\n";
// Over `content\n`, on 2025-10-09.
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----\n\n\
    iHUEABYIAB0WIQQutMN+8ykThgnWfHU5GMNAkk/higUCaOd4AAAKCRA5GMNAkk/h\n\
    iuTkAPwP+KulHOClIOZgEWcKovgbBie32gUhTss0noRivTnxFAD/ZyihbV7fuie3\n\
    Ne023ld+BztTT3WyPxccBVqIAA3Zugk=\n\
    =yiCT\n\
    -----END PGP SIGNATURE-----\n";
const SIGNED: i64 = 1_759_999_999;
const ENDS: i64 = 1_767_225_600;

fn ring(key: &str) -> Result<Keyring, (String, KeyringFlaw)> {
    Keyring::read(&BTreeMap::from([("alice.asc".to_owned(), key.as_bytes().to_vec())]))
}

/// Who signed, as words.
fn said(ring: &Keyring, signature: &str, payload: &str, at: Times) -> String {
    match ring.signer_of(signature.as_bytes(), payload.as_bytes(), at) {
        Ok(Verdict::Allowed(signer)) => format!("{} {}", signer.principal, signer.fingerprint),
        Ok(Verdict::Limited(_, limit)) => limit.to_string(),
        Ok(Verdict::Unknown(print)) => format!("unknown {print}"),
        Err(flaw) => flaw.to_string(),
    }
}

/// A block of the packets with these numbers.
fn of_packets(numbers: &[usize]) -> String {
    let bytes = armour::open(KEY.as_bytes(), "PGP PUBLIC KEY BLOCK").unwrap();
    let packets: Vec<Packet> = PacketParser::new(bytes.as_slice()).map(Result::unwrap).collect();
    assert_eq!(packets.len(), 5);
    let chosen: Vec<u8> = numbers.iter().flat_map(|number| packets[*number].to_bytes().unwrap()).collect();
    let (begin, end) = ("-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----");
    format!("{begin}\n\n{}\n{end}\n", STANDARD.encode(chosen))
}

#[test]
fn a_subkey_signs_within_its_time_and_only_what_it_signed() {
    let ring = ring(KEY).unwrap();
    assert!(ring.someone_signs() && ring.unsupported().next().is_none());
    let alice = "alice OpenPGP:B024832E4613FFB588575F4E799F041DD90E09A9";
    assert_eq!(said(&ring, SIGNATURE, "content\n", Times::at(SIGNED)), alice);
    assert_eq!(said(&ring, SIGNATURE, "content\n", Times::at(ENDS - 1)), alice);
    let wrong = "it does not fit the content that it should cover";
    assert_eq!(said(&ring, SIGNATURE, "content", Times::at(SIGNED)), wrong);
    let ended = "the key may not sign: its time ended before the date of the commit or of one below it";
    assert_eq!(said(&ring, SIGNATURE, "content\n", Times::at(ENDS)), ended);
    assert_eq!(said(&ring, SIGNATURE, "content\n", Times { stated: SIGNED, before: ENDS }), ended);
    let younger = "the key may not sign: it is younger than what it signed";
    assert_eq!(said(&ring, SIGNATURE, "content\n", Times::at(1_704_067_199)), younger);
    assert_eq!(said(&ring, SIGNATURE, "content\n", Times::at(1_704_067_200)), alice);
}

#[test]
fn only_what_the_owner_bound_to_the_key_signs() {
    let at = Times::at(SIGNED);
    let alice = "alice OpenPGP:B024832E4613FFB588575F4E799F041DD90E09A9";
    assert_eq!(said(&ring(&of_packets(&[0, 1, 2, 3, 4])).unwrap(), SIGNATURE, "content\n", at), alice);
    // Without the owner's word about the key itself.
    let ring_of = |numbers: &[usize]| ring(&of_packets(numbers)).unwrap();
    let nameless = "the key may not sign: it has no signature of its own that counts";
    assert_eq!(said(&ring_of(&[0, 3, 4]), SIGNATURE, "content\n", at), nameless);
    assert!(!ring_of(&[0, 3, 4]).someone_signs());
    // Without the subkey.
    let unknown = "unknown OpenPGP:2EB4C37EF329138609D67C753918C340924FE18A";
    let alone = ring_of(&[0, 1, 2]);
    assert_eq!(said(&alone, SIGNATURE, "content\n", at), unknown);
    let (file, why) = alone.unsupported().next().unwrap();
    assert_eq!((file.as_str(), why.ends_with("signs nothing: it is not for signing")), ("alice.asc", true));
    assert_eq!(said(&Keyring::default(), SIGNATURE, "content\n", at), unknown);
    // Without what binds it: the reader drops such a subkey.
    assert_eq!(said(&ring_of(&[0, 1, 2, 3]), SIGNATURE, "content\n", at), unknown);
    assert_eq!(ring(&of_packets(&[])).unwrap_err().1, KeyringFlaw::Empty);
    assert_eq!(ring(SIGNATURE).unwrap_err().1, KeyringFlaw::NotArmoured);
}

#[test]
fn what_an_owner_said_with_a_broken_hash_or_an_unknown_condition_does_not_count() {
    for (key, print) in [
        (KEY_BY_SHA1, "7D2106B540A57AF46E3BCA6B62B4E4C5484A8608"),
        (KEY_WITH_CONDITION, "4CEC178E1A441BB365AB7D665813E4CC91E0139B"),
    ] {
        let ring = ring(key).unwrap();
        let why = format!("key {print} signs nothing: it has no signature of its own that counts");
        assert_eq!(ring.unsupported().collect::<Vec<_>>(), [("alice.asc".to_owned(), why)]);
        assert!(!ring.someone_signs());
    }
}

#[test]
fn a_key_of_another_algorithm_or_too_short_signs_nothing() {
    for (key, why) in [
        (KEY_NISTP256, "keys of the algorithm ECDSA are not supported"),
        (KEY_RSA_2048, "it is an RSA key of 2048 bits; 3072 to 8192 are accepted"),
    ] {
        let ring = ring(key).unwrap();
        assert!(!ring.someone_signs());
        let found: Vec<_> = ring.unsupported().map(|(_, found)| found).collect();
        assert!(found.len() == 1 && found[0].ends_with(why), "{found:?}");
    }
}

#[test]
fn a_subkey_counts_only_with_the_word_of_both_keys() {
    let at = Times::at(SIGNED);
    let bytes = armour::open(KEY.as_bytes(), "PGP PUBLIC KEY BLOCK").unwrap();
    let with_flipped = |from_end: usize| {
        let mut changed = bytes.clone();
        let place = changed.len() - from_end;
        changed[place] ^= 1;
        let (begin, end) = ("-----BEGIN PGP PUBLIC KEY BLOCK-----", "-----END PGP PUBLIC KEY BLOCK-----");
        let ring = ring(&format!("{begin}\n\n{}\n{end}\n", STANDARD.encode(changed))).unwrap();
        said(&ring, SIGNATURE, "content\n", at)
    };
    let not = "the key may not sign: its subkey is not for signing";
    // The primary key's signature over the binding: the last bytes. Before it, where it covers nothing, the subkey's.
    assert_eq!(with_flipped(1), not);
    assert_eq!(with_flipped(1 + 2 + 34 + 34), not);
}

#[test]
fn a_signature_says_who_made_it_in_one_way_or_two_that_agree() {
    let ring = ring(KEY).unwrap();
    let bytes = armour::open(SIGNATURE.as_bytes(), "PGP SIGNATURE").unwrap();
    let area = bytes.windows(4).position(|window| window == [0, 10, 9, 16]).unwrap();
    let said = |bytes: &[u8]| {
        let (begin, end) = ("-----BEGIN PGP SIGNATURE-----", "-----END PGP SIGNATURE-----");
        let text = format!("{begin}\n\n{}\n{end}\n", STANDARD.encode(bytes));
        said(&ring, &text, "content\n", Times::at(SIGNED))
    };
    let alice = "alice OpenPGP:B024832E4613FFB588575F4E799F041DD90E09A9";
    assert_eq!(said(&bytes), alice);
    // Without the key id, the fingerprint says it.
    let mut alone = [&bytes[..area], &[0, 0], &bytes[area + 12..]].concat();
    alone[1] -= 10;
    assert_eq!(said(&alone), alice);
    // The key id of another.
    let mut other = bytes.clone();
    other[area + 4] ^= 1;
    assert_eq!(said(&other), "unknown OpenPGP:2EB4C37EF329138609D67C753918C340924FE18A");
}

#[test]
fn a_damaged_openpgp_signature_is_never_good() {
    let ring = ring(KEY).unwrap();
    let genuine = armour::open(SIGNATURE.as_bytes(), "PGP SIGNATURE");
    for seed in 0..20_000 {
        let damaged = Damage::new(seed).done_to(SIGNATURE.as_bytes());
        let found = ring.signer_of(&damaged, b"content\n", Times::at(SIGNED));
        if let Ok(Verdict::Allowed(_)) = found {
            // Of the armour, only the bytes inside count.
            assert_eq!(armour::open(&damaged, "PGP SIGNATURE"), genuine, "seed {seed}");
        }
    }
    let bytes = genuine.unwrap();
    // The length of the uncovered key id in its long form: the same packet to a reader, other bytes.
    let area = bytes.windows(4).position(|window| window == [0, 10, 9, 16]).unwrap();
    let mut long = [&bytes[..area], &[0, 14, 255, 0, 0, 0, 9], &bytes[area + 3..]].concat();
    long[1] += 4;
    let text = format!("-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n", STANDARD.encode(long));
    let found = ring.signer_of(text.as_bytes(), b"content\n", Times::at(SIGNED));
    assert!(matches!(found, Err(OpenPgpFlaw::Uncovered)));
    // The key id twice: one more than anybody needs, and anybody can add it.
    let mut twice = [&bytes[..area], &[0, 20], &bytes[area + 2..area + 12], &bytes[area + 2..]].concat();
    twice[1] += 10;
    let text = format!("-----BEGIN PGP SIGNATURE-----\n\n{}\n-----END PGP SIGNATURE-----\n", STANDARD.encode(twice));
    let found = ring.signer_of(text.as_bytes(), b"content\n", Times::at(SIGNED));
    assert!(matches!(found, Err(OpenPgpFlaw::Uncovered)));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            let (begin, end) = ("-----BEGIN PGP SIGNATURE-----", "-----END PGP SIGNATURE-----");
            let text = format!("{begin}\n\n{}\n{end}\n", STANDARD.encode(damaged));
            let found = ring.signer_of(text.as_bytes(), b"content\n", Times::at(SIGNED));
            assert!(!matches!(found, Ok(Verdict::Allowed(_))), "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_damaged_key_is_read_or_refused_in_printable_words() {
    for seed in 0..2_000 {
        let damaged = Damage::new(seed).done_to(KEY.as_bytes());
        match Keyring::read(&BTreeMap::from([("alice.asc".to_owned(), damaged)])) {
            Ok(ring) => drop((ring.someone_signs(), ring.unsupported().count())),
            Err((_, flaw)) => assert!(!flaw.to_string().chars().any(char::is_control), "seed {seed}: {flaw:?}"),
        }
    }
}

#[test]
fn an_openpgp_signature_may_have_16_kib_of_text() {
    let ring = ring(KEY).unwrap();
    let padded = |length: usize| {
        let text = SIGNATURE.replacen("\n\n", &"\n".repeat(2 + length - SIGNATURE.len()), 1);
        assert_eq!(text.len(), length);
        ring.signer_of(text.as_bytes(), b"content\n", Times::at(SIGNED)).map(drop)
    };
    assert_eq!(padded(16_384), Ok(()));
    assert_eq!(padded(16_385), Err(OpenPgpFlaw::NotArmoured));
}
