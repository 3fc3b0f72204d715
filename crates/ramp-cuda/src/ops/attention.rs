//! Causal attention with grouped queries.

use burn::tensor::{DType, Shape};
use burn_cubecl::tensor::CubeTensor;

use super::{Heads, require};
use crate::{
    blas::{Matrices, Second, Shape as Product},
    engine::{self, Arg, Engine},
    error::Result,
    tensor::{Buffer, empty, ordinal, row_major},
};

/// Query rows whose scores exist at once. They are multiplied with the keys up to the last one that any of them sees, so
/// that about half of the causal scores is never computed.
const QUERY_BLOCK: usize = 512;

/// Rows of scores begin at multiples of this many elements, as tensor cores want it.
const ALIGNMENT: usize = 8;

/// Query rows `start..start + rows` of a window, and keys `first_key..first_key + keys`.
#[derive(Clone, Copy)]
struct Block {
    start: usize,
    rows: usize,
    first_key: usize,
    keys: usize,
}

impl Block {
    fn all(seq: usize, window: usize) -> impl Iterator<Item = Self> {
        (0..seq).step_by(QUERY_BLOCK).map(move |start| {
            let rows = QUERY_BLOCK.min(seq - start);
            let first_key = (start + 1).saturating_sub(window) / ALIGNMENT * ALIGNMENT;
            Self { start, rows, first_key, keys: start + rows - first_key }
        })
    }

    /// Elements of a row of scores.
    const fn ld(self) -> usize {
        self.keys.next_multiple_of(ALIGNMENT)
    }
}

/// The buffers of one call.
struct Call<'a> {
    q: &'a Buffer,
    k: &'a Buffer,
    v: &'a Buffer,
    /// f32, room for the scores of any block.
    scores: &'a Buffer,
    /// The same in the inputs' type; `scores` again where that is f32.
    weights: &'a Buffer,
    out: &'a Buffer,
    heads: Heads,
}

pub(super) fn attention(q: CubeTensor, k: CubeTensor, v: CubeTensor, heads: Heads) -> Result<CubeTensor> {
    let (q, k, v) = (row_major(q), row_major(k), row_major(v));
    let [of_q, of_k, of_v] = [Buffer::of(&q)?, Buffer::of(&k)?, Buffer::of(&v)?];
    let Heads { seq, heads: n_heads, kv_heads, dim, window } = heads;
    require(
        [of_k.rows, of_v.rows] == [of_q.rows; 2]
            && [of_k.dtype, of_v.dtype] == [of_q.dtype; 2]
            && of_q.columns == n_heads * dim
            && [of_k.columns, of_v.columns] == [kv_heads * dim; 2]
            && seq > 0
            && of_q.rows % seq == 0
            && kv_heads > 0
            && n_heads % kv_heads == 0
            && window > 0,
        "queries, keys and values",
    )?;
    let out = empty(&q, Shape::new([of_q.rows, of_q.columns]), DType::F32);
    let room = Block::all(seq, window).map(|block| block.rows * block.ld()).max().unwrap_or(0) * n_heads;
    let scores = empty(&q, Shape::new([room]), DType::F32);
    let weights = (q.dtype != DType::F32).then(|| empty(&q, Shape::new([room]), q.dtype));

    let (to, of_scores) = (Buffer::of(&out)?, Buffer::of(&scores)?);
    let of_weights = weights.as_ref().map(Buffer::of).transpose()?;
    let call = Call {
        q: &of_q,
        k: &of_k,
        v: &of_v,
        scores: &of_scores,
        weights: of_weights.as_ref().unwrap_or(&of_scores),
        out: &to,
        heads,
    };
    engine::run(ordinal(&q)?, |engine| {
        for first_row in (0..of_q.rows).step_by(seq) {
            for block in Block::all(seq, window) {
                call.block(engine, first_row, block)?;
            }
        }
        Ok(())
    })?;
    Ok(out)
}

impl Call<'_> {
    /// Some queries of the window that begins in `first_row`. Heads that share keys are products of their own, since their
    /// rows do not follow one another.
    fn block(&self, engine: &Engine, first_row: usize, block: Block) -> Result<()> {
        let Heads { heads, kv_heads, dim, window, .. } = self.heads;
        let Block { start, rows, first_key, keys } = block;
        let (group, ld) = (heads / kv_heads, block.ld());
        let first_q = (first_row + start) * self.q.ld;
        let first_out = (first_row + start) * self.out.ld;
        let key_row = first_row + first_key;
        // Of one member of every group.
        let of_group = |buffer: &Buffer, member: usize| -> Result<Matrices> {
            let whole = buffer.matrices(member * rows * ld, group * rows * ld)?;
            Ok(Matrices { ld, ..whole })
        };

        for member in 0..group {
            let q = self.q.matrices(first_q + member * dim, group * dim)?;
            let k = self.k.matrices(key_row * self.k.ld, dim)?;
            let shape = Product { m: rows, n: keys, k: dim, batch: kv_heads };
            let scale = (1.0 / (dim as f64).sqrt()) as f32;
            // SAFETY: rows `start..start + rows` of the window are in `q`, the keys up to there in `k`; the scores of all
            // heads fit the room, which the largest block has.
            unsafe {
                engine.blas.product(
                    q,
                    k,
                    Second::Transposed,
                    of_group(self.scores, member)?,
                    shape,
                    scale,
                )?;
            }
        }
        self.softmax(engine, block, ld, window)?;
        for member in 0..group {
            let v = self.v.matrices(key_row * self.v.ld, dim)?;
            let out = self.out.matrices(first_out + member * dim, group * dim)?;
            let shape = Product { m: rows, n: dim, k: keys, batch: kv_heads };
            // SAFETY: as above; every head writes its own columns of `out`.
            unsafe {
                engine.blas.product(of_group(self.weights, member)?, v, Second::Plain, out, shape, 1.0)?;
            }
        }
        Ok(())
    }

    fn softmax(&self, engine: &Engine, block: Block, ld: usize, window: usize) -> Result<()> {
        let kernel = engine.kernels.of("causal_softmax", self.weights.float()?)?;
        let args = [
            Arg::At(self.scores.at),
            Arg::At(self.weights.at),
            Arg::int(block.rows),
            Arg::int(block.keys),
            Arg::int(ld),
            Arg::int(block.start),
            Arg::int(block.first_key),
            Arg::int(window.min(block.start + block.rows)),
        ];
        // SAFETY: one block of threads for each row of scores, as many as were computed, of `ld` elements in both buffers.
        unsafe { engine.rows(&kernel, self.heads.heads * block.rows, ld.min(256), &args) }
    }
}
