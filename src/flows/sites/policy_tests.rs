//! Tests of the grammar of retry policies.

use super::policy::{Level, RetryPolicy};
use proptest::prelude::*;
use std::time::Duration;

fn parse(text: &str) -> RetryPolicy {
    text.parse().unwrap()
}

/// Seconds and counts of the levels.
fn levels(text: &str) -> Vec<(u64, u32)> {
    let level = |level: &Level| (level.period.as_secs(), level.count);
    parse(text).levels().iter().map(level).collect()
}

#[test]
fn the_examples_of_the_seed() {
    let (min, hour, day) = (60, 3600, 86_400);
    assert_eq!(
        levels("20min (x6); 1hour (x24); 1day (x30)"),
        [(20 * min, 6), (hour, 24), (day, 30)]
    );
    assert_eq!(levels("1 day (x30)"), [(day, 30)]);
    assert_eq!(
        levels("2 hour (x12); 1 day (x30)"),
        [(2 * hour, 12), (day, 30)]
    );
    assert_eq!(
        levels("2 hour (x1); 30 min (x480)"),
        [(2 * hour, 1), (30 * min, 480)]
    );
    assert_eq!(
        levels("2 hour (x1); 30 min (x24); 1 day (x30)"),
        [(2 * hour, 1), (30 * min, 24), (day, 30)]
    );
    assert_eq!(levels("1 sec (x100)"), [(1, 100)]);
    assert_eq!(RetryPolicy::default(), parse("1 hour (x48); 1 day (x90)"));
}

#[test]
fn every_unit_has_its_length() {
    let day = 86_400;
    let units = [
        ("sec", 1),
        ("min", 60),
        ("hour", 3600),
        ("day", day),
        ("week", 7 * day),
        ("month", 30 * day),
        ("year", 365 * day),
    ];
    for (unit, seconds) in units {
        assert_eq!(
            levels(&format!("3{unit}(x1)")),
            [(3 * seconds, 1)],
            "{unit}"
        );
    }
}

#[test]
fn case_spaces_and_empty_parts_are_free() {
    let plain = parse("20 min (x6); 1 hour (x24)");
    let alike = [
        "20min(x6);1hour(x24)",
        "20 MIN (X6) ; 1 Hour (x24);",
        "\t20\n min ( x 6 )\u{a0};; ;1 hour(x24) ; ",
        "; 20 min (x6); 1 hour (x24);;;",
        "020 min (x006); 1 hour (x24)",
    ];
    for text in alike {
        assert_eq!(parse(text), plain, "{text:?}");
    }
}

