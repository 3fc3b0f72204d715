//! The committed corpus of the fuzz targets, without a fuzzer.

use std::path::Path;

#[allow(unreachable_pub, reason = "public where the fuzz targets call them")]
#[path = "../../fuzz/src/lib.rs"]
mod targets;

#[test]
fn the_corpus_keeps_its_promises() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let all = [
        ("reader", targets::reader as fn(&[u8])),
        ("imatrix_gguf", targets::imatrix_gguf),
        ("imatrix_dat", targets::imatrix_dat),
        ("decode", targets::decode),
        ("tokenizer", targets::tokenizer),
    ];
    for (name, target) in all {
        let mut inputs = 0;
        for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
            target(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{name} has no corpus");
    }
}
