//! A stack of networks, wherever it lives: outputs on the host, gradients from the gradients of outputs.
//!
//! Every loss of this crate is a function of a few numbers per row: two of a Gaussian, one of a critic, one for each
//! action of a categorical policy. So losses and their slopes at the outputs are computed here on the host, once
//! for all devices, and only the way from there to the parameters belongs to a device.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;

use crate::{
    device::{
        adam::Adam,
        mlp::{Mlp, read},
        polyak,
    },
    error::Result,
    host::{
        self,
        adam::{AdamStep, Moments},
        mlp::{HostMlp, HostTape},
    },
    shape::{MlpShape, PARAMS},
};

pub(crate) use crate::host::mlp::Wrt;

/// Rows of a minibatch that one task takes; fixed, so that gradients are the same on any number of threads.
const TASK_ROWS: usize = 64;

/// Multiplications that pay for waking a thread pool up: some hundred microseconds of one core.
const PARALLEL_WORK: usize = 1 << 23;

/// Networks of one shape with their own parameters and the same inputs.
#[derive(Clone, Debug)]
pub(crate) struct Networks {
    pub(crate) shape: MlpShape,
    place: Place,
}

// There are a few of these in a program.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug)]
enum Place {
    Host(Vec<HostMlp>),
    Device(Mlp, Device),
}

/// What a pass leaves for [`Networks::backward`].
#[derive(Debug)]
pub(crate) struct Tape {
    wrt: Wrt,
    place: TapePlace,
}

#[allow(clippy::large_enum_variant)]
#[derive(Debug)]
enum TapePlace {
    /// By network, then by task.
    Host(Vec<Vec<HostTape>>),
    Device {
        input: Tensor<3>,
        output: Tensor<3>,
    },
}

/// Gradients of the parameters of a stack.
pub(crate) enum Gradients {
    /// By network, in the order of its parameters.
    Host(Vec<Vec<f32>>),
    Device(burn::tensor::Gradients),
}

/// Host copy of an optimizer: steps taken, and both moments of each parameter if there were any.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct AdamSnapshot {
    pub(crate) time: u64,
    pub(crate) moment_1: Vec<Vec<f32>>,
    pub(crate) moment_2: Vec<Vec<f32>>,
}

impl Networks {
    /// `values` as [`MlpShape::params`] has them.
    pub(crate) fn new(shape: MlpShape, values: Vec<Vec<f32>>, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        let place = if host::is_host(&device) {
            let flat = flatten(&shape, &values);
            Place::Host(flat.into_iter().map(|params| HostMlp::new(shape, params)).collect())
        } else {
            Place::Device(Mlp::upload(&shape, values, &device).trainable(), device)
        };
        Self { shape, place }
    }

    /// Host copies of every parameter, as [`Networks::new`] takes them.
    pub(crate) fn download(&self) -> Result<Vec<Vec<f32>>> {
        match &self.place {
            Place::Host(networks) => {
                let flat: Vec<&[f32]> = networks.iter().map(|network| network.params.as_slice()).collect();
                Ok(unflatten(&self.shape, &flat))
            }
            Place::Device(mlp, _) => mlp.download(),
        }
    }

    /// A copy of the first network in host memory, to act with between updates.
    pub(crate) fn host_copy(&self) -> Result<HostMlp> {
        match &self.place {
            Place::Host(networks) => Ok(networks[0].clone()),
            Place::Device(mlp, _) => {
                let mut flat = flatten(&self.shape, &mlp.download()?).into_iter();
                Ok(HostMlp::new(self.shape, flat.next().unwrap_or_default()))
            }
        }
    }

    /// One network with the parameters of `net`.
    pub(crate) fn from_host(net: &HostMlp, device: &Device) -> Self {
        Self::new(net.shape, unflatten(&net.shape, &[net.params.as_slice()]), device)
    }

    /// Whether two passes of this many rows are best computed side by side: in host memory, if they pay for it. A device
    /// has a queue of its own.
    pub(crate) fn shares_threads(&self, rows: usize) -> bool {
        matches!(self.place, Place::Host(_)) && self.work_of(rows) >= PARALLEL_WORK
    }

