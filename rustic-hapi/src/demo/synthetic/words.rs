//! Words without meaning, and the dice that choose them.

/// A vocabulary of some 3,000 words, the same for every seed.
pub(super) struct Words(Vec<String>);

impl Words {
    pub(super) fn new() -> Self {
        const SYLLABLES: [&str; 32] = [
            "ba", "con", "de", "er", "fi", "gra", "ho", "in", "jo", "ka", "lo", "men", "nu", "or",
            "pre", "qui", "re", "sta", "tion", "un", "ver", "wi", "ex", "ya", "zo", "ing", "ed",
            "al", "th", "sh", "ent", "ly",
        ];
        let mut rng = SplitMix64(1);
        let mut word = || {
            (0..rng.within(1, 4))
                .map(|_| SYLLABLES[rng.index(32)])
                .collect()
        };
        Self((0..3_000).map(|_| word()).collect())
    }

    /// At least `len` bytes of words, common ones more often than rare ones. Of ten of them,
    /// `noise` are no words but stand for the paths, hashes and identifiers that an agent's
    /// messages are full of, and that make these compress less well than prose.
    pub(super) fn text(&self, rng: &mut SplitMix64, len: u64, noise: u64) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-/";
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let mut text = String::new();
        while text.len() < len {
            if rng.below(10) < noise {
                for _ in 0..rng.within(8, 24) {
                    text.push(char::from(LETTERS[rng.index(64)]));
                }
            } else {
                let common = rng.index(self.0.len()) * rng.index(self.0.len()) / self.0.len();
                text.push_str(&self.0[common]);
            }
            text.push(' ');
        }
        text
    }
}

/// Sebastiano Vigna's SplitMix64: small, good enough, and the same for ever, which a crate's
/// default generator does not promise.
pub(super) struct SplitMix64(pub u64);

impl SplitMix64 {
    /// A stream of its own for each numbered item, so that none depends on those before it.
    pub(super) fn for_item(seed: u64, number: u64) -> Self {
        Self(Self(seed).next() ^ Self(!number).next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; the bias of a remainder does not matter here.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn within(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or_default()
    }

    pub(super) fn hex(&mut self, digits: usize) -> String {
        let mut hex = String::with_capacity(digits + 16);
        while hex.len() < digits {
            hex += &format!("{:016x}", self.next());
        }
        hex.truncate(digits);
        hex
    }
}
