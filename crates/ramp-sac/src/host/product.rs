//! Matrix products of the sizes that an agent has: some hundred rows, some hundred columns.
//!
//! Every element of a result is one chain of fused multiply-adds in the order of the summed index, so that neither
//! the number of threads nor the size of a tile changes a bit of it.

use std::marker::PhantomData;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Rows of a tile.
const ROWS: usize = 4;

/// Fewer rows than this are multiplied one by one.
const FEW_ROWS: usize = 8;

/// Columns of a result that one task computes: whole panels on every CPU.
const COLUMNS: usize = 64;

/// Multiplications that pay for several tasks: some ten microseconds of one core for each.
const PARALLEL_WORK: usize = 1 << 22;

/// `out[m, n] = x[m, k] w[k, n] + bias[n]`.
pub(crate) fn affine(x: &[f32], w: &[f32], bias: Option<&[f32]>, out: &mut [f32], n: usize) {
    let m = out.len() / n;
    let k = x.len() / m;
    multiply::<Plain>(x, w, bias, out, [m, k, n]);
}

/// `out[m, n] = x[m, k] wᵀ`, with `w` `[n, k]`.
pub(crate) fn product_transposed(x: &[f32], w: &[f32], out: &mut [f32], n: usize) {
    let m = out.len() / n;
    let k = x.len() / m;
    multiply::<BTransposed>(x, w, None, out, [m, k, n]);
}

/// `out[k, n] = xᵀ y`, with `x` `[rows, k]` and `y` `[rows, n]`.
pub(crate) fn transposed_product(x: &[f32], y: &[f32], out: &mut [f32], n: usize) {
    let m = out.len() / n;
    let k = y.len() / n;
    multiply::<ATransposed>(x, y, None, out, [m, k, n]);
}

/// Columns side by side where there is work for several threads.
fn multiply<F: Form>(a: &[f32], b: &[f32], bias: Option<&[f32]>, out: &mut [f32], dims: [usize; 3]) {
    let [m, k, n] = dims;
    if m < FEW_ROWS && !F::A_TRANSPOSED && !F::B_TRANSPOSED {
        return Arch::new().dispatch(|| few_rows(a, b, bias, out, [k, n]));
    }
    let run = |slab: usize, mut rows: Vec<&mut [f32]>| {
        let (first, form) = (slab * COLUMNS, PhantomData::<F>);
        Arch::new().dispatch(Multiply { a, b, bias, out: &mut rows, first, dims, form });
    };
    if n <= COLUMNS || m * k * n < PARALLEL_WORK {
        return run(0, out.chunks_exact_mut(n).collect());
    }
    let mut slabs: Vec<Vec<&mut [f32]>> = (0..n.div_ceil(COLUMNS)).map(|_| Vec::with_capacity(m)).collect();
    for row in out.chunks_exact_mut(n) {
        slabs.iter_mut().zip(row.chunks_mut(COLUMNS)).for_each(|(slab, part)| slab.push(part));
    }
    slabs.into_par_iter().enumerate().for_each(|(slab, rows)| run(slab, rows));
}

/// `out[m, n] = x wᵀ`, with `x` `[m, k]` and `w` `[n, k]`, for small n.
pub(crate) fn dots(x: &[f32], w: &[f32], out: &mut [f32], k: usize) {
    let n = w.len() / k;
    Arch::new().dispatch(|| {
        for (x, out) in x.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
            for (w, out) in w.chunks_exact(k).zip(out) {
                *out = dot(x, w);
            }
        }
    });
}

/// Sums in sixteen lanes, a fixed number, so that the order of additions is one on every CPU.
#[inline(always)]
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (xs, x_rest) = x.as_chunks::<16>();
    let (ys, y_rest) = y.as_chunks::<16>();
    for (x, y) in xs.iter().zip(ys) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    lanes.iter().sum::<f32>() + rest
}

/// Which factor lies in memory as its transpose: known when compiled, as the innermost loop depends on it.
trait Form: Send + Sync {
    const A_TRANSPOSED: bool = false;
    const B_TRANSPOSED: bool = false;
}

struct Plain;
impl Form for Plain {}

struct ATransposed;
impl Form for ATransposed {
    const A_TRANSPOSED: bool = true;
}

struct BTransposed;
impl Form for BTransposed {
    const B_TRANSPOSED: bool = true;
}

/// Some columns of `A B + bias`, where A is `a[m, k]` or the transpose of `a[k, m]`, and B is `b[k, n]` or the transpose
/// of `b[n, k]`.
struct Multiply<'a, 'o, F> {
    a: &'a [f32],
    b: &'a [f32],
    bias: Option<&'a [f32]>,
    /// `m` rows of as many columns, from the product's column `first` on.
    out: &'a mut [&'o mut [f32]],
    first: usize,
    dims: [usize; 3],
    form: PhantomData<F>,
}

