//! Wide features of the embedded model.

use std::path::Path;

use burn::tensor::Device;
use ramp_model::ModelFiles;

use super::*;

fn nano() -> (CausalLm, CalibrationStats) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/nano");
    let files = ModelFiles::open(&path).unwrap();
    let model = files.load(&Device::flex()).unwrap();
    let text = std::fs::read_to_string(path.join("sample.txt")).unwrap();
    let start: String = text.chars().take(500).collect();
    let tokens = files.tokenizer().unwrap().encode_with_bos(&start).unwrap();
    let stats = CalibrationStats::collect(&model, &[&tokens], |_| true).unwrap();
    (model, stats)
}

fn formats() -> Vec<String> {
    ["q3_k", "q4_k"].map(str::to_owned).to_vec()
}

const CONTEXT: WideContext =
    WideContext { prev_bits: None, avg_bits: None, remaining_bits: 4.5, range: [3.0, 6.0], target_bits: 4.2 };

#[test]
fn a_state_has_its_names_and_values() {
    let (model, stats) = nano();
    let layers = model.config().layers();
    let errors: Vec<Vec<f64>> =
        layers.iter().enumerate().map(|(i, _)| vec![0.02, 1e-3 * (i + 1) as f64]).collect();
    let table = WideTable::extract(&model, &stats, &layers, &formats(), &errors).unwrap();
    let at = |name: &str| table.names().iter().position(|n| n == name).unwrap();
    let shares: f64 = (0..layers.len())
        .map(|i| f64::from(table.raw(i)[at("ln_size_share")]).exp() / layers.len() as f64)
        .sum();
    assert!((shares - 1.0).abs() < 1e-5, "{shares}");
    for (i, id) in layers.iter().enumerate() {
        let row = table.raw(i);
        assert_eq!(row[1..=CLASSES].iter().sum::<f32>(), 1.0, "one class each");
        if id.role() == Some(Role::Down) {
            assert_eq!(row[at("is_down")], 1.0);
        }
        assert!((f64::from(row[at("ln_error_q4_k")]) - errors[i][1].ln()).abs() < 1e-5);
        assert!(row[at("ln_act_peak")] >= 0.0, "a maximum is not below its mean");
    }
    assert_eq!((table.raw(0)[at("is_token_embd")], table.raw(layers.len() - 1)[at("is_output")]), (1.0, 1.0));

    let scaler = WideScaler::fit(&table);
    scaler.validate().unwrap();
    let state = table.state(1, CONTEXT, &scaler).unwrap();
    assert_eq!(state.len(), table.state_len());
    let context = &state[table.names().len()..];
    for (found, expected) in context.iter().zip([0.4, 0.4, 0.5, 1.0]) {
        assert!((found - expected).abs() < 1e-6, "{context:?}");
    }
    assert_eq!(state[..=CLASSES], table.raw(1)[..=CLASSES], "depth and class are not scaled");
    // All layers have one error in the first format: it says nothing, and is 0.
    assert_eq!(state[at("ln_error_q3_k")], 0.0);
    let column: Vec<f32> =
        (0..layers.len()).map(|i| table.state(i, CONTEXT, &scaler).unwrap()[at("ln_error_q4_k")]).collect();
    let mean = column.iter().sum::<f32>() / column.len() as f32;
    let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / column.len() as f32;
    assert!(mean.abs() < 1e-5 && (variance - 1.0).abs() < 1e-4);

    // Saved with a policy.
    let json = serde_json::to_string(&scaler).unwrap();
    let loaded: WideScaler = serde_json::from_str(&json).unwrap();
    assert_eq!(table.state(1, CONTEXT, &loaded).unwrap(), state);
    let spoiled: WideScaler = serde_json::from_str(&json.replacen("1.0", "0.0", 1)).unwrap();
    assert!(spoiled.validate().is_err() || spoiled == loaded);
}

#[test]
fn errors_of_other_layers_and_formats_are_refused() {
    let (model, stats) = nano();
    let layers = [LayerId::Block { block: 0, role: Role::Up }];
    let extract = |errors: &[Vec<f64>]| {
        WideTable::extract(&model, &stats, &layers, &formats(), errors).map_err(|error| error.to_string())
    };
    assert_eq!(extract(&[]).unwrap_err(), "relative errors of layers are 0, expected 1");
    let message = extract(&[vec![0.1]]).unwrap_err();
    assert_eq!(message, "relative errors of formats of `blk.0.ffn_up.weight` are 1, expected 2");
    assert!(extract(&[vec![0.1, f64::NAN]]).unwrap_err().contains("in q4_k are NaN"));
    let table = extract(&[vec![0.1, 0.0]]).unwrap();
    let other = WideTable::extract(&model, &stats, &layers, &formats()[..1], &[vec![0.1]]).unwrap();
    assert!(matches!(table.state(0, CONTEXT, &WideScaler::fit(&other)), Err(Error::Mismatch { .. })));
}
