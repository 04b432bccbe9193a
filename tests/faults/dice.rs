//! Dice that a seed loads.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Pseudo-random numbers (xorshift64*).
pub struct Dice(u64);

impl Dice {
    /// By `RUSTIC_HAPI_FAULTS_SEED`, or the time; the seed is printed.
    pub fn new(what: &str) -> Self {
        let seed = std::env::var("RUSTIC_HAPI_FAULTS_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or_else(|| {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                now.as_nanos() as u64 | 1
            });
        println!("{what}: RUSTIC_HAPI_FAULTS_SEED={seed}");
        Self(seed)
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    pub fn moment(&mut self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap();
        Duration::from_micros(self.below(micros.max(1)))
    }

    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// How many rounds; `usual` unless `RUSTIC_HAPI_FAULTS_ROUNDS` says.
pub fn rounds(usual: u64) -> u64 {
    std::env::var("RUSTIC_HAPI_FAULTS_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(usual)
}
