//! The number of threads does not change a bit of a result.

use burn::tensor::Device;
use ramp_model::{CausalLm, ModelFiles};

use crate::random;

fn logits(model: &CausalLm, tokens: &[u32], threads: usize) -> Vec<f32> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let (logits, log_sum_exp) = {
            let hidden = model.embed(&[tokens, tokens]).unwrap();
            let blocks = 0..model.config().n_blocks;
            let hidden = model.run_blocks(hidden, blocks, &mut ramp_model::NoTap).unwrap();
            ramp_model::log_sum_exp(model.head(model.finish(hidden)))
        };
        let mut values = logits.try_into_vec_as::<f32>().unwrap();
        values.extend(log_sum_exp.try_into_vec_as::<f32>().unwrap());
        values
    })
}

#[test]
fn the_number_of_threads_does_not_change_the_logits() {
    let (files, nano) = crate::nano();
    let tokens = crate::sample_tokens(&files, 400);
    let dir = tempfile::tempdir().unwrap();
    random::folder(dir.path(), random::GPT2, &crate::nano_dir());
    let gpt2 = ModelFiles::open(dir.path()).unwrap().load(&Device::flex()).unwrap();
    for (model, tokens) in [(&nano, &tokens[..]), (&gpt2, &tokens[..250])] {
        let one = logits(model, tokens, 1);
        for threads in [2, 3, 7] {
            // Not `assert_eq`: a failure would print a million numbers.
            assert!(one == logits(model, tokens, threads), "{threads} threads");
        }
    }
}
