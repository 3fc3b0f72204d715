//! One safetensors file for a whole agent: tensors by name, and everything else as one JSON document in the header.

use std::{collections::HashMap, fs, io::Write, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    networks::{AdamSnapshot, Networks, Optimizer},
    replay::{self, COLUMNS, Replay},
    shape::{MlpShape, PARAM_NAMES},
};

/// Version of the layout; a file of another version is refused.
pub(crate) const VERSION: u32 = 2;

/// Header entry that holds the JSON document.
const HEADER_KEY: &str = "ramp_sac";

/// Tensors to be written.
#[derive(Default)]
pub(crate) struct Writer {
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
}

impl Writer {
    /// `NAME.fc1.weight` and so on.
    pub(crate) fn networks(&mut self, name: &str, networks: &Networks) -> Result<()> {
        self.params(name, networks.download()?, &networks.shape);
        Ok(())
    }

    /// `NAME.m.*` and `NAME.v.*`. Returns the steps taken, which belong in the header.
    pub(crate) fn optimizer(&mut self, name: &str, adam: &Optimizer, networks: &Networks) -> Result<u64> {
        let AdamSnapshot { time, moment_1, moment_2 } = adam.snapshot(&networks.shape)?;
        self.params(&format!("{name}.m"), moment_1, &networks.shape);
        self.params(&format!("{name}.v"), moment_2, &networks.shape);
        Ok(time)
    }

    /// `replay.*`. Columns of width 0 are left out.
    pub(crate) fn replay(&mut self, replay: &Replay) {
        for ((name, width), values) in COLUMNS.iter().zip(replay::widths(replay.widths)).zip(&replay.columns)
        {
            if width > 0 {
                self.column(&format!("replay.{name}"), values, width);
            }
        }
    }

    /// A tensor `[rows, width]`.
    pub(crate) fn column(&mut self, name: &str, values: &[f32], width: usize) {
        self.tensors.push((name.to_owned(), vec![values.len() / width, width], to_bytes(values)));
    }

    fn params(&mut self, prefix: &str, params: Vec<Vec<f32>>, shape: &MlpShape) {
        for ((name, values), dims) in PARAM_NAMES.iter().zip(params).zip(shape.params()) {
            self.tensors.push((format!("{prefix}.{name}"), dims.to_vec(), to_bytes(&values)));
        }
    }

    /// Writes the file, complete or not at all: beside `path`, then renamed.
    pub(crate) fn finish(self, path: &Path, header: &impl Serialize) -> Result<()> {
        let bytes = self.encode(header).map_err(|reason| Error::Checkpoint { path: path.into(), reason })?;
        write_atomically(path, &bytes).map_err(|source| Error::Io { path: path.into(), source })
    }

    fn encode(&self, header: &impl Serialize) -> Result<Vec<u8>, String> {
        let json = serde_json::to_string(header).map_err(|error| error.to_string())?;
        let views = self
            .tensors
            .iter()
            .map(|(name, shape, data)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        // One entry only: the order of a map's entries in the file would not be the same every time.
        let metadata = HashMap::from([(HEADER_KEY.to_string(), json)]);
        let encoded = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
        encoded.map_err(|error| error.to_string())
    }
}

/// The bytes of a file.
pub(crate) struct Bytes<'p> {
    path: &'p Path,
    bytes: Vec<u8>,
}

impl<'p> Bytes<'p> {
    pub(crate) fn read(path: &'p Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::Io { path: path.into(), source })?;
        Ok(Self { path, bytes })
    }

    pub(crate) fn damaged(&self, reason: impl Into<String>) -> Error {
        Error::Checkpoint { path: self.path.into(), reason: reason.into() }
    }

    /// The JSON document, of an agent of this `kind`.
    pub(crate) fn header<H: DeserializeOwned>(&self, kind: &str) -> Result<H> {
        let (_, metadata) =
            SafeTensors::read_metadata(&self.bytes).map_err(|error| self.damaged(error.to_string()))?;
        let entries = metadata.metadata().as_ref();
        let json = entries
            .and_then(|map| map.get(HEADER_KEY))
            .ok_or_else(|| self.damaged("it has no header of an agent"))?;
        let json: serde_json::Value =
            serde_json::from_str(json).map_err(|error| self.damaged(error.to_string()))?;
        if json["version"] != VERSION {
            return Err(self.damaged(format!("its version is {}, not {VERSION}", json["version"])));
        }
        if json["kind"] != kind {
            return Err(self.damaged(format!("it is of kind {}, not {kind:?}", json["kind"])));
        }
        serde_json::from_value(json).map_err(|error| self.damaged(error.to_string()))
    }

    pub(crate) fn tensors(&self) -> Result<Tensors<'_>> {
        SafeTensors::deserialize(&self.bytes).map(Tensors).map_err(|error| self.damaged(error.to_string()))
    }
}

/// The tensors of a file, checked as they are taken.
pub(crate) struct Tensors<'b>(SafeTensors<'b>);

impl Tensors<'_> {
    /// Parameters of a stack of networks.
    pub(crate) fn params(&self, prefix: &str, shape: &MlpShape) -> Result<Vec<Vec<f32>>> {
        let named = PARAM_NAMES.iter().zip(shape.params());
        named.map(|(name, dims)| self.take(&format!("{prefix}.{name}"), &dims)).collect()
    }

    /// Puts an optimizer where it was after `time` steps.
    pub(crate) fn optimizer(
        &self,
        name: &str,
        time: u64,
        networks: &Networks,
        adam: &mut Optimizer,
    ) -> Result<()> {
        if time > 0 {
            let moment_1 = self.params(&format!("{name}.m"), &networks.shape)?;
            let moment_2 = self.params(&format!("{name}.v"), &networks.shape)?;
            adam.restore(AdamSnapshot { time, moment_1, moment_2 }, networks);
        }
        Ok(())
    }

    /// Fills an empty buffer; `None` if the columns do not fit together.
    pub(crate) fn replay(&self, mut replay: Replay, cursor: usize) -> Result<Option<Replay>> {
        let widths = replay::widths(replay.widths);
        for ((column, name), width) in replay.columns.iter_mut().zip(COLUMNS).zip(widths) {
            if width > 0 {
                *column = self.take(&format!("replay.{name}"), &[0, width])?;
            }
        }
        replay.cursor = cursor;
        Ok(replay.is_whole().then_some(replay))
    }

    /// The values of a tensor whose shape must be `expected`, in which 0 stands for any size.
    pub(crate) fn take(&self, name: &str, expected: &[usize]) -> Result<Vec<f32>> {
        let view = self.0.tensor(name).map_err(|_| Error::MissingTensor { name: name.to_string() })?;
        let found = view.shape();
        let fits =
            found.len() == expected.len() && found.iter().zip(expected).all(|(f, e)| *e == 0 || f == e);
        if !fits || view.dtype() != Dtype::F32 {
            return Err(Error::TensorShape {
                name: name.to_string(),
                found: found.to_vec(),
                elements: view.data().len() / size_of::<f32>(),
                expected: expected.to_vec(),
            });
        }
        let bytes = view.data().chunks_exact(size_of::<f32>());
        let values: Vec<f32> = bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => {
                let (what, value) = (format!("{name}[{at}]"), f64::from(values[at]));
                Err(Error::Value { what, value, rule: "a finite number" })
            }
        }
    }
}

fn to_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut name = path.file_name().ok_or(std::io::ErrorKind::InvalidInput)?.to_os_string();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let write = || {
        let mut file = fs::File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    // A full disk leaves nothing behind; the first error is the one worth telling.
    write().inspect_err(|_| drop(fs::remove_file(&partial)))
}
