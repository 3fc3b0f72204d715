//! The ordered key-value part of a GGUF file.

use std::collections::HashMap;

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::{Array, Error, Result, Value};

/// Keys and values in the order of insertion, which is the order in the file.
///
/// The typed getters are as strict as llama.cpp's: a number of another width is an error, not a conversion.
///
/// ```
/// use ramp_gguf::Metadata;
/// let mut metadata = Metadata::new();
/// metadata.insert("general.architecture", "llama");
/// metadata.insert("llama.block_count", 8_u32);
/// assert_eq!(metadata.get_str("general.architecture")?, "llama");
/// assert_eq!(metadata.get_u32("llama.block_count")?, 8);
/// assert_eq!(metadata.find::<f32>("llama.rope.freq_base")?, None);
/// let error = metadata.get_u32("general.architecture").unwrap_err();
/// assert_eq!(error.to_string(), "metadata key `general.architecture` is string, expected u32");
/// # Ok::<(), ramp_gguf::Error>(())
/// ```
#[derive(Clone, Default, Debug)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    index: HashMap<String, usize>,
}

impl Metadata {
    /// No keys.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a key and returns its earlier value. An existing key keeps its place in the order.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.index.get(&key) {
            Some(&at) => Some(std::mem::replace(&mut self.entries[at].1, value)),
            None => {
                self.index.insert(key.clone(), self.entries.len());
                self.entries.push((key, value));
                None
            }
        }
    }

    /// Removes a key and returns its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.index.remove(key)?;
        for later in self.index.values_mut().filter(|later| **later > at) {
            *later -= 1;
        }
        Some(self.entries.remove(at).1)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.index.get(key).map(|&at| &self.entries[at].1)
    }

    /// Whether the key is present.
    pub fn contains_key(&self, key: &str) -> bool {
        self.index.contains_key(key)
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of a key as `T`, or `None` when the key is absent.
    ///
    /// # Errors
    /// [`Error::WrongType`] when the key holds another type.
    pub fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>> {
        self.get(key)
            .map(|value| {
                T::from_value(value).ok_or_else(|| Error::WrongType {
                    key: key.to_owned(),
                    expected: T::NAME,
                    found: value.type_name(),
                })
            })
            .transpose()
    }

    /// The value of a key as `T`.
    ///
    /// # Errors
    /// [`Error::MissingKey`] when the key is absent, [`Error::WrongType`] when it holds another type.
    pub fn get_as<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T> {
        self.find(key)?.ok_or_else(|| Error::MissingKey { key: key.to_owned() })
    }

    /// # Errors
    /// As [`get_as`](Self::get_as).
    pub fn get_u32(&self, key: &str) -> Result<u32> {
        self.get_as(key)
    }

    /// # Errors
    /// As [`get_as`](Self::get_as).
    pub fn get_u64(&self, key: &str) -> Result<u64> {
        self.get_as(key)
    }

    /// # Errors
    /// As [`get_as`](Self::get_as).
    pub fn get_f32(&self, key: &str) -> Result<f32> {
        self.get_as(key)
    }

    /// # Errors
    /// As [`get_as`](Self::get_as).
    pub fn get_bool(&self, key: &str) -> Result<bool> {
        self.get_as(key)
    }

    /// # Errors
    /// As [`get_as`](Self::get_as).
    pub fn get_str(&self, key: &str) -> Result<&str> {
        self.get_as(key)
    }

    /// # Errors
    /// As [`get_as`](Self::get_as).
    pub fn get_array_str(&self, key: &str) -> Result<&[String]> {
        self.get_as(key)
    }

    /// # Errors
    /// As [`get_as`](Self::get_as).
    pub fn get_array_i32(&self, key: &str) -> Result<&[i32]> {
        self.get_as(key)
    }

    /// # Errors
    /// As [`get_as`](Self::get_as).
    pub fn get_array_u32(&self, key: &str) -> Result<&[u32]> {
        self.get_as(key)
    }

    /// # Errors
    /// As [`get_as`](Self::get_as).
    pub fn get_array_f32(&self, key: &str) -> Result<&[f32]> {
        self.get_as(key)
    }
}

/// Equal when the keys, the values and their order are.
impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut metadata = Self::new();
        metadata.extend(entries);
        metadata
    }
}

