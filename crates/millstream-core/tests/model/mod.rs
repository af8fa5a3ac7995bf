//! Operation lists and naive models, in one place for property tests, the corpus replay and the fuzz targets.
//!
//! The fuzz crate includes this folder by path, so nothing here names a test framework.

pub(crate) mod letters;
pub(crate) mod proxy;
pub(crate) mod read;
pub(crate) mod read_face;
pub(crate) mod write;

use arbitrary::{Arbitrary, Unstructured};

/// Decodes as many operations as the bytes hold. (`Vec<T>` would flip a coin before each and stay short.)
pub(crate) fn decode<T: for<'a> Arbitrary<'a>>(data: &[u8]) -> Vec<T> {
    let mut source = Unstructured::new(data);
    let mut ops = Vec::new();
    while !source.is_empty() {
        match T::arbitrary(&mut source) {
            Ok(op) => ops.push(op),
            Err(_) => break,
        }
    }
    ops
}
