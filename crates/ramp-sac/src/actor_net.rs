//! The policy without a tensor library: inference on the host, for saved policies and for acting
//! between updates.

use crate::{
    error::{Error, Result},
    mlp::{LAYER_NORM_EPSILON, PARAM_NAMES, PARAMS},
    squashed,
};

/// A named tensor: name, shape, row-major values. What a safetensors file holds.
pub type NamedTensor = (String, Vec<usize>, Vec<f32>);

/// Name of the tensor `[2]` with the bounds of log σ.
const LOG_STD_RANGE: &str = "log_std_range";

/// Deterministic inference of a trained actor (Table 27) on the host.
///
/// One forward pass of the paper's network takes tens of microseconds: a product with a row of
/// weights is skipped where ReLU left a zero.
#[derive(Clone, Debug, PartialEq)]
pub struct ActorNet {
    inputs: usize,
    hidden: [usize; 3],
    actions: usize,
    /// In [`PARAM_NAMES`]' order; weights `[in, out]`.
    params: [Vec<f32>; PARAMS],
    log_std_range: [f32; 2],
}

impl ActorNet {
    /// Builds the network from tensors named as [`ActorNet::to_tensors`] names them. The sizes come
    /// from the shapes; tensors of other names are ignored, so a file may hold more.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] or [`Error::TensorShape`] names the tensor at fault;
    /// [`Error::Value`] if it holds NaN or infinity, or if the bounds of log σ are reversed.
    pub fn from_tensors(tensors: &[NamedTensor]) -> Result<Self> {
        let [w1, w2, w3, w4] = [PARAM_NAMES[0], PARAM_NAMES[4], PARAM_NAMES[8], PARAM_NAMES[10]];
        let (h1, inputs) = matrix_dims(tensors, w1)?;
        let (h2, _) = matrix_dims(tensors, w2)?;
        let (h3, _) = matrix_dims(tensors, w3)?;
        let (outputs, _) = matrix_dims(tensors, w4)?;
        if outputs % 2 == 1 {
            return Err(shape_error(find(tensors, w4)?, &[outputs.saturating_add(1), h3]));
        }
        let shapes: [&[usize]; PARAMS] = [
            &[h1, inputs],
            &[h1],
            &[h1],
            &[h1],
            &[h2, h1],
            &[h2],
            &[h2],
            &[h2],
            &[h3, h2],
            &[h3],
            &[outputs, h3],
            &[outputs],
        ];
        let mut params: [Vec<f32>; PARAMS] = Default::default();
        for ((param, name), shape) in params.iter_mut().zip(PARAM_NAMES).zip(shapes) {
            let values = values(tensors, name, shape)?;
            *param = match *shape {
                [rows, columns] => transpose(values, rows, columns),
                _ => values.to_vec(),
            };
        }
        let range = values(tensors, LOG_STD_RANGE, &[2])?;
        if range[0] > range[1] {
            let (what, value) = (format!("{LOG_STD_RANGE}[0]"), f64::from(range[0]));
            return Err(Error::Value { what, value, rule: "at most log_std_range[1]" });
        }
        let log_std_range = [range[0], range[1]];
        Ok(Self { inputs, hidden: [h1, h2, h3], actions: outputs / 2, params, log_std_range })
    }

    /// The network as named tensors, ready for a safetensors file: `fc1.weight`, `fc1.bias`,
    /// `ln1.weight`, `ln1.bias`, the same for 2, `fc3.*`, `head.*`, weights `[out, in]` as in PyTorch;
    /// the head's rows are µ of every action element, then its raw spread. `log_std_range` `[2]` holds
    /// the bounds min and max of log σ = min + (max - min) (tanh raw + 1) / 2.
    pub fn to_tensors(&self) -> Vec<NamedTensor> {
        let [h1, h2, h3] = self.hidden;
        let weights = [(0, self.inputs, h1), (4, h1, h2), (8, h2, h3), (10, h3, 2 * self.actions)];
        let mut tensors: Vec<NamedTensor> = PARAM_NAMES
            .iter()
            .zip(&self.params)
            .map(|(name, values)| (name.to_string(), vec![values.len()], values.clone()))
            .collect();
        for (index, rows, columns) in weights {
            tensors[index].1 = vec![columns, rows];
            tensors[index].2 = transpose(&self.params[index], rows, columns);
        }
        tensors.push((LOG_STD_RANGE.to_string(), vec![2], self.log_std_range.to_vec()));
        tensors
    }

