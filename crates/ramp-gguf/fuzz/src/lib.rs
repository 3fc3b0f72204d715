//! What each fuzz target does with its bytes. Broken promises panic.
//!
//! The crate's own tests include this file and run it on the committed corpus, without a nightly compiler.

use ramp_gguf::{
    GgmlType, Header, Imatrix, Metadata, ModelFacts, TensorSpec, VocabOptions, check_key_types,
    check_vocabulary, file_bytes, tokenizer_metadata,
};

/// Any bytes as a GGUF file: an error, or a file of which everything that is promised holds.
pub fn reader(bytes: &[u8]) {
    let Ok(header) = Header::parse(bytes) else { return };
    let mut end = header.data_start;
    for tensor in &header.tensors {
        assert_eq!(
            (header.data_start + tensor.offset) % header.alignment,
            header.data_start % header.alignment
        );
        assert!(header.data_start + tensor.offset >= end, "data overlaps");
        end = header.data_start + tensor.offset + tensor.n_bytes;
        assert!(end <= bytes.len() as u64, "data past the end");
        assert_eq!(tensor.n_rows() * tensor.n_per_row(), tensor.n_elements());
    }
    // Neither may panic, whatever the answer.
    let _ = ModelFacts::read(&header.metadata);
    let _ = check_vocabulary(&header.metadata);
    // The writer takes what the reader gives, unless llama.cpp would not take its keys.
    let specs: Vec<_> =
        header.tensors.iter().map(|info| TensorSpec::new(&*info.name, &*info.dims, info.ty)).collect();
    let written = file_bytes(&header.metadata, &specs);
    assert_eq!(written.is_ok(), check_key_types(&header.metadata).is_ok(), "{written:?}");
}

/// Any bytes as an importance matrix in a GGUF file.
pub fn imatrix_gguf(bytes: &[u8]) {
    // The other form has a target of its own.
    if bytes.starts_with(b"GGUF")
        && let Ok(imatrix) = Imatrix::parse(bytes)
    {
        check_imatrix(&imatrix);
    }
}

/// Any bytes as an importance matrix in the older form.
pub fn imatrix_dat(bytes: &[u8]) {
    if !bytes.starts_with(b"GGUF")
        && let Ok(imatrix) = Imatrix::parse(bytes)
    {
        check_imatrix(&imatrix);
    }
}

fn check_imatrix(imatrix: &Imatrix) {
    for (name, entry) in imatrix.entries() {
        assert_eq!(entry.importance().len(), entry.sums.len(), "{name}");
    }
    let mut twice = imatrix.clone();
    twice.merge(imatrix).expect("the shapes are the same");
}

/// Any bytes as blocks of every type that has a decoder: the first byte picks the type.
pub fn decode(bytes: &[u8]) {
    let Some((&pick, bytes)) = bytes.split_first() else { return };
    let types: Vec<_> = GgmlType::ALL.iter().filter(|ty| ty.can_decode()).collect();
    let ty = *types[usize::from(pick) % types.len()];
    let n_blocks = bytes.len() / ty.type_size();
    let mut weights = vec![f32::NAN; n_blocks * ty.block_size()];
    let whole = &bytes[..n_blocks * ty.type_size()];
    ramp_gguf::decode(ty, whole, &mut weights).expect("whole blocks decode, whatever their bytes");
    // A block's weights do not depend on the blocks around it.
    if n_blocks > 0 {
        let last = (n_blocks - 1) * ty.type_size();
        let mut alone = vec![0.0; ty.block_size()];
        ramp_gguf::decode(ty, &whole[last..], &mut alone).expect("one block");
        let expected = &weights[(n_blocks - 1) * ty.block_size()..];
        assert!(
            alone.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
        );
    }
    // Anything but whole blocks is an error.
    assert_eq!(ramp_gguf::decode(ty, bytes, &mut weights).is_ok(), whole.len() == bytes.len());
}

/// Any bytes as `tokenizer.json` and, after a zero byte, as `tokenizer.model`.
pub fn tokenizer(bytes: &[u8]) {
    let end = bytes.iter().position(|&byte| byte == 0);
    let (json, model) = match end {
        Some(end) => (&bytes[..end], Some(&bytes[end + 1..])),
        None => (bytes, None),
    };
    let Ok(json) = serde_json::from_slice(json) else { return };
    let options = VocabOptions { vocab_size: 300, ..VocabOptions::default() };
    let mut metadata = Metadata::new();
    match tokenizer_metadata(&json, model, &options, &mut metadata) {
        Ok(()) => check_vocabulary(&metadata).expect("a vocabulary that is written can be read"),
        Err(_) => assert!(metadata.is_empty(), "an error leaves the metadata as it was"),
    }
}
