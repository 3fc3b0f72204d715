//! Codes of 2 to 8 bits in a row of bytes, the lowest bits first.

/// Appends `values`, each of `bits` bits, filled up to a whole byte.
pub(super) fn pack(values: &[u8], bits: u8, bytes: &mut Vec<u8>) {
    let (mut pending, mut filled) = (0u16, 0u8);
    for &value in values {
        pending |= u16::from(value) << filled;
        filled += bits;
        if filled >= 8 {
            bytes.push(pending as u8);
            pending >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        bytes.push(pending as u8);
    }
}

/// Reads as many values as `values` has room for. `bytes` must hold them all.
pub(super) fn unpack(bytes: &[u8], bits: u8, values: &mut [u8]) {
    let (mut pending, mut filled) = (0u16, 0u8);
    let mut bytes = bytes.iter();
    let mask = u8::MAX >> (8 - bits);
    for value in values {
        if filled < bits {
            pending |= u16::from(*bytes.next().expect("the caller checked the length")) << filled;
            filled += 8;
        }
        *value = pending as u8 & mask;
        pending >>= bits;
        filled -= bits;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lowest_bits_come_first() {
        let mut bytes = Vec::new();
        pack(&[0b001, 0b010, 0b111, 0b101], 3, &mut bytes);
        assert_eq!(bytes, [0b1101_0001, 0b0000_1011]);
    }

    proptest! {
        #[test]
        fn packing_loses_nothing(bits in 2u8..=8, values in prop::collection::vec(any::<u8>(), 0..100)) {
            let values: Vec<u8> = values.iter().map(|value| value >> (8 - bits)).collect();
            let mut bytes = Vec::new();
            pack(&values, bits, &mut bytes);
            prop_assert_eq!(bytes.len(), (values.len() * usize::from(bits)).div_ceil(8));
            let mut unpacked = vec![0; values.len()];
            unpack(&bytes, bits, &mut unpacked);
            prop_assert_eq!(unpacked, values);
        }
    }
}
