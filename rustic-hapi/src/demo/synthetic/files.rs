//! The small files that lie about a hub: notes, and recordings of a voice.

use std::f64::consts::TAU;
use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::words::{SplitMix64, Words};

/// Writes `n` small Markdown notes, `note-0000.md` and so on, into a folder that exists.
///
/// # Errors
/// Fails when a file cannot be written.
pub fn write_notes(dir: &Path, n: u64, seed: u64) -> io::Result<()> {
    let words = Words::new();
    for index in 0..n {
        let mut rng = SplitMix64::for_item(seed, index);
        let title = words.text(&mut rng, 40, 0);
        let mut note = format!("# {}\n", title.trim_end());
        for _ in 0..rng.within(2, 6) {
            let len = rng.within(120, 700);
            note += &format!("\n- [ ] {}\n", words.text(&mut rng, len, 2));
        }
        fs::write(dir.join(format!("note-{index:04}.md")), note)?;
    }
    Ok(())
}

/// Writes a WAV file of 16-bit mono samples at 48 kHz: a tone that changes every second, and noise
/// above it, which makes it compress as badly as recorded speech does.
///
/// # Errors
/// Fails when the file cannot be written.
pub fn write_wav(path: &Path, seconds: u32, seed: u64) -> io::Result<()> {
    const RATE: u32 = 48_000;
    let bytes = seconds * RATE * 2;
    let mut out = BufWriter::new(fs::File::create(path)?);
    // The canonical header: a RIFF chunk that holds a format chunk (PCM, one channel) and the data.
    out.write_all(b"RIFF")?;
    out.write_all(&(bytes + 36).to_le_bytes())?;
    out.write_all(b"WAVEfmt \x10\0\0\0\x01\0\x01\0")?;
    out.write_all(&RATE.to_le_bytes())?;
    out.write_all(&(RATE * 2).to_le_bytes())?;
    out.write_all(b"\x02\0\x10\0data")?;
    out.write_all(&bytes.to_le_bytes())?;
    let mut rng = SplitMix64(seed);
    for _ in 0..seconds {
        let pitch = f64::from(u32::try_from(rng.within(110, 880)).unwrap_or(440));
        for sample in 0..RATE {
            let tone = (TAU * pitch * f64::from(sample) / f64::from(RATE)).sin() * 8_000.0;
            #[allow(
                clippy::cast_possible_truncation,
                reason = "8,000 and 2,048 fit into 16 bits"
            )]
            let level = tone as i16 + (rng.below(4_096) as i16 - 2_048);
            out.write_all(&level.to_le_bytes())?;
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wav_file_has_the_length_its_header_says() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wav");
        write_wav(&path, 2, 1).unwrap();
        let wav = fs::read(path).unwrap();
        let said = u32::from_le_bytes(wav[4..8].try_into().unwrap());
        assert_eq!((wav.len(), said as usize), (44 + 2 * 96_000, wav.len() - 8));
    }
}
