//! Logits, perplexity and KL divergence by llama.cpp's own kernels.

use std::{marker::PhantomData, ptr::NonNull};

use anyhow::{Context as _, Result, anyhow, ensure};
use llama_cpp_sys_2 as sys;
use serde::Serialize;

use super::{
    log::{capture, complaints},
    model::Model,
};
use crate::scores::{self, Moments};

/// Room to run a model on windows of up to `ctx` tokens.
#[derive(Debug)]
pub struct Context<'m> {
    ptr: NonNull<sys::llama_context>,
    ctx: usize,
    n_vocab: usize,
    model: PhantomData<&'m Model>,
}

impl<'m> Context<'m> {
    /// `threads` CPU threads; everything else as `llama-perplexity` sets it by default.
    ///
    /// # Errors
    /// When llama.cpp cannot make the context.
    pub fn new(model: &'m Model, ctx: usize, threads: usize) -> Result<Self> {
        let (n_ctx, n_threads) = (u32::try_from(ctx)?, i32::try_from(threads)?);
        let (ptr, log) = capture(|| {
            // SAFETY: takes nothing and returns plain data.
            let mut params = unsafe { sys::llama_context_default_params() };
            (params.n_ctx, params.n_batch) = (n_ctx, n_ctx);
            (params.n_threads, params.n_threads_batch) = (n_threads, n_threads);
            // SAFETY: the model is alive and outlives the context by the lifetime `'m`.
            unsafe { sys::llama_init_from_model(model.as_ptr(), params) }
        });
        let path = model.path().display();
        let ptr = NonNull::new(ptr)
            .ok_or_else(|| anyhow!("llama.cpp gives no context for {path}: {}", complaints(&log)))?;
        Ok(Self { ptr, ctx, n_vocab: model.n_vocab(), model: PhantomData })
    }

    /// Runs one window from an empty cache. `row` gets position and logits, `[vocab]`, of every position from
    /// `first` on.
    ///
    /// # Errors
    /// When the window is empty or longer than the context, or llama.cpp cannot run it.
    pub fn logits(&mut self, window: &[i32], first: usize, mut row: impl FnMut(usize, &[f32])) -> Result<()> {
        let (len, ctx) = (window.len(), self.ctx);
        ensure!(len > 0 && len <= ctx, "a window of {len} tokens in a context of {ctx}");
        // SAFETY: the context is alive.
        unsafe { sys::llama_memory_clear(sys::llama_get_memory(self.ptr.as_ptr()), true) };

        let mut tokens = window.to_vec();
        let mut positions: Vec<i32> = (0..i32::try_from(len)?).collect();
        let mut n_seq_id = vec![1i32; len];
        let mut sequence = 0i32;
        let mut seq_id = vec![&raw mut sequence; len];
        let mut wanted: Vec<i8> = (0..len).map(|at| i8::from(at >= first)).collect();
        let batch = sys::llama_batch {
            n_tokens: i32::try_from(len)?,
            token: tokens.as_mut_ptr(),
            embd: std::ptr::null_mut(),
            pos: positions.as_mut_ptr(),
            n_seq_id: n_seq_id.as_mut_ptr(),
            seq_id: seq_id.as_mut_ptr(),
            logits: wanted.as_mut_ptr(),
        };
        // SAFETY: every array of the batch has `len` elements and outlives the call; llama.cpp checks the ids.
        let (status, log) = capture(|| unsafe { sys::llama_decode(self.ptr.as_ptr(), batch) });
        ensure!(status == 0, "llama.cpp cannot run the window (status {status}): {}", complaints(&log));

        for position in first..len {
            let index = i32::try_from(position)?;
            // SAFETY: the context is alive, and the batch asked for the logits of this position.
            let logits = unsafe { sys::llama_get_logits_ith(self.ptr.as_ptr(), index) };
            ensure!(!logits.is_null(), "llama.cpp has no logits for position {position}");
            // SAFETY: a row of logits has as many elements as the vocabulary and is valid until the next call.
            row(position, unsafe { std::slice::from_raw_parts(logits, self.n_vocab) });
        }
        Ok(())
    }
}

