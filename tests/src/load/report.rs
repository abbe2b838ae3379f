//! The figures as a table: of each the median of its trials, with the least and the greatest.

use serde_json::Value;

use super::figure::{self, Figure};

/// A Markdown table of trials; figures without one are left out.
#[must_use]
pub fn table(trials: &[Value]) -> String {
    let mut table = String::from(
        "| figure | runs | number | median | least | greatest |\n|---|---|---|---|---|---|\n",
    );
    for figure in figure::all() {
        let own: Vec<&Value> = trials
            .iter()
            .filter(|trial| trial["figure"] == figure.name)
            .collect();
        for (name, values) in numbers(&figure, &own) {
            let (Some(least), Some(greatest)) = (values.first(), values.last()) else {
                continue;
            };
            let median = values[values.len() / 2];
            table.push_str(&format!(
                "| `{}`: {} | {} | {name} | {} | {} | {} |\n",
                figure.name,
                figure.title,
                own.len(),
                shown(median),
                shown(*least),
                shown(*greatest)
            ));
        }
    }
    table
}

/// Each number that a figure tells, its values sorted.
fn numbers(figure: &Figure, trials: &[&Value]) -> Vec<(&'static str, Vec<f64>)> {
    let values = |pointer: &str| {
        let mut values: Vec<f64> = trials
            .iter()
            .filter_map(|trial| trial.pointer(pointer)?.as_f64())
            .collect();
        values.sort_by(f64::total_cmp);
        values
    };
    figure
        .told
        .iter()
        .map(|(name, pointer)| (*name, values(pointer)))
        .collect()
}

fn shown(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_figure_is_the_median_of_its_trials_with_the_least_and_the_greatest() {
        let trial = |per_s: f64| json!({ "figure": "sustained", "gateway": { "per_s": per_s } });
        let table = table(&[trial(2800.4), trial(2700.0), trial(3000.0)]);
        assert!(
            table.contains("| 3 | messages/s | 2800 | 2700 | 3000 |"),
            "{table}"
        );
        assert_eq!(table.lines().count(), 3, "{table}");
    }
}