    /// Outputs `[network, batch, out]` of `input` `[batch, in]`.
    pub(crate) fn forward(&self, input: &[f32]) -> Result<Vec<f32>> {
        match &self.place {
            Place::Host(networks) => {
                let tasks: Vec<(&HostMlp, &[f32])> = self.tasks(networks, input);
                let outputs = in_parallel(tasks, self.work(input), |(network, rows)| network.forward(rows));
                Ok(outputs.concat())
            }
            Place::Device(mlp, device) => {
                read(mlp.plain().forward(rows(input, self.shape.inputs, device).unsqueeze()))
            }
        }
    }

    /// Outputs `[network, batch, out]` of `input` `[batch, in]`, and what gradients of `wrt` need.
    pub(crate) fn forward_tape(&self, input: &[f32], wrt: Wrt) -> Result<(Vec<f32>, Tape)> {
        let (output, place) = match &self.place {
            Place::Host(networks) => {
                let tasks = self.tasks(networks, input);
                let passes = in_parallel(tasks, self.work(input), |(network, rows)| {
                    network.forward_tape(rows.to_vec())
                });
                let (outputs, tapes): (Vec<_>, Vec<_>) = passes.into_iter().unzip();
                let per_network = tapes.len() / networks.len();
                let mut tapes = tapes.into_iter();
                let tapes = networks.iter().map(|_| tapes.by_ref().take(per_network).collect()).collect();
                (outputs.concat(), TapePlace::Host(tapes))
            }
            Place::Device(mlp, device) => {
                let input = rows(input, self.shape.inputs, device).unsqueeze::<3>().autodiff();
                let (input, mlp) = match wrt {
                    Wrt::Params => (input, mlp.clone()),
                    // One copy of the rows for each network, so that each gets a gradient of its own.
                    Wrt::Input => (input.repeat_dim(0, self.shape.networks).require_grad(), mlp.frozen()),
                };
                let output = mlp.forward(input.clone());
                (read(output.clone().without_autodiff())?, TapePlace::Device { input, output })
            }
        };
        Ok((output, Tape { wrt, place }))
    }

    /// Gradients of the parameters, from those of the outputs, `[network, batch, out]`.
    pub(crate) fn backward(&self, tape: &Tape, outer: &[f32]) -> Gradients {
        debug_assert_eq!(tape.wrt, Wrt::Params);
        match (&self.place, &tape.place) {
            (Place::Host(networks), TapePlace::Host(tapes)) => {
                let parts = self.pull_back(networks, tapes, outer, Wrt::Params);
                let summed = parts
                    .into_iter()
                    .map(|parts| parts.into_iter().reduce(|sum, part| add(sum, &part)).unwrap_or_default());
                Gradients::Host(summed.collect())
            }
            (_, TapePlace::Device { output, .. }) => Gradients::Device(graph(output, outer).backward()),
            (Place::Device(..), TapePlace::Host(_)) => unreachable!("a tape comes from its own networks"),
        }
    }

    /// Gradients of the inputs, `[network, batch, in]`, from those of the outputs, `[network, batch, out]`.
    pub(crate) fn backward_input(&self, tape: &Tape, outer: &[f32]) -> Result<Vec<f32>> {
        debug_assert_eq!(tape.wrt, Wrt::Input);
        match (&self.place, &tape.place) {
            (Place::Host(networks), TapePlace::Host(tapes)) => {
                Ok(self.pull_back(networks, tapes, outer, Wrt::Input).concat().concat())
            }
            (_, TapePlace::Device { input, output }) => {
                let mut grads = graph(output, outer).backward();
                read(input.grad_remove(&mut grads).expect("the input is part of its output"))
            }
            (Place::Device(..), TapePlace::Host(_)) => unreachable!("a tape comes from its own networks"),
        }
    }

