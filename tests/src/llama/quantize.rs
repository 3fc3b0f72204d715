//! llama.cpp's own quantizer, for the baselines.

use std::{
    ffi::{CString, c_char},
    fmt, fs,
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context as _, Result, anyhow, bail};
use llama_cpp_sys_2 as sys;
use ramp_gguf::Recipe;

use super::{
    log::{LogLine, capture, complaints},
    model::c_path,
};

/// A recipe of `llama-quantize`, by the name that program takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileType {
    name: &'static str,
    id: sys::llama_ftype,
}

/// Every recipe that needs no more than weights and an optional importance matrix.
const FILE_TYPES: &[FileType] = &[
    FileType { name: "F32", id: sys::LLAMA_FTYPE_ALL_F32 },
    FileType { name: "F16", id: sys::LLAMA_FTYPE_MOSTLY_F16 },
    FileType { name: "BF16", id: sys::LLAMA_FTYPE_MOSTLY_BF16 },
    FileType { name: "Q2_K", id: sys::LLAMA_FTYPE_MOSTLY_Q2_K },
    FileType { name: "Q3_K_S", id: sys::LLAMA_FTYPE_MOSTLY_Q3_K_S },
    FileType { name: "Q3_K_M", id: sys::LLAMA_FTYPE_MOSTLY_Q3_K_M },
    FileType { name: "Q3_K_L", id: sys::LLAMA_FTYPE_MOSTLY_Q3_K_L },
    FileType { name: "IQ4_XS", id: sys::LLAMA_FTYPE_MOSTLY_IQ4_XS },
    FileType { name: "IQ4_NL", id: sys::LLAMA_FTYPE_MOSTLY_IQ4_NL },
    FileType { name: "Q4_0", id: sys::LLAMA_FTYPE_MOSTLY_Q4_0 },
    FileType { name: "Q4_1", id: sys::LLAMA_FTYPE_MOSTLY_Q4_1 },
    FileType { name: "Q4_K_S", id: sys::LLAMA_FTYPE_MOSTLY_Q4_K_S },
    FileType { name: "Q4_K_M", id: sys::LLAMA_FTYPE_MOSTLY_Q4_K_M },
    FileType { name: "Q5_0", id: sys::LLAMA_FTYPE_MOSTLY_Q5_0 },
    FileType { name: "Q5_1", id: sys::LLAMA_FTYPE_MOSTLY_Q5_1 },
    FileType { name: "Q5_K_S", id: sys::LLAMA_FTYPE_MOSTLY_Q5_K_S },
    FileType { name: "Q5_K_M", id: sys::LLAMA_FTYPE_MOSTLY_Q5_K_M },
    FileType { name: "Q6_K", id: sys::LLAMA_FTYPE_MOSTLY_Q6_K },
    FileType { name: "Q8_0", id: sys::LLAMA_FTYPE_MOSTLY_Q8_0 },
];

impl FromStr for FileType {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = FILE_TYPES.iter().find(|ty| ty.name.eq_ignore_ascii_case(name));
        known.copied().ok_or_else(|| {
            let names: Vec<&str> = FILE_TYPES.iter().map(|ty| ty.name).collect();
            anyhow!("unknown type {name:?} (known: {})", names.join(", "))
        })
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Importance of one matrix: mean squared activation per input column.
#[derive(Clone, Debug, PartialEq)]
pub struct ImatrixEntry {
    /// Name of the weight, `blk.0.attn_q.weight`.
    pub name: String,
    /// One value per input column.
    pub values: Vec<f32>,
}

/// Quantizes a GGUF file with llama.cpp and returns what it logged. The output appears when it is whole. The rules of
/// `recipe` go before those of `ty`, as those of `--tensor-type-file` do.
///
/// # Errors
/// When llama.cpp fails or the file cannot be written; no partial output is left.
pub fn quantize(
    input: &Path,
    output: &Path,
    ty: FileType,
    imatrix: &[ImatrixEntry],
    recipe: &Recipe,
    threads: usize,
) -> Result<Vec<LogLine>> {
    let mut partial = output.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let (c_input, c_output) = (c_path(input)?, c_path(&partial)?);
    let n_threads = i32::try_from(threads)?;
    let names = imatrix
        .iter()
        .map(|entry| CString::new(entry.name.as_str()).with_context(|| format!("name {:?}", entry.name)))
        .collect::<Result<Vec<_>>>()?;
    let mut entries: Vec<sys::llama_model_imatrix_data> =
        imatrix.iter().zip(&names).map(|(entry, name)| entry_of(name.as_ptr(), &entry.values)).collect();
    // The end of the list is an entry without a name.
    entries.push(entry_of(std::ptr::null(), &[]));
    let patterns =
        recipe.rules().map(|(pattern, _)| Ok(CString::new(pattern)?)).collect::<Result<Vec<_>>>()?;
    let mut overrides: Vec<sys::llama_model_tensor_override> = recipe
        .rules()
        .zip(&patterns)
        .map(|((_, ty), pattern)| sys::llama_model_tensor_override {
            pattern: pattern.as_ptr(),
            type_: ty.id(),
        })
        .collect();
    // This list, too.
    let count = sys::GGML_TYPE_COUNT;
    overrides.push(sys::llama_model_tensor_override { pattern: std::ptr::null(), type_: count });

    let (status, log) = capture(|| {
        // SAFETY: takes nothing and returns plain data.
        let mut params = unsafe { sys::llama_model_quantize_default_params() };
        params.ftype = ty.id;
        params.nthread = n_threads;
        if !imatrix.is_empty() {
            params.imatrix = entries.as_ptr();
        }
        if !recipe.is_empty() {
            params.tt_overrides = overrides.as_ptr();
        }
        // SAFETY: the strings, the entries, the overrides and what they point to outlive the call.
        unsafe { sys::llama_model_quantize(c_input.as_ptr(), c_output.as_ptr(), &raw const params) }
    });
    if status != 0 {
        // It may not exist; the failure to report is llama.cpp's.
        let _ = fs::remove_file(&partial);
        bail!("llama.cpp cannot quantize {} to {ty}: {}", input.display(), complaints(&log));
    }
    fs::rename(&partial, output).with_context(|| format!("cannot write {}", output.display()))?;
    Ok(log)
}

fn entry_of(name: *const c_char, values: &[f32]) -> sys::llama_model_imatrix_data {
    sys::llama_model_imatrix_data { name, data: values.as_ptr(), size: values.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_types_have_the_names_of_llama_quantize() {
        assert_eq!("q3_k_m".parse::<FileType>().unwrap().id, sys::LLAMA_FTYPE_MOSTLY_Q3_K_M);
        let error = "Q9".parse::<FileType>().unwrap_err().to_string();
        assert!(error.contains("\"Q9\"") && error.contains("Q4_K_M"), "{error}");
    }

    #[test]
    fn a_missing_input_is_an_error_and_leaves_no_output() {
        let dir = tempfile::tempdir().unwrap();
        let (input, output) = (dir.path().join("in.gguf"), dir.path().join("out.gguf"));
        let ty = "Q8_0".parse().unwrap();
        let error = quantize(&input, &output, ty, &[], &Recipe::new(), 1).unwrap_err().to_string();
        assert!(error.contains("in.gguf") && error.contains("Q8_0"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
