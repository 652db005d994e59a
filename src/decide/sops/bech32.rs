//! Writes bytes as Bech32, the text form of age identities.
//!
//! Only writes, since the age crate reads; used for the identity that is derived from an ssh key.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// `name1data` with its checksum (BIP 173), in lower case.
pub fn encode(name: &str, bytes: &[u8]) -> Zeroizing<String> {
    let groups = groups_of_five(bytes);
    let mut text = Zeroizing::new(String::with_capacity(name.len() + groups.len() + 7));
    text.push_str(name);
    text.push('1');
    let letters = groups.iter().copied().chain(checksum(name, &groups));
    for group in letters {
        text.push(char::from(ALPHABET[usize::from(group & 31)]));
    }
    text
}

fn groups_of_five(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut groups = Zeroizing::new(Vec::with_capacity(bytes.len() * 8 / 5 + 1));
    let (mut pending, mut bits) = (0u32, 0);
    for byte in bytes {
        pending = (pending << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            groups.push((pending >> bits) as u8 & 31);
        }
        pending &= (1 << bits) - 1;
    }
    if bits > 0 {
        groups.push((pending << (5 - bits)) as u8 & 31);
    }
    groups
}

fn checksum(name: &str, groups: &[u8]) -> [u8; 6] {
    let high = name.bytes().map(|letter| letter >> 5);
    let low = name.bytes().map(|letter| letter & 31);
    let values = high.chain([0]).chain(low).chain(groups.iter().copied()).chain([0; 6]);
    let sum = values.fold(1u32, step) ^ 1;
    std::array::from_fn(|index| (sum >> (5 * (5 - index))) as u8 & 31)
}

fn step(sum: u32, value: u8) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
    let top = sum >> 25;
    let shifted = ((sum & 0x01ff_ffff) << 5) ^ u32::from(value);
    GENERATOR.iter().enumerate().filter(|(bit, _)| (top >> bit) & 1 == 1).fold(shifted, |sum, (_, term)| sum ^ term)
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn the_empty_vector_of_bip_173_is_right() {
        assert_eq!(*encode("a", &[]), "a12uel5l");
    }
}
