//! The searches of one sub-block.

use super::super::vector::nearest_int;

const EPS: f32 = 1e-15;

/// The first number of the largest magnitude.
fn signed_max(x: &[f32]) -> f32 {
    x.iter().fold(0.0_f32, |max, &x| if x.abs() > max.abs() { x } else { max })
}

/// `make_qx_quants`: codes from 0, and the scale.
pub(super) fn make_qx(nmax: i32, x: &[f32], w: &[f32]) -> (f32, Vec<u8>) {
    let max = signed_max(x);
    if max.abs() < EPS {
        return (0.0, vec![0; x.len()]);
    }
    let code = |iscale: f32, x: f32| nearest_int(iscale * x).clamp(-nmax, nmax - 1);
    let sums = |iscale: f32| {
        x.iter().zip(w).fold((0.0, 0.0), |(lx, l2), (&x, &w)| {
            let l = code(iscale, x) as f32;
            (lx + w * x * l, l2 + w * l * l)
        })
    };
    let mut best_iscale = -nmax as f32 / max;
    let (lx, l2) = sums(best_iscale);
    let mut scale = if l2 != 0.0 { lx / l2 } else { 0.0 };
    let mut best = scale * lx;
    for step in (-9..=9).filter(|step| *step != 0) {
        let iscale = -(nmax as f32 + 0.1 * step as f32) / max;
        let (lx, l2) = sums(iscale);
        if l2 > 0.0 && lx * lx > best * l2 {
            (scale, best_iscale) = (lx / l2, iscale);
            best = scale * lx;
        }
    }
    (scale, x.iter().map(|&x| (code(best_iscale, x) + nmax) as u8).collect())
}

