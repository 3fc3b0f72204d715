//! Models in several files: `NAME-00001-of-0000N.gguf`, as `llama-gguf-split` writes them.
//!
//! Each part is a GGUF file of its own. The first has all metadata; every part says under `split.no` (u16) which
//! one it is and under `split.count` (u16) how many there are; `split.tensors.count` (i32) counts the tensors of
//! all parts.

use std::path::{Path, PathBuf};

use crate::{Error, Metadata, Result};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// The keys that say something about a part and nothing about the model.
const KEYS: [&str; 3] = [NO, COUNT, TENSORS];

/// The place of a file among the parts of a model.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) no: u16,
    pub(crate) count: u16,
}

impl Part {
    /// What the metadata of a file says, or `None` for a model in one file.
    pub(crate) fn of(metadata: &Metadata) -> Result<Option<Self>> {
        let Some(count) = metadata.find::<u16>(COUNT)?.filter(|&count| count > 1) else {
            return Ok(None);
        };
        let no = metadata.get_as::<u16>(NO)?;
        if no >= count {
            return Err(Error::SplitNoRange { no, count });
        }
        Ok(Some(Self { no, count }))
    }

    /// Checks that a file is this part.
    pub(crate) fn check(self, metadata: &Metadata) -> Result<()> {
        let found = metadata.get_as::<u16>(NO)?;
        if found != self.no {
            return Err(Error::SplitNo { expected: self.no, found });
        }
        let found = metadata.get_as::<u16>(COUNT)?;
        if found != self.count {
            return Err(Error::SplitCount { expected: self.count, found });
        }
        Ok(())
    }

    /// The paths of all parts, in order, given that of this one.
    pub(crate) fn siblings(self, path: &Path) -> Result<Vec<PathBuf>> {
        let suffix = self.suffix();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(prefix) = name.and_then(|name| name.strip_suffix(&suffix)) else {
            return Err(Error::SplitName { no: self.no, count: self.count, suffix });
        };
        let sibling = |no| path.with_file_name(format!("{prefix}{}", Self { no, ..self }.suffix()));
        Ok((0..self.count).map(sibling).collect())
    }

    /// `llama_split_path`: numbers of five digits, from one.
    fn suffix(self) -> String {
        format!("-{:05}-of-{:05}.gguf", u32::from(self.no) + 1, self.count)
    }
}

/// Compares the number of tensors with the one that the first part gives.
pub(crate) fn check_tensor_count(first: &Metadata, found: usize) -> Result<()> {
    let expected = first.get_as::<i32>(TENSORS)?;
    if usize::try_from(expected) != Ok(found) {
        return Err(Error::SplitTensors { expected, found });
    }
    Ok(())
}

/// Removes the keys of a part, so that what is left describes the model.
pub(crate) fn remove_keys(metadata: &mut Metadata) {
    for key in KEYS {
        metadata.remove(key);
    }
}
