//! Where weights come from.

use std::path::Path;

use crate::error::{Error, Result};

/// A tensor in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Row-major shape; a matrix is `[out, in]`.
    pub shape: Vec<usize>,
    /// The values.
    pub data: Vec<f32>,
}

/// Something that gives tensors by their Hugging Face names, in Hugging Face layout.
pub trait WeightSource {
    /// The file or folder, for messages.
    fn path(&self) -> &Path;

    /// Whether there is a tensor of that name.
    fn contains(&self, name: &str) -> bool;

    /// Reads one tensor as f32.
    ///
    /// # Errors
    /// When the tensor is missing, of an unsupported type, or holds NaN or infinity.
    fn tensor(&self, name: &str) -> Result<HostTensor>;

    /// Reads one tensor and checks its shape.
    ///
    /// # Errors
    /// As [`WeightSource::tensor`], and when the shape is another.
    fn tensor_of_shape(&self, name: &str, expected: &[usize]) -> Result<HostTensor> {
        let tensor = self.tensor(name)?;
        if tensor.shape == expected {
            return Ok(tensor);
        }
        Err(Error::Shape {
            path: self.path().to_owned(),
            name: name.to_owned(),
            expected: expected.to_vec(),
            found: tensor.shape,
        })
    }
}
