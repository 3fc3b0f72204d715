//! Super-blocks of 256 weights.

use super::super::vector::nearest_int;
use super::search::{Candidates, WEIGHTED, best_index, iq4_scale, make_q3, make_qkx, make_qp, make_qx};
use super::{half_bytes, half_rounded, sum, sum_of_squares, weigh};

/// Weights of the errors of the sub-blocks of `n` weights.
fn weights(
    x: &[f32],
    importance: Option<&[f32]>,
    sigma: f32,
    n: usize,
    own: fn(&[f32]) -> Vec<f32>,
) -> Vec<Vec<f32>> {
    let sigma2 = sigma * sum_of_squares(x) / 256.0;
    let each = x.chunks(n).enumerate();
    each.map(|(j, x)| importance.map_or_else(|| own(x), |w| weigh(x, &w[j * n..][..n], sigma2))).collect()
}

fn squares(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| x * x).collect()
}

/// Scales and minima of a super-block relative to the largest.
fn relative(x: &[f32], top: f32) -> (f32, Vec<u8>) {
    let max = x.iter().fold(0.0_f32, |max, &x| if x > max { x } else { max });
    let inverse = if max > 0.0 { top / max } else { 0.0 };
    (max / top, x.iter().map(|x| nearest_int(inverse * x) as u8).collect())
}

/// Codes again, with the scales as they are stored.
fn again(codes: &mut [u8], x: &[f32], d: f32, m: f32, low: i32, high: i32) {
    if d != 0.0 {
        for (code, x) in codes.iter_mut().zip(x) {
            *code = (nearest_int((x + m) / d).clamp(low, high) - low) as u8;
        }
    }
}

struct Affine {
    scales: Vec<f32>,
    mins: Vec<f32>,
    codes: Vec<u8>,
    sums: Vec<f32>,
}

fn affine(nmax: i32, x: &[f32], w: &[Vec<f32>], how: Candidates) -> Affine {
    let mut out = Affine { scales: vec![], mins: vec![], codes: vec![], sums: vec![] };
    for (x, w) in x.chunks(w[0].len()).zip(w) {
        let (scale, min, codes) = make_qkx(nmax, x, w, how);
        out.scales.push(scale);
        out.mins.push(min);
        out.codes.extend(codes);
        out.sums.push(sum(w));
    }
    out
}

pub(super) fn q2_k(x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let w = weights(x, importance, 1.0, 16, |x| x.iter().map(|x| x.abs()).collect());
    let plain = Candidates { rmin: -0.5, rdelta: 0.1, nstep: 15, clamp_first: false, mad: true };
    let mut fit = affine(3, x, &w, if importance.is_some() { WEIGHTED } else { plain });
    let quantize =
        |x: &[f32]| if importance.is_some() { make_qp(15, x, &fit.sums) } else { relative(x, 15.0) };
    let ((d, ls), (dmin, lm)) = (quantize(&fit.scales), quantize(&fit.mins));
    let mut bytes: Vec<u8> = ls.iter().zip(&lm).map(|(s, m)| s | m << 4).collect();
    for j in 0..16 {
        let (d, m) =
            (half_rounded(d) * f32::from(bytes[j] & 15), half_rounded(dmin) * f32::from(bytes[j] >> 4));
        again(&mut fit.codes[16 * j..][..16], &x[16 * j..], d, m, 0, 3);
    }
    bytes.extend(two_bits(&fit.codes));
    bytes.extend(half_bytes(d));
    bytes.extend(half_bytes(dmin));
    bytes
}

fn two_bits(codes: &[u8]) -> Vec<u8> {
    let byte = |h: &[u8], l: usize| (0..4).fold(0, |byte, k| byte | (h[l + 32 * k] & 3) << (2 * k));
    codes.chunks(128).flat_map(|half| (0..32).map(move |l| byte(half, l))).collect()
}

pub(super) fn q3_k(x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let (mut scales, mut codes, mut sums) = (vec![], vec![], vec![]);
    for (x, w) in x.chunks(16).zip(weights(x, importance, 2.0, 16, squares)) {
        let (scale, found) = if importance.is_some() { make_qx(4, x, &w) } else { make_q3(4, x) };
        scales.push(scale);
        codes.extend(found);
        sums.push(sum(&w));
    }
    let (d, ls) = if importance.is_some() {
        make_qx(32, &scales, &sums)
    } else {
        let max = scales.iter().fold(0.0_f32, |max, &x| if x.abs() > max.abs() { x } else { max });
        let inverse = -32.0 / max;
        let code = |x: &f32| (i32::from(nearest_int(inverse * x) as i8).clamp(-32, 31) + 32) as u8;
        if max == 0.0 { (0.0, vec![0; 16]) } else { (1.0 / inverse, scales.iter().map(code).collect()) }
    };
    for j in 0..16 {
        let d = half_rounded(d) * (f32::from(ls[j]) - 32.0);
        again(&mut codes[16 * j..][..16], &x[16 * j..], d, 0.0, -4, 3);
    }
    let mut bytes: Vec<u8> =
        (0..32).map(|l| (0..8).fold(0, |b, k| b | (codes[32 * k + l] >> 2) << k)).collect();
    bytes.extend(two_bits(&codes));
    bytes.extend((0..8).map(|j| (ls[j] & 15) | (ls[j + 8] & 15) << 4));
    bytes.extend((0..4).map(|j| (0..4).fold(0, |b, k| b | (ls[j + 4 * k] >> 4) << (2 * k))));
    bytes.extend(half_bytes(d));
    bytes
}

