//! Gradients by hand against Burn's automatic ones, and one step of learning on both sides.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

fn shape(networks: usize) -> MlpShape {
    MlpShape { networks, inputs: 5, hidden: [48, 33, 20], outputs: 3 }
}

/// The same networks in host memory and as tensors.
fn both(networks: usize) -> (Networks, Networks) {
    let shape = shape(networks);
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut values = shape.init(&mut rng);
    // LayerNorm's parameters, too, must be told apart.
    values.iter_mut().flatten().for_each(|x| *x += rng.random_range(-0.1..0.1));
    let device = Device::flex();
    let tensors = Mlp::upload(&shape, values.clone(), &device).trainable();
    let on_device = Networks { shape, place: Place::Device(tensors, device.clone()) };
    (Networks::new(shape, values, &device), on_device)
}

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| rng.random_range(-1.5..1.5)).collect()
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-3_f32, |max, x| max.max(x.abs()));
    for (at, (x, y)) in found.iter().zip(expected).enumerate() {
        assert!((x - y).abs() < 2e-5 * scale, "{what}[{at}]: {x} against {y}");
    }
}

/// More rows than one task takes, and not a multiple of it.
const BATCH: usize = 150;

#[test]
fn outputs_are_burns() {
    for networks in [1, 2] {
        let (host, device) = both(networks);
        assert!(matches!(host.place, Place::Host(_)), "flex is host memory");
        let x = numbers(BATCH * 5, 1);
        let (found, expected) = (host.forward(&x).unwrap(), device.forward(&x).unwrap());
        assert_eq!(found.len(), networks * BATCH * 3);
        assert_close(&found, &expected, "output");
        assert_eq!(host.forward_tape(&x, Wrt::Params).unwrap().0, found);
    }
}

#[test]
fn gradients_by_hand_are_burns() {
    for networks in [1, 2] {
        let (mut host, mut device) = both(networks);
        let (x, outer) = (numbers(BATCH * 5, 1), numbers(networks * BATCH * 3, 2));
        let by_input = |networks: &Networks| {
            let (_, tape) = networks.forward_tape(&x, Wrt::Input).unwrap();
            networks.backward_input(&tape, &outer).unwrap()
        };
        let (found, expected) = (by_input(&host), by_input(&device));
        assert_eq!(found.len(), networks * BATCH * 5);
        assert_close(&found, &expected, "gradient of the input");

        // The first moment after one step is a tenth of the gradient.
        let by_params = |networks: &mut Networks| {
            let mut optimizer = Optimizer::new(networks, 1e-8, 0.0);
            let (_, tape) = networks.forward_tape(&x, Wrt::Params).unwrap();
            let grads = networks.backward(&tape, &outer);
            optimizer.step(networks, grads, 1e-3);
            optimizer.snapshot(&networks.shape).unwrap()
        };
        let (found, expected) = (by_params(&mut host), by_params(&mut device));
        for (at, name) in crate::shape::PARAM_NAMES.iter().enumerate() {
            assert_close(&found.moment_1[at], &expected.moment_1[at], name);
            assert_close(&found.moment_2[at], &expected.moment_2[at], name);
        }
    }
}

/// Several steps with clipping; parameters, optimizer and targets must stay together.
#[test]
fn learning_is_the_same_on_both_sides() {
    let (mut host, mut device) = both(2);
    let x = numbers(BATCH * 5, 1);
    let learn = |networks: &mut Networks| {
        let mut target = networks.clone();
        let mut optimizer = Optimizer::new(networks, 1e-4, 0.5);
        for _ in 0..5 {
            // Half the sum of squared outputs: the first network's gradient is far longer than 0.5.
            let (output, tape) = networks.forward_tape(&x, Wrt::Params).unwrap();
            let grads = networks.backward(&tape, &output);
            optimizer.step(networks, grads, 1e-3);
            target.follow(networks, 0.2);
        }
        (
            networks.download().unwrap(),
            target.download().unwrap(),
            optimizer.snapshot(&networks.shape).unwrap(),
        )
    };
    let (found, expected) = (learn(&mut host), learn(&mut device));
    assert_eq!((found.2.time, expected.2.time), (5, 5));
    let pairs = [(found.0, expected.0), (found.1, expected.1), (found.2.moment_1, expected.2.moment_1)];
    for ((found, expected), what) in pairs.into_iter().zip(["parameters", "targets", "moments"]) {
        for (found, expected) in found.iter().zip(&expected) {
            let scale = expected.iter().fold(1e-2_f32, |max, x| max.max(x.abs()));
            for (x, y) in found.iter().zip(expected) {
                assert!((x - y).abs() < 1e-3 * scale, "{what}: {x} against {y}");
            }
        }
    }
}

#[test]
fn gradients_do_not_depend_on_the_number_of_threads() {
    let (host, _) = both(1);
    let (x, outer) = (numbers(BATCH * 5, 1), numbers(BATCH * 3, 2));
    let gradient = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (_, tape) = host.forward_tape(&x, Wrt::Params).unwrap();
            match host.backward(&tape, &outer) {
                Gradients::Host(grads) => grads,
                Gradients::Device(_) => panic!("flex is host memory"),
            }
        })
    };
    assert_eq!(gradient(1), gradient(3));
}

#[test]
fn an_optimizer_continues_from_its_snapshot() {
    for side in [0, 1] {
        let (host, device) = both(2);
        let mut networks = if side == 0 { host } else { device };
        let x = numbers(BATCH * 5, 1);
        let step = |networks: &mut Networks, optimizer: &mut Optimizer| {
            let (output, tape) = networks.forward_tape(&x, Wrt::Params).unwrap();
            let grads = networks.backward(&tape, &output);
            optimizer.step(networks, grads, 1e-2);
        };
        let mut optimizer = Optimizer::new(&networks, 1e-8, 1.0);
        step(&mut networks, &mut optimizer);
        let mut copy = Optimizer::new(&networks, 1e-8, 1.0);
        copy.restore(optimizer.snapshot(&networks.shape).unwrap(), &networks);
        let mut other = networks.clone();
        step(&mut networks, &mut optimizer);
        step(&mut other, &mut copy);
        assert_eq!(networks.download().unwrap(), other.download().unwrap());
    }
}
