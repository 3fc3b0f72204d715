//! A calibration pass over windows of text, which can stop and go on.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use burn::tensor::Tensor;
use sha2::{Digest, Sha256};

use crate::{
    error::{Error, Result},
    gram::Gram,
    layer::LayerId,
    model::{CausalLm, to_host, transposed_product},
    precision::Precision,
    taps::{CalibrationStats, ChannelStats, Tap},
    way::Way,
};

/// What a calibration pass gathers, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The Gram matrices of the inputs, too: `8 * in²` bytes for each distinct input. GPTQ rounding needs them.
    pub gram: bool,
    /// Windows in one forward pass, where they are equally long. Each window is reduced by itself and they are added
    /// in their order, so that the numbers are the same for any value; 1 by default, a GPU is busier with more.
    pub batch: usize,
}

impl Default for Gather {
    fn default() -> Self {
        Self { gram: false, batch: 1 }
    }
}

/// Where and how often a pass saves what it has.
#[derive(Clone, Copy, Debug)]
pub struct Save<'a> {
    /// The file. It is replaced as a whole, so that a crash leaves the one before.
    pub path: &'a Path,
    /// Windows from one save to the next.
    pub every: usize,
}

/// A calibration pass: the statistics of every linear layer's input over some windows.
///
/// [`Calibration::resume`] takes up what another process saved; the numbers at the end are bit for bit those of a pass
/// that was never interrupted.
#[derive(Debug)]
pub struct Calibration<'a> {
    model: &'a CausalLm,
    windows: &'a [&'a [u32]],
    what: Gather,
    pub(crate) sums: Sums,
    /// Windows in the sums.
    pub(crate) done: usize,
}

impl<'a> Calibration<'a> {
    /// A pass that has seen nothing yet.
    #[must_use]
    pub fn new(model: &'a CausalLm, windows: &'a [&'a [u32]], what: Gather) -> Self {
        let sums = Sums { gram: what.gram, ..Sums::default() };
        Self { model, windows, what, sums, done: 0 }
    }

    /// Takes up the sums that a pass over the same windows saved. Gives the windows that are done with: 0 where there
    /// is no such file.
    ///
    /// # Errors
    /// When the file cannot be read, is broken, or belongs to another model, other windows, or a pass that gathers
    /// something else.
    pub fn resume(&mut self, path: &Path) -> Result<usize> {
        if path.try_exists().map_err(Error::io(path))? {
            (self.sums, self.done) = crate::partial_file::open(path, &self.job()?)?;
        }
        Ok(self.done)
    }

    /// Runs the windows that are left. `progress` is told the tokens done, also before the first window of a pass that
    /// was resumed, and may stop the pass by returning `false`; what was gathered is saved then, too. The file at
    /// `save` stays until the caller removes it.
    ///
    /// The head's input is gathered, too; the embedding has no input.
    ///
    /// # Errors
    /// When a window is empty or holds a token that the model does not have, when the device fails, when a file cannot
    /// be written, or [`Error::Interrupted`] when `progress` says so.
    pub fn run(&mut self, save: Option<Save<'_>>, mut progress: impl FnMut(usize) -> bool) -> Result<()> {
        let job = save.map(|_| self.job()).transpose()?;
        let mut tokens: usize = self.windows[..self.done].iter().map(|window| window.len()).sum();
        let mut saved = self.done;
        let mut go_on = self.done == 0 || progress(tokens);
        while self.done < self.windows.len() {
            if go_on {
                let batch = self.batch();
                self.forward(batch)?;
                tokens += batch.iter().map(|window| window.len()).sum::<usize>();
                self.done += batch.len();
                go_on = progress(tokens);
            }
            if let (Some(save), Some(job)) = (save, &job) {
                let due = self.done - saved >= save.every.max(1) || self.done == self.windows.len();
                if due || (!go_on && self.done > saved) {
                    self.sums.fetch()?;
                    crate::partial_file::save(self, save.path, job)?;
                    saved = self.done;
                }
            }
            if !go_on {
                return Err(Error::Interrupted);
            }
        }
        self.sums.fetch()?;
        if go_on { Ok(()) } else { Err(Error::Interrupted) }
    }

    /// The statistics of the windows that were run.
    #[must_use]
    pub fn finish(self) -> CalibrationStats {
        self.sums.finish()
    }

    /// The next windows that run together.
    fn batch(&self) -> &'a [&'a [u32]] {
        let rest = &self.windows[self.done..];
        let alike =
            rest.iter().take(self.what.batch.max(1)).take_while(|window| window.len() == rest[0].len());
        &rest[..alike.count()]
    }