impl<F: Form> WithSimd for Multiply<'_, '_, F> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        // Eight accumulators or more hide the latency of a multiply-add. Four rows by two registers read six registers for
        // eight multiply-adds, where eight rows by one read nine, and the arithmetic waits for them.
        let wide =
            if S::F32_LANES >= 16 { self.panels::<S, 4>(simd, 0) } else { self.panels::<S, 2>(simd, 0) };
        let whole = self.panels::<S, 1>(simd, wide);
        self.scalars(whole);
    }
}

impl<F: Form> Multiply<'_, '_, F> {
    /// As many columns from `from` on as fill panels of `VECTORS` registers; returns where it ended.
    #[inline(always)]
    fn panels<S: Simd, const VECTORS: usize>(&mut self, simd: S, from: usize) -> usize {
        let (a, b, [m, k, n]) = (self.a, self.b, self.dims);
        let width = VECTORS * S::F32_LANES;
        let columns = self.columns() - from;
        let end = from + columns - columns % width;
        if from == end {
            return from;
        }
        // Columns of b side by side in memory.
        let mut panel = vec![0.0; k * width];
        let zeros = vec![0.0; width];
        for column in (from..end).step_by(width) {
            let at = self.first + column;
            if F::B_TRANSPOSED {
                pack_transposed(&b[at * k..(at + width) * k], k, &mut panel, width);
            } else {
                for (packed, row) in panel.chunks_exact_mut(width).zip(b.chunks_exact(n)) {
                    packed.copy_from_slice(&row[at..at + width]);
                }
            }
            let start = self.bias.map_or(zeros.as_slice(), |bias| &bias[at..at + width]);
            let mut row = 0;
            while row + ROWS <= m {
                let tile = tile::<S, ROWS, VECTORS, F>(simd, a, [m, k], row, &panel, start);
                store::<S, ROWS, VECTORS>(tile, &mut self.out[row..], column);
                row += ROWS;
            }
            while row < m {
                let tile = tile::<S, 1, VECTORS, F>(simd, a, [m, k], row, &panel, start);
                store::<S, 1, VECTORS>(tile, &mut self.out[row..], column);
                row += 1;
            }
        }
        end
    }

    /// The columns from `from` on, too few for a register.
    #[inline(always)]
    fn scalars(&mut self, from: usize) {
        let (a, b, [m, k, n]) = (self.a, self.b, self.dims);
        for (row, out) in self.out.iter_mut().enumerate() {
            for (column, out) in out.iter_mut().enumerate().skip(from) {
                let at = self.first + column;
                let mut sum = self.bias.map_or(0.0, |bias| bias[at]);
                for i in 0..k {
                    let x = if F::A_TRANSPOSED { a[i * m + row] } else { a[row * k + i] };
                    let y = if F::B_TRANSPOSED { b[at * k + i] } else { b[i * n + at] };
                    sum = x.mul_add(y, sum);
                }
                *out = sum;
            }
        }
    }

    fn columns(&self) -> usize {
        self.out.first().map_or(0, |row| row.len())
    }
}

/// The same sums for so few rows that side-by-side columns do not pay: a row of B at a time. ReLU leaves many zeros,
/// whose rows need not be read.
#[inline(always)]
fn few_rows(a: &[f32], b: &[f32], bias: Option<&[f32]>, out: &mut [f32], [k, n]: [usize; 2]) {
    for (a, out) in a.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
        match bias {
            Some(bias) => out.copy_from_slice(bias),
            None => out.fill(0.0),
        }
        for (&x, row) in a.iter().zip(b.chunks_exact(n)) {
            if x != 0.0 {
                out.iter_mut().zip(row).for_each(|(sum, w)| *sum = x.mul_add(*w, *sum));
            }
        }
    }
}

/// Rows of B's transpose, `[width, k]`, to a panel `[k, width]`, in blocks that stay in the cache.
#[inline(always)]
fn pack_transposed(rows: &[f32], k: usize, panel: &mut [f32], width: usize) {
    const BLOCK: usize = 16;
    let end = k - k % BLOCK;
    for block in (0..end).step_by(BLOCK) {
        for (column, row) in rows.chunks_exact(k).enumerate() {
            let Some(values) = row[block..].first_chunk::<BLOCK>() else { return };
            for (i, &value) in values.iter().enumerate() {
                panel[(block + i) * width + column] = value;
            }
        }
    }
    for i in end..k {
        for (column, row) in rows.chunks_exact(k).enumerate() {
            panel[i * width + column] = row[i];
        }
    }
}

