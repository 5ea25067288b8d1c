//! The scenario of the run: a file, or the built-in example.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use zero_paper::Scenario;
use zero_paper::repeated_keys::describe_repeated;
use zero_paper::symbol::{describe_lookalikes, lookalikes};
use zero_program::message::print_warning;

use crate::arguments::PROGRAM;

/// Used without `--scenario`, relative to the current directory.
const DEFAULT_PATH: &str = "examples/paper-trading/scenario.json";

/// The content of [`DEFAULT_PATH`] at build time.
const BUILT_IN: &str = include_str!("../../../examples/paper-trading/scenario.json");

/// Where the scenario comes from.
pub(crate) enum Source {
    File(PathBuf),
    BuiltIn,
}

impl Source {
    /// Returns the file that the user named, the default file if it exists, or else the built-in
    /// example, with a warning.
    pub(crate) fn choose(named: Option<&Path>) -> Self {
        match named {
            Some(path) => Self::File(path.to_owned()),
            None if matches!(Path::new(DEFAULT_PATH).try_exists(), Ok(false)) => {
                let warning = format!(
                    "{DEFAULT_PATH} does not exist here; using the built-in copy (--scenario names another)"
                );
                print_warning(PROGRAM, &warning);
                Self::BuiltIn
            }
            None => Self::File(DEFAULT_PATH.into()),
        }
    }

    /// Reads the scenario. Prints a warning for each unknown field and each pair of lookalike
    /// symbols.
    pub(crate) fn load(&self) -> Result<Scenario> {
        let scenario = match self {
            Self::BuiltIn => {
                Scenario::parse(BUILT_IN).map_err(|problem| anyhow!("{}: {problem}", self.name()))?
            }
            Self::File(path) => Scenario::load(path).map_err(|error| match path.exists() {
                true => error.into(),
                false => anyhow!("{}: there is no such scenario; name one with --scenario", path.display()),
            })?,
        };
        for field in &scenario.ignored {
            print_warning(PROGRAM, &format!("{}: {field}: is not known and has no effect", self.name()));
        }
        for field in &scenario.repeated {
            print_warning(PROGRAM, &format!("{}: {}", self.name(), describe_repeated(field)));
        }
        for (first, second) in lookalikes(scenario.orders.iter().map(|order| order.symbol.as_str())) {
            print_warning(PROGRAM, &format!("{}: {}", self.name(), describe_lookalikes(first, second)));
        }
        Ok(scenario)
    }

    /// Returns the name in messages.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::BuiltIn => "built-in example".to_owned(),
        }
    }
}
