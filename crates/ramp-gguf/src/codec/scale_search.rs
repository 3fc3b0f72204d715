//! The search for the integer scales of a super-block.

use super::lanes::{GROUP_MAX_EPS, nearest_int};

/// `make_qp_quants`: codes `0..=nmax` of `N` non-negative numbers, and the factor that multiplies them, with the
/// smallest weighted squared error. Codes are stored as ggml's `uint8_t`, wrapping.
pub(super) fn make_qp_quants<const N: usize>(
    nmax: i32,
    x: &[f32; N],
    w: &[f32; N],
    codes: &mut [u8; N],
) -> f32 {
    let max = x.iter().fold(0.0_f32, |max, &x| if max > x { max } else { x });
    if max < GROUP_MAX_EPS {
        *codes = [0; N];
        return 0.0;
    }
    let squared_error = |iscale: f32, code: &dyn Fn(f32) -> f32| {
        let scale = 1.0 / iscale;
        let mut error = 0.0;
        for (&x, &w) in x.iter().zip(w) {
            let diff = x - scale * code(iscale * x);
            error += w * diff * diff;
        }
        error
    };
    let mut best_iscale = nmax as f32 / max;
    let mut best_error = squared_error(best_iscale, &|v| f32::from(nearest_int(v) as u8));
    for step in (-4..=4).filter(|&step| step != 0) {
        let iscale = (0.1 * step as f32 + nmax as f32) / max;
        let error = squared_error(iscale, &|v| nearest_int(v).min(nmax) as f32);
        if error < best_error {
            best_error = error;
            best_iscale = iscale;
        }
    }

    let (mut sumlx, mut suml2) = (0.0_f32, 0.0_f32);
    for ((code, &x), &w) in codes.iter_mut().zip(x).zip(w) {
        let l = nearest_int(best_iscale * x).min(nmax);
        *code = l as u8;
        sumlx += w * x * l as f32;
        suml2 += w * l as f32 * l as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for ((code, &x), &w) in codes.iter_mut().zip(x).zip(w) {
            let l = f32::from(*code);
            let mut slx = sumlx - w * x * l;
            let mut sl2 = suml2 - w * l * l;
            if slx > 0.0 && sl2 > 0.0 {
                let new_l = nearest_int(x * sl2 / slx).min(nmax);
                if new_l != i32::from(*code) {
                    slx += w * x * new_l as f32;
                    sl2 += w * new_l as f32 * new_l as f32;
                    if slx * slx * suml2 > sumlx * sumlx * sl2 {
                        *code = new_l as u8;
                        sumlx = slx;
                        suml2 = sl2;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    if suml2 > 0.0 { sumlx / suml2 } else { 0.0 }
}