    fn forward(&mut self, batch: &[&[u32]]) -> Result<()> {
        let config = self.model.config();
        self.sums.windows = batch.len();
        let hidden = self.model.run_blocks(self.model.embed(batch)?, 0..config.n_blocks, &mut self.sums)?;
        if !config.tie_word_embeddings {
            self.sums.observe(&[LayerId::Output], &self.model.finish(hidden))?;
        }
        Ok(())
    }

    /// Fingerprints of everything that the sums depend on.
    fn job(&self) -> Result<Job> {
        let mut model = Sha256::new();
        let config = serde_json::to_vec(self.model.config()).map_err(Error::device)?;
        model.update(config);
        for parameter in self.model.config().parameters() {
            model.update(parameter.gguf_name());
            model.update(bytemuck::cast_slice::<f32, u8>(&self.model.parameter_data(parameter)?));
        }
        let mut text = Sha256::new();
        for window in self.windows {
            text.update((window.len() as u64).to_le_bytes());
            window.iter().for_each(|token| text.update(token.to_le_bytes()));
        }
        Ok(Job {
            model: hex(&model.finalize()),
            windows: self.windows.len() as u64,
            tokens: self.windows.iter().map(|window| window.len() as u64).sum(),
            text: hex(&text.finalize()),
            gram: self.what.gram,
        })
    }
}

/// Gathers the statistics of the inputs that it sees, for a pass over a part of a model. The numbers are bit for bit those
/// of a [`Calibration`] for the same inputs.
#[derive(Debug)]
pub struct Gathering(Sums);

impl Gathering {
    /// Has seen nothing yet. With `gram` it gathers the Gram matrices, too.
    #[must_use]
    pub fn new(gram: bool) -> Self {
        Self(Sums { gram, windows: 1, ..Sums::default() })
    }

    /// The statistics of what it has seen.
    ///
    /// # Errors
    /// When the device fails.
    pub fn finish(mut self) -> Result<CalibrationStats> {
        self.0.fetch()?;
        Ok(self.0.finish())
    }
}

impl Tap for Gathering {
    fn observe(&mut self, layers: &[LayerId], input: &Tensor<2>) -> Result<()> {
        self.0.observe(layers, input)
    }
}

/// What a file of sums belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// SHA-256 of the configuration and every tensor.
    pub(crate) model: String,
    pub(crate) windows: u64,
    pub(crate) tokens: u64,
    /// SHA-256 of the windows' tokens.
    pub(crate) text: String,
    pub(crate) gram: bool,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Running sums in f64, so that a million tokens do not lose the small channels.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sums {
    pub(crate) gram: bool,
    /// Windows of the batch that runs, as many equal parts of the rows that a tap sees.
    windows: usize,
    pub(crate) layers: BTreeMap<LayerId, LayerSums>,
    /// By the first of the layers that share an input.
    pub(crate) grams: BTreeMap<LayerId, (Gram, Vec<LayerId>)>,
    /// What is newer than the two above.
    pub(crate) on_device: OnDevice,
}

#[cfg(feature = "cuda")]
type OnDevice = crate::device_sums::DeviceSums;
/// No device of this build keeps sums.
#[cfg(not(feature = "cuda"))]
type OnDevice = ();

#[derive(Debug, PartialEq)]
pub(crate) struct LayerSums {
    pub(crate) abs: Vec<f64>,
    pub(crate) max_abs: Vec<f32>,
    pub(crate) sq: Vec<f64>,
    pub(crate) count: u64,
}

