//! What lasts is told once, not twice a day for ever: a note about a source, that something in HAPI's home is in no
//! snapshot. What was told is a line of a file in the state folder, by its hash.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::commands::run_report::RunReport;
use crate::machine::private_files::write_private;
use crate::policy::uncovered;
use crate::profile::Profile;
use crate::terminal::ui::Ui;

/// More than these at once are counted: then another folder was meant.
const MOST_TOLD: usize = 10;

/// Warns of what was not told before, and writes down that it was.
pub(super) fn tell(profile: &Profile, report: &mut RunReport, ui: &Ui) {
    let taken = || report.series.iter().filter_map(|s| s.taken.as_ref().ok());
    let notes: Vec<_> = taken().flat_map(|t| t.told_once.clone()).collect();
    let uncovered: Vec<_> = taken().flat_map(|t| t.uncovered.clone()).collect();
    if notes.is_empty() && uncovered.is_empty() {
        return;
    }
    let path = profile.reach.state.join("quotes-told");
    let mut told = told_before(&path);
    let before = told.len();
    let mut new: Vec<String> = notes
        .into_iter()
        .filter(|(_, content)| told.insert(content.to_string()))
        .map(|(text, _)| text)
        .collect();
    if new.len() > MOST_TOLD {
        let more = new.split_off(MOST_TOLD).len();
        new.push(format!(
            "{more} more notes: the manifest and `rustic-hapi snapshot` without `-q` list them"
        ));
    }
    report.warnings.append(&mut new);
    for one in uncovered {
        if told.insert(one.key.to_string()) {
            report.uncovered.push(one);
        }
    }
    report.is_odd |= !report.uncovered.is_empty();
    if report.uncovered.len() > MOST_TOLD {
        let more = report.uncovered.split_off(MOST_TOLD).len();
        report.warnings.push(format!(
            "{more} more names in `{}` are in no snapshot; `rustic-hapi doctor` lists all of them",
            profile.hapi_home.display()
        ));
    }
    report.uncovered_hint = uncovered::hint(profile, &report.uncovered);
    if told.len() > before && !report.dry_run {
        let lines = told.into_iter().collect::<Vec<_>>().join("\n");
        if let Err(error) = write_private(&path, lines.as_bytes()) {
            ui.warn(error);
        }
    }
}

fn told_before(path: &Path) -> BTreeSet<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}
