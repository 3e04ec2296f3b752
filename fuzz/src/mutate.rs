//! A small fuzzer of our own, blind but repeatable: what `cargo test` has time for.

use crate::Target;

/// Makes inputs for a target out of its seeds and words; equal seeds make equal inputs.
#[derive(Debug)]
pub struct Mutator {
    target: Target,
    state: u64,
}

impl Mutator {
    /// A source of inputs for `target`.
    #[must_use]
    pub const fn new(target: Target, seed: u64) -> Self {
        Self { target, state: seed }
    }

    /// The next input, at most a few hundred bytes.
    pub fn input(&mut self) -> Vec<u8> {
        let mut input = match self.below(8) {
            0 => (0..self.below(64)).map(|_| self.byte()).collect(),
            _ => self.target.seeds[self.below(self.target.seeds.len())].to_vec(),
        };
        for _ in 0..self.below(6) {
            self.mutate(&mut input);
        }
        input.truncate(600);
        input
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let end = at + self.below((input.len() - at).min(16) + 1);
        match self.below(7) {
            0 if at < input.len() => input[at] = self.byte(),
            1 if at < input.len() => input[at] ^= 1 << self.below(8),
            2 => input.insert(at, self.byte()),
            3 => drop(input.drain(at..end)),
            4 => {
                let copy = input[at..end].to_vec();
                let to = self.below(input.len() + 1);
                input.splice(to..to, copy);
            }
            5 if !self.target.words.is_empty() => {
                let word = self.target.words[self.below(self.target.words.len())];
                input.splice(at..at, word.iter().copied());
            }
            _ => {
                let other = self.target.seeds[self.below(self.target.seeds.len())];
                let from = self.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    // Sebastiano Vigna's SplitMix64.
    fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % end.max(1) as u64) as usize
    }
}
