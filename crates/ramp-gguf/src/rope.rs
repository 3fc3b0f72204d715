//! The order of query and key rows under rotary position embedding.
//!
//! Hugging Face rotates dimension `r` of a head together with `r + D/2` (half split); ggml's `llama`
//! architecture rotates neighbours `2r` and `2r + 1` (interleaved, `LLAMA_ROPE_TYPE_NORM`). The rows of the
//! query and key projections, and their biases, are put in the order that makes both compute the same. Rows are
//! whole either way, so the encoded bytes of a row can be moved as well as its weights.

use crate::{Error, Result};

/// Reorders the rows of a query or key projection from Hugging Face's order to ggml's.
///
/// `rows` is row-major `[n_head * head_dim, n_per_row]`, where `n_per_row` counts elements of `T` (bytes per row
/// for encoded rows, 1 for a bias). In each head new row `2r + s` is old row `s * head_dim / 2 + r`. For keys
/// under grouped-query attention `n_head` is the number of key-value heads.
///
/// # Errors
/// [`Error::NotWholeRows`] when `rows` is not whole rows, [`Error::HeadRows`] when these are not `n_head` heads
/// of an even size.
pub fn permute_rope_rows<T: Copy>(rows: &[T], n_per_row: usize, n_head: usize) -> Result<Vec<T>> {
    reorder(rows, n_per_row, n_head, |row, half| (row % 2) * half + row / 2)
}

/// The inverse of [`permute_rope_rows`]: from ggml's order to Hugging Face's.
///
/// # Errors
/// As [`permute_rope_rows`].
pub fn unpermute_rope_rows<T: Copy>(rows: &[T], n_per_row: usize, n_head: usize) -> Result<Vec<T>> {
    reorder(rows, n_per_row, n_head, |row, half| (row % half) * 2 + row / half)
}

/// `source(row, half)` is the old place, within its head, of the row that goes to place `row`.
fn reorder<T: Copy>(
    rows: &[T],
    n_per_row: usize,
    n_head: usize,
    source: impl Fn(usize, usize) -> usize,
) -> Result<Vec<T>> {
    if n_per_row == 0 || !rows.len().is_multiple_of(n_per_row) {
        return Err(Error::NotWholeRows { len: rows.len(), n_per_row });
    }
    let n_rows = rows.len() / n_per_row;
    if n_head == 0 || !n_rows.is_multiple_of(n_head) || !(n_rows / n_head).is_multiple_of(2) {
        return Err(Error::HeadRows { rows: n_rows, n_head });
    }
    let head_dim = n_rows / n_head;
    let mut reordered = Vec::with_capacity(rows.len());
    for row in 0..n_rows {
        let first = row - row % head_dim;
        let old = first + source(row % head_dim, head_dim / 2);
        reordered.extend_from_slice(&rows[old * n_per_row..(old + 1) * n_per_row]);
    }
    Ok(reordered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_interleaved_within_each_head() {
        let rows: Vec<u8> = (0..16).collect();
        let permuted = permute_rope_rows(&rows, 2, 2).unwrap();
        assert_eq!(permuted, [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]);
        assert_eq!(unpermute_rope_rows(&permuted, 2, 2).unwrap(), rows);
    }

    #[test]
    fn the_inverse_holds_for_head_sizes_that_are_not_powers_of_two() {
        let bias: Vec<f32> = (0..36).map(|i| i as f32).collect();
        let permuted = permute_rope_rows(&bias, 1, 3).unwrap();
        assert_eq!(permuted[..5], [0.0, 6.0, 1.0, 7.0, 2.0]);
        assert_eq!(unpermute_rope_rows(&permuted, 1, 3).unwrap(), bias);
    }

    #[test]
    fn shapes_that_are_not_heads_are_refused() {
        let rows = [0_u8; 12];
        assert!(matches!(permute_rope_rows(&rows, 5, 1), Err(Error::NotWholeRows { len: 12, n_per_row: 5 })));
        assert!(matches!(permute_rope_rows(&rows, 0, 1), Err(Error::NotWholeRows { .. })));
        assert!(matches!(permute_rope_rows(&rows, 2, 4), Err(Error::HeadRows { rows: 6, n_head: 4 })));
        assert!(matches!(permute_rope_rows(&rows, 2, 2), Err(Error::HeadRows { rows: 6, n_head: 2 })));
        assert!(matches!(unpermute_rope_rows(&rows, 2, 0), Err(Error::HeadRows { n_head: 0, .. })));
    }
}
