//! What runs cost, and how the contenders' costs compare.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::race::Contender;

/// What one run cost.
pub struct Cost {
    pub wall_s: f64,
    pub cpu_s: f64,
    pub peak_mib: f64,
    /// Written to the repository.
    pub growth_mb: f64,
    /// Written to anywhere else: the staged copy, a cache, what was restored.
    pub staged_mb: f64,
}

type Measure = (&'static str, fn(&Cost) -> f64);

const MEASURES: [Measure; 5] = [
    ("wall s", |cost| cost.wall_s),
    ("cpu s", |cost| cost.cpu_s),
    ("peak MiB", |cost| cost.peak_mib),
    ("staged MB", |cost| cost.staged_mb),
    ("growth MB", |cost| cost.growth_mb),
];

/// The costs of one work, of each contender in each round.
pub struct Costs {
    work: &'static str,
    contenders: Vec<(Contender, Vec<Cost>)>,
}

impl Costs {
    pub fn of(work: &'static str) -> Self {
        Self {
            work,
            contenders: Vec::new(),
        }
    }

    pub fn add(&mut self, contender: Contender, cost: Cost) {
        match self.contenders.iter_mut().find(|c| c.0 == contender) {
            Some((_, costs)) => costs.push(cost),
            None => self.contenders.push((contender, vec![cost])),
        }
    }

    pub fn work(&self) -> &'static str {
        self.work
    }

    pub fn is_empty(&self) -> bool {
        self.contenders.is_empty()
    }

    /// Megabytes that a contender's repository grew by, in all.
    pub fn growth_mb(&self, contender: Contender) -> f64 {
        self.get(contender).iter().map(|cost| cost.growth_mb).sum()
    }

    fn get(&self, contender: Contender) -> &[Cost] {
        let found = self.contenders.iter().find(|c| c.0 == contender);
        found.map_or(&[], |(_, costs)| costs)
    }

    fn values(&self, contender: Contender, of: fn(&Cost) -> f64) -> Spread {
        Spread::of(self.get(contender).iter().map(of))
    }

    /// Ours against another's, round by round, so that what slowed both down is in none.
    fn ratio(&self, other: Contender, of: fn(&Cost) -> f64) -> Option<Spread> {
        let pairs = self.get(Contender::RusticHapi).iter().zip(self.get(other));
        let ratios: Vec<f64> = pairs
            .map(|(ours, theirs)| of(ours) / of(theirs))
            .filter(|ratio| ratio.is_finite())
            .collect();
        (!ratios.is_empty()).then(|| Spread::of(ratios.into_iter()))
    }

    /// The seconds that our run took, in the middle of all rounds.
    pub fn our_wall_s(&self) -> f64 {
        self.values(Contender::RusticHapi, |cost| cost.wall_s)
            .median()
    }

    /// The memory that our run took at most, in MiB.
    pub fn our_peak_mib(&self) -> f64 {
        self.values(Contender::RusticHapi, |cost| cost.peak_mib)
            .median()
    }

    /// A line for each measure, for a terminal.
    pub fn print(&self) {
        for (name, of) in MEASURES {
            let mut line = format!("{:<19}{name:<11}", self.work);
            for (contender, _) in &self.contenders {
                let values = self.values(*contender, of).show();
                let cell = format!("{} {values}", contender.short());
                // Writing to a string cannot fail.
                let _ = match self.ratio(*contender, of) {
                    Some(ratio) if *contender != Contender::RusticHapi => {
                        write!(line, "  {cell:<28} ratio {:<20}", ratio.show())
                    }
                    _ => write!(line, "  {cell:<28}"),
                };
            }
            let line = line.trim_end();
            println!("{line}");
        }
    }

    /// The same as JSON.
    pub fn json(&self) -> Value {
        let mut rows = serde_json::Map::new();
        for (name, of) in MEASURES {
            let mut row = serde_json::Map::new();
            for (contender, _) in &self.contenders {
                let values = self.values(*contender, of).json();
                row.insert(contender.short().to_owned(), values);
                if let Some(ratio) = self.ratio(*contender, of)
                    && *contender != Contender::RusticHapi
                {
                    row.insert(format!("ratio-to-{}", contender.short()), ratio.json());
                }
            }
            rows.insert(name.replace(' ', "-").to_lowercase(), row.into());
        }
        Value::Object(rows)
    }

    /// A row of the table in docs/performance.md, with the columns of [`HEAD`].
    pub fn row(&self) -> String {
        let restic = Contender::BackupAndRestic;
        let ratio = |of| {
            self.ratio(restic, of)
                .map_or(String::new(), |ratio| ratio.show())
        };
        let both = |of: fn(&Cost) -> f64, unit| {
            let ours = self.values(Contender::RusticHapi, of);
            let theirs = self.values(restic, of);
            format!(
                "{} / {}{unit}",
                brief(ours.median()),
                brief(theirs.median())
            )
        };
        let growth: fn(&Cost) -> f64 = |cost| cost.growth_mb;
        let grown = match self.growth_mb(Contender::RusticHapi) > 0.0 {
            true => format!("{}: {}", ratio(growth), both(growth, " MB")),
            false => String::new(),
        };
        let rustic = self
            .ratio(Contender::BackupAndRustic, |cost| cost.wall_s)
            .map_or(String::new(), |ratio| ratio.show());
        format!(
            "| {} | {} | {rustic} | {} | {} | {} | {grown} |",
            self.work,
            ratio(|cost| cost.wall_s),
            ratio(|cost| cost.cpu_s),
            both(|cost| cost.peak_mib, " MiB"),
            both(|cost| cost.staged_mb, " MB"),
        )
    }
}

/// The columns of [`Costs::row`].
pub const HEAD: &str = "| work | wall, to restic's | wall, to rustic's | processor | peak memory | \
    written besides the repository | repository growth |\n|---|---|---|---|---|---|---|";

fn brief(value: f64) -> String {
    let digits = match value {
        v if v >= 10.0 => 0,
        v if v >= 1.0 => 1,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// The values of one measure over all rounds, sorted.
pub struct Spread(Vec<f64>);

impl Spread {
    pub fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    pub fn median(&self) -> f64 {
        let half = self.0.len() / 2;
        match self.0.len() {
            0 => f64::NAN,
            n if n % 2 == 0 => f64::midpoint(self.0[half - 1], self.0[half]),
            _ => self.0[half],
        }
    }

    fn ends(&self) -> (f64, f64) {
        let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
        (end(self.0.first()), end(self.0.last()))
    }

    /// The median, and the smallest and largest if there are several.
    pub fn show(&self) -> String {
        let digits = match self.median() {
            m if m >= 100.0 => 0,
            m if m >= 0.1 => 2,
            _ => 3,
        };
        let mut text = format!("{:.digits$}", self.median());
        if self.0.len() > 1 {
            let (least, most) = self.ends();
            // Writing to a string cannot fail.
            let _ = write!(text, " ({least:.digits$}–{most:.digits$})");
        }
        text
    }

    pub fn json(&self) -> Value {
        let (min, max) = self.ends();
        json!({ "median": self.median(), "min": min, "max": max, "rounds": self.0.len() })
    }
}

pub fn megabytes(bytes: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "exact up to 9 PB")]
    let bytes = bytes as f64;
    bytes / 1e6
}
