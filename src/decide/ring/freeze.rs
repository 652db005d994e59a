//! Decides when a freeze ends, on the clocks of the zone that it names, through both changes of daylight saving time.
//!
//! Zones come from the database inside of the program: a host may have none, or an old one.

use jiff::civil::{Date, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

use crate::model::ring::{Freeze, Moment};

/// Freezes that follow each other; more steps than windows in a week lead nowhere.
const MOST_STEPS: usize = 256;

/// The zone with this IANA name.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

/// When the next deploy may begin; none when nothing is frozen at `now`.
pub fn thaw(freezes: &[Freeze], now: Timestamp) -> Option<Timestamp> {
    let mut at = now;
    for _ in 0..MOST_STEPS {
        match freezes.iter().filter_map(|freeze| end(freeze, at)).max() {
            Some(end) => at = end,
            None => break,
        }
    }
    (at > now).then_some(at)
}

/// Whether these freezes leave no moment of the week. Shown with a week without changes of the clocks.
pub fn is_endless(freezes: &[Freeze]) -> bool {
    let monday = Date::constant(2026, 1, 5).to_zoned(TimeZone::UTC).map(|monday| monday.timestamp());
    let Ok(monday) = monday else { return false };
    thaw(freezes, monday).is_some_and(|thaw| thaw.duration_since(monday).as_hours() > 8 * 24)
}

/// The end of the freeze that `at` lies in. An hour that comes twice counts when it comes first; a moment that the
/// clocks leave out counts as the same distance after the gap.
fn end(freeze: &Freeze, at: Timestamp) -> Option<Timestamp> {
    let zone = zone(&freeze.zone)?;
    let today = at.to_zoned(zone.clone()).date();
    let monday = today.checked_sub(Span::new().days(today.weekday().to_monday_zero_offset())).ok()?;
    let moment = |moment: Moment, weeks: i64| -> Option<Timestamp> {
        let days = i64::from(moment.day.since(Weekday::Monday)) + weeks * 7;
        let date = monday.checked_add(Span::new().days(days)).ok()?;
        Some(date.to_datetime(moment.time).to_zoned(zone.clone()).ok()?.timestamp())
    };
    // A freeze may have begun last week, and may end next week.
    [-1, 0].into_iter().find_map(|week| {
        let from = moment(freeze.from, week)?;
        let ends_next = (freeze.until.day.to_monday_zero_offset(), freeze.until.time)
            <= (freeze.from.day.to_monday_zero_offset(), freeze.from.time);
        let until = moment(freeze.until, week + i64::from(ends_next))?;
        (from <= at && at < until).then_some(until)
    })
}
