//! The search for the codes of all sub-blocks of a super-block at once.
//!
//! ggml fits one sub-block after the other, each with a running sum over its weights that must be added up in
//! order to give the same bytes. Here the sub-blocks are the lanes of a vector: weight `i` of all sub-blocks is
//! one row `[f32; L]`, every sum runs over the rows in ggml's order, and a branch of the original is a selection
//! per lane. The bytes are the same, and the compiler vectorises the inner loops.

/// `N` rows of `L` lanes: `rows[i][lane]` belongs to weight `i` of sub-block `lane`.
pub(super) type Rows<const L: usize, const N: usize> = [[f32; L]; N];

/// `GROUP_MAX_EPS`: a sub-block with no larger magnitude is stored as zeros.
pub(super) const GROUP_MAX_EPS: f32 = 1e-15;

/// 1.5 * 2^23: adding it leaves the integer part of a small number in the low bits, rounded half to even.
const ROUND_MAGIC: f32 = 12_582_912.0;

/// `nearest_int`, including what it gives for numbers beyond its range of +-4194303.
#[inline(always)]
pub(super) fn nearest_int(value: f32) -> i32 {
    ((value + ROUND_MAGIC).to_bits() & 0x007f_ffff) as i32 - 0x0040_0000
}

/// Turns `L` consecutive sub-blocks of `N` weights into rows of lanes.
pub(super) fn to_lanes<const L: usize, const N: usize>(weights: &[f32]) -> Rows<L, N> {
    let mut rows = [[0.0; L]; N];
    for (lane, sub_block) in weights.chunks_exact(N).enumerate() {
        for (row, &weight) in rows.iter_mut().zip(sub_block) {
            row[lane] = weight;
        }
    }
    rows
}

/// Turns rows of lanes with small non-negative numbers back into consecutive codes.
pub(super) fn to_codes<const L: usize, const N: usize>(rows: &Rows<L, N>, codes: &mut [u8]) {
    for (lane, sub_block) in codes.chunks_exact_mut(N).enumerate() {
        for (code, row) in sub_block.iter_mut().zip(rows) {
            *code = row[lane] as u8;
        }
    }
}

/// A value per lane.
#[inline(always)]
pub(super) fn each<const L: usize>(value: impl Fn(usize) -> f32) -> [f32; L] {
    std::array::from_fn(value)
}

/// The signed value of the first element of the largest magnitude, per lane (0 when all are 0).
#[inline(always)]
fn signed_max<const L: usize, const N: usize>(x: &Rows<L, N>) -> [f32; L] {
    let (mut max, mut amax) = ([0.0_f32; L], [0.0_f32; L]);
    for row in x {
        for lane in 0..L {
            let ax = row[lane].abs();
            let larger = ax > amax[lane];
            max[lane] = if larger { row[lane] } else { max[lane] };
            amax[lane] = if larger { ax } else { amax[lane] };
        }
    }
    max
}

/// `make_qx_quants` with weights: per lane the scale `s` that minimises `sum w (x - s q)^2` over the codes
/// `q` in `-nmax..nmax` of 19 candidate scales. `codes` receives `q + nmax`, and 0 in lanes of zeros.
pub(super) fn make_qx_quants<const L: usize, const N: usize>(
    nmax: f32,
    x: &Rows<L, N>,
    w: &Rows<L, N>,
    codes: &mut Rows<L, N>,
) -> [f32; L] {
    let max = signed_max(x);
    let code = |iscale: f32, x: f32| {
        // Within range for `nearest_int`, and so the same as rounding and clamping as an integer.
        let rounded = (iscale * x + ROUND_MAGIC) - ROUND_MAGIC;
        let low = if rounded > -nmax { rounded } else { -nmax };
        if low < nmax - 1.0 { low } else { nmax - 1.0 }
    };
    let sums = |iscale: &[f32; L]| {
        let (mut sumlx, mut suml2) = ([0.0_f32; L], [0.0_f32; L]);
        for (x, w) in x.iter().zip(w) {
            for lane in 0..L {
                let l = code(iscale[lane], x[lane]);
                sumlx[lane] += w[lane] * x[lane] * l;
                suml2[lane] += w[lane] * l * l;
            }
        }
        (sumlx, suml2)
    };

    let mut best_iscale: [f32; L] = each(|lane| -nmax / max[lane]);
    let (sumlx, suml2) = sums(&best_iscale);
    let mut scale: [f32; L] = each(|lane| if suml2[lane] != 0.0 { sumlx[lane] / suml2[lane] } else { 0.0 });
    let mut best: [f32; L] = each(|lane| scale[lane] * sumlx[lane]);
    for step in (-9..=9).filter(|&step| step != 0) {
        let iscale: [f32; L] = each(|lane| -(nmax + 0.1 * step as f32) / max[lane]);
        let (sumlx, suml2) = sums(&iscale);
        for lane in 0..L {
            let better = suml2[lane] > 0.0 && sumlx[lane] * sumlx[lane] > best[lane] * suml2[lane];
            let fit = sumlx[lane] / suml2[lane];
            scale[lane] = if better { fit } else { scale[lane] };
            best[lane] = if better { fit * sumlx[lane] } else { best[lane] };
            best_iscale[lane] = if better { iscale[lane] } else { best_iscale[lane] };
        }
    }
    let zero: [bool; L] = std::array::from_fn(|lane| max[lane].abs() < GROUP_MAX_EPS);
    for (codes, x) in codes.iter_mut().zip(x) {
        *codes = each(|lane| if zero[lane] { 0.0 } else { code(best_iscale[lane], x[lane]) + nmax });
    }
    each(|lane| if zero[lane] { 0.0 } else { scale[lane] })
}