    /// θ̄ ← (1 - τ) θ̄ + τ θ for every parameter, LayerNorm's included.
    pub(crate) fn follow(&mut self, online: &Self, tau: f64) {
        match (&mut self.place, &online.place) {
            (Place::Host(targets), Place::Host(online)) => {
                let pairs: Vec<_> = targets.iter_mut().zip(online).collect();
                in_parallel(pairs, self.shape.elements() << 3, |(target, online)| {
                    host::adam::polyak(&mut target.params, &online.params, tau);
                });
            }
            (Place::Device(target, _), Place::Device(online, _)) => {
                *target = polyak::polyak(target.plain(), online, tau);
            }
            _ => unreachable!("targets live where their networks do"),
        }
    }

    /// Each network with each task's rows, `[rows, in]`; the tasks of a network follow each other.
    fn tasks<'a>(&self, networks: &'a [HostMlp], input: &'a [f32]) -> Vec<(&'a HostMlp, &'a [f32])> {
        let size = self.task_rows() * self.shape.inputs;
        networks.iter().flat_map(|network| input.chunks(size).map(move |rows| (network, rows))).collect()
    }

    /// Multiplications of a pass of `[batch, in]` through every network.
    fn work(&self, input: &[f32]) -> usize {
        self.work_of(input.len() / self.shape.inputs * self.shape.networks)
    }

    /// Multiplications of a pass of this many rows, each through one network.
    fn work_of(&self, rows: usize) -> usize {
        rows * self.shape.elements() / self.shape.networks
    }

    /// A stack has several networks to share among threads already.
    const fn task_rows(&self) -> usize {
        TASK_ROWS * self.shape.networks
    }

    /// Gradients by network and task.
    fn pull_back(
        &self,
        networks: &[HostMlp],
        tapes: &[Vec<HostTape>],
        outer: &[f32],
        wrt: Wrt,
    ) -> Vec<Vec<Vec<f32>>> {
        let size = self.task_rows() * self.shape.outputs;
        let per_network = outer.chunks(outer.len() / networks.len());
        let tasks: Vec<_> = networks
            .iter()
            .zip(tapes)
            .zip(per_network)
            .flat_map(|((network, tapes), outer)| {
                tapes.iter().zip(outer.chunks(size)).map(move |(tape, outer)| (network, tape, outer))
            })
            .collect();
        let mut grads = in_parallel(
            tasks,
            2 * self.work_of(outer.len() / self.shape.outputs),
            |(network, tape, outer)| network.backward(tape, outer, wrt),
        )
        .into_iter();
        tapes.iter().map(|tapes| grads.by_ref().take(tapes.len()).collect()).collect()
    }
}

/// Adam's state for the parameters of one stack.
#[derive(Clone, Debug)]
pub(crate) struct Optimizer {
    epsilon: f64,
    grad_clip: f64,
    place: OptimizerPlace,
}

#[derive(Clone, Debug)]
enum OptimizerPlace {
    Host { time: u64, moments: Vec<Moments> },
    Device(Box<Adam>),
}

impl Optimizer {
    /// `grad_clip`: largest global L2 norm of the gradient of one network, 0 for none.
    pub(crate) fn new(networks: &Networks, epsilon: f64, grad_clip: f64) -> Self {
        let place = match &networks.place {
            Place::Host(networks) => OptimizerPlace::Host {
                time: 0,
                moments: networks.iter().map(|network| Moments::zeros(network.params.len())).collect(),
            },
            Place::Device(..) => OptimizerPlace::Device(Box::new(Adam::new(epsilon, grad_clip))),
        };
        Self { epsilon, grad_clip, place }
    }

    /// One step of each network.
    pub(crate) fn step(&mut self, networks: &mut Networks, grads: Gradients, lr: f64) {
        // About eight operations on each parameter.
        let work = networks.shape.elements() << 3;
        match (&mut self.place, &mut networks.place, grads) {
            (OptimizerPlace::Host { time, moments }, Place::Host(networks), Gradients::Host(grads)) => {
                *time += 1;
                let step = AdamStep { lr, epsilon: self.epsilon, grad_clip: self.grad_clip, time: *time };
                let tasks: Vec<_> = networks.iter_mut().zip(moments).zip(grads).collect();
                in_parallel(tasks, work, |((network, moments), grads)| {
                    moments.step(&mut network.params, &grads, step);
                });
            }
            (OptimizerPlace::Device(adam), Place::Device(mlp, _), Gradients::Device(grads)) => {
                adam.step(mlp, grads, lr);
            }
            _ => unreachable!("an optimizer lives where its networks do"),
        }
    }

