//! What a file says about its making, under `ramp.*`.

use crate::{Error, GgmlType, Metadata, Result, Value};

const VERSION: &str = "ramp.version";
const COMMAND: &str = "ramp.command";
const MODE: &str = "ramp.mode";
const ALLOCATOR: &str = "ramp.allocator";
const SEED: &str = "ramp.seed";
const ROUNDING: &str = "ramp.rounding";
const FOLDED: &str = "ramp.folded";
const ALLOCATION: &str = "ramp.allocation";
const POLICY: &str = "ramp.policy.sha256";
const DATASET: &str = "ramp.calibration.dataset";
const SAMPLES: &str = "ramp.calibration.samples";
const SEQUENCE_LENGTH: &str = "ramp.calibration.sequence_length";
const PADDING: &str = "ramp.padding";

/// Everything that [`Provenance::write`] and [`Provenance::pad`] set.
const ALL: [&str; 13] = [
    VERSION,
    COMMAND,
    MODE,
    ALLOCATOR,
    SEED,
    ROUNDING,
    FOLDED,
    ALLOCATION,
    POLICY,
    DATASET,
    SAMPLES,
    SEQUENCE_LENGTH,
    PADDING,
];

/// The making of a file, as keys that llama.cpp prints and otherwise ignores. What is `None` is not written.
///
/// ```
/// use ramp_gguf::{Calibration, GgmlType, Metadata, Provenance};
/// let provenance = Provenance {
///     version: Some("0.1.0".into()),
///     folded: Some(true),
///     allocation: Some(vec![GgmlType::Q4_K, GgmlType::Q6_K]),
///     calibration: Some(Calibration { dataset: "wiki.train.raw".into(), samples: 128, sequence_length: 512 }),
///     ..Provenance::default()
/// };
/// let mut metadata = Metadata::new();
/// provenance.write(&mut metadata);
/// assert_eq!(metadata.get_str("ramp.calibration.dataset")?, "wiki.train.raw");
/// assert_eq!(Provenance::read(&metadata)?, provenance);
/// # Ok::<(), ramp_gguf::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Provenance {
    /// `ramp.version`: of the program.
    pub version: Option<String>,
    /// `ramp.command`: the command line.
    pub command: Option<String>,
    /// `ramp.mode`: `paper` or `sound`.
    pub mode: Option<String>,
    /// `ramp.allocator`: what chose the types.
    pub allocator: Option<String>,
    /// `ramp.seed`.
    pub seed: Option<u64>,
    /// `ramp.rounding`: how codes were chosen, `nearest` or `gptq`.
    pub rounding: Option<String>,
    /// `ramp.folded`: whether scales were folded into the weights before they were quantized.
    pub folded: Option<bool>,
    /// `ramp.allocation`, an array of u8: the id of the type that was chosen for each tensor, in the order of the
    /// file. It says the same as the tensor infos until another tool changes those. Its length does not depend on
    /// the types, so that the size of a file is known before they are chosen.
    pub allocation: Option<Vec<GgmlType>>,
    /// `ramp.policy.sha256`: the hash of the policy's file, 64 hexadecimal digits.
    pub policy_sha256: Option<String>,
    /// `ramp.calibration.*`.
    pub calibration: Option<Calibration>,
}

/// The text that activations were measured on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Calibration {
    /// `ramp.calibration.dataset`: its name.
    pub dataset: String,
    /// `ramp.calibration.samples`: sequences.
    pub samples: u32,
    /// `ramp.calibration.sequence_length`: tokens of each.
    pub sequence_length: u32,
}

impl Provenance {
    /// Sets the keys. Those of an earlier making go.
    pub fn write(&self, metadata: &mut Metadata) {
        for key in ALL {
            metadata.remove(key);
        }
        let texts = [
            (VERSION, &self.version),
            (COMMAND, &self.command),
            (MODE, &self.mode),
            (ALLOCATOR, &self.allocator),
            (ROUNDING, &self.rounding),
            (POLICY, &self.policy_sha256),
        ];
        for (key, text) in texts {
            if let Some(text) = text {
                metadata.insert(key, text.as_str());
            }
        }
        if let Some(seed) = self.seed {
            metadata.insert(SEED, seed);
        }
        if let Some(folded) = self.folded {
            metadata.insert(FOLDED, folded);
        }
        if let Some(types) = &self.allocation {
            // Every id of ggml's table is far below 256.
            metadata.insert(ALLOCATION, types.iter().map(|ty| ty.id() as u8).collect::<Vec<u8>>());
        }
        if let Some(calibration) = &self.calibration {
            metadata.insert(DATASET, calibration.dataset.as_str());
            metadata.insert(SAMPLES, calibration.samples);
            metadata.insert(SEQUENCE_LENGTH, calibration.sequence_length);
        }
    }