impl LayerSums {
    pub(crate) fn new(width: usize) -> Self {
        Self { abs: vec![0.0; width], max_abs: vec![0.0; width], sq: vec![0.0; width], count: 0 }
    }
}

impl Tap for Sums {
    fn observe(&mut self, layers: &[LayerId], input: &Tensor<2>) -> Result<()> {
        let rows = input.dims()[0] / self.windows.max(1);
        for window in 0..self.windows {
            self.add(layers, &input.clone().narrow(0, window * rows, rows))?;
        }
        Ok(())
    }
}

impl Sums {
    pub(crate) fn with(
        gram: bool,
        layers: BTreeMap<LayerId, LayerSums>,
        grams: BTreeMap<LayerId, (Gram, Vec<LayerId>)>,
    ) -> Self {
        Self { gram, windows: 0, layers, grams, on_device: OnDevice::default() }
    }

    /// Adds one window's input of some layers.
    fn add(&mut self, layers: &[LayerId], input: &Tensor<2>) -> Result<()> {
        let [rows, width] = input.dims();
        let input = Precision::F32.cast(input.clone());
        #[cfg(feature = "cuda")]
        if ramp_cuda::is_available(&input.device()) {
            return self.add_on_device(layers, &input);
        }
        let abs = input.clone().abs();
        // One transfer for the three statistics of one window: [3, width].
        let window =
            Tensor::cat(vec![abs.clone().sum_dim(0), abs.max_dim(0), input.clone().square().sum_dim(0)], 0);
        let window = to_host(window)?;
        for &layer in layers {
            let sums = self.layers.entry(layer).or_insert_with(|| LayerSums::new(width));
            for channel in 0..width {
                sums.abs[channel] += f64::from(window[channel]);
                sums.max_abs[channel] = sums.max_abs[channel].max(window[width + channel]);
                sums.sq[channel] += f64::from(window[2 * width + channel]);
            }
            sums.count += rows as u64;
        }
        self.add_gram(layers, &input)
    }

    /// Adds the Gram matrix of one window's input, f32 `[rows, in]`, on the host, where any is gathered.
    pub(crate) fn add_gram(&mut self, layers: &[LayerId], input: &Tensor<2>) -> Result<()> {
        if let (true, [first, ..]) = (self.gram, layers) {
            let [rows, width] = input.dims();
            let gram = to_host(gram_of(input))?;
            let (sum, _) = self.grams.entry(*first).or_insert_with(|| (Gram::zeros(width), layers.to_vec()));
            sum.add(&gram, rows as u64);
        }
        Ok(())
    }

    /// Takes over what is on the device.
    #[cfg_attr(not(feature = "cuda"), allow(clippy::unnecessary_wraps, clippy::unused_self))]
    fn fetch(&mut self) -> Result<()> {
        #[cfg(feature = "cuda")]
        self.fetch_from_device()?;
        Ok(())
    }

    fn finish(self) -> CalibrationStats {
        let mut grams = BTreeMap::new();
        for (gram, layers) in self.grams.into_values() {
            let gram = Arc::new(gram);
            grams.extend(layers.into_iter().map(|id| (id, gram.clone())));
        }
        let layers = self.layers.into_iter().map(|(id, LayerSums { abs, max_abs, sq: sum_sq, count })| {
            let mean_abs = abs.iter().map(|sum| (sum / count.max(1) as f64) as f32).collect();
            (id, ChannelStats { mean_abs, max_abs, sum_sq, count })
        });
        CalibrationStats::from_parts(layers.collect(), grams)
    }
}

/// `Σ x xᵀ` over the rows of f32 `[rows, in]`, as `[in, in]`.
pub(crate) fn gram_of(input: &Tensor<2>) -> Tensor<2> {
    let (columns, way) = (input.clone().transpose(), Way::of(&input.device(), Precision::F32));
    transposed_product(columns.clone(), columns, way, Precision::F32)
}