#[test]
fn a_mistake_is_told_with_its_place() {
    let wrongs = [
        "",
        "  ;; ",
        "min (x6)",
        "20",
        "20 (x6)",
        "20 mins (x6)",
        "20 fortnight (x6)",
        "20 min",
        "20 min;",
        "1 hour (x2); 20 min; 1 day (x3)",
        "20 min x6",
        "20 min (6)",
        "20 min (x)",
        "20 min (x6",
        "20 min (x6;",
        "20 min (x6) 1 hour (x24)",
        "20 min (x6), 1 hour (x24)",
        "20 min (x6))",
        "1.5 hour (x6)",
        "-1 hour (x6)",
        "20 min (x-6)",
        "0 sec (x6)",
        "20 min (x0)",
        "é1 min (x6)",
        "٣ min (x6)",
        "20 min (x6)\u{1b}",
        "20 minutesandmuchmorethanthat (x6)",
        "101 year (x6)",
        "99999999999999999999999 sec (x6)",
        "3153600001 sec (x6)",
        "1 min (x2147483648)",
        "1 min (x99999999999999999999999)",
    ];
    let told: Vec<String> = wrongs
        .iter()
        .map(|text| format!("{text:?}: {}", text.parse::<RetryPolicy>().unwrap_err()))
        .collect();
    let told = told
        .join("\n")
        .replace(": write levels as \"20min (x6); 1hour (x24)\"", "");
    insta::assert_snapshot!(told, @r#"
    "": there is no level, at character 1
    "  ;; ": there is no level, at character 1
    "min (x6)": expected the period's number, found "m", at character 1
    "20": expected a unit (sec, min, hour, day, week, month, year), at character 3
    "20 (x6)": expected a unit (sec, min, hour, day, week, month, year), at character 4
    "20 mins (x6)": "mins" is no unit: write "20 min", without the s, at character 4
    "20 fortnight (x6)": "fortnight" is no unit (sec, min, hour, day, week, month, year), at character 4
    "20 min": expected the count in "(xN)", found the end, at character 7
    "20 min;": expected the count in "(xN)", found ";", at character 7
    "1 hour (x2); 20 min; 1 day (x3)": expected the count in "(xN)", found ";", at character 20
    "20 min x6": expected the count in "(xN)", found "x", at character 8
    "20 min (6)": expected "x" and the count, found "6", at character 9
    "20 min (x)": expected the count, found ")", at character 10
    "20 min (x6": expected ")" after the count, found the end, at character 11
    "20 min (x6;": expected ")" after the count, found ";", at character 11
    "20 min (x6) 1 hour (x24)": expected ";" before the next level, found "1", at character 13
    "20 min (x6), 1 hour (x24)": expected ";" before the next level, found ",", at character 12
    "20 min (x6))": expected ";" before the next level, found ")", at character 12
    "1.5 hour (x6)": expected a unit (sec, min, hour, day, week, month, year), at character 2
    "-1 hour (x6)": expected the period's number, found "-", at character 1
    "20 min (x-6)": expected the count, found "-", at character 10
    "0 sec (x6)": the period's number is 0, at character 1
    "20 min (x0)": the count is 0, at character 10
    "é1 min (x6)": expected the period's number, found "é", at character 1
    "٣ min (x6)": expected the period's number, found "٣", at character 1
    "20 min (x6)\u{1b}": expected ";" before the next level, found "\u{1b}", at character 12
    "20 minutesandmuchmorethanthat (x6)": "minutesandmuchmoreth" is no unit (sec, min, hour, day, week, month, year), at character 4
    "101 year (x6)": the period is longer than 100 years, at character 1
    "99999999999999999999999 sec (x6)": the period's number is above 3153600000, at character 1
    "3153600001 sec (x6)": the period's number is above 3153600000, at character 1
    "1 min (x2147483648)": the count is above 2147483647, at character 9
    "1 min (x99999999999999999999999)": the count is above 2147483647, at character 9
    "#);
}

#[test]
fn a_message_says_how_to_write_it() {
    let told = "20 mins (x6)".parse::<RetryPolicy>().unwrap_err();
    insta::assert_snapshot!(told, @r#""mins" is no unit: write "20 min", without the s, at character 4: write levels as "20min (x6); 1hour (x24)""#);
}

#[test]
fn the_largest_is_read_and_one_more_is_not() {
    assert_eq!(
        levels("100 year (x2147483647)"),
        [(3_153_600_000, 2_147_483_647)]
    );
    assert_eq!(parse(&"1 min (x1);".repeat(100)).levels().len(), 100);
    let many = "1 min (x1);"
        .repeat(101)
        .parse::<RetryPolicy>()
        .unwrap_err();
    assert_eq!(
        (many.place, many.message.as_str()),
        (1100, "more than 100 levels")
    );
    let long = " ".repeat(4097).parse::<RetryPolicy>().unwrap_err();
    assert_eq!(long.message, "longer than 4096 characters");
}

#[test]
fn no_policy_is_made_that_no_expression_says() {
    let of = |millis, count| {
        let period = Duration::from_millis(millis);
        RetryPolicy::new(vec![Level { period, count }])
    };
    assert_eq!(of(60_000, 6), Some(parse("1 min (x6)")));
    let hundred_years = 3_153_600_000_000;
    let wrong = [
        (0, 6),
        (500, 6),
        (60_000, 0),
        (hundred_years + 1000, 1),
        (1000, 1 << 31),
    ];
    for (millis, count) in wrong {
        assert_eq!(of(millis, count), None, "{millis} ms, {count}");
    }
    assert_eq!(RetryPolicy::new(Vec::new()), None);
    let level = parse("1 min (x1)").levels()[0];
    assert_eq!(RetryPolicy::new(vec![level; 101]), None);
}

#[test]
fn a_policy_is_written_in_the_longest_whole_units() {
    let written = |text: &str| parse(text).to_string();
    assert_eq!(
        written("120min(x6);24 HOUR(x2);90sec(x1);"),
        "2 hour (x6); 1 day (x2); 90 sec (x1)"
    );
    assert_eq!(
        written("14 day (x1); 60 day (x1); 730 day (x1)"),
        "2 week (x1); 2 month (x1); 2 year (x1)"
    );
}

fn policies() -> impl Strategy<Value = RetryPolicy> {
    let level = (1..=3_153_600_000_u64, 1..=2_147_483_647_u32).prop_map(|(seconds, count)| Level {
        period: Duration::from_secs(seconds),
        count,
    });
    proptest::collection::vec(level, 1..=100).prop_map(|levels| RetryPolicy::new(levels).unwrap())
}

proptest! {
    #[test]
    fn what_is_written_is_read(policy in policies()) {
        prop_assert_eq!(policy.to_string().parse(), Ok(policy));
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_place_inside(text in any::<String>()) {
        if let Err(problem) = text.parse::<RetryPolicy>() {
            prop_assert!(problem.place <= text.chars().count());
        }
    }

    #[test]
    fn what_is_nearly_a_policy_is_read_or_refused(text in "([0-9]{0,3} ?(sec|min|hour|day|x)? ?\\(?[xX]?[0-9]{0,11}\\)?;?){0,5}") {
        match text.parse::<RetryPolicy>() {
            Ok(policy) => prop_assert_eq!(policy.to_string().parse(), Ok(policy)),
            Err(problem) => prop_assert!(problem.place <= text.chars().count()),
        }
    }
}
