//! Where records begin and end in a peer's ciphertext: whether it has begun something that cannot be decrypted yet.

/// Follows the headers of the records that arrive, however they are cut.
#[derive(Debug, Default)]
pub(super) struct RecordEdge {
    header: [u8; HEADER_LEN],
    /// How many bytes of the next header have come: never all of them.
    header_len: usize,
    /// What of the record's body is still to come.
    body_left: usize,
}

impl RecordEdge {
    /// These bytes came next.
    pub(super) fn see(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.body_left > 0 {
                let n = self.body_left.min(bytes.len());
                self.body_left -= n;
                bytes = &bytes[n..];
                continue;
            }
            self.header[self.header_len] = first;
            self.header_len += 1;
            bytes = rest;
            if self.header_len == HEADER_LEN {
                self.header_len = 0;
                let [.., high, low] = self.header;
                self.body_left = usize::from(u16::from_be_bytes([high, low]));
            }
        }
    }

    /// Whether a record has begun and not ended.
    pub(super) fn is_inside(&self) -> bool {
        self.header_len > 0 || self.body_left > 0
    }
}

/// The kind of the record, two bytes of a version, and two of the body's length.
const HEADER_LEN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bodies of no byte, of one, of some that look like a header, and one whose length takes both bytes.
    const BODIES: [&[u8]; 4] = [b"", b"x", &[23, 3, 3, 0, 9], &[7; 0x0102]];

    /// The records one behind another, and where each of them ends.
    fn records() -> (Vec<u8>, Vec<usize>) {
        let mut stream = Vec::new();
        let mut ends = vec![0];
        for body in BODIES {
            stream.extend([23, 3, 3]);
            stream.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            stream.extend(body);
            ends.push(stream.len());
        }
        (stream, ends)
    }

    #[test]
    fn a_stream_is_outside_of_a_record_at_the_ends_of_records_only_wherever_it_is_cut() {
        let (stream, ends) = records();
        for first in 0..=stream.len() {
            for second in first..=stream.len() {
                let mut edge = RecordEdge::default();
                edge.see(&stream[..first]);
                assert_eq!(edge.is_inside(), !ends.contains(&first), "{first} bytes");
                edge.see(&stream[first..second]);
                assert_eq!(edge.is_inside(), !ends.contains(&second), "{first} bytes, then up to {second}");
                edge.see(&stream[second..]);
                assert!(!edge.is_inside(), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_stream_that_comes_byte_by_byte_says_so_at_every_byte() {
        let (stream, ends) = records();
        let mut edge = RecordEdge::default();
        assert!(!edge.is_inside(), "nothing has begun");
        for (n, byte) in stream.iter().enumerate() {
            edge.see(&[*byte]);
            assert_eq!(edge.is_inside(), !ends.contains(&(n + 1)), "{} bytes", n + 1);
        }
    }
}
