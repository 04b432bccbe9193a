//! A record is the values of a row or of an index's entry, as the file has them
//! (<https://sqlite.org/fileformat2.html#record_format>), and their order, which is SQLite's.

use std::cmp::Ordering;

use super::doubt::{Doubt, Halt};
use super::tree::{Payload, take_varint};

#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Null,
    Int(i64),
    /// No NaN, and none that is equal to an integer.
    Real(f64),
    Text(&'a [u8]),
    Blob(&'a [u8]),
}

/// The collations that SQLite has of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Collation {
    Binary,
    Nocase,
    Rtrim,
}

/// Where the values of a record are.
#[derive(Default)]
pub(super) struct Fields {
    spans: Vec<Span>,
    /// Whether that is all there is.
    whole: bool,
}

struct Span {
    /// After SQLite's table of serial types.
    kind: u64,
    start: usize,
    end: usize,
}

/// A record that outlives its page.
#[derive(Default)]
pub(super) struct Record {
    pub(super) fields: Fields,
    pub(super) bytes: Vec<u8>,
}

impl Record {
    /// Takes the first values of a record; returns whether these are all of it.
    #[inline]
    pub(super) fn take(
        &mut self,
        payload: &Payload<'_>,
        wanted: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, Halt> {
        let end = self.fields.find(payload, wanted, buffer)?;
        self.bytes.clear();
        self.bytes.extend_from_slice(payload.first(end, buffer)?);
        Ok(self.fields.whole && self.fields.spans.len() == wanted)
    }

    /// One of those values; none where the record ends before it.
    #[inline]
    pub(super) fn value(&self, i: usize) -> Result<Option<Value<'_>>, Doubt> {
        self.fields.value(i, &self.bytes)
    }
}

impl Fields {
    /// Finds so many values, or as many as there are; returns where the last one ends.
    #[inline]
    pub(super) fn find(
        &mut self,
        payload: &Payload<'_>,
        wanted: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<usize, Halt> {
        if let Some(bytes) = payload.whole() {
            return Ok(self.parse(bytes, payload.len, wanted)?);
        }
        let mut size = payload.first(payload.len.min(9), buffer)?;
        let size = take_varint(&mut size)?;
        let size = usize::try_from(size).map_err(|_| Doubt)?;
        let header = payload.first(size, buffer)?;
        Ok(self.parse(header, payload.len, wanted)?)
    }

    /// The same in a record, or at least all of its header.
    #[inline]
    fn parse(&mut self, bytes: &[u8], len: usize, wanted: usize) -> Result<usize, Doubt> {
        let mut header = bytes;
        let size = usize::try_from(take_varint(&mut header)?).map_err(|_| Doubt)?;
        let taken = bytes.len() - header.len();
        let mut header = bytes.get(taken..size).ok_or(Doubt)?;
        let mut end = size;
        self.spans.clear();
        while !header.is_empty() && self.spans.len() < wanted {
            let kind = take_varint(&mut header)?;
            let start = end;
            let width = usize::try_from(width(kind)?).map_err(|_| Doubt)?;
            end = start.checked_add(width).ok_or(Doubt)?;
            self.spans.push(Span { kind, start, end });
        }
        self.whole = header.is_empty() && end == len;
        Ok(end)
    }

    #[inline]
    pub(super) fn value<'b>(&self, i: usize, bytes: &'b [u8]) -> Result<Option<Value<'b>>, Doubt> {
        let Some(span) = self.spans.get(i) else {
            return Ok(None);
        };
        let bytes = bytes.get(span.start..span.end).ok_or(Doubt)?;
        Ok(Some(match span.kind {
            0 => Value::Null,
            1..=6 => Value::Int(signed(bytes)),
            7 => Value::real(f64::from_bits(signed(bytes).cast_unsigned()))?,
            8 => Value::Int(0),
            9 => Value::Int(1),
            kind if kind % 2 == 0 => Value::Blob(bytes),
            _ => Value::Text(bytes),
        }))
    }
}

/// How many bytes a value has. The types that are reserved do not occur.
fn width(kind: u64) -> Result<u64, Doubt> {
    Ok(match kind {
        0 | 8 | 9 => 0,
        1..=4 => kind,
        5 => 6,
        6 | 7 => 8,
        10 | 11 => return Err(Doubt),
        kind => (kind - 12) / 2,
    })
}

