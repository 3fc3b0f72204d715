//! Q8_0: 8-bit codes with a scale per 32 weights.
//!
//! Bytes: `d` 0..2, codes 2..34. Weight: `d * code`.

use half::f16;

use super::{BlockCodec, F16_MAX};

pub(super) struct Q8_0;

impl BlockCodec<32, 34> for Q8_0 {
    const MAX: f32 = F16_MAX * 127.0;

    fn encode(weights: &[f32; 32], _importance: Option<&[f32; 32]>, block: &mut [u8; 34]) -> bool {
        let amax = weights.iter().fold(0.0_f32, |max, x| if max > x.abs() { max } else { x.abs() });
        let d = amax / 127.0;
        // The codes use the scale before it is rounded to 16 bits.
        let id = if d != 0.0 { 1.0 / d } else { 0.0 };
        let stored = f16::from_f32(d);
        block[..2].copy_from_slice(&stored.to_le_bytes());
        for (byte, &weight) in block[2..].iter_mut().zip(weights) {
            // Half away from zero here, unlike the K types.
            *byte = (weight * id).round() as i8 as u8;
        }
        stored.is_finite()
    }

    fn decode(block: &[u8; 34], weights: &mut [f32; 32]) {
        let d = f16::from_le_bytes([block[0], block[1]]).to_f32();
        for (weight, &byte) in weights.iter_mut().zip(&block[2..]) {
            *weight = d * f32::from(byte as i8);
        }
    }
}