/// `make_q3_quants`: codes from 0, and the scale.
pub(super) fn make_q3(nmax: i32, x: &[f32]) -> (f32, Vec<u8>) {
    let max = signed_max(x);
    if max.abs() < EPS {
        return (0.0, vec![0; x.len()]);
    }
    let iscale = -nmax as f32 / max;
    let mut codes: Vec<i32> = x.iter().map(|x| nearest_int(iscale * x).clamp(-nmax, nmax - 1)).collect();
    let (mut lx, mut l2) = (0.0, 0.0);
    for (&x, &l) in x.iter().zip(&codes) {
        lx += x * x * x * l as f32;
        l2 += x * x * l as f32 * l as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (&x, code) in x.iter().zip(&mut codes) {
            let (w, l) = (x * x, *code as f32);
            let (mut slx, mut sl2) = (lx - w * x * l, l2 - w * l * l);
            if slx > 0.0 {
                let new = nearest_int(x * sl2 / slx).clamp(-nmax, nmax - 1);
                if new != *code {
                    slx += w * x * new as f32;
                    sl2 += w * new as f32 * new as f32;
                    if sl2 > 0.0 && slx * slx * l2 > lx * lx * sl2 {
                        (*code, lx, l2, changed) = (new, slx, sl2, true);
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    (if l2 > 0.0 { lx / l2 } else { 0.0 }, codes.iter().map(|l| (l + nmax) as u8).collect())
}

/// Candidates of [`make_qkx`].
#[derive(Copy, Clone)]
pub(super) struct Candidates {
    pub(super) rmin: f32,
    pub(super) rdelta: f32,
    pub(super) nstep: i32,
    /// `make_qkx3_quants`, not 2.
    pub(super) clamp_first: bool,
    pub(super) mad: bool,
}

pub(super) const WEIGHTED: Candidates =
    Candidates { rmin: -0.9, rdelta: 0.05, nstep: 36, clamp_first: true, mad: false };

/// `make_qkx2_quants` and `make_qkx3_quants`: scale, negated minimum and codes.
pub(super) fn make_qkx(nmax: i32, x: &[f32], w: &[f32], how: Candidates) -> (f32, f32, Vec<u8>) {
    let (mut min, mut max, mut sum_w, mut sum_x) = (x[0], x[0], w[0], w[0] * x[0]);
    for (&x, &w) in x.iter().zip(w).skip(1) {
        min = if x < min { x } else { min };
        max = if x > max { x } else { max };
        sum_w += w;
        sum_x += w * x;
    }
    min = if min > 0.0 { 0.0 } else { min };
    if max <= min {
        return (0.0, -min, vec![0; x.len()]);
    }
    let error = |scale: f32, min: f32, codes: &[u8]| {
        x.iter().zip(w).zip(codes).fold(0.0, |error, ((x, w), &l)| {
            let diff = scale * f32::from(l) + min - x;
            error + w * if how.mad { diff.abs() } else { diff * diff }
        })
    };
    let iscale = nmax as f32 / (max - min);
    let mut scale = 1.0 / iscale;
    let mut codes: Vec<u8> = x.iter().map(|x| nearest_int(iscale * (x - min)).clamp(0, nmax) as u8).collect();
    let mut best = error(scale, min, &codes);
    for step in 0..=how.nstep {
        let iscale = (how.rmin + how.rdelta * step as f32 + nmax as f32) / (max - min);
        let candidate: Vec<u8> = x
            .iter()
            .map(|x| {
                let v = iscale * (x - min);
                if !how.clamp_first {
                    nearest_int(v).clamp(0, nmax) as u8
                } else if v > 0.0 {
                    nearest_int(if v < nmax as f32 { v } else { nmax as f32 }) as u8
                } else {
                    0
                }
            })
            .collect();
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0, 0.0, 0.0);
        for ((x, w), &l) in x.iter().zip(w).zip(&candidate) {
            let l = f32::from(l);
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * x;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            if this_min > 0.0 {
                (this_min, this_scale) = (0.0, sum_xl / sum_l2);
            }
            let this_error = error(this_scale, this_min, &candidate);
            if this_error < best {
                (best, scale, min, codes) = (this_error, this_scale, this_min, candidate);
            }
        }
    }
    (scale, -min, codes)
}

/// `make_qp_quants`: the factor, and codes as a `uint8_t` holds them.
pub(super) fn make_qp(nmax: i32, x: &[f32], w: &[f32]) -> (f32, Vec<u8>) {
    let max = x.iter().fold(0.0_f32, |max, &x| if max > x { max } else { x });
    if max < EPS {
        return (0.0, vec![0; x.len()]);
    }
    let mut iscale = nmax as f32 / max;
    let error = |iscale: f32, code: fn(i32, i32) -> f32| {
        let scale = 1.0 / iscale;
        x.iter().zip(w).fold(0.0, |error, (x, w)| {
            let diff = x - scale * code(nearest_int(iscale * x), nmax);
            error + w * diff * diff
        })
    };
    let mut best = error(iscale, |l, _| f32::from(l as u8));
    for step in (-4..=4).filter(|step| *step != 0) {
        let candidate = (0.1 * step as f32 + nmax as f32) / max;
        let this = error(candidate, |l, nmax| l.min(nmax) as f32);
        if this < best {
            (best, iscale) = (this, candidate);
        }
    }
    let (mut lx, mut l2) = (0.0, 0.0);
    let mut codes = Vec::new();
    for (x, w) in x.iter().zip(w) {
        let l = nearest_int(iscale * x).min(nmax);
        codes.push(l as u8);
        lx += w * x * l as f32;
        l2 += w * l as f32 * l as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for ((x, w), code) in x.iter().zip(w).zip(&mut codes) {
            let l = f32::from(*code);
            let (mut slx, mut sl2) = (lx - w * x * l, l2 - w * l * l);
            if slx > 0.0 && sl2 > 0.0 {
                let new = nearest_int(x * sl2 / slx).min(nmax);
                if new != i32::from(*code) {
                    slx += w * x * new as f32;
                    sl2 += w * new as f32 * new as f32;
                    if slx * slx * l2 > lx * lx * sl2 {
                        (*code, lx, l2, changed) = (new as u8, slx, sl2, true);
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    (if l2 > 0.0 { lx / l2 } else { 0.0 }, codes)
}

const VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// `best_index_int8` over the codebook of IQ4, by halves and by distance.
pub(super) fn best_index(x: f32) -> u8 {
    let value = |i: usize| f32::from(VALUES[i]);
    if x <= value(0) {
        return 0;
    }
    if x >= value(15) {
        return 15;
    }
    let (mut low, mut high) = (0, 15);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if x < value(middle) { high = middle } else { low = middle }
    }
    if x - value(high - 1) < value(high) - x { high as u8 - 1 } else { high as u8 }
}

/// The scale of a sub-block of IQ4.
pub(super) fn iq4_scale(x: &[f32], w: &[f32]) -> f32 {
    let max = signed_max(x);
    if max.abs() < EPS {
        return 0.0;
    }
    let sums = |inverse: f32| {
        x.iter().zip(w).fold((0.0, 0.0), |(qx, q2), (&x, &w)| {
            let q = f32::from(VALUES[usize::from(best_index(inverse * x))]);
            (qx + w * q * x, q2 + w * q * q)
        })
    };
    let (qx, q2) = sums(1.0 / (-max / f32::from(VALUES[0])));
    let mut scale = if q2 > 0.0 { qx / q2 } else { 0.0 };
    let mut best = scale * qx;
    for step in -7..=7 {
        let (qx, q2) = sums((step + i32::from(VALUES[0])) as f32 / max);
        if q2 > 0.0 && qx * qx > best * q2 {
            scale = qx / q2;
            best = scale * qx;
        }
    }
    scale
}