/// A big-endian integer of 1 to 8 bytes, in two's complement.
fn signed(bytes: &[u8]) -> i64 {
    let sign = bytes
        .first()
        .map_or(0, |first| i64::from(first.cast_signed()) >> 7);
    bytes
        .iter()
        .fold(sign, |value, byte| value << 8 | i64::from(*byte))
}

/// The integers of an `i64` as reals.
const INTEGERS: std::ops::Range<f64> = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;

impl<'a> Value<'a> {
    /// SQLite takes a NaN for a NULL, and writes none.
    pub(super) fn real(real: f64) -> Result<Self, Doubt> {
        match real {
            r if r.is_nan() => Err(Doubt),
            // Exact: there is no integer between it and its neighbours that it could be taken for.
            #[allow(clippy::cast_possible_truncation, reason = "it is in range")]
            r if r.trunc() == r && INTEGERS.contains(&r) => Ok(Self::Int(r as i64)),
            r => Ok(Self::Real(r)),
        }
    }

    pub(super) fn is_null(self) -> bool {
        matches!(self, Self::Null)
    }

    /// Appends bytes that are the same for equal values and for no others. Text is equal by its bytes, or by
    /// a collation.
    #[inline]
    pub(super) fn encode(self, by: Collation, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.push(0),
            Self::Int(i) => {
                out.push(1);
                out.extend_from_slice(&i.to_le_bytes());
            }
            Self::Real(r) => {
                out.push(2);
                out.extend_from_slice(&r.to_bits().to_le_bytes());
            }
            Self::Text(text) => {
                let text = by.trimmed(text);
                out.push(3);
                out.extend_from_slice(&len(text));
                let from = out.len();
                out.extend_from_slice(text);
                if by == Collation::Nocase {
                    fold(&mut out[from..]);
                }
            }
            Self::Blob(blob) => {
                out.push(4);
                out.extend_from_slice(&len(blob));
                out.extend_from_slice(blob);
            }
        }
    }

    /// `sqlite3MemCompare`.
    #[inline]
    pub(super) fn compare(self, other: Self, by: Collation) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Real(a), Self::Real(b)) => a.total_cmp(&b),
            (Self::Int(a), Self::Real(b)) => compare_with_real(a, b),
            (Self::Real(a), Self::Int(b)) => compare_with_real(b, a).reverse(),
            (Self::Text(a), Self::Text(b)) => by.compare(a, b),
            (Self::Blob(a), Self::Blob(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Int(_) | Self::Real(_) => 1,
            Self::Text(_) => 2,
            Self::Blob(_) => 3,
        }
    }
}

/// A record has less than 2 GiB.
fn len(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

/// `sqlite3IntFloatCompare`, for a real that is no integer.
fn compare_with_real(int: i64, real: f64) -> Ordering {
    if real < INTEGERS.start {
        Ordering::Greater
    } else if real >= INTEGERS.end {
        Ordering::Less
    } else {
        #[allow(clippy::cast_possible_truncation, reason = "it is in range")]
        let below = real.floor() as i64;
        if int <= below {
            Ordering::Less
        } else {
            Ordering::Greater
        }
    }
}

impl Collation {
    pub(super) fn named(name: &str) -> Option<Self> {
        [
            ("BINARY", Self::Binary),
            ("NOCASE", Self::Nocase),
            ("RTRIM", Self::Rtrim),
        ]
        .into_iter()
        .find_map(|(known, by)| known.eq_ignore_ascii_case(name).then_some(by))
    }

    fn trimmed(self, text: &[u8]) -> &[u8] {
        match self {
            Self::Rtrim => {
                let end = text.iter().rposition(|b| *b != b' ').map_or(0, |i| i + 1);
                &text[..end]
            }
            _ => text,
        }
    }

    /// As SQLite's functions of these names do it: NOCASE ends at a NUL, and goes by the lengths then.
    fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        if self != Self::Nocase {
            return self.trimmed(a).cmp(self.trimmed(b));
        }
        for (a, b) in a.iter().zip(b) {
            match a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase()) {
                Ordering::Equal if *a == 0 => break,
                Ordering::Equal => {}
                other => return other,
            }
        }
        a.len().cmp(&b.len())
    }
}

/// Text of the same length that is the same for all that NOCASE takes for equal.
fn fold(text: &mut [u8]) {
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    text[..end].make_ascii_lowercase();
    text[end..].fill(0);
}
