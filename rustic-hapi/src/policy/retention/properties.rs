//! Random histories through the retention plan: missed days, several runs a day, partial, damaged
//! and `only` snapshots, changes of time zone and daylight saving, clocks that were wrong. Whatever
//! comes, the floor holds.

use std::collections::BTreeSet;

use crate::policy::history::{DAMAGED, ONLY, PARTIAL, SHRUNK, Snapshot};
use crate::policy::retention::Plan;
use crate::profile::policy::Policy;
use chrono::{DateTime, FixedOffset, NaiveDate, TimeDelta, TimeZone, Utc};
use proptest::prelude::*;
use rustic_core::Id;

/// One step of a history: how much later, in which zone, and what came of it.
#[derive(Clone, Debug)]
struct Step {
    hours_later: i64,
    offset_hours: i32,
    kind: Kind,
    /// The clock is wrong by so many hours for this run alone.
    clock_error: i64,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Complete,
    Partial,
    Damaged,
    Shrunk,
    Only,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        8 => Just(Kind::Complete),
        3 => Just(Kind::Partial),
        1 => Just(Kind::Damaged),
        1 => Just(Kind::Shrunk),
        1 => Just(Kind::Only),
    ];
    let gap = prop_oneof![6 => Just(12i64), 2 => 1i64..12, 2 => 12i64..96, 1 => 96i64..600];
    let error =
        prop_oneof![30 => Just(0i64), 1 => Just(-48i64), 1 => Just(24 * 365), 1 => Just(24 * 3650)];
    prop::collection::vec(
        (gap, -11i32..13, kind, error).prop_map(
            |(hours_later, offset_hours, kind, clock_error)| Step {
                hours_later,
                offset_hours,
                kind,
                clock_error,
            },
        ),
        1..90,
    )
}

fn snapshot(n: u64, time: DateTime<FixedOffset>, kind: Kind) -> Snapshot {
    let tags: &[&str] = match kind {
        Kind::Complete => &["hapi"],
        Kind::Partial => &["hapi", PARTIAL],
        Kind::Damaged => &["hapi", PARTIAL, DAMAGED],
        Kind::Shrunk => &["hapi", SHRUNK],
        Kind::Only => &["hapi", ONLY],
    };
    let id: Id = format!("{n:064x}").parse().unwrap();
    Snapshot {
        host: "hub".into(),
        id: id.into(),
        original: None,
        time,
        series: "hapi".into(),
        tags: tags.iter().map(|t| (*t).to_owned()).collect(),
        description: None,
        keep_until: None,
        added: None,
        tree: String::new(),
    }
}

fn days<'a>(
    snapshots: impl Iterator<Item = &'a Snapshot>,
    zone: FixedOffset,
) -> BTreeSet<NaiveDate> {
    snapshots
        .map(|s| s.time.with_timezone(&zone).date_naive())
        .collect()
}

fn counts_for_the_floor(snapshot: &Snapshot) -> bool {
    !snapshot.has(ONLY)
}

/// Lives through a history; after each run the plan is made, verified here, and carried out.
fn live(steps: &[Step], policy: &Policy) -> Result<Vec<Snapshot>, TestCaseError> {
    let mut truth = Utc.with_ymd_and_hms(2026, 1, 3, 5, 0, 0).unwrap();
    let mut there: Vec<Snapshot> = Vec::new();
    for (n, step) in steps.iter().enumerate() {
        truth += TimeDelta::hours(step.hours_later);
        let zone = FixedOffset::east_opt(step.offset_hours * 3600).unwrap();
        let now = (truth + TimeDelta::hours(step.clock_error)).with_timezone(&zone);
        there.push(snapshot(n as u64 + 1, now, step.kind));

        let plan = Plan::make(&there, policy, &now).unwrap();
        prop_assert_eq!(
            plan.decisions.len(),
            there.len(),
            "every snapshot has one decision"
        );
        prop_assert!(plan.check(&zone).is_ok());
        let kept: Vec<&Snapshot> = plan
            .decisions
            .iter()
            .filter(|d| d.keep)
            .map(|d| &d.snapshot)
            .collect();

        for complete in [false, true] {
            let fits = |s: &&Snapshot| counts_for_the_floor(s) && (!complete || s.is_complete());
            let before = days(there.iter().filter(fits), zone).len();
            let after = days(kept.iter().copied().filter(|s| fits(s)), zone).len();
            prop_assert!(
                after >= before.min(14),
                "{after} days left of {before} (complete: {complete})"
            );
        }
        let newest = there
            .iter()
            .filter(|s| s.is_complete())
            .max_by_key(|s| s.time);
        if let Some(newest) = newest {
            prop_assert!(
                // A clock that was set back can bring two of one time.
                kept.iter()
                    .any(|s| s.is_complete() && s.time == newest.time),
                "the newest complete one stays"
            );
        }
        for decision in &plan.decisions {
            prop_assert_eq!(decision.keep, !decision.reasons.is_empty());
        }
        let ids: BTreeSet<_> = kept.iter().map(|s| s.id).collect();
        there.retain(|s| ids.contains(&s.id));
    }
    Ok(there)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_floor_holds_whatever_comes(steps in steps()) {
        live(&steps, &Policy::default())?;
    }

    #[test]
    fn the_floor_holds_without_any_other_rule(steps in steps()) {
        let bare = Policy { keep_within_hours: 0, keep_weekly: 0, ..Policy::default() };
        live(&steps, &bare)?;
    }

    #[test]
    fn a_plan_is_a_function_of_what_it_is_given(steps in steps()) {
        let policy = Policy::default();
        let there = live(&steps, &policy)?;
        let now = there.iter().map(|s| s.time).max().unwrap();
        let plan = Plan::make(&there, &policy, &now).unwrap();
        let mut shuffled = there.clone();
        shuffled.reverse();
        let again = Plan::make(&shuffled, &policy, &now).unwrap();
        let shape = |p: &Plan| p.decisions.iter().map(|d| (d.snapshot.id, d.keep)).collect::<Vec<_>>();
        prop_assert_eq!(shape(&plan), shape(&again));
    }
}

