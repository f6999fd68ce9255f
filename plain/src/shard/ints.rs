//! Little-endian integers read in place, whatever their alignment.

/// Token ids as they lie in a shard: 2 bytes each, or 4 where the vocabulary needs it.
#[derive(Debug, Clone, Copy)]
pub struct Ints<'a> {
    bytes: &'a [u8],
    width: usize,
}

impl<'a> Ints<'a> {
    pub fn new(bytes: &'a [u8], width: usize) -> Self {
        Self { bytes, width }
    }

    pub fn len(&self) -> usize {
        self.bytes.len() / self.width
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn slice(&self, from: usize, to: usize) -> Ints<'a> {
        Ints { bytes: &self.bytes[from * self.width..to * self.width], width: self.width }
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let narrow = self.width == 2;
        self.bytes.chunks_exact(self.width).map(move |b| match narrow {
            true => u32::from(u16::from_le_bytes([b[0], b[1]])),
            false => u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
        })
    }

    pub fn get(&self, i: usize) -> u32 {
        let b = &self.bytes[i * self.width..(i + 1) * self.width];
        b.iter().rev().fold(0, |n, &byte| (n << 8) | u32::from(byte))
    }

    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// Bytes a token id takes: 2 up to 65,536 ids, 4 above.
pub fn width(vocab_size: u32) -> usize {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// Appends `id` in `width` bytes.
pub fn push(out: &mut Vec<u8>, id: u32, width: usize) {
    out.extend_from_slice(&id.to_le_bytes()[..width]);
}

pub fn u64_at(bytes: &[u8], i: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[i * 8..i * 8 + 8]);
    u64::from_le_bytes(word)
}
