//! What a trial's database holds before the first post.

use super::fleet::Fleet;

/// Events of one statement.
const PAGE: u64 = 200_000;
/// How many weeks they are spread over; the last two belong to the trial itself.
const WEEKS_AGO: std::ops::RangeInclusive<u64> = 2..=8;

/// Makes events of earlier weeks, each with its key, its routing, and a delivery that was read.
///
/// # Errors
/// The database refuses it.
pub async fn make(fleet: &Fleet, events: u64) -> anyhow::Result<()> {
    fleet.run_sql(include_str!("history.sql")).await?;
    fleet.run_sql("select load_history_begins()").await?;
    let of_a_week = events / (WEEKS_AGO.end() - WEEKS_AGO.start() + 1);
    for weeks_ago in WEEKS_AGO.rev() {
        for made in (0..of_a_week).step_by(usize::try_from(PAGE)?) {
            let page = PAGE.min(of_a_week - made);
            let first = weeks_ago * of_a_week + made;
            let week = weeks_ago * of_a_week;
            fleet
                .run_sql(&format!(
                    "select load_history({weeks_ago}, {first}, {page}, {week}, {of_a_week})"
                ))
                .await?;
        }
    }
    fleet
        .run_sql("alter table deliveries enable trigger all")
        .await?;
    fleet.run_sql("select load_history_ends()").await?;
    // As in a database that has lived with them for weeks.
    fleet.run_sql("vacuum analyze").await?;
    fleet.run_sql("checkpoint").await
}