    /// Sets `ramp.padding`, zeros that fill up `reserved` bytes together with the texts under `ramp.*` and
    /// `quantize.imatrix.*` and their keys: the size of a file then depends neither on a command line nor on the
    /// name of a text, and is known before either is. Texts that take more than `reserved` are not padded.
    pub fn pad(metadata: &mut Metadata, reserved: usize) {
        metadata.remove(PADDING);
        let texts = metadata.iter().filter_map(|(key, value)| match value {
            Value::String(text) if key.starts_with("ramp.") || key.starts_with("quantize.imatrix.") => {
                // Two lengths of 8 bytes and a type of 4.
                Some(key.len() + text.len() + 20)
            }
            _ => None,
        });
        let taken: usize = texts.sum();
        metadata.insert(PADDING, vec![0_u8; reserved.saturating_sub(taken)]);
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// [`Error::WrongType`]; [`Error::MissingKey`] for a part of a calibration; [`Error::UnknownTypeId`] and
    /// [`Error::RemovedTypeId`] in an allocation.
    pub fn read(metadata: &Metadata) -> Result<Self> {
        let text = |key| Ok::<_, Error>(metadata.find::<&str>(key)?.map(str::to_owned));
        let allocation = metadata
            .find::<&[u8]>(ALLOCATION)?
            .map(|ids| ids.iter().map(|&id| GgmlType::from_id(id.into())).collect::<Result<_>>())
            .transpose()?;
        let calibration = match text(DATASET)? {
            Some(dataset) => Some(Calibration {
                dataset,
                samples: metadata.get_u32(SAMPLES)?,
                sequence_length: metadata.get_u32(SEQUENCE_LENGTH)?,
            }),
            None => None,
        };
        Ok(Self {
            version: text(VERSION)?,
            command: text(COMMAND)?,
            mode: text(MODE)?,
            allocator: text(ALLOCATOR)?,
            seed: metadata.find(SEED)?,
            rounding: text(ROUNDING)?,
            folded: metadata.find(FOLDED)?,
            allocation,
            policy_sha256: text(POLICY)?,
            calibration,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole() -> Provenance {
        Provenance {
            version: Some("1".into()),
            command: Some("ramp quantize m".into()),
            mode: Some("sound".into()),
            allocator: Some("sac".into()),
            seed: Some(u64::MAX),
            rounding: Some("gptq".into()),
            folded: Some(false),
            allocation: Some(vec![GgmlType::F32, GgmlType::Q3_K]),
            policy_sha256: Some("0".repeat(64)),
            calibration: Some(Calibration { dataset: "d".into(), samples: 1, sequence_length: 2 }),
        }
    }

    #[test]
    fn round_trip() {
        for provenance in [whole(), Provenance::default()] {
            let mut metadata = Metadata::new();
            provenance.write(&mut metadata);
            assert!(metadata.iter().all(|(key, _)| key.starts_with("ramp.")));
            assert_eq!(Provenance::read(&metadata).unwrap(), provenance);
        }
        assert!(Provenance::read(&Metadata::new()).unwrap() == Provenance::default());
    }

    #[test]
    fn padding_makes_all_texts_alike() {
        let size = |provenance: &Provenance, reserved| {
            let mut metadata = Metadata::new();
            provenance.write(&mut metadata);
            Provenance::pad(&mut metadata, reserved);
            (crate::file_bytes(&metadata, &[]).unwrap(), metadata)
        };
        let short = whole();
        let long = Provenance { command: Some("x".repeat(300)), policy_sha256: None, ..whole() };
        assert_ne!(size(&short, 0).0, size(&long, 0).0);
        let (bytes, mut metadata) = size(&short, 1024);
        assert_eq!(bytes, size(&long, 1024).0);
        // A second making replaces the first whole.
        Provenance::default().write(&mut metadata);
        assert!(metadata.is_empty());
    }

    #[test]
    fn keys_of_other_types_are_refused() {
        let mut metadata = Metadata::new();
        whole().write(&mut metadata);
        assert_eq!(metadata.len(), 12);
        for key in metadata.iter().map(|(key, _)| key.to_owned()).collect::<Vec<_>>() {
            let mut broken = metadata.clone();
            broken.insert(key.as_str(), 1.5_f32);
            assert!(matches!(Provenance::read(&broken), Err(Error::WrongType { .. })), "{key}");
        }
        let mut broken = metadata.clone();
        broken.insert(ALLOCATION, vec![12_u8, 4]);
        assert!(matches!(Provenance::read(&broken), Err(Error::RemovedTypeId { id: 4 })));
        metadata.remove(SAMPLES);
        assert!(matches!(Provenance::read(&metadata), Err(Error::MissingKey { .. })));
    }
}
