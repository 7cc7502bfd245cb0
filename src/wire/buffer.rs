//! A byte queue: filled at the end by reads, emptied at the front by scans and writes.

/// Bytes waiting to be scanned or written.
///
/// The memory is initialised once and reused; it shrinks back when the queue runs empty after a
/// large message, so that an idle session holds little.
#[derive(Debug, Default)]
pub struct Buffer {
    data: Vec<u8>,
    start: usize,
    end: usize,
}

/// Room that a queue has at first: most requests and answers are shorter, and an idle session holds
/// two queues.
const FIRST: usize = 1 << 10;
/// Room that a queue keeps once it has needed more.
const CHUNK: usize = 4 << 10;
/// Room that a read finds once the queue has been full: for bulk.
const BULK: usize = 64 << 10;

impl Buffer {
    /// The bytes in the queue.
    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }

    /// Writes over bytes in the queue, as many as are there.
    pub fn overwrite(&mut self, at: usize, with: &[u8]) {
        let queued = &mut self.data[self.start..self.end];
        for (byte, new) in queued.iter_mut().skip(at).zip(with) {
            *byte = *new;
        }
    }

    /// How many bytes are in the queue.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Drops `n` bytes from the front (all, if there are fewer).
    pub fn consume(&mut self, n: usize) {
        self.start = (self.start + n).min(self.end);
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
            if self.data.len() > 2 * BULK {
                self.data = Vec::new();
            }
        }
    }

    /// Drops the last `n` bytes (all, if there are fewer).
    pub fn take_back(&mut self, n: usize) {
        self.end -= n.min(self.len());
        self.consume(0);
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        self.consume(self.len());
    }

    /// Gives the memory back if nothing is queued and it is more than the little that most
    /// exchanges take: for a session that goes idle.
    pub fn release_memory(&mut self) {
        if self.is_empty() && self.data.len() > CHUNK {
            self.data = Vec::new();
        }
    }

    /// Appends a copy of `bytes`.
    pub fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.data[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Appends one byte.
    pub fn put_u8(&mut self, byte: u8) {
        self.put(&[byte]);
    }

    /// Appends a big-endian 16-bit number.
    pub fn put_u16(&mut self, n: u16) {
        self.put(&n.to_be_bytes());
    }

    /// Appends a big-endian 32-bit number.
    pub fn put_u32(&mut self, n: u32) {
        self.put(&n.to_be_bytes());
    }

    /// Appends a frame: tag, length (of `body` plus itself), body. The caller's closure writes the
    /// body; its length is filled in afterwards.
    pub fn frame(&mut self, tag: u8, body: impl FnOnce(&mut Buffer)) {
        self.put_u8(tag);
        // An offset from the start, since writing the body may move the bytes to the front.
        let at = self.len();
        self.put_u32(0);
        body(self);
        let length = (self.len() - at) as u32;
        let at = self.start + at;
        self.data[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    /// Room for a read; [`Buffer::filled`] says how much of it was used.
    pub fn space(&mut self) -> &mut [u8] {
        let length = self.data.len();
        if length - self.end < CHUNK.min(length) / 2 || length == 0 {
            // A full queue means that more comes: fewer, longer reads from now on.
            let full = self.start == 0 && self.end == length && self.end > 0;
            self.reserve(match full {
                true if length >= CHUNK => BULK,
                false if length < CHUNK => FIRST,
                _ => CHUNK,
            });
        }
        &mut self.data[self.end..]
    }

    /// Takes the first `n` bytes of [`Buffer::space`] into the queue.
    pub fn filled(&mut self, n: usize) {
        self.end = (self.end + n).min(self.data.len());
    }

    fn reserve(&mut self, n: usize) {
        if self.data.len() - self.end >= n {
            return;
        }
        if self.start > 0 {
            self.data.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.data.len() - self.end < n {
            let want = (self.end + n).max(self.data.len() * 2).max(FIRST);
            self.data.resize(want, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_body_that_moves_the_bytes_keeps_its_length_right() {
        let mut b = Buffer::default();
        b.put(&[7; CHUNK - 3]);
        b.consume(CHUNK - 4);
        b.frame(b'Q', |b| b.put(&[1; CHUNK]));
        assert_eq!(b.bytes()[0], 7);
        assert_eq!(&b.bytes()[1..6], &[b'Q', 0, 0, 0x10, 4]);
        assert_eq!(b.len(), 1 + 1 + 4 + CHUNK);
    }

    #[test]
    fn space_and_filled_queue_bytes_in_order() {
        let mut b = Buffer::default();
        for i in 0..10_000u32 {
            let s = b.space();
            s[..4].copy_from_slice(&i.to_be_bytes());
            b.filled(4);
            if i % 3 == 0 {
                b.consume(8);
            }
        }
        let last = b.len();
        assert_eq!(&b.bytes()[last - 4..], &9_999u32.to_be_bytes());
    }
}
