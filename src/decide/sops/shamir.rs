//! Puts a data key together again from the shares of key groups (Shamir, GF(2^8), as in HashiCorp Vault).
//!
//! A share is the value of one polynomial per byte of the key, followed by the x it was evaluated at. The
//! arithmetic has no table and no branch that depends on a secret.

use zeroize::Zeroizing;

/// Interpolates at zero. `None` if the shares do not fit each other.
pub fn combine(shares: &[Zeroizing<Vec<u8>>]) -> Option<Zeroizing<Vec<u8>>> {
    let length = shares.first()?.len();
    let fits = shares.len() >= 2 && length >= 2 && shares.iter().all(|share| share.len() == length);
    if !fits {
        return None;
    }
    let places: Vec<u8> = shares.iter().filter_map(|share| share.last().copied()).collect();
    let distinct = places.iter().enumerate().all(|(index, x)| *x != 0 && !places[..index].contains(x));
    if !distinct {
        return None;
    }
    let weights: Vec<u8> = (0..places.len()).map(|index| weight_at_zero(&places, index)).collect();
    let mut secret = Zeroizing::new(vec![0; length - 1]);
    for (share, weight) in shares.iter().zip(weights) {
        for (byte, value) in secret.iter_mut().zip(share.iter()) {
            *byte ^= multiply(*value, weight);
        }
    }
    Some(secret)
}

/// The Lagrange weight of one share: the product of `x / (x - own)` over the other places.
fn weight_at_zero(places: &[u8], index: usize) -> u8 {
    let own = places[index];
    places
        .iter()
        .enumerate()
        .filter(|(other, _)| *other != index)
        .fold(1, |weight, (_, x)| multiply(weight, multiply(*x, inverse(*x ^ own))))
}

/// Product in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
fn multiply(left: u8, right: u8) -> u8 {
    let (mut left, mut product) = (left, 0);
    for bit in 0..8 {
        product ^= left & 0u8.wrapping_sub((right >> bit) & 1);
        let carry = 0u8.wrapping_sub(left >> 7);
        left = (left << 1) ^ (carry & 0x1b);
    }
    product
}

/// The inverse is the 254th power, since the group has 255 elements.
fn inverse(element: u8) -> u8 {
    let mut power = element;
    let mut result = 1;
    for _ in 0..7 {
        power = multiply(power, power);
        result = multiply(result, power);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_times_its_inverse_is_one() {
        for element in 1..=255 {
            assert_eq!(multiply(element, inverse(element)), 1);
        }
    }

    #[test]
    fn shares_of_a_line_give_its_value_at_zero() {
        let line = |x: u8| Zeroizing::new(vec![0x42 ^ multiply(0x99, x), 7 ^ multiply(0x13, x), x]);
        let secret = combine(&[line(5), line(200), line(31)]).expect("the shares fit");
        assert_eq!(*secret, [0x42, 7]);
    }

    #[test]
    fn shares_that_do_not_fit_are_refused() {
        let share = |bytes: &[u8]| Zeroizing::new(bytes.to_vec());
        assert!(combine(&[]).is_none());
        assert!(combine(&[share(&[1, 2])]).is_none());
        assert!(combine(&[share(&[1, 2]), share(&[1, 2])]).is_none());
        assert!(combine(&[share(&[1, 2]), share(&[1, 2, 3])]).is_none());
        assert!(combine(&[share(&[1, 0]), share(&[1, 2])]).is_none());
    }
}
