//! The first thing every function does: from the environment to what its steps are given.

use std::sync::Arc;

use elements::{Bases, Catalog, FileProblem};
use flow::service::Service;

use crate::settings::{Settings, SettingsProblem};
use crate::telemetry::{self, Lines, TelemetryError};
use crate::{ConnectError, connect};

/// The reason why a function does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The environment, with all of its mistakes.
    #[error("the environment is not right:\n{}", listed(.0))]
    Settings(Vec<SettingsProblem>),
    /// The log.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The ports.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The further element files, with all of their mistakes.
    #[error("the element files are not right:\n{}", listed(.0))]
    Elements(Vec<FileProblem>),
    /// A base URL in place of an element's own.
    #[error("the base URL of {element} is none")]
    Base {
        /// Of which element.
        element: String,
        /// The cause.
        source: url::ParseError,
    },
}

fn listed(problems: &[impl ToString]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Reads the environment, begins to log, and makes the ports. Asks nothing of the cloud yet.
pub async fn service() -> Result<Service, StartError> {
    let settings = Settings::from_env().map_err(StartError::Settings)?;
    telemetry::init(Lines::Json, &settings.log)?;
    let embedded = Catalog::embedded();
    let catalog = match &settings.elements_dir {
        Some(directory) => embedded.with_directory(directory).map_err(StartError::Elements)?,
        None => embedded,
    };
    let mut bases = Bases::default();
    for (element, base) in &settings.vendors {
        let url = base.parse().map_err(|source| StartError::Base { element: element.clone(), source })?;
        bases.overrides.insert(element.clone(), url);
    }
    Ok(Service::new(connect(&settings).await?, Arc::new(catalog), Arc::new(bases)))
}