impl<K: Into<String>, V: Into<Value>> Extend<(K, V)> for Metadata {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

/// Keys and values in order.
impl IntoIterator for Metadata {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

/// A Rust type that one metadata type is read as, for [`Metadata::find`] and [`Metadata::get_as`].
pub trait FromValue<'a>: Sized + sealed::Sealed {
    /// The metadata type's name, for the error message.
    #[doc(hidden)]
    const NAME: &'static str;

    /// The value, or `None` when it has another type.
    #[doc(hidden)]
    fn from_value(value: &'a Value) -> Option<Self>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! from_value {
    ($($variant:ident: $element:ty, $name:literal;)*) => {
        $(
            impl sealed::Sealed for $element {}
            impl FromValue<'_> for $element {
                const NAME: &'static str = $name;
                fn from_value(value: &Value) -> Option<Self> {
                    match value {
                        Value::$variant(value) => Some(*value),
                        _ => None,
                    }
                }
            }
            impl sealed::Sealed for &[$element] {}
            impl<'a> FromValue<'a> for &'a [$element] {
                const NAME: &'static str = concat!("array of ", $name);
                fn from_value(value: &'a Value) -> Option<Self> {
                    match value {
                        Value::Array(Array::$variant(values)) => Some(values),
                        _ => None,
                    }
                }
            }
        )*
    };
}

from_value! {
    U8: u8, "u8";
    I8: i8, "i8";
    U16: u16, "u16";
    I16: i16, "i16";
    U32: u32, "u32";
    I32: i32, "i32";
    F32: f32, "f32";
    Bool: bool, "bool";
    U64: u64, "u64";
    I64: i64, "i64";
    F64: f64, "f64";
}

impl sealed::Sealed for &str {}
impl<'a> FromValue<'a> for &'a str {
    const NAME: &'static str = "string";
    fn from_value(value: &'a Value) -> Option<Self> {
        value.as_str()
    }
}

impl sealed::Sealed for &[String] {}
impl<'a> FromValue<'a> for &'a [String] {
    const NAME: &'static str = "array of string";
    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(Array::String(values)) => Some(values),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(metadata: &Metadata) -> Vec<&str> {
        metadata.iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn replacing_keeps_the_place_and_removing_keeps_the_order() {
        let mut metadata: Metadata = [("a", 1_u32), ("b", 2), ("c", 3)].into_iter().collect();
        assert_eq!(metadata.insert("b", "two"), Some(Value::U32(2)));
        assert_eq!(keys(&metadata), ["a", "b", "c"]);
        assert_eq!(metadata.remove("a"), Some(Value::U32(1)));
        assert_eq!(metadata.remove("a"), None);
        assert_eq!(keys(&metadata), ["b", "c"]);
        assert_eq!(metadata.get_str("b").unwrap(), "two");
        assert_eq!(metadata.get_u32("c").unwrap(), 3);
        metadata.insert("a", 4_u32);
        assert_eq!(keys(&metadata), ["b", "c", "a"]);
    }

    #[test]
    fn getters_name_the_key_and_the_types() {
        let mut metadata = Metadata::new();
        metadata.insert("n", 1_u64);
        metadata.insert("scores", vec![0.5_f32]);
        assert!(matches!(metadata.get_u32("m"), Err(Error::MissingKey { key }) if key == "m"));
        assert_eq!(metadata.get_u32("n").unwrap_err().to_string(), "metadata key `n` is u64, expected u32");
        assert_eq!(
            metadata.get_array_i32("scores").unwrap_err().to_string(),
            "metadata key `scores` is array of f32, expected array of i32"
        );
        assert_eq!(metadata.get_array_f32("scores").unwrap(), [0.5]);
        assert_eq!(metadata.find::<bool>("absent").unwrap(), None);
        assert!(metadata.find::<bool>("n").is_err());
    }

    #[test]
    fn json_is_plain() {
        let mut metadata = Metadata::new();
        metadata.insert("b", true);
        metadata.insert("a", vec![1_i32, -2]);
        assert_eq!(serde_json::to_string(&metadata).unwrap(), r#"{"b":true,"a":[1,-2]}"#);
    }
}
