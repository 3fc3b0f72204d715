//! A pass that stops and goes on, and files that belong to another one.

use std::{fs, path::Path};

use ramp_model::{Calibration, CalibrationStats, CausalLm, Error, Gather, LayerId, Role, Save};

const DOWN: LayerId = LayerId::Block { block: 1, role: Role::Down };

fn windows(tokens: &[u32]) -> Vec<&[u32]> {
    // The last one is shorter.
    tokens.chunks(48).collect()
}

fn tokens() -> (CausalLm, Vec<u32>) {
    let (files, model) = crate::nano();
    let tokens = crate::sample_tokens(&files, 48 * 7 + 20);
    (model, tokens)
}

fn gather(gram: bool, batch: usize) -> Gather {
    Gather { gram, batch }
}

/// Statistics and Gram matrices, to the last bit.
fn same(a: &CalibrationStats, b: &CalibrationStats) -> bool {
    let grams = a.iter().all(|(id, _)| a.gram(id) == b.gram(id));
    a == b && grams
}

#[test]
fn the_numbers_are_the_same_for_any_batch_size() {
    let (model, tokens) = tokens();
    let windows = windows(&tokens);
    let run = |batch| CalibrationStats::gather(&model, &windows, gather(true, batch), |_| true).unwrap();
    let one = run(1);
    assert_eq!(one.get(DOWN).unwrap().count, tokens.len() as u64);
    assert!(one.gram(DOWN).is_some() && one.get(LayerId::Output).is_some());
    for batch in [0, 2, 3, 7, 100] {
        assert!(same(&one, &run(batch)), "batches of {batch}");
    }
}

#[test]
fn a_pass_that_stopped_goes_on_to_the_same_bits() {
    let (model, tokens) = tokens();
    let windows = windows(&tokens);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("partial");
    for gram in [false, true] {
        let what = gather(gram, 2);
        let whole = CalibrationStats::gather(&model, &windows, what, |_| true).unwrap();
        let save = Some(Save { path: &path, every: 3 });

        // As a crash would: the file is that of the last save, and one batch more was run.
        let mut pass = Calibration::new(&model, &windows, what);
        assert_eq!(pass.resume(&path).unwrap(), 0);
        let mut at_save = Vec::new();
        let stopped = pass.run(save, |done| {
            at_save = fs::read(&path).unwrap_or_default();
            done < 48 * 6
        });
        assert!(matches!(stopped, Err(Error::Interrupted)));
        fs::write(&path, at_save).unwrap();

        let mut pass = Calibration::new(&model, &windows, what);
        assert_eq!(pass.resume(&path).unwrap(), 4);
        // Stopped before anything is run: nothing is lost.
        assert!(matches!(pass.run(save, |_| false), Err(Error::Interrupted)));
        let mut pass = Calibration::new(&model, &windows, what);
        assert_eq!(pass.resume(&path).unwrap(), 4);
        let mut seen = Vec::new();
        let stopped = pass.run(save, |done| {
            seen.push(done);
            seen.len() < 2
        });
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert_eq!(seen, [48 * 4, 48 * 6]);

        let mut pass = Calibration::new(&model, &windows, what);
        assert_eq!(pass.resume(&path).unwrap(), 6);
        pass.run(save, |_| true).unwrap();
        assert!(same(&pass.finish(), &whole), "Gram matrices: {gram}");

        // All windows are in the file now; nothing is run again.
        let mut pass = Calibration::new(&model, &windows, what);
        assert_eq!(pass.resume(&path).unwrap(), windows.len());
        pass.run(save, |_| true).unwrap();
        assert!(same(&pass.finish(), &whole));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn files_of_another_pass_are_refused() {
    let (model, tokens) = tokens();
    let windows = windows(&tokens);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("partial");
    let save = |path| Some(Save { path, every: 1 });
    let mut pass = Calibration::new(&model, &windows[..3], gather(false, 1));
    assert!(pass.run(save(&path), |_| false).is_err());

    let refused = |model: &CausalLm, windows: &[&[u32]], gram: bool, path: &Path| {
        Calibration::new(model, windows, gather(gram, 1)).resume(path).unwrap_err()
    };
    let check = |error: &Error, part: &str| {
        assert!(matches!(error, Error::OtherCalibration { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains("/partial: belongs to another calibration") && message.contains(part),
            "{message}"
        );
    };
    let mut other = model.clone();
    other.set_weight(DOWN, other.weight(DOWN).unwrap() * 1.5).unwrap();
    check(&refused(&other, &windows[..3], false, &path), "model: ");
    check(
        &refused(&model, &windows[..2], false, &path),
        "windows: 3 windows, 144 tokens, expected 2 windows, 96",
    );
    check(&refused(&model, &windows[1..4], false, &path), "text: ");
    check(&refused(&model, &windows[..3], true, &path), "Gram matrices: without, expected with");

    let whole = fs::read(&path).unwrap();
    let broken = |bytes: &[u8], part: &str| {
        fs::write(&path, bytes).unwrap();
        let error = refused(&model, &windows[..3], false, &path).to_string();
        assert!(error.contains("/partial: ") && error.contains(part), "{error}");
    };
    broken(&whole[..whole.len() - 4], "");
    broken(b"no", "");
    let mut nan = whole.clone();
    let at = whole.len() - 4;
    nan[at..].copy_from_slice(&f32::NAN.to_le_bytes());
    broken(&nan, "holds NaN at");
    CalibrationStats::collect(&model, &windows[..1], |_| true)
        .unwrap()
        .save(&path, &ramp_model::StatsHeader::new("nano".into(), Vec::new(), 1, 48))
        .unwrap();
    let stats = fs::read(&path).unwrap();
    broken(&stats, "metadata `ramp`");
}