/// `make_q3_quants` with `do_rmse`: as [`make_qx_quants`] with weights `x^2`, but improves the codes of one
/// starting scale by coordinate descent. `codes` receives `q + nmax`, and 0 in lanes of zeros.
pub(super) fn make_q3_quants<const L: usize, const N: usize>(
    nmax: i32,
    x: &Rows<L, N>,
    codes: &mut Rows<L, N>,
) -> [f32; L] {
    let max = signed_max(x);
    let (mut sumlx, mut suml2) = ([0.0_f32; L], [0.0_f32; L]);
    for (codes, x) in codes.iter_mut().zip(x) {
        for lane in 0..L {
            let iscale = -(nmax as f32) / max[lane];
            let l = nearest_int(iscale * x[lane]).clamp(-nmax, nmax - 1) as f32;
            let w = x[lane] * x[lane];
            sumlx[lane] += w * x[lane] * l;
            suml2[lane] += w * l * l;
            codes[lane] = l;
        }
    }
    // A lane that a whole sweep leaves as it is stays so in later sweeps: sweeping on for the sake of the other
    // lanes is the same as stopping.
    for _ in 0..5 {
        let mut changed = false;
        for (codes, x) in codes.iter_mut().zip(x) {
            for lane in 0..L {
                let (x, l) = (x[lane], codes[lane]);
                let w = x * x;
                let slx = sumlx[lane] - w * x * l;
                let sl2 = suml2[lane] - w * l * l;
                let new_l = nearest_int(x * sl2 / slx).clamp(-nmax, nmax - 1) as f32;
                let new_slx = slx + w * x * new_l;
                let new_sl2 = sl2 + w * new_l * new_l;
                let better = slx > 0.0
                    && new_l != l
                    && new_sl2 > 0.0
                    && new_slx * new_slx * suml2[lane] > sumlx[lane] * sumlx[lane] * new_sl2;
                codes[lane] = if better { new_l } else { l };
                sumlx[lane] = if better { new_slx } else { sumlx[lane] };
                suml2[lane] = if better { new_sl2 } else { suml2[lane] };
                changed |= better;
            }
        }
        if !changed {
            break;
        }
    }
    let zero: [bool; L] = std::array::from_fn(|lane| max[lane].abs() < GROUP_MAX_EPS);
    for codes in codes.iter_mut() {
        *codes = each(|lane| if zero[lane] { 0.0 } else { codes[lane] + nmax as f32 });
    }
    each(|lane| if !zero[lane] && suml2[lane] > 0.0 { sumlx[lane] / suml2[lane] } else { 0.0 })
}

/// How [`make_qkx_quants`] searches.
#[derive(Copy, Clone)]
pub(super) struct AffineSearch {
    /// Candidate `step` has the inverse scale `(rmin + rdelta * step + nmax) / range`.
    pub(super) rmin: f32,
    pub(super) rdelta: f32,
    /// The last step, included.
    pub(super) nstep: i32,
}