    /// Takes parameters in the device's layout (weights `[in, out]`), whose lengths fit the sizes.
    pub(crate) fn from_params(
        inputs: usize,
        hidden: [usize; 3],
        actions: usize,
        params: Vec<Vec<f32>>,
        log_std_range: [f64; 2],
    ) -> Self {
        let mut params = params.into_iter();
        let params = std::array::from_fn(|_| params.next().expect("one value per parameter"));
        Self { inputs, hidden, actions, params, log_std_range: log_std_range.map(|bound| bound as f32) }
    }

    /// Parameters in the device's layout, to upload them.
    pub(crate) fn into_params(self) -> Vec<Vec<f32>> {
        self.params.into()
    }

    /// Elements of a state.
    pub fn state_dim(&self) -> usize {
        self.inputs
    }

    /// Elements of an action.
    pub fn action_dim(&self) -> usize {
        self.actions
    }

    /// Units of the hidden layers.
    pub fn hidden(&self) -> [usize; 3] {
        self.hidden
    }

    /// Bounds of log σ.
    pub fn log_std_range(&self) -> [f32; 2] {
        self.log_std_range
    }

    /// µ and log σ of the Gaussian before the sigmoid, `[action_dim]` each.
    ///
    /// # Errors
    /// [`Error::Length`] if `state` does not have [`state_dim`](Self::state_dim) elements.
    pub fn forward(&self, state: &[f32]) -> Result<(Vec<f32>, Vec<f32>)> {
        if state.len() != self.inputs {
            return Err(Error::Length { what: "state", found: state.len(), expected: self.inputs });
        }
        let [w1, b1, g1, o1, w2, b2, g2, o2, w3, b3, w4, b4] = &self.params;
        let mut x = linear(state, w1, b1);
        layer_norm(&mut x, g1, o1);
        relu(&mut x);
        let mut x = linear(&x, w2, b2);
        layer_norm(&mut x, g2, o2);
        relu(&mut x);
        let mut x = linear(&x, w3, b3);
        relu(&mut x);
        let mut mu = linear(&x, w4, b4);
        let mut log_std = mu.split_off(self.actions);
        let [min, max] = self.log_std_range;
        for value in &mut log_std {
            *value = min + 0.5 * (max - min) * (value.tanh() + 1.0);
        }
        Ok((mu, log_std))
    }

    /// The deterministic action sigmoid(µ), `[action_dim]`, each element in (0, 1).
    ///
    /// # Errors
    /// [`Error::Length`] if `state` does not have [`state_dim`](Self::state_dim) elements.
    pub fn act(&self, state: &[f32]) -> Result<Vec<f32>> {
        let (mut mu, _) = self.forward(state)?;
        mu.iter_mut().for_each(|u| *u = squashed::sigmoid(*u));
        Ok(mu)
    }
}

/// x W + b with W `[in, out]`. Four rows of W at a time, so that the sums stay in registers.
fn linear(x: &[f32], weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let width = bias.len();
    let row = |input: usize| &weight[input * width..(input + 1) * width];
    let mut out = bias.to_vec();
    let active: Vec<usize> = (0..x.len()).filter(|&input| x[input] != 0.0).collect();
    let mut groups = active.chunks_exact(4);
    for group in &mut groups {
        let [i, j, k, l] = [group[0], group[1], group[2], group[3]];
        let rows = row(i).iter().zip(row(j)).zip(row(k)).zip(row(l));
        for (sum, (((a, b), c), d)) in out.iter_mut().zip(rows) {
            *sum += (x[i] * a + x[j] * b) + (x[k] * c + x[l] * d);
        }
    }
    for &input in groups.remainder() {
        for (sum, w) in out.iter_mut().zip(row(input)) {
            *sum += x[input] * w;
        }
    }
    out
}

fn layer_norm(x: &mut [f32], scale: &[f32], shift: &[f32]) {
    let count = x.len() as f64;
    let mean = x.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
    let variance = x.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
    let inverse = 1.0 / (variance + LAYER_NORM_EPSILON).sqrt();
    for ((value, scale), shift) in x.iter_mut().zip(scale).zip(shift) {
        *value = ((f64::from(*value) - mean) * inverse) as f32 * scale + shift;
    }
}

fn relu(x: &mut [f32]) {
    x.iter_mut().for_each(|value| *value = value.max(0.0));
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
