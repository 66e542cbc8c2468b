//! The bytes of one write, gathered from many records: small parts are copied into one buffer, large
//! bodies are written from where they lie.

use std::io::IoSlice;

use bytes::Bytes;

/// From this size on a body is not copied. Below it, one more slice costs more than the copy.
const LARGE_BYTES: usize = 16 << 10;

#[derive(Debug, Default)]
pub(crate) struct Gather {
    small: Vec<u8>,
    /// Large bodies, each with the length that `small` had when it came.
    large: Vec<(usize, Bytes)>,
    len: usize,
}

impl Gather {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        self.small.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(crate) fn add(&mut self, body: &Bytes) {
        if body.len() < LARGE_BYTES {
            return self.copy(body);
        }
        self.large.push((self.small.len(), body.clone()));
        self.len += body.len();
    }

    /// Everything, in order.
    pub(crate) fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(2 * self.large.len() + 1);
        let mut rest = self.small.as_slice();
        let mut done = 0;
        for (before, body) in &self.large {
            let (small, behind) = rest.split_at((before - done).min(rest.len()));
            slices.push(IoSlice::new(small));
            slices.push(IoSlice::new(body));
            (rest, done) = (behind, *before);
        }
        slices.push(IoSlice::new(rest));
        slices.retain(|slice| !slice.is_empty());
        slices
    }

    /// For the next write. Keeps at most `kept` bytes of memory.
    pub(crate) fn clear(&mut self, kept: usize) {
        self.small.clear();
        self.small.shrink_to(kept);
        self.large = Vec::new();
        self.len = 0;
    }

    #[cfg(test)]
    pub(crate) fn to_vec(&self) -> Vec<u8> {
        self.slices()
            .iter()
            .flat_map(|slice| slice.to_vec())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_and_small_parts_come_out_in_the_order_they_went_in() {
        let mut gather = Gather::default();
        let mut expected = Vec::new();
        for (n, length) in [3, 20_000, 30_000, 5, 0, 17_000, 2].into_iter().enumerate() {
            let body = Bytes::from(vec![n as u8; length]);
            gather.add(&body);
            expected.extend_from_slice(&body);
        }
        assert_eq!(gather.slices().len(), 6);
        assert_eq!(gather.to_vec(), expected);
        assert_eq!(gather.len(), expected.len());
        gather.clear(0);
        assert_eq!((gather.len(), gather.slices().len()), (0, 0));
    }
}