pub(super) fn q4_or_q5_k(x: &[f32], importance: Option<&[f32]>, nmax: i32) -> Vec<u8> {
    let own = |x: &[f32]| {
        let rms = (sum_of_squares(x) / 32.0).sqrt();
        x.iter().map(|x| rms + x.abs()).collect()
    };
    let (rmin, nstep) = if nmax == 15 { (-1.0, 20) } else { (-0.5, 15) };
    let plain = Candidates { rmin, rdelta: 0.1, nstep, clamp_first: false, mad: false };
    let w = weights(x, importance, 2.0, 32, own);
    let mut fit = affine(nmax, x, &w, if importance.is_some() { WEIGHTED } else { plain });
    let quantize =
        |x: &[f32]| if importance.is_some() { make_qp(63, x, &fit.sums) } else { relative(x, 63.0) };
    let ((d, mut ls), (dmin, mut lm)) = (quantize(&fit.scales), quantize(&fit.mins));
    if importance.is_none() || nmax == 31 {
        ls.iter_mut().chain(&mut lm).for_each(|code| *code = 63.min(*code));
    }
    let mut s = [0_u8; 12];
    for j in 0..4 {
        s[j] = ls[j] | ls[j + 4] >> 4 << 6;
        s[j + 4] = lm[j] | lm[j + 4] >> 4 << 6;
        s[j + 8] = (ls[j + 4] & 15) | (lm[j + 4] & 15) << 4;
    }
    for j in 0..8 {
        // As they are read: codes that did not fit have spilled.
        let (scale, min) = match j {
            0..4 => (s[j] & 63, s[j + 4] & 63),
            _ => ((s[j + 4] & 15) | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4),
        };
        let (d, m) = (half_rounded(d) * f32::from(scale), half_rounded(dmin) * f32::from(min));
        again(&mut fit.codes[32 * j..][..32], &x[32 * j..], d, m, 0, nmax);
    }
    let mut bytes = [half_bytes(d), half_bytes(dmin)].concat();
    bytes.extend(s);
    if nmax == 31 {
        bytes.extend((0..32).map(|l| (0..8).fold(0, |b, k| b | (fit.codes[32 * k + l] >> 4) << k)));
    }
    let nibbles = |pair: &[u8], l: usize| (pair[l] & 15) | (pair[l + 32] & 15) << 4;
    bytes.extend(fit.codes.chunks(64).flat_map(|pair| (0..32).map(move |l| nibbles(pair, l))));
    bytes
}

pub(super) fn q6_k(x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let (mut scales, mut codes) = (vec![], vec![]);
    for (j, x) in x.chunks(16).enumerate() {
        let w = importance.map_or_else(|| squares(x), |w| w[16 * j..][..16].to_vec());
        let (scale, found) = make_qx(32, x, &w);
        scales.push(scale);
        codes.extend(found);
    }
    let max = scales.iter().fold(0.0_f32, |max, &x| if x.abs() > max.abs() { x } else { max });
    if max.abs() < 1e-15 {
        return vec![0; 210];
    }
    let inverse = -128.0 / max;
    let d = 1.0 / inverse;
    let ls: Vec<i8> = scales.iter().map(|x| nearest_int(inverse * x).min(127) as i8).collect();
    for j in 0..16 {
        again(&mut codes[16 * j..][..16], &x[16 * j..], half_rounded(d) * f32::from(ls[j]), 0.0, -32, 31);
    }
    let mut bytes = vec![];
    for half in codes.chunks(128) {
        bytes.extend((0..64).map(|l| (half[l] & 15) | (half[l + 64] & 15) << 4));
    }
    for half in codes.chunks(128) {
        bytes.extend((0..32).map(|l| (0..4).fold(0, |b, k| b | (half[32 * k + l] >> 4) << (2 * k))));
    }
    bytes.extend(ls.iter().map(|l| *l as u8));
    bytes.extend(half_bytes(d));
    bytes
}

pub(super) fn iq4_xs(x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let w = weights(x, importance, 2.0, 32, squares);
    let scales: Vec<f32> = x.chunks(32).zip(&w).map(|(x, w)| iq4_scale(x, w)).collect();
    let max = scales.iter().fold(0.0_f32, |max, &x| if x.abs() > max.abs() { x } else { max });
    let invert = |x: f32| if x != 0.0 { 1.0 / x } else { 0.0 };
    let d = -max / 32.0;
    let ls: Vec<i32> = scales.iter().map(|x| nearest_int(invert(d) * x).clamp(-32, 31)).collect();
    let mut bytes = half_bytes(d).to_vec();
    let high: u16 = (0..8).map(|j| ((ls[j] + 32) as u16 >> 4) << (2 * j)).sum();
    bytes.extend(high.to_le_bytes());
    bytes.extend((0..4).map(|j| ((ls[2 * j] + 32) & 15 | ((ls[2 * j + 1] + 32) & 15) << 4) as u8));
    for (x, &l) in x.chunks(32).zip(&ls) {
        let inverse = invert(d * l as f32);
        let codes: Vec<u8> = x.iter().map(|x| best_index(inverse * x)).collect();
        bytes.extend((0..16).map(|l| codes[l] | codes[l + 16] << 4));
    }
    bytes
}
