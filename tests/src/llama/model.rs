//! A model that llama.cpp loaded.

use std::{
    ffi::{CString, c_char},
    path::{Path, PathBuf},
    ptr::NonNull,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use llama_cpp_sys_2 as sys;

use super::log::{LogLine, capture, complaints};

/// A model in llama.cpp, on the CPU.
#[derive(Debug)]
pub struct Model {
    ptr: NonNull<sys::llama_model>,
    path: PathBuf,
    log: Vec<LogLine>,
}

impl Model {
    /// Loads a GGUF file and lets llama.cpp check the data of every tensor.
    ///
    /// # Errors
    /// When llama.cpp refuses the file; the message holds its complaints.
    pub fn load(path: &Path) -> Result<Self> {
        let name = c_path(path)?;
        let (ptr, log) = capture(|| {
            // SAFETY: takes nothing and returns plain data.
            let mut params = unsafe { sys::llama_model_default_params() };
            params.n_gpu_layers = 0;
            // NaN or infinite scales must not pass unseen.
            params.check_tensors = true;
            // No repacked copies: the product of weights as stored in the file is what is measured.
            params.use_extra_bufts = false;
            // SAFETY: `name` is NUL-terminated and outlives the call; the parameters are the defaults but for
            // three plain values.
            unsafe { sys::llama_model_load_from_file(name.as_ptr(), params) }
        });
        let ptr = NonNull::new(ptr)
            .ok_or_else(|| anyhow!("llama.cpp does not load {}: {}", path.display(), complaints(&log)))?;
        Ok(Self { ptr, path: path.to_owned(), log })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What llama.cpp logged while it loaded the file.
    #[must_use]
    pub fn log(&self) -> &[LogLine] {
        &self.log
    }

    /// The warnings and errors of the log.
    #[must_use]
    pub fn complaints(&self) -> Vec<&LogLine> {
        self.log.iter().filter(|line| line.is_complaint()).collect()
    }

    /// llama.cpp's one-line description: architecture, size, type.
    #[must_use]
    pub fn description(&self) -> String {
        let mut buffer = [0u8; 256];
        // SAFETY: the model is alive; llama.cpp writes at most `len` bytes with a NUL at the end.
        unsafe { sys::llama_model_desc(self.as_ptr(), buffer.as_mut_ptr().cast::<c_char>(), buffer.len()) };
        let end = buffer.iter().position(|&byte| byte == 0).unwrap_or(buffer.len());
        String::from_utf8_lossy(&buffer[..end]).into_owned()
    }

    /// Number of weights.
    #[must_use]
    pub fn n_params(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_n_params(self.as_ptr()) }
    }

    /// Bytes of all tensors.
    #[must_use]
    pub fn tensor_bytes(&self) -> u64 {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_size(self.as_ptr()) }
    }

    /// Number of tokens.
    #[must_use]
    pub fn n_vocab(&self) -> usize {
        // SAFETY: the vocabulary is alive as long as the model.
        usize::try_from(unsafe { sys::llama_vocab_n_tokens(self.vocab()) }).unwrap_or(0)
    }

    /// The beginning-of-sequence token, if the tokenizer puts one in front of a text.
    #[must_use]
    pub fn leading_bos(&self) -> Option<i32> {
        // SAFETY: the vocabulary is alive as long as the model.
        let (adds, bos) =
            unsafe { (sys::llama_vocab_get_add_bos(self.vocab()), sys::llama_vocab_bos(self.vocab())) };
        adds.then_some(bos)
    }

    /// Token ids of a text, with BOS in front where the tokenizer adds one. Text that looks like a special
    /// token stays text.
    ///
    /// # Errors
    /// When the text is longer than 2 GiB.
    pub fn tokenize(&self, text: &str) -> Result<Vec<i32>> {
        let len = i32::try_from(text.len()).context("a text of more than 2 GiB")?;
        let call = |tokens: &mut [i32]| -> Result<i32> {
            let room = i32::try_from(tokens.len()).context("more than 2^31 tokens")?;
            // SAFETY: the pointers are valid for the lengths given with them; the text needs no NUL.
            Ok(unsafe {
                let text = text.as_ptr().cast::<c_char>();
                sys::llama_tokenize(self.vocab(), text, len, tokens.as_mut_ptr(), room, true, false)
            })
        };
        // Without room it returns minus the number of tokens.
        let needed = call(&mut [])?;
        ensure!(needed != i32::MIN, "more than 2^31 tokens");
        let mut tokens = vec![0; needed.unsigned_abs() as usize];
        let written = call(&mut tokens)?;
        tokens.truncate(usize::try_from(written).context("llama.cpp changed its mind about the tokens")?);
        Ok(tokens)
    }

    pub(super) const fn as_ptr(&self) -> *mut sys::llama_model {
        self.ptr.as_ptr()
    }

    fn vocab(&self) -> *const sys::llama_vocab {
        // SAFETY: the model is alive.
        unsafe { sys::llama_model_get_vocab(self.as_ptr()) }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        // SAFETY: loaded by llama.cpp and freed once; a `Context` borrows the model, so none is left.
        unsafe { sys::llama_model_free(self.as_ptr()) }
    }
}

/// A path as llama.cpp takes it.
pub(super) fn c_path(path: &Path) -> Result<CString> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    CString::new(text).with_context(|| format!("{text:?} has a NUL byte"))
}
