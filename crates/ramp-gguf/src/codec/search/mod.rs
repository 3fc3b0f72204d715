//! The searches for scales and codes, for many sub-blocks at once.
//!
//! ggml fits one sub-block after the other, each with running sums over its weights that must be added up in order
//! to give the same bytes. Here the sub-blocks are the lanes of a vector: weight `i` of all sub-blocks is one row,
//! every sum runs over the rows in ggml's order, and a branch of the original is a selection per lane. The bytes
//! are the same, and no lane waits for another.
//!
//! A search returns scales and not codes. Almost every codec rounds its weights again with the scales as they are
//! stored, and needs the codes of the search only in sub-blocks whose stored scale is 0; it finds them again from
//! what the search says about its best candidate.

mod affine;
mod codebook;
mod rows;
mod scales;
mod symmetric;

pub(super) use affine::{AffineFit, AffineSearch, WEIGHTED, affine_code, make_qkx_quants};
pub(super) use codebook::{MIDPOINTS, best_index, make_iq4_scales};
pub(super) use rows::{Rows, rows, rows_of_blocks, squares, sum};
pub(super) use scales::make_qp_quants;
pub(super) use symmetric::{make_q3_quants, make_qx_quants, symmetric_code};

/// `GROUP_MAX_EPS`: a sub-block with no larger magnitude is stored as zeros.
pub(super) const GROUP_MAX_EPS: f32 = 1e-15;