/// `R` rows of A times a panel.
#[inline(always)]
fn tile<S: Simd, const R: usize, const V: usize, F: Form>(
    simd: S,
    a: &[f32],
    [m, k]: [usize; 2],
    row: usize,
    panel: &[f32],
    start: &[f32],
) -> [[S::f32s; V]; R] {
    let (start, _) = S::as_simd_f32s(start);
    let first: [S::f32s; V] = std::array::from_fn(|v| start[v]);
    let mut sums = [first; R];
    let (panel, _) = S::as_simd_f32s(panel);
    let (panel, _) = panel.as_chunks::<V>();
    if F::A_TRANSPOSED {
        for (a, b) in a.chunks_exact(m).zip(panel) {
            let Some(a) = a[row..].first_chunk::<R>() else { return sums };
            step(simd, &mut sums, a, b);
        }
    } else {
        let rows: [&[f32]; R] = std::array::from_fn(|r| &a[(row + r) * k..(row + r + 1) * k]);
        let k = rows[0].len().min(panel.len());
        let rows: [&[f32]; R] = rows.map(|row| &row[..k]);
        for (i, b) in panel[..k].iter().enumerate() {
            let a: [f32; R] = std::array::from_fn(|r| rows[r][i]);
            step(simd, &mut sums, &a, b);
        }
    }
    sums
}

#[inline(always)]
fn step<S: Simd, const R: usize, const V: usize>(
    simd: S,
    sums: &mut [[S::f32s; V]; R],
    a: &[f32; R],
    b: &[S::f32s; V],
) {
    for (sums, &a) in sums.iter_mut().zip(a) {
        let a = simd.splat_f32s(a);
        for (sum, &b) in sums.iter_mut().zip(b) {
            *sum = simd.mul_add_e_f32s(a, b, *sum);
        }
    }
}

/// Into the first `R` of some rows, from a column on.
#[inline(always)]
fn store<S: Simd, const R: usize, const V: usize>(
    tile: [[S::f32s; V]; R],
    rows: &mut [&mut [f32]],
    column: usize,
) {
    for (row, values) in rows.iter_mut().zip(tile) {
        let (to, _) = S::as_mut_simd_f32s(&mut row[column..column + V * S::F32_LANES]);
        to.copy_from_slice(&values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
        (0..columns).flat_map(|c| (0..rows).map(move |r| values[r * columns + c])).collect()
    }

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| (((i * 7919 + seed * 104_729) % 1000) as f32 / 500.0) - 1.0).collect()
    }

    /// Sizes below, at and beyond the tiles, and one for several threads.
    const SIZES: [[usize; 3]; 8] = [
        [1, 1, 1],
        [3, 5, 2],
        [8, 12, 32],
        [9, 33, 70],
        [9, 33, 60],
        [64, 40, 64],
        [17, 128, 96],
        [70, 300, 210],
    ];

    #[test]
    fn products_are_those_of_the_definition() {
        for [m, k, n] in SIZES {
            let (x, w, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
            let plain = |row: usize, column: usize| -> f64 {
                (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(w[i * n + column])).sum()
            };
            let mut out = vec![f32::NAN; m * n];
            affine(&x, &w, Some(&bias), &mut out, n);
            let mut from_transposed = vec![f32::NAN; m * n];
            transposed_product(&transpose(&x, m, k), &w, &mut from_transposed, n);
            let mut from_dots = vec![f32::NAN; m * n];
            dots(&x, &transpose(&w, k, n), &mut from_dots, k);
            let mut by_transposed = vec![f32::NAN; m * n];
            product_transposed(&x, &transpose(&w, k, n), &mut by_transposed, n);
            for row in 0..m {
                for (column, bias) in bias.iter().enumerate() {
                    let (at, expected) = (row * n + column, plain(row, column));
                    let close = |found: f32, expected: f64| (f64::from(found) - expected).abs() < 1e-4;
                    assert!(close(out[at], expected + f64::from(*bias)), "{m} {k} {n}");
                    assert!(close(from_transposed[at], expected), "{m} {k} {n}");
                    assert!(close(from_dots[at], expected), "{m} {k} {n}");
                    assert!(close(by_transposed[at], expected), "{m} {k} {n}");
                }
            }
        }
    }

    /// Which rows are computed together must not show: tasks of a thread pool get some of the rows.
    #[test]
    fn a_row_alone_has_the_bits_of_a_row_among_others() {
        let (x, w) = (numbers(17 * 40, 1), numbers(40 * 96, 2));
        let mut all = vec![0.0; 17 * 96];
        affine(&x, &w, None, &mut all, 96);
        for (x, expected) in x.chunks(40).zip(all.chunks(96)) {
            let mut one = vec![0.0; 96];
            affine(x, &w, None, &mut one, 96);
            assert_eq!(one, expected);
        }
    }
}
