//! The policy without a tensor library: inference on the host, for saved policies and for acting
//! between updates.

use crate::{
    actor::Gaussian,
    error::{Error, Result},
    host::mlp::HostMlp,
    shape::{MlpShape, PARAM_NAMES},
    squashed::Squash,
};

/// A named tensor: name, shape, row-major values. What a safetensors file holds.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

/// Name of the tensor `[2]` with the bounds of log σ.
const LOG_STD_RANGE: &str = "log_std_range";

/// Name of the tensor `[1]` that says what squashes an action: 0 or absent for the sigmoid, 1 for tanh.
const SQUASH: &str = "squash";

/// Inference of a trained actor (Table 27) on the host.
///
/// One forward pass of the paper's network takes tens of microseconds: a product with a row of
/// weights is skipped where ReLU left a zero.
#[derive(Clone, Debug, PartialEq)]
pub struct ActorNet {
    net: HostMlp,
    gaussian: Gaussian,
}

impl ActorNet {
    /// Builds the network from tensors named as [`ActorNet::to_tensors`] names them. The sizes come
    /// from the shapes; tensors of other names are ignored, so a file may hold more.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::TensorShape`] names the tensor at fault;
    /// [`Error::Value`] if it holds NaN or infinity, or if the bounds of log σ are reversed.
    pub fn from_tensors(tensors: &[NamedTensor]) -> Result<Self> {
        let net = read_net(tensors)?;
        if net.shape.outputs % 2 == 1 {
            let expected = [net.shape.outputs.saturating_add(1), net.shape.hidden[2]];
            return Err(shape_error(find(tensors, PARAM_NAMES[10])?, &expected));
        }
        let range = values(tensors, LOG_STD_RANGE, &[2])?;
        if range[0] > range[1] {
            let (what, value) = (format!("{LOG_STD_RANGE}[0]"), f64::from(range[0]));
            return Err(Error::Value { what, value, rule: "at most log_std_range[1]" });
        }
        let squash = match tensors.iter().any(|(name, ..)| name == SQUASH) {
            false => Squash::Sigmoid,
            true => match values(tensors, SQUASH, &[1])?[0] {
                0.0 => Squash::Sigmoid,
                1.0 => Squash::Tanh,
                other => {
                    let (what, value) = (format!("{SQUASH}[0]"), f64::from(other));
                    return Err(Error::Value { what, value, rule: "0 or 1" });
                }
            },
        };
        let log_std_range = [f64::from(range[0]), f64::from(range[1])];
        Ok(Self { net, gaussian: Gaussian { log_std_range, squash } })
    }

    /// The network as named tensors, ready for a safetensors file: `fc1.weight`, `fc1.bias`,
    /// `ln1.weight`, `ln1.bias`, the same for 2, `fc3.*`, `head.*`, weights `[out, in]` as in PyTorch;
    /// the head's rows are µ of every action element, then its raw spread. `log_std_range` `[2]` holds
    /// the bounds min and max of log σ = min + (max - min) (tanh raw + 1) / 2. A tanh policy has `squash` `[1]` besides.
    pub fn to_tensors(&self) -> Vec<NamedTensor> {
        let mut tensors = write_net(&self.net);
        tensors.push((LOG_STD_RANGE.to_string(), vec![2], self.log_std_range().to_vec()));
        if self.gaussian.squash == Squash::Tanh {
            tensors.push((SQUASH.to_string(), vec![1], vec![1.0]));
        }
        tensors
    }

    pub(crate) fn new(net: HostMlp, gaussian: Gaussian) -> Self {
        Self { net, gaussian }
    }

    pub(crate) fn net(&self) -> &HostMlp {
        &self.net
    }

    /// Elements of a state.
    pub fn state_dim(&self) -> usize {
        self.net.shape.inputs
    }

    /// Elements of an action.
    pub fn action_dim(&self) -> usize {
        self.net.shape.outputs / 2
    }

    /// Units of the hidden layers.
    pub fn hidden(&self) -> [usize; 3] {
        self.net.shape.hidden
    }

    /// Bounds of log σ.
    pub fn log_std_range(&self) -> [f32; 2] {
        self.gaussian.log_std_range.map(|bound| bound as f32)
    }

    /// What squashes an action.
    pub fn squash(&self) -> Squash {
        self.gaussian.squash
    }

    /// µ and log σ of the Gaussian before it is squashed, `[action_dim]` each.
    ///
    /// # Errors
    /// [`Error::Length`] if `state` does not have [`state_dim`](Self::state_dim) elements.
    pub fn forward(&self, state: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        check_state(&self.net, state)?;
        let mut mu = self.net.forward(state);
        let mut log_std = mu.split_off(self.action_dim());
        for value in &mut log_std {
            *value = self.gaussian.log_std(f64::from(*value)).0 as f32;
        }
        Ok((mu, log_std))
    }

