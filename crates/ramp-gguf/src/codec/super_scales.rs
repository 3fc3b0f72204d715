//! The two numbers of a super-block that are no codes: its scale of scales and its scale of minima.
//!
//! Weights are linear in them. A method that fits scales after the codes are chosen moves these, and the file keeps its
//! type and its size.

use bytemuck::{from_bytes, from_bytes_mut};

use super::grid::check;
use crate::block::{BlockIQ4XS, BlockQ2K, BlockQ3K, BlockQ4K, BlockQ5K, BlockQ6K, Half};
use crate::{Error, GgmlType, Result};

/// `d` and `dmin` of one encoded super-block, as in [`crate::block`]. Types without minima have a `dmin` of 0.
///
/// # Errors
/// [`Error::NoGrid`] for types other than those of [`has_grid`](crate::has_grid); [`Error::EncodedLength`] when `block` is
/// not one block.
pub fn super_scales(ty: GgmlType, block: &[u8]) -> Result<[f32; 2]> {
    check(ty, block)?;
    let [d, dmin] = match ty {
        GgmlType::Q2_K => {
            let BlockQ2K { d, dmin, .. } = *from_bytes(block);
            [d, dmin]
        }
        GgmlType::Q3_K => [from_bytes::<BlockQ3K>(block).d, Half::default()],
        GgmlType::Q4_K => {
            let BlockQ4K { d, dmin, .. } = *from_bytes(block);
            [d, dmin]
        }
        GgmlType::Q5_K => {
            let BlockQ5K { d, dmin, .. } = *from_bytes(block);
            [d, dmin]
        }
        GgmlType::Q6_K => [from_bytes::<BlockQ6K>(block).d, Half::default()],
        _ => [from_bytes::<BlockIQ4XS>(block).d, Half::default()],
    };
    Ok([d.to_f32(), dmin.to_f32()])
}

/// Replaces `d` and `dmin` of one encoded super-block by the nearest f16; codes and inner scales stay. `dmin` is ignored for
/// types without minima.
///
/// # Errors
/// As [`super_scales`]; [`Error::ScaleRange`] when a number is not finite as f16.
pub fn set_super_scales(ty: GgmlType, [d, dmin]: [f32; 2], block: &mut [u8]) -> Result<()> {
    check(ty, block)?;
    let half = |value: f32| {
        let half = Half::from_f32(value);
        if half.is_finite() { Ok(half) } else { Err(Error::ScaleRange { ty, value }) }
    };
    let d = half(d)?;
    match ty {
        GgmlType::Q2_K => {
            let block: &mut BlockQ2K = from_bytes_mut(block);
            (block.d, block.dmin) = (d, half(dmin)?);
        }
        GgmlType::Q3_K => from_bytes_mut::<BlockQ3K>(block).d = d,
        GgmlType::Q4_K => {
            let block: &mut BlockQ4K = from_bytes_mut(block);
            (block.d, block.dmin) = (d, half(dmin)?);
        }
        GgmlType::Q5_K => {
            let block: &mut BlockQ5K = from_bytes_mut(block);
            (block.d, block.dmin) = (d, half(dmin)?);
        }
        GgmlType::Q6_K => from_bytes_mut::<BlockQ6K>(block).d = d,
        _ => from_bytes_mut::<BlockIQ4XS>(block).d = d,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{QUANTIZED, decode, encode, has_grid};

    #[test]
    fn weights_are_linear_in_them() {
        for ty in QUANTIZED.iter().copied().filter(|&ty| has_grid(ty)) {
            let n = ty.block_size();
            let weights: Vec<f32> = (0..n).map(|i| (i as f32 * 0.71).sin() * 0.1 + 0.04).collect();
            let block = encode(ty, &weights, n, None).unwrap();
            let [d, dmin] = super_scales(ty, &block).unwrap();
            let with = |scales: [f32; 2]| {
                let mut block = block.clone();
                set_super_scales(ty, scales, &mut block).unwrap();
                let mut weights = vec![0.0; n];
                decode(ty, &block, &mut weights).unwrap();
                (block, weights)
            };
            let (same, decoded) = with([d, dmin]);
            assert_eq!(same, block, "{ty}");
            let ((_, of_d), (_, of_dmin)) = (with([1.0, 0.0]), with([0.0, 1.0]));
            assert!(of_d.iter().any(|&x| x != 0.0), "{ty}");
            for ((&w, a), b) in decoded.iter().zip(&of_d).zip(&of_dmin) {
                assert!((w - (d * a + dmin * b)).abs() < 1e-6, "{ty}: {w} {a} {b}");
            }
            assert_eq!(super_scales(ty, &with([0.5, 0.25]).0).unwrap()[0], 0.5, "{ty}");
        }
    }

    #[test]
    fn other_types_and_infinite_scales_are_refused() {
        assert!(matches!(super_scales(GgmlType::F16, &[0; 2]), Err(Error::NoGrid { .. })));
        assert!(matches!(super_scales(GgmlType::Q4_K, &[0; 143]), Err(Error::EncodedLength { .. })));
        let mut block = [0; 144];
        for bad in [[1e6, 0.0], [0.0, f32::NAN]] {
            let refused = set_super_scales(GgmlType::Q4_K, bad, &mut block);
            assert!(matches!(refused, Err(Error::ScaleRange { .. })), "{bad:?}");
        }
    }
}
