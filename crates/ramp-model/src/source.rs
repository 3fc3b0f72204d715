//! Where weights come from.

use std::path::Path;

use crate::{
    error::{Error, Result},
    parameter::Parameter,
};

/// A tensor in host memory.
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Row-major shape; a matrix is `[out, in]`.
    pub shape: Vec<usize>,
    /// The values.
    pub data: Vec<f32>,
}

/// Something that gives a model's tensors: matrices as `[out, in]`, the rows of q and k in Hugging Face's order.
pub trait WeightSource {
    /// The file or folder, for messages.
    fn path(&self) -> &Path;

    /// The name that the tensor has there, for messages.
    fn name(&self, parameter: Parameter) -> String;

    /// Reads one tensor as f32.
    ///
    /// # Errors
    /// When the tensor is missing, of an unsupported type, or holds NaN or infinity.
    fn tensor(&self, parameter: Parameter) -> Result<HostTensor>;

    /// Reads one tensor and checks its shape.
    ///
    /// # Errors
    /// As [`WeightSource::tensor`], and when the shape is another.
    fn tensor_of_shape(&self, parameter: Parameter, expected: &[usize]) -> Result<HostTensor> {
        let tensor = self.tensor(parameter)?;
        if tensor.shape == expected {
            return Ok(tensor);
        }
        Err(Error::Shape {
            path: self.path().to_owned(),
            name: self.name(parameter),
            expected: expected.to_vec(),
            found: tensor.shape,
        })
    }
}
