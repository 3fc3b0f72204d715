//! The network of Table 27, FC-LN-ReLU, FC-LN-ReLU, FC-ReLU, FC: sizes, names and initial values of its parameters.

use rand::{Rng, distr::Uniform};
use rand_chacha::ChaCha8Rng;

/// Added to the variance by LayerNorm; PyTorch's default, the paper states none.
pub(crate) const LAYER_NORM_EPSILON: f64 = 1e-5;

/// Parameters per network.
pub(crate) const PARAMS: usize = 12;

/// Names of the parameters, in order. Linear and LayerNorm parameters are called as in PyTorch.
pub(crate) const PARAM_NAMES: [&str; PARAMS] = [
    "fc1.weight",
    "fc1.bias",
    "ln1.weight",
    "ln1.bias",
    "fc2.weight",
    "fc2.bias",
    "ln2.weight",
    "ln2.bias",
    "fc3.weight",
    "fc3.bias",
    "head.weight",
    "head.bias",
];

/// Sizes of a stack of networks of one shape: the twin critics are a stack of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MlpShape {
    /// Networks in the stack.
    pub(crate) networks: usize,
    /// Elements of an input.
    pub(crate) inputs: usize,
    /// Units of the hidden layers.
    pub(crate) hidden: [usize; 3],
    /// Elements of an output.
    pub(crate) outputs: usize,
}

impl MlpShape {
    /// Shapes of the parameters in [`PARAM_NAMES`]' order: weights `[network, in, out]`, all others
    /// `[network, 1, out]`.
    pub(crate) fn params(&self) -> [[usize; 3]; PARAMS] {
        let Self { networks: k, inputs, hidden: [h1, h2, h3], outputs } = *self;
        let row = |width| [k, 1, width];
        [
            [k, inputs, h1],
            row(h1),
            row(h1),
            row(h1),
            [k, h1, h2],
            row(h2),
            row(h2),
            row(h2),
            [k, h2, h3],
            row(h3),
            [k, h3, outputs],
            row(outputs),
        ]
    }

    /// Numbers in all parameters of the stack.
    pub(crate) fn elements(&self) -> usize {
        self.params().iter().map(|dims| dims.iter().product::<usize>()).sum()
    }

    /// Initial host values of every parameter: weights and biases of a linear layer uniform in
    /// ±1/√in (PyTorch's `Linear`), LayerNorm 1 and 0. From a host generator, so that one seed gives
    /// the same bytes on every device.
    pub(crate) fn init(&self, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
        let mut fan_in = self.inputs;
        PARAM_NAMES
            .iter()
            .zip(self.params())
            .map(|(name, [networks, rows, columns])| {
                let len = networks * rows * columns;
                match *name {
                    "ln1.weight" | "ln2.weight" => vec![1.0; len],
                    "ln1.bias" | "ln2.bias" => vec![0.0; len],
                    _ => {
                        if name.ends_with(".weight") {
                            fan_in = rows;
                        }
                        let bound = 1.0 / (fan_in as f32).sqrt();
                        let uniform =
                            Uniform::new_inclusive(-bound, bound).expect("bound is positive and finite");
                        (0..len).map(|_| rng.sample(uniform)).collect()
                    }
                }
            })
            .collect()
    }
}
