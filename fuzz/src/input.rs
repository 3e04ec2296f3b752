//! Decisions read from arbitrary bytes, one after the other.

/// A reader that never fails: behind the end there are zeros.
#[derive(Clone, Debug)]
pub(crate) struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether all was read: a history ends here.
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `end`, which is at most 256.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// A length: mostly below 200, sometimes at a place where something changes.
    pub(crate) fn length(&mut self) -> usize {
        const PLACES: [usize; 8] = [125, 126, 127, 4095, 4097, 16_400, 65_535, 65_536];
        match self.byte() {
            short @ 0..200 => usize::from(short),
            other => PLACES[usize::from(other) % PLACES.len()],
        }
    }

    /// A number of eight bytes or fewer, so that small ones are as likely as large ones.
    pub(crate) fn number(&mut self) -> u64 {
        let count = self.below(9);
        self.bytes(count).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// The next `count` bytes, or what is left of them.
    pub(crate) fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A short text.
    pub(crate) fn text(&mut self) -> String {
        let count = self.below(24);
        String::from_utf8_lossy(self.bytes(count)).into_owned()
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
