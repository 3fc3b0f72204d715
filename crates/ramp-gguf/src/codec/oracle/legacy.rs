//! Blocks of 32 weights.

use super::search::{WEIGHTED, best_index, iq4_scale, make_qkx, make_qx};
use super::{half_bytes, sum_of_squares, weigh};

/// `(int8_t)` of a C compiler on x86-64: conversion to `int`, which gives `INT_MIN` beyond its range, then the low byte.
fn to_byte(x: f32) -> u8 {
    let int = if (-2_147_483_648.0..2_147_483_648.0).contains(&x) { x as i32 } else { i32::MIN };
    int as u8
}

pub(super) fn q8_0(x: &[f32]) -> Vec<u8> {
    let amax = x.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let d = amax / 127.0;
    let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
    let mut bytes = half_bytes(d).to_vec();
    bytes.extend(x.iter().map(|x| to_byte((x * inverse).round())));
    bytes
}

/// Q4_0 (`zero` 8) and Q5_0 (16).
pub(super) fn with_scale(x: &[f32], importance: Option<&[f32]>, sigma2: f32, zero: i32) -> Vec<u8> {
    let (d, codes) = match importance {
        Some(importance) => make_qx(zero, x, &weigh(x, importance, sigma2)),
        None => {
            let max = x.iter().fold(0.0_f32, |max, &x| if max.abs() < x.abs() { x } else { max });
            let d = max / -zero as f32;
            let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
            let code =
                |x: &f32| i32::from(to_byte(x * inverse + (zero as f32 + 0.5)) as i8).min(2 * zero - 1);
            (d, x.iter().map(|x| code(x) as u8).collect())
        }
    };
    [half_bytes(d).to_vec(), packed(&codes, zero == 16)].concat()
}

/// Q4_1 (`nmax` 15) and Q5_1 (31).
pub(super) fn with_minimum(x: &[f32], importance: Option<&[f32]>, sigma2: f32, nmax: i32) -> Vec<u8> {
    let (d, m, codes) = match importance {
        Some(importance) => {
            let (scale, min, codes) = make_qkx(nmax, x, &weigh(x, importance, sigma2), WEIGHTED);
            (scale, -min, codes)
        }
        None => {
            let min = x.iter().fold(f32::MAX, |min, &x| if x < min { x } else { min });
            let max = x.iter().fold(-f32::MAX, |max, &x| if x > max { x } else { max });
            let d = (max - min) / nmax as f32;
            let inverse = if d != 0.0 { 1.0 / d } else { 0.0 };
            let code = |x: &f32| {
                let byte = to_byte((x - min) * inverse + 0.5);
                if nmax == 15 { i32::from(byte as i8).min(15) as u8 } else { byte }
            };
            (d, min, x.iter().map(code).collect())
        }
    };
    [half_bytes(d).to_vec(), half_bytes(m).to_vec(), packed(&codes, nmax == 31)].concat()
}

pub(super) fn iq4_nl(x: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let w = match importance {
        Some(importance) => weigh(x, importance, sum_of_squares(x) * (2.0 / 32.0)),
        None => x.iter().map(|x| x * x).collect(),
    };
    let scale = iq4_scale(x, &w);
    let inverse = if scale != 0.0 { 1.0 / scale } else { 0.0 };
    let codes: Vec<u8> = x.iter().map(|x| best_index(inverse * x)).collect();
    [half_bytes(scale).to_vec(), packed(&codes, false)].concat()
}

/// Fifth bits, where there are any, and nibbles.
fn packed(codes: &[u8], five_bits: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    if five_bits {
        let bits: u32 = (0..32).map(|l| u32::from(codes[l] >> 4 & 1) << l).sum();
        bytes.extend(bits.to_le_bytes());
    }
    bytes.extend((0..16).map(|l| codes[l] & 15 | (codes[l + 16] & 15) << 4));
    bytes
}
