//! IQ4_NL: 4-bit codes of uneven steps with a scale per 32 weights.
//!
//! | bytes | what |
//! |---|---|
//! | 0..2 | `d`, binary16 |
//! | 2..18 | codes: byte `l` has weight `l` in its low, weight `l + 16` in its high nibble |
//!
//! Weight: `d * KVALUES[code]`, with the values of [`KVALUES`](super::search::KVALUES).

use super::legacy::unpack_nibbles;
use super::search::{Rows, best_index, make_iq4_scales, rows_of_blocks, squares, sum};
use super::vector::{MAX_LANES, Vector};
use super::{BlockCodec, F16_MAX, Importance, binary16, scale_kvalues};

/// Weights per block.
const N: usize = 32;

pub(super) struct Iq4Nl;

impl BlockCodec<N, 18> for Iq4Nl {
    const MAX: f32 = F16_MAX * 127.0;

    #[inline(always)]
    fn encode<V: Vector>(
        weights: &[[f32; N]],
        importance: Importance<'_, N>,
        blocks: &mut [[u8; 18]],
    ) -> bool {
        let mut finite = true;
        for (group, (weights, blocks)) in
            weights.chunks(V::LANES).zip(blocks.chunks_mut(V::LANES)).enumerate()
        {
            let x: Rows<V, N> = rows_of_blocks(weights);
            let mut w = squares(&x);
            if let Some(importance) = importance {
                let mut lanes = [[0.0; N]; MAX_LANES];
                for (lane, w) in lanes[..weights.len()].iter_mut().enumerate() {
                    *w = importance[(group * V::LANES + lane) % importance.len()];
                }
                let importance: Rows<V, N> = rows_of_blocks(&lanes);
                let sigma2 = sum(&w) * V::splat(2.0 / N as f32);
                for i in 0..N {
                    w[i] = importance[i] * (sigma2 + w[i]).sqrt();
                }
            }
            let mut scales = [0.0; MAX_LANES];
            make_iq4_scales(&x, &w).store(&mut scales);
            for ((weights, block), scale) in weights.iter().zip(blocks).zip(scales) {
                let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
                let mut codes = [0; N];
                for (code, &weight) in codes.iter_mut().zip(weights) {
                    *code = best_index(inverse * weight);
                }
                finite &= binary16::write(scale, block);
                for l in 0..16 {
                    block[2 + l] = codes[l] | codes[l + 16] << 4;
                }
            }
        }
        finite
    }

    #[inline(always)]
    fn decode<V: Vector>(block: &[u8; 18], weights: &mut [f32; N]) {
        let d = binary16::read(block);
        scale_kvalues::<V>(d, &unpack_nibbles(&block[2..]), weights);
    }
}
