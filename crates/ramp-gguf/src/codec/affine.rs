//! What Q4_K and Q5_K share: a super-block of 8 sub-blocks of 32 weights, each with a 6-bit scale and minimum.

use half::f16;

use super::QK_K;
use super::lanes::{AffineSearch, Rows, each, make_qkx_quants, nearest_int, to_codes, to_lanes};
use super::scale_search::make_qp_quants;

/// Sub-blocks per super-block.
const L: usize = 8;
/// Weights per sub-block.
const N: usize = 32;

/// The search without importance, where the two types differ.
#[derive(Copy, Clone)]
pub(super) struct Affine {
    /// The largest code: 15 or 31.
    pub(super) nmax: i32,
    pub(super) search: AffineSearch,
    /// Whether a scale or minimum that the search with importance leaves outside 6 bits is clamped. Only Q5_K's
    /// is: in Q4_K it spills into its neighbour's bits. Upstream's oversight, and its bytes.
    pub(super) clamp_weighted: bool,
}

/// The search with importance, the same for both types.
const WEIGHTED: AffineSearch = AffineSearch { rmin: -0.9, rdelta: 0.05, nstep: 36 };

/// A super-block before its codes are packed.
pub(super) struct SuperBlock {
    pub(super) d: f16,
    pub(super) dmin: f16,
    /// Packed 6-bit scales and minima.
    pub(super) scales: [u8; 12],
    /// One code per weight, in order.
    pub(super) codes: [u8; QK_K],
}

impl Affine {
    pub(super) fn fit(self, weights: &[f32; QK_K], importance: Option<&[f32; QK_K]>) -> SuperBlock {
        let nmax = self.nmax as f32;
        let x: Rows<L, N> = to_lanes(weights);
        let mut rows = [[0.0; L]; N];
        let (mut ls, mut lm) = ([0_u8; L], [0_u8; L]);
        let (d, dmin);
        match importance {
            None => {
                let w = own_weights(&x);
                let (scales, mins) = make_qkx_quants::<L, N, false>(nmax, &x, &w, self.search, &mut rows);
                (d, ls) = nearest_scales(&scales);
                (dmin, lm) = nearest_scales(&mins);
            }
            Some(importance) => {
                let w = importance_weights(weights, &x, importance);
                let mut sub_block_weight = [0.0; L];
                for row in &w {
                    sub_block_weight = each(|lane| sub_block_weight[lane] + row[lane]);
                }
                let (scales, mins) = make_qkx_quants::<L, N, true>(nmax, &x, &w, WEIGHTED, &mut rows);
                d = f16::from_f32(make_qp_quants(63, &scales, &sub_block_weight, &mut ls));
                dmin = f16::from_f32(make_qp_quants(63, &mins, &sub_block_weight, &mut lm));
                if self.clamp_weighted {
                    (ls, lm) = (ls.map(|code| code.min(63)), lm.map(|code| code.min(63)));
                }
            }
        }
        let mut block = SuperBlock { d, dmin, scales: pack_scales(&ls, &lm), codes: [0; QK_K] };
        to_codes(&rows, &mut block.codes);
        block.requantize(weights, self.nmax);
        block
    }
}

impl SuperBlock {
    /// Rounds the weights again with the scales as they are stored. Sub-blocks of scale 0 keep their codes.
    fn requantize(&mut self, weights: &[f32; QK_K], nmax: i32) {
        let (weights, _) = weights.as_chunks::<N>();
        let (codes, _) = self.codes.as_chunks_mut::<N>();
        for (j, (codes, weights)) in codes.iter_mut().zip(weights).enumerate() {
            let (scale, min) = unpack_scale(j, &self.scales);
            let d = self.d.to_f32() * f32::from(scale);
            if d == 0.0 {
                continue;
            }
            let dm = self.dmin.to_f32() * f32::from(min);
            for (code, &weight) in codes.iter_mut().zip(weights) {
                *code = nearest_int((weight + dm) / d).clamp(0, nmax) as u8;
            }
        }
    }

    /// Whether the block decodes to finite weights.
    pub(super) fn is_finite(&self) -> bool {
        self.d.is_finite() && self.dmin.is_finite()
    }
}

/// Weights of the error without importance: root mean square of the sub-block plus magnitude.
fn own_weights(x: &Rows<L, N>) -> Rows<L, N> {
    let mut sum_x2 = [0.0_f32; L];
    for row in x {
        sum_x2 = each(|lane| sum_x2[lane] + row[lane] * row[lane]);
    }
    let av_x: [f32; L] = each(|lane| (sum_x2[lane] / 32.0).sqrt());
    let mut w = *x;
    for row in &mut w {
        *row = each(|lane| av_x[lane] + row[lane].abs());
    }
    w
}

/// Weights of the error with importance: `importance * sqrt(sigma^2 + x^2)`, `sigma^2` twice the mean square of
/// the super-block.
fn importance_weights(weights: &[f32; QK_K], x: &Rows<L, N>, importance: &[f32; QK_K]) -> Rows<L, N> {
    let sigma2 = 2.0 * weights.iter().fold(0.0, |sum, x| sum + x * x) / QK_K as f32;
    let mut w: Rows<L, N> = to_lanes(importance);
    for (w, x) in w.iter_mut().zip(x) {
        *w = each(|lane| w[lane] * (sigma2 + x[lane] * x[lane]).sqrt());
    }
    w
}

/// 6-bit codes relative to the largest number, and the factor that multiplies them.
fn nearest_scales(x: &[f32; L]) -> (f16, [u8; L]) {
    let max = x.iter().fold(0.0_f32, |max, &x| if x > max { x } else { max });
    let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
    (f16::from_f32(max / 63.0), x.map(|x| (nearest_int(inverse * x) as u8).min(63)))
}

/// Packs 8 scales and 8 minima of 6 bits: four of each in bytes 0..8, whose top bits hold the top bits of the
/// other four, whose low nibbles share bytes 8..12.
fn pack_scales(ls: &[u8; L], lm: &[u8; L]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = ls[j] | (ls[j + 4] >> 4) << 6;
        packed[j + 4] = lm[j] | (lm[j + 4] >> 4) << 6;
        packed[j + 8] = (ls[j + 4] & 0xf) | (lm[j + 4] & 0xf) << 4;
    }
    packed
}

/// Scale and minimum of sub-block `j` (`get_scale_min_k4`).
pub(super) fn unpack_scale(j: usize, packed: &[u8; 12]) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let low = packed[j + 4];
        ((low & 0xf) | (packed[j - 4] >> 6) << 4, (low >> 4) | (packed[j] >> 6) << 4)
    }
}
