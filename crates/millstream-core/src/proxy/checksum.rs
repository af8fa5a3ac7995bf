//! CRC32C (RFC 4960, appendix B), the checksum that a header of version 2 may carry.

/// The checksum of all the pieces, one behind the other.
pub(super) fn crc32c(pieces: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in pieces.iter().copied().flatten() {
        let [low, ..] = crc.to_le_bytes();
        crc = TABLE[usize::from(low ^ byte)] ^ (crc >> 8);
    }
    !crc
}

/// The Castagnoli polynomial, its bits reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// What each low byte does. A header is short and comes once a connection: no need for the processor's own instruction.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    let mut index = 0;
    while index < table.len() {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of every catalogue of CRCs, and the examples of RFC 3720, appendix B.4.
    #[test]
    fn known_bytes_have_their_known_checksums() {
        let rising: Vec<u8> = (0..32).collect();
        let table: [(&[u8], u32); 5] = [
            (b"", 0),
            (b"123456789", 0xE306_9283),
            (&[0; 32], 0x8A91_36AA),
            (&[0xFF; 32], 0x62A8_AB43),
            (&rising, 0x46DD_794E),
        ];
        for (bytes, expected) in table {
            assert_eq!(crc32c(&[bytes]), expected, "{bytes:?}");
            for at in 0..=bytes.len() {
                let (front, back) = bytes.split_at(at);
                assert_eq!(crc32c(&[front, back]), expected);
            }
        }
    }
}
