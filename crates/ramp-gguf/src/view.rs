//! One tensor of an open file, without a copy.

use std::ops::Range;

use bytemuck::AnyBitPattern;

use crate::{Error, GgmlType, Result, TensorInfo, decode};

/// A tensor's info together with its stored bytes, which stay where the file is mapped.
///
/// ```
/// use ramp_gguf::{GgmlType, GgufFile, GgufWriter, Metadata, TensorSpec};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("model.gguf");
/// let specs = vec![TensorSpec::new("output_norm.weight", [2, 3], GgmlType::F32)];
/// let mut writer = GgufWriter::create(&path, Metadata::new(), specs)?;
/// writer.encode_tensor("output_norm.weight", &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], None)?;
/// writer.finish()?;
///
/// let file = GgufFile::open(&path)?;
/// let tensor = file.view("output_norm.weight")?;
/// assert_eq!((tensor.n_rows(), tensor.row(1)?.len()), (3, 8));
/// assert_eq!(tensor.decode_rows(1..2)?, [3.0, 4.0]);
/// // No copy: the mapped bytes themselves, seen as floats.
/// assert_eq!(tensor.blocks::<f32>()?, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Copy, Clone, Debug)]
pub struct TensorView<'a> {
    info: &'a TensorInfo,
    bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// `bytes` are `info.n_bytes` long, and `info` has passed the checks of [`Header::parse`](crate::Header).
    pub(crate) fn new(info: &'a TensorInfo, bytes: &'a [u8]) -> Self {
        Self { info, bytes }
    }

    /// Name, dimensions and type.
    pub fn info(&self) -> &'a TensorInfo {
        self.info
    }

    /// The name.
    pub fn name(&self) -> &'a str {
        &self.info.name
    }

    /// The storage type.
    pub fn ty(&self) -> GgmlType {
        self.info.ty
    }

    /// The stored bytes, without padding.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The number of rows, over all matrices of the tensor.
    pub fn n_rows(&self) -> u64 {
        self.info.n_rows()
    }

    /// The stored bytes of one row.
    ///
    /// # Errors
    /// [`Error::RowRange`].
    pub fn row(&self, row: u64) -> Result<&'a [u8]> {
        self.rows(row..row.saturating_add(1))
    }

    /// The stored bytes of some rows.
    ///
    /// # Errors
    /// [`Error::RowRange`].
    pub fn rows(&self, rows: Range<u64>) -> Result<&'a [u8]> {
        let n_rows = self.n_rows();
        if rows.start > rows.end || rows.end > n_rows {
            let error = Error::RowRange { start: rows.start, end: rows.end, n_rows };
            return Err(error.in_tensor(self.name()));
        }
        // All rows together are `bytes`, whose length is a `usize`.
        let row_bytes = self.bytes.len() / n_rows as usize;
        Ok(&self.bytes[rows.start as usize * row_bytes..rows.end as usize * row_bytes])
    }

    /// The stored bytes as a slice of blocks, one `B` per block of [`GgmlType::block_size`] weights; for the
    /// plain types a block is one number.
    ///
    /// Numbers in a file are little-endian, and so must the machine be where `B` holds any larger than a byte.
    ///
    /// # Errors
    /// [`Error::BlockSize`] when `B` has another size than a block, [`Error::MisalignedView`] when the file has
    /// the data at an address that `B` does not allow.
    pub fn blocks<B: AnyBitPattern>(&self) -> Result<&'a [B]> {
        let (expected, found) = (self.ty().type_size(), size_of::<B>());
        if expected != found {
            return Err(Error::BlockSize { ty: self.ty(), expected, found }.in_tensor(self.name()));
        }
        bytemuck::try_cast_slice(self.bytes)
            .map_err(|_| Error::MisalignedView { alignment: align_of::<B>() }.in_tensor(self.name()))
    }

    /// All weights, row after row.
    ///
    /// # Errors
    /// [`Error::CannotDecode`] for a type without a decoder.
    pub fn decode(&self) -> Result<Vec<f32>> {
        self.decode_rows(0..self.n_rows())
    }

    /// The weights of some rows.
    ///
    /// # Errors
    /// [`Error::RowRange`], or [`Error::CannotDecode`] for a type without a decoder.
    pub fn decode_rows(&self, rows: Range<u64>) -> Result<Vec<f32>> {
        let in_context = |error: Error| error.in_tensor(self.name());
        let ty = self.ty();
        // Types without a decoder may have far more elements than bytes of file; refuse them before allocating.
        if !ty.can_decode() {
            return Err(in_context(Error::CannotDecode { ty }));
        }
        let bytes = self.rows(rows)?;
        let n_weights = (bytes.len() / ty.type_size())
            .checked_mul(ty.block_size())
            .ok_or_else(|| in_context(Error::SizeOverflow { what: "the elements of a tensor" }))?;
        let mut weights = vec![0.0; n_weights];
        decode(ty, bytes, &mut weights).map_err(in_context)?;
        Ok(weights)
    }

    /// Decodes everything and says whether each weight is a finite number, which it is not where a scale of a
    /// damaged file is infinite or NaN. Rows are decoded some at a time, so that memory stays small.
    ///
    /// # Errors
    /// [`Error::NonFiniteWeight`] for the first bad weight, [`Error::CannotDecode`].
    pub fn check_finite(&self) -> Result<()> {
        const WEIGHTS_AT_ONCE: u64 = 1 << 20;
        let (n_rows, n_per_row) = (self.n_rows(), self.info.n_per_row());
        let step = (WEIGHTS_AT_ONCE / n_per_row).max(1);
        let mut start = 0;
        while start < n_rows {
            let end = start.saturating_add(step).min(n_rows);
            let weights = self.decode_rows(start..end)?;
            if let Some(at) = weights.iter().position(|weight| !weight.is_finite()) {
                let (row, column) = (start + at as u64 / n_per_row, at as u64 % n_per_row);
                let error =
                    Error::NonFiniteWeight { row: row as usize, column: column as usize, value: weights[at] };
                return Err(error.in_tensor(self.name()));
            }
            start = end;
        }
        Ok(())
    }
}