impl Drop for Context<'_> {
    fn drop(&mut self) {
        // SAFETY: made by llama.cpp and freed once, before its model.
        unsafe { sys::llama_free(self.ptr.as_ptr()) }
    }
}

/// What `llama-perplexity` reports.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Perplexity {
    /// `exp` of the mean negative log-likelihood.
    pub perplexity: f64,
    /// Its standard error.
    pub perplexity_se: f64,
    /// Scored tokens.
    pub tokens: u64,
    /// Windows of `ctx` tokens.
    pub windows: usize,
}

/// Perplexity as `llama-perplexity` computes it without options: windows of `ctx` tokens, each from an empty
/// cache, BOS in place of the first token, the second half scored.
///
/// # Errors
/// When the text is too short or llama.cpp fails.
pub fn perplexity(
    model: &Model,
    text: &str,
    ctx: usize,
    max_windows: Option<usize>,
    threads: usize,
) -> Result<Perplexity> {
    let windows = scores::windows(&model.tokenize(text)?, ctx, max_windows, model.leading_bos())?;
    let mut context = Context::new(model, ctx, threads)?;
    let mut nll = Moments::default();
    for window in &windows {
        context.logits(window, scores::first_scored(ctx), |position, logits| {
            if let Some(&next) = window.get(position + 1) {
                nll.push(-scores::log_prob(logits, next.unsigned_abs() as usize));
            }
        })?;
    }
    let perplexity = nll.mean().exp();
    let perplexity_se = perplexity * nll.standard_error();
    Ok(Perplexity { perplexity, perplexity_se, tokens: nll.count(), windows: windows.len() })
}

/// What the KL-divergence mode of `llama-perplexity` reports, from f32 logits instead of the 16-bit ones of its
/// file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Divergence {
    /// Mean KL divergence in nats per token.
    pub kld: f64,
    /// Its standard error.
    pub kld_se: f64,
    /// Fraction of positions with the same most likely token.
    pub same_top1: f64,
    /// Scored positions.
    pub tokens: u64,
}

/// Divergence of `model` from `base` on the windows of [`perplexity`].
///
/// # Errors
/// When the vocabularies differ, the text is too short, or llama.cpp fails.
pub fn divergence(
    base: &Model,
    model: &Model,
    text: &str,
    ctx: usize,
    max_windows: Option<usize>,
    threads: usize,
) -> Result<Divergence> {
    let (n, m) = (base.n_vocab(), model.n_vocab());
    ensure!(n == m, "{} has {n} tokens, {} has {m}", base.path().display(), model.path().display());
    let windows = scores::windows(&base.tokenize(text)?, ctx, max_windows, base.leading_bos())?;
    let first = scores::first_scored(ctx);
    let mut base_context = Context::new(base, ctx, threads)?;
    let mut context = Context::new(model, ctx, threads)?;
    let (mut kld, mut same) = (Moments::default(), Moments::default());
    for window in &windows {
        // The last position predicts a token that is not in the window.
        let mut expected: Vec<f32> = Vec::with_capacity((ctx - first) * n);
        base_context
            .logits(window, first, |_, logits| expected.extend_from_slice(logits))
            .context("base model")?;
        let mut rows = expected.chunks_exact(n);
        context.logits(window, first, |position, logits| {
            if let Some(row) = rows.next().filter(|_| position + 1 < ctx) {
                kld.push(scores::kl_divergence(row, logits));
                same.push(f64::from(u8::from(scores::argmax(row) == scores::argmax(logits))));
            }
        })?;
    }
    Ok(Divergence {
        kld: kld.mean(),
        kld_se: kld.standard_error(),
        same_top1: same.mean(),
        tokens: kld.count(),
    })
}
