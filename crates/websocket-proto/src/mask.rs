//! Undoing the mask that every client frame wears.

/// Removes (or applies: it is the same) the mask `key` from `payload`, in place.
///
/// `payload` starts at the first byte of a frame's payload, which is masked with `key[0]`; the key
/// repeats every four bytes. Any length and any alignment will do.
///
/// Source: RFC 6455 §5.3.
///
/// ```
/// let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
/// posthaste_websocket_proto::unmask(&mut payload, [0x37, 0xfa, 0x21, 0x3d]);
/// assert_eq!(&payload, b"Hello");
/// ```
pub fn unmask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    // Words of eight, because the compiler turns this loop, and not one over bytes, into vector
    // instructions. A word is a whole number of keys, so the rest begins with `key[0]` again.
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_and_length_agrees_with_the_definition() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let original: Vec<u8> = (0..96).map(|i: u8| i.wrapping_mul(89)).collect();
        for offset in 0..=40 {
            for len in 0..=40 {
                let mut bytes = original.clone();
                unmask(&mut bytes[offset..offset + len], key);
                for (i, (&now, &before)) in bytes.iter().zip(&original).enumerate() {
                    let inside = (offset..offset + len).contains(&i);
                    let expected = if inside { before ^ key[(i - offset) % 4] } else { before };
                    assert_eq!(now, expected, "byte {i} of {len} bytes at {offset}");
                }
            }
        }
    }

    #[test]
    fn unmasking_twice_restores_the_bytes() {
        let original: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let mut bytes = original.clone();
        unmask(&mut bytes, [1, 2, 3, 4]);
        assert_ne!(bytes, original);
        unmask(&mut bytes, [1, 2, 3, 4]);
        assert_eq!(bytes, original);
    }
}
