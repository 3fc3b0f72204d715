//! A model on disk: a Hugging Face folder or a GGUF file.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use ramp_gguf::GgufFile;

use crate::{
    checkpoint::Checkpoint,
    config::ModelConfig,
    error::{Error, Result},
    gguf_import::{GgufWeights, config_from_gguf},
    model::CausalLm,
    precision::Precision,
    tokenizer::Tokenizer,
};

/// An opened model. Weights are read when [`ModelFiles::load`] is called.
#[derive(Debug)]
pub struct ModelFiles {
    path: PathBuf,
    config: ModelConfig,
    kind: Kind,
    /// `tokenizer.ggml.pre` by the user's word.
    pre: Option<String>,
}

#[derive(Debug)]
enum Kind {
    HuggingFace,
    Gguf(Box<GgufFile>),
}

impl ModelFiles {
    /// Opens a folder with `config.json`, or a `.gguf` file.
    ///
    /// # Errors
    /// When the path does not exist, or its configuration cannot be read or is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let config = ModelConfig::from_file(&path.join("config.json"))?;
            return Ok(Self { path: path.to_owned(), config, kind: Kind::HuggingFace, pre: None });
        }
        std::fs::metadata(path).map_err(Error::io(path))?;
        let file = GgufFile::open(path)?;
        let config = config_from_gguf(&file, path)?;
        Ok(Self { path: path.to_owned(), config, kind: Kind::Gguf(Box::new(file)), pre: None })
    }

    /// Names the pre-tokenizer that [`gguf_metadata`](crate::gguf_metadata) writes, one of
    /// [`ramp_gguf::PRE_TOKENIZERS`], for a folder whose own is not recognised. `None` recognises it.
    #[must_use]
    pub fn with_pre(mut self, pre: Option<String>) -> Self {
        self.pre = pre;
        self
    }

    pub(crate) fn pre(&self) -> Option<&str> {
        self.pre.as_deref()
    }

    /// The folder or file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name of the folder or file, without extension.
    #[must_use]
    pub fn name(&self) -> String {
        let absolute = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let name = match self.kind {
            // A folder has no extension: the dot of `TinyLlama-1.1B` belongs to its name.
            Kind::HuggingFace => absolute.file_name(),
            Kind::Gguf(_) => absolute.file_stem(),
        };
        name.map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
    }

    /// Shape and constants.
    #[must_use]
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The GGUF file, if it is one.
    #[must_use]
    pub fn gguf(&self) -> Option<&GgufFile> {
        match &self.kind {
            Kind::HuggingFace => None,
            Kind::Gguf(file) => Some(file),
        }
    }

    /// Reads the tokenizer.
    ///
    /// # Errors
    /// When it is missing, broken, or has more tokens than the embedding has rows.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        match &self.kind {
            Kind::HuggingFace => {
                Tokenizer::from_dir(&self.path, self.config.bos_token_id, self.config.vocab_size)
            }
            Kind::Gguf(file) => Tokenizer::from_gguf(file, &self.path, self.config.vocab_size),
        }
    }

    /// Reads every weight onto a device.
    ///
    /// # Errors
    /// As [`CausalLm::load`].
    pub fn load(&self, device: &Device) -> Result<CausalLm> {
        self.load_as(device, Precision::F32)
    }

    /// As [`ModelFiles::load`], with the matrices of the blocks in another type.
    ///
    /// # Errors
    /// As [`CausalLm::load`].
    pub fn load_as(&self, device: &Device, precision: Precision) -> Result<CausalLm> {
        let config = &self.config;
        match &self.kind {
            Kind::HuggingFace => {
                let checkpoint = Checkpoint::open(&self.path)?;
                CausalLm::load_as(config, &checkpoint.weights(config.architecture), device, precision)
            }
            Kind::Gguf(file) => {
                CausalLm::load_as(config, &GgufWeights::new(file, config, &self.path), device, precision)
            }
        }
    }
}