/// `make_qkx2_quants` and `make_qkx3_quants` with squared error: per lane the scale and the minimum `m >= 0` that
/// minimise `sum w (s q - m - x)^2` over the codes `q` in `0..=nmax` of the candidate scales, each refitted by
/// weighted least squares. Returns scales and minima; `codes` receives `q`.
///
/// `CLAMP_FIRST` is the difference between the two: whether a candidate's code is clamped before it is rounded
/// (3) or after (2). It shows only for numbers that [`nearest_int`] is not made for.
pub(super) fn make_qkx_quants<const L: usize, const N: usize, const CLAMP_FIRST: bool>(
    nmax: f32,
    x: &Rows<L, N>,
    w: &Rows<L, N>,
    search: AffineSearch,
    codes: &mut Rows<L, N>,
) -> ([f32; L], [f32; L]) {
    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = w[0];
    let mut sum_x: [f32; L] = each(|lane| w[0][lane] * x[0][lane]);
    for (x, w) in x.iter().zip(w).skip(1) {
        for lane in 0..L {
            min[lane] = if x[lane] < min[lane] { x[lane] } else { min[lane] };
            max[lane] = if x[lane] > max[lane] { x[lane] } else { max[lane] };
            sum_w[lane] += w[lane];
            sum_x[lane] += w[lane] * x[lane];
        }
    }
    min = each(|lane| if min[lane] > 0.0 { 0.0 } else { min[lane] });
    let flat: [bool; L] = std::array::from_fn(|lane| max[lane] <= min[lane]);
    let flat_min = min;

    let rounded = |v: f32| nearest_int(v).clamp(0, nmax as i32) as f32;
    let mut scale: [f32; L] = each(|lane| 1.0 / (nmax / (max[lane] - min[lane])));
    let mut best_error = [0.0_f32; L];
    for ((codes, x), w) in codes.iter_mut().zip(x).zip(w) {
        for lane in 0..L {
            let iscale = nmax / (max[lane] - min[lane]);
            let l = rounded(iscale * (x[lane] - min[lane]));
            let diff = scale[lane] * l + min[lane] - x[lane];
            best_error[lane] += w[lane] * (diff * diff);
            codes[lane] = l;
        }
    }

    let mut candidate = [[0.0_f32; L]; N];
    for step in 0..=search.nstep {
        // `min` is that of the best fit so far, not of the data: a property of the original that decides bytes.
        let iscale: [f32; L] =
            each(|lane| (search.rmin + search.rdelta * step as f32 + nmax) / (max[lane] - min[lane]));
        let (mut sum_l, mut sum_l2, mut sum_xl) = ([0.0_f32; L], [0.0_f32; L], [0.0_f32; L]);
        for ((codes, x), w) in candidate.iter_mut().zip(x).zip(w) {
            for lane in 0..L {
                let v = iscale[lane] * (x[lane] - min[lane]);
                let l = if CLAMP_FIRST {
                    let low = if v > 0.0 { v } else { 0.0 };
                    let clamped = if low < nmax { low } else { nmax };
                    (clamped + ROUND_MAGIC) - ROUND_MAGIC
                } else {
                    rounded(v)
                };
                let wl = w[lane] * l;
                sum_l[lane] += wl;
                sum_l2[lane] += wl * l;
                sum_xl[lane] += wl * x[lane];
                codes[lane] = l;
            }
        }
        let (mut this_scale, mut this_min, mut solvable) = ([0.0_f32; L], [0.0_f32; L], [false; L]);
        for lane in 0..L {
            let determinant = sum_w[lane] * sum_l2[lane] - sum_l[lane] * sum_l[lane];
            let fit_scale = (sum_w[lane] * sum_xl[lane] - sum_x[lane] * sum_l[lane]) / determinant;
            let fit_min = (sum_l2[lane] * sum_x[lane] - sum_l[lane] * sum_xl[lane]) / determinant;
            let positive = fit_min > 0.0;
            this_min[lane] = if positive { 0.0 } else { fit_min };
            this_scale[lane] = if positive { sum_xl[lane] / sum_l2[lane] } else { fit_scale };
            solvable[lane] = determinant > 0.0;
        }
        let mut error = [0.0_f32; L];
        for ((codes, x), w) in candidate.iter().zip(x).zip(w) {
            for lane in 0..L {
                let diff = this_scale[lane] * codes[lane] + this_min[lane] - x[lane];
                error[lane] += w[lane] * (diff * diff);
            }
        }
        let better: [bool; L] =
            std::array::from_fn(|lane| !flat[lane] && solvable[lane] && error[lane] < best_error[lane]);
        if better.contains(&true) {
            for lane in 0..L {
                best_error[lane] = if better[lane] { error[lane] } else { best_error[lane] };
                scale[lane] = if better[lane] { this_scale[lane] } else { scale[lane] };
                min[lane] = if better[lane] { this_min[lane] } else { min[lane] };
            }
            for (codes, candidate) in codes.iter_mut().zip(&candidate) {
                *codes = each(|lane| if better[lane] { candidate[lane] } else { codes[lane] });
            }
        }
    }
    for codes in codes.iter_mut() {
        *codes = each(|lane| if flat[lane] { 0.0 } else { codes[lane] });
    }
    (
        each(|lane| if flat[lane] { 0.0 } else { scale[lane] }),
        each(|lane| if flat[lane] { -flat_min[lane] } else { -min[lane] }),
    )
}
