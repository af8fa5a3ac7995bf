//! Short texts over so few letters that separators meet, overlap and break off all the time.

use arbitrary::{Arbitrary, Result, Unstructured};

const ALPHABET: &[u8] = b"ab;\r\n\0";

/// One letter of the alphabet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Letter(pub(crate) u8);

impl<'a> Arbitrary<'a> for Letter {
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Self> {
        source.choose(ALPHABET).copied().map(Self)
    }
}

/// Zero to twelve letters.
#[derive(Clone, Debug)]
pub(crate) struct Text(pub(crate) Vec<u8>);

impl<'a> Arbitrary<'a> for Text {
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Self> {
        let len = source.int_in_range(0..=12)?;
        (0..len).map(|_| Letter::arbitrary(source).map(|letter| letter.0)).collect::<Result<_>>().map(Self)
    }
}

/// A list of separators; one in sixteen lists is empty or holds an empty one, which is a bad call.
#[derive(Clone, Debug)]
pub(crate) struct Seps(pub(crate) Vec<Vec<u8>>);

impl<'a> Arbitrary<'a> for Seps {
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Self> {
        let shortest = match source.int_in_range(0..=15)? {
            0 => return Ok(Self(Vec::new())),
            1 => 0,
            _ => 1,
        };
        let count = source.int_in_range(1..=3)?;
        let mut list = Vec::new();
        for _ in 0..count {
            let len = source.int_in_range(shortest..=4)?;
            let letters = (0..len).map(|_| Letter::arbitrary(source).map(|letter| letter.0));
            list.push(letters.collect::<Result<_>>()?);
        }
        Ok(Self(list))
    }
}

/// A number a caller may pass: mostly small, now and then as large as a number can be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) usize);

impl<'a> Arbitrary<'a> for Size {
    fn arbitrary(source: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(match source.int_in_range(0..=9)? {
            0 => usize::MAX,
            1 => 1 << (usize::BITS - 2),
            2 | 3 => usize::from(u16::arbitrary(source)?),
            _ => source.int_in_range(0..=20)?,
        }))
    }
}
