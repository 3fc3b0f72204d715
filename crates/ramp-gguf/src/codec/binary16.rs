//! binary16 in plain integer arithmetic, which the compiler turns into vectors.

/// The number with these bits. A NaN stays a NaN.
#[inline(always)]
pub(crate) fn to_f32(bits: u16) -> f32 {
    let magnitude = u32::from(bits & 0x7fff) << 13;
    // The exponent moved to its place, but with the bias of binary16; the product corrects it exactly, and gives
    // subnormal numbers their leading zeros.
    let value = f32::from_bits(magnitude) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(value.to_bits() | special | u32::from(bits & 0x8000) << 16)
}

/// The bits of the nearest number, half to even; infinity beyond 65504 and a half step; NaN as `0x7e00`, signed.
#[inline(always)]
pub(crate) fn from_f32(value: f32) -> u16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    // Half of the step that is lost, and one more where the last bit that stays is odd.
    let normal = magnitude.wrapping_add(0x0fff + (magnitude >> 13 & 1)).wrapping_sub(112 << 23) >> 13;
    // Below 2^-14: the sum with 0.5 has the step of a subnormal binary16, 2^-24.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5_f32.to_bits());
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
    let large = if magnitude > 0x7f80_0000 { 0x7e00 } else { 0x7c00 };
    // The first number that rounds to infinity.
    let unsigned = if magnitude >= 0x477f_f000 { large } else { finite };
    (unsigned | bits >> 16 & 0x8000) as u16
}

/// Whether these are the bits of a finite number.
#[inline(always)]
pub(crate) fn is_finite(bits: u16) -> bool {
    bits & 0x7c00 != 0x7c00
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::*;

    #[test]
    fn every_binary16_is_read_as_half_reads_it() {
        for bits in 0..=u16::MAX {
            let (expected, found) = (f16::from_bits(bits).to_f32(), to_f32(bits));
            assert!(
                expected.to_bits() == found.to_bits() || expected.is_nan() && found.is_nan(),
                "{bits:#x}"
            );
        }
    }

    #[test]
    fn numbers_around_every_step_round_as_half_rounds_them() {
        let check = |bits: u32| {
            let value = f32::from_bits(bits);
            let expected = f16::from_f32(value);
            let found = from_f32(value);
            assert!(
                expected.to_bits() == found || value.is_nan() && f16::from_bits(found).is_nan(),
                "{value:e}"
            );
        };
        // All patterns of the upper 16 bits, with lower bits at and around the middle between two steps.
        for high in 0..=u32::from(u16::MAX) {
            for low in
                [0, 1, 0xfff, 0x1000, 0x1001, 0x1fff, 0x2000, 0x3000, 0x7fff, 0x8000, 0x9000, 0xf000, 0xffff]
            {
                check(high << 16 | low);
            }
        }
    }
}
