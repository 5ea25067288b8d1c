//! The drills of the limits of runs on market data.

use serde_json::Value;
use zero_bus::Json;
use zero_paper::limit_drills::{LimitDrills, run};
use zero_paper::market::run_file::RunFile;
use zero_paper::reached_limit::LimitNumbers;

fn drills(file: &str) -> LimitDrills {
    run(&RunFile::parse(file).unwrap())
}

#[test]
fn every_limit_is_drilled_with_its_numbers() {
    let result = drills("{}");
    assert!(result.passed, "{result:#?}");
    let names: Vec<&str> = result.drills.iter().map(|drill| drill.limit).collect();
    assert_eq!(
        names,
        [
            "max_gross_exposure_usd",
            "max_daily_loss_usd",
            "max_drawdown_pct",
            "max_orders_per_minute",
            "max_data_age_s"
        ]
    );
    let numbers: Vec<String> = result
        .drills
        .iter()
        .map(|drill| {
            assert!(!drill.bound_of_run_file);
            let rejected = drill.steps.iter().find(|step| !step.allowed).unwrap();
            LimitNumbers::from(rejected.limit.clone().unwrap()).to_string()
        })
        .collect();
    assert_eq!(
        numbers,
        [
            "gross exposure 1,100.00 > limit 1,000.00 USD",
            "loss of the day 110.02 > limit 100.00 USD",
            "drawdown 5.501 > limit 5 %",
            "accepted orders in the last minute 3 = limit 3",
            "age of the data 66 > limit 60 s"
        ]
    );
    let document: Value = serde_json::from_str(Json::of(&result).unwrap().as_str()).unwrap();
    assert_eq!(document["drills"][0]["steps"][1]["limit"]["name"], "max_gross_exposure_usd");
}

/// The bounds of a run file are drilled, whatever their size.
#[test]
fn the_limits_of_a_run_file_are_drilled() {
    for (gross, loss, drawdown, rate, age) in [
        (0.01, 0.01, 0.01, 0.5, 0.001),
        (1.0, 3.0, 33.3, 1.0, 1.0),
        (12_345.67, 777.77, 99.0, 7.5, 86_400.0),
        (1e12, 1e12, 100.0, 1e9, 1e9),
    ] {
        let limits = format!(
            r#""max_gross_exposure_usd":{gross},"max_daily_loss_usd":{loss},"max_drawdown_pct":{drawdown},
               "max_orders_per_minute":{rate},"max_data_age_s":{age}"#
        );
        let result = drills(&format!(r#"{{"start_cash_usd":2500,"limits":{{{limits}}}}}"#));
        assert!(result.passed, "{limits}: {result:#?}");
        assert!(result.drills.iter().all(|drill| drill.bound_of_run_file));
        assert_eq!(result.drills[0].bound, gross);
    }
}
