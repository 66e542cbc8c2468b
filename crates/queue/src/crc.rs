//! crc32c of two runs of bytes from those of each: so a body is looked at once where its own checksum
//! and that of its record are both wanted.

/// The polynomial of crc32c, reflected: bit 31 is the term without x.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x to the power of 2^n; a body of 4 GiB has 2^35 bits.
const POWERS: [u32; 36] = powers();

/// `first`: of what comes first. `second`: of what follows, `length` bytes.
///
/// Appending bytes multiplies the checksum before them by x to the power of their bits.
pub(crate) fn combine(first: u32, second: u32, length: u32) -> u32 {
    let mut factor = 1 << 31;
    // Eight bits a byte: from the third power on.
    for (bit, &power) in POWERS.iter().skip(3).take(32).enumerate() {
        if (length >> bit) & 1 == 1 {
            factor = multiply(power, factor);
        }
    }
    multiply(factor, first) ^ second
}

const fn powers() -> [u32; 36] {
    let mut powers = [1 << 30; 36];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = multiply(powers[n - 1], powers[n - 1]);
        n += 1;
    }
    powers
}

/// Two polynomials, modulo the third.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut term = 1 << 31;
    while term != 0 {
        if a & term != 0 {
            product ^= b;
        }
        b = if b & 1 == 1 {
            (b >> 1) ^ POLYNOMIAL
        } else {
            b >> 1
        };
        term >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_combined_is_the_checksum_of_both() {
        let bytes: Vec<u8> = (0..70_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
        for at in [0, 1, 2, 255, 4096, 65_536, 69_999, 70_000] {
            let (first, second) = bytes.split_at(at);
            let combined = combine(
                crc32c::crc32c(first),
                crc32c::crc32c(second),
                second.len() as u32,
            );
            assert_eq!(combined, crc32c::crc32c(&bytes), "{at}");
        }
    }

    #[test]
    fn the_longest_length_is_combined_as_the_library_does_it() {
        let (first, second, length) = (0x1234_5678, 0x9abc_def0, u32::MAX);
        let expected = crc32c::crc32c_combine(first, second, length as usize);
        assert_eq!(combine(first, second, length), expected);
    }
}