fn twice_daily(days: i64, kind: impl Fn(i64) -> Kind) -> Vec<Step> {
    (0..days * 2)
        .map(|slot| Step {
            hours_later: 12,
            offset_hours: 1,
            kind: kind(slot / 2),
            clock_error: 0,
        })
        .collect()
}

#[test]
fn three_weeks_with_an_unreadable_source_cost_no_complete_history() {
    let steps = twice_daily(60, |day| {
        if day < 39 {
            Kind::Complete
        } else {
            Kind::Partial
        }
    });
    let there = live(&steps, &Policy::default()).unwrap();
    let zone = FixedOffset::east_opt(3600).unwrap();
    let complete = days(there.iter().filter(|s| s.is_complete()), zone);
    assert!(complete.len() >= 14, "{complete:?}");
}

#[test]
fn a_clock_ten_years_ahead_for_one_run_costs_nothing() {
    let mut steps = twice_daily(30, |_| Kind::Complete);
    steps[40].clock_error = 24 * 3650;
    let with = live(&steps, &Policy::default()).unwrap();
    steps[40].clock_error = 0;
    let without = live(&steps, &Policy::default()).unwrap();
    let zone = FixedOffset::east_opt(3600).unwrap();
    let (with, without) = (days(with.iter(), zone), days(without.iter(), zone));
    assert!(with.len() >= without.len(), "{with:?} {without:?}");
}

#[test]
fn the_sound_snapshot_before_a_damaged_one_is_pinned_until_acknowledged() {
    let zone = FixedOffset::east_opt(0).unwrap();
    let begin = zone.with_ymd_and_hms(2026, 1, 1, 6, 0, 0).unwrap();
    let mut there = vec![snapshot(0xaaaa_aaaa, begin, Kind::Complete)];
    for day in 1..200 {
        there.push(snapshot(
            day,
            begin + TimeDelta::days(day as i64),
            Kind::Damaged,
        ));
    }
    let now = begin + TimeDelta::days(200);
    let is_kept = |policy: &Policy| {
        let plan = Plan::make(&there, policy, &now).unwrap();
        plan.decisions
            .iter()
            .find(|d| d.snapshot.id == there[0].id)
            .unwrap()
            .clone()
    };
    let pinned = is_kept(&Policy::default());
    assert!(
        pinned
            .reasons
            .iter()
            .any(|r| r == "last good one before damaged"),
        "{pinned:?}"
    );
    let newest = there.last().unwrap().id.to_hex();
    let policy = Policy {
        acknowledged: vec![newest.as_str().to_owned()],
        ..Policy::default()
    };
    assert!(
        !is_kept(&policy)
            .reasons
            .iter()
            .any(|r| r.starts_with("last sound"))
    );
}

#[test]
fn what_was_asked_to_stay_stays_until_then_and_no_longer() {
    let zone = FixedOffset::east_opt(0).unwrap();
    let begin = zone.with_ymd_and_hms(2026, 1, 1, 6, 0, 0).unwrap();
    let mut there: Vec<_> = (0..150)
        .map(|d| snapshot(d + 1, begin + TimeDelta::days(d as i64), Kind::Complete))
        .collect();
    there[3].keep_until = Some((begin + TimeDelta::days(160)).to_utc());
    let kept = |days: i64| {
        let plan =
            Plan::make(&there, &Policy::default(), &(begin + TimeDelta::days(days))).unwrap();
        plan.decisions
            .iter()
            .any(|d| d.snapshot.id == there[3].id && d.keep)
    };
    assert!(kept(150));
    assert!(!kept(161));
}