    /// The deterministic action squash(µ), `[action_dim]`, each element in the open interval of
    /// [`squash`](Self::squash).
    ///
    /// # Errors
    /// [`Error::Length`] if `state` does not have [`state_dim`](Self::state_dim) elements.
    pub fn act(&self, state: &[f32]) -> Result<Vec<f32>> {
        let (mut mu, _) = self.forward(state)?;
        mu.iter_mut().for_each(|u| *u = self.gaussian.squash.action(*u));
        Ok(mu)
    }
}

/// The network of [`PARAM_NAMES`]; the sizes come from the shapes.
pub(crate) fn read_net(tensors: &[NamedTensor]) -> Result<HostMlp> {
    let [w1, w2, w3, w4] = [PARAM_NAMES[0], PARAM_NAMES[4], PARAM_NAMES[8], PARAM_NAMES[10]];
    let (h1, inputs) = matrix_dims(tensors, w1)?;
    let (h2, _) = matrix_dims(tensors, w2)?;
    let (h3, _) = matrix_dims(tensors, w3)?;
    let (outputs, _) = matrix_dims(tensors, w4)?;
    let shape = MlpShape { networks: 1, inputs, hidden: [h1, h2, h3], outputs };
    // In the order of the names. Sizes that multiply to more than a usize fail against the data of their tensor.
    let dims = [
        [h1, inputs],
        [1, h1],
        [1, h1],
        [1, h1],
        [h2, h1],
        [1, h2],
        [1, h2],
        [1, h2],
        [h3, h2],
        [1, h3],
        [outputs, h3],
        [1, outputs],
    ];
    let mut params = Vec::new();
    for (name, [rows, columns]) in PARAM_NAMES.iter().zip(dims) {
        if name.ends_with(".weight") && !name.starts_with("ln") {
            params.extend(transpose(values(tensors, name, &[rows, columns])?, rows, columns));
        } else {
            params.extend_from_slice(values(tensors, name, &[columns])?);
        }
    }
    Ok(HostMlp::new(shape, params))
}

/// What [`read_net`] reads.
pub(crate) fn write_net(net: &HostMlp) -> Vec<NamedTensor> {
    let mut rest = net.params.as_slice();
    PARAM_NAMES
        .iter()
        .zip(net.shape.params())
        .map(|(name, [_, rows, columns])| {
            let (values, after) = rest.split_at(rows * columns);
            rest = after;
            if name.ends_with(".weight") && !name.starts_with("ln") {
                (name.to_string(), vec![columns, rows], transpose(values, rows, columns))
            } else {
                (name.to_string(), vec![columns], values.to_vec())
            }
        })
        .collect()
}

pub(crate) fn check_state(net: &HostMlp, state: &[f32]) -> Result<()> {
    if state.len() == net.shape.inputs {
        return Ok(());
    }
    Err(Error::Length { what: "state", found: state.len(), expected: net.shape.inputs })
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

fn find<'a>(tensors: &'a [NamedTensor], name: &str) -> Result<&'a NamedTensor> {
    let found = tensors.iter().find(|(found, ..)| found == name);
    found.ok_or_else(|| Error::MissingTensor { name: name.to_string() })
}

/// Rows and columns of a weight, each at least 1.
fn matrix_dims(tensors: &[NamedTensor], name: &str) -> Result<(usize, usize)> {
    let tensor = find(tensors, name)?;
    match *tensor.1 {
        [rows, columns] if rows > 0 && columns > 0 => Ok((rows, columns)),
        _ => Err(shape_error(tensor, &[0, 0])),
    }
}

fn values<'a>(tensors: &'a [NamedTensor], name: &str, shape: &[usize]) -> Result<&'a [f32]> {
    let tensor = find(tensors, name)?;
    let len = shape.iter().try_fold(1_usize, |len, &axis| len.checked_mul(axis));
    if tensor.1 != shape || Some(tensor.2.len()) != len {
        return Err(shape_error(tensor, shape));
    }
    match tensor.2.iter().position(|value| !value.is_finite()) {
        None => Ok(&tensor.2),
        Some(at) => Err(Error::Value {
            what: format!("{name}[{at}]"),
            value: f64::from(tensor.2[at]),
            rule: "a finite number",
        }),
    }
}

fn shape_error(tensor: &NamedTensor, expected: &[usize]) -> Error {
    let (name, found, values) = tensor;
    Error::TensorShape {
        name: name.clone(),
        found: found.clone(),
        elements: values.len(),
        expected: expected.to_vec(),
    }
}

#[cfg(test)]
#[path = "actor_net_tests.rs"]
mod tests;