    pub(crate) fn snapshot(&self, shape: &MlpShape) -> Result<AdamSnapshot> {
        match &self.place {
            OptimizerPlace::Host { time: 0, .. } => Ok(AdamSnapshot::default()),
            OptimizerPlace::Host { time, moments } => {
                let of = |pick: fn(&Moments) -> &[f32]| {
                    unflatten(shape, &moments.iter().map(pick).collect::<Vec<_>>())
                };
                let (moment_1, moment_2) = (of(|moments| &moments.first), of(|moments| &moments.second));
                Ok(AdamSnapshot { time: *time, moment_1, moment_2 })
            }
            OptimizerPlace::Device(adam) => adam.snapshot(),
        }
    }

    /// Continues from a snapshot whose vectors have the lengths of the networks' shape, or are absent at time 0.
    pub(crate) fn restore(&mut self, snapshot: AdamSnapshot, networks: &Networks) {
        if snapshot.time == 0 {
            return;
        }
        match (&mut self.place, &networks.place) {
            (OptimizerPlace::Host { time, moments }, _) => {
                *time = snapshot.time;
                let first = flatten(&networks.shape, &snapshot.moment_1);
                let second = flatten(&networks.shape, &snapshot.moment_2);
                *moments =
                    first.into_iter().zip(second).map(|(first, second)| Moments { first, second }).collect();
            }
            (OptimizerPlace::Device(adam), Place::Device(_, device)) => {
                adam.restore(snapshot, &networks.shape, device);
            }
            (OptimizerPlace::Device(_), Place::Host(_)) => {
                unreachable!("an optimizer lives where its networks do")
            }
        }
    }
}

/// Results in the order of the tasks; `work` is the number of multiplications in all of them, about. Small networks
/// are done before a thread pool has woken up.
fn in_parallel<T: Send, R: Send>(tasks: Vec<T>, work: usize, run: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    if tasks.len() == 1 || work < PARALLEL_WORK {
        return tasks.into_iter().map(run).collect();
    }
    tasks.into_par_iter().map(run).collect()
}

/// Both results, side by side where the [networks](Networks::shares_threads) like that.
pub(crate) fn beside<A: Send, B: Send>(
    threads: bool,
    a: impl FnOnce() -> A + Send,
    b: impl FnOnce() -> B + Send,
) -> (A, B) {
    if threads { rayon::join(a, b) } else { (a(), b()) }
}

/// Σ outer · output: its gradient at the outputs is `outer`.
fn graph(output: &Tensor<3>, outer: &[f32]) -> Tensor<1> {
    let outer = TensorData::new(outer.to_vec(), output.dims());
    let device = output.device().without_autodiff();
    (output.clone() * Tensor::<3>::from_data(outer, &device).autodiff()).sum()
}

fn rows(values: &[f32], width: usize, device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len() / width, width]), device)
}

fn add(mut sum: Vec<f32>, part: &[f32]) -> Vec<f32> {
    pulp::Arch::new().dispatch(|| sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x));
    sum
}

/// Stacked parameters to one vector for each network.
fn flatten(shape: &MlpShape, values: &[Vec<f32>]) -> Vec<Vec<f32>> {
    (0..shape.networks)
        .map(|network| {
            let slices = values.iter().zip(shape.params()).map(|(values, [_, rows, columns])| {
                let len = rows * columns;
                &values[network * len..(network + 1) * len]
            });
            slices.flatten().copied().collect()
        })
        .collect()
}

/// One vector for each network to stacked parameters.
fn unflatten(shape: &MlpShape, networks: &[&[f32]]) -> Vec<Vec<f32>> {
    let mut start = 0;
    let mut values = Vec::with_capacity(PARAMS);
    for [_, rows, columns] in shape.params() {
        let end = start + rows * columns;
        values.push(networks.iter().flat_map(|network| &network[start..end]).copied().collect());
        start = end;
    }
    values
}

#[cfg(test)]
#[path = "networks_tests.rs"]
mod tests;
