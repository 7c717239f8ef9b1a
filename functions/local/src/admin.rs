//! `pollux admin`: organizations, users and their secrets, in the embedded table or in the cloud's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use aws::settings::Settings;
use aws::start::StartError;
use aws::store::DynamoStore;
use clap::{Args, Subcommand};
use domain::id::{OrganizationId, UserId};
use domain::secret::Secret;
use flow::ports::Ports;
use flow::principal;
use serde_json::{Value, json};

use crate::cli::{DATA, say};
use crate::data::{Claim, Credentials, DataDirectory};
use crate::engine::{self, Engine};
use crate::queue::LocalQueue;
use crate::system;

/// What to administer.
#[derive(Debug, Args)]
pub struct AdminArguments {
    /// What to do.
    #[command(subcommand)]
    command: AdminCommand,
    /// Directory with the embedded table; .pollux, or the cloud's table when POLLUX_TABLE is set
    // An id of its own: with that of `serve --data` it would take over the default there.
    #[arg(long, id = "table-directory", global = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Answer with JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// Organizations: the customers, each walled off from the others
    #[command(subcommand)]
    Organization(OrganizationCommand),
    /// Users: people and programs that act for an organization
    #[command(subcommand)]
    User(UserCommand),
    /// Secrets of users and organizations
    #[command(subcommand)]
    Secret(SecretCommand),
}

#[derive(Debug, Subcommand)]
enum OrganizationCommand {
    /// Make an organization with its first user; shows their secrets, this once
    Create {
        /// What people call it
        #[arg(long)]
        name: String,
    },
    /// List all organizations
    List,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make one more user of an organization; shows the secret, this once
    Create {
        /// Id of the organization
        #[arg(long, value_name = "ID")]
        organization: OrganizationId,
        /// What people call the user
        #[arg(long)]
        name: String,
    },
    /// List the users of an organization
    List {
        /// Id of the organization
        #[arg(long, value_name = "ID")]
        organization: OrganizationId,
    },
}

#[derive(Debug, Clone, Copy, Args)]
struct Owner {
    /// Id of the organization
    #[arg(long, value_name = "ID")]
    organization: OrganizationId,
    /// Id of the user; without it, the organization's own secret is meant
    #[arg(long, value_name = "ID")]
    user: Option<UserId>,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Replace a secret; the old one stops working at once and the new one is shown, this once
    Rotate(Owner),
    /// Make a secret stop working at once; `rotate` gives a new one later
    Revoke(Owner),
}

/// Carries out one command.
pub async fn run(arguments: AdminArguments) -> Result<()> {
    let place = Place::open(arguments.data.as_deref()).await?;
    let outcome = carry_out(&place, &arguments.command).await;
    place.close().await;
    let answer = outcome?;
    match arguments.json {
        true => say(serde_json::to_string_pretty(&answer)?),
        false => say(in_words(&answer)),
    }
    Ok(())
}

/// Which table, and what has to be closed after use.
struct Place {
    ports: Ports,
    engine: Option<Engine>,
    data: Option<PathBuf>,
    _directory: Option<DataDirectory>,
}

impl Place {
    async fn open(data: Option<&Path>) -> Result<Self> {
        // Only whether it is there: what it says is read with the other settings, in one place.
        if data.is_none() && std::env::var_os("POLLUX_TABLE").is_some() {
            let settings = Settings::from_env().map_err(StartError::Settings)?;
            let ports = aws::connect(&settings).await?;
            return Ok(Self { ports, engine: None, data: None, _directory: None });
        }
        let data = data.unwrap_or(Path::new(DATA)).to_owned();
        if !data.is_dir() {
            bail!("there is no data directory {}; `pollux serve` makes one, --data names another", data.display());
        }
        let (store, engine, directory) = match DataDirectory::claim(&data)? {
            Claim::Ours(mut directory) => {
                let engine = Engine::open(&data).await?;
                directory.publish(engine.endpoint())?;
                (engine.store(), Some(engine), Some(directory))
            }
            Claim::Taken(Some(endpoint)) => (DynamoStore::new(engine::client(&endpoint), engine::TABLE), None, None),
            Claim::Taken(None) => bail!("the pollux that uses {} is just starting; try again", data.display()),
        };
        let ports = system::ports(store, Arc::new(LocalQueue::default()), &data, false)?;
        Ok(Self { ports, engine, data: Some(data), _directory: directory })
    }

    async fn close(self) {
        if let Some(engine) = self.engine {
            engine.shutdown().await;
        }
    }

    /// Keeps `credentials.json` true when it was its owner's secret that was replaced.
    fn note(&self, owner: Owner, secret: &Secret) -> Result<()> {
        let Some(data) = &self.data else { return Ok(()) };
        let Some(mut credentials) = Credentials::read(data)? else { return Ok(()) };
        let place = match owner.user {
            Some(user) if user == credentials.user => &mut credentials.user_secret,
            None if owner.organization == credentials.organization => &mut credentials.organization_secret,
            _ => return Ok(()),
        };
        *place = secret.clone();
        credentials.write(data)
    }
}

async fn carry_out(place: &Place, command: &AdminCommand) -> Result<Value> {
    let ports = &place.ports;
    Ok(match command {
        AdminCommand::Organization(OrganizationCommand::Create { name }) => {
            let made = principal::create_organization(ports, name).await?;
            json!({
                "organization": made.organization,
                "name": name,
                "user": made.user,
                "userSecret": made.user_secret.expose(),
                "organizationSecret": made.organization_secret.expose(),
            })
        }
        AdminCommand::Organization(OrganizationCommand::List) => {
            let organizations = principal::organizations(ports).await?;
            let shown = |it: principal::OrganizationRecord| json!({"organization": it.id, "name": it.name, "createdAt": it.created_at});
            organizations.into_iter().map(shown).collect()
        }
        AdminCommand::User(UserCommand::Create { organization, name }) => {
            let (user, secret) = principal::create_user(ports, *organization, name).await?;
            json!({"user": user, "name": name, "organization": organization, "userSecret": secret.expose()})
        }
        AdminCommand::User(UserCommand::List { organization }) => {
            let users = principal::users(ports, *organization).await?;
            let shown = |it: principal::UserRecord| json!({"user": it.id, "name": it.name, "createdAt": it.created_at});
            users.into_iter().map(shown).collect()
        }
        AdminCommand::Secret(SecretCommand::Rotate(owner)) => {
            let secret = rotate(ports, *owner).await?;
            place.note(*owner, &secret)?;
            let field = if owner.user.is_some() { "userSecret" } else { "organizationSecret" };
            let mut answer = json!({"organization": owner.organization, field: secret.expose()});
            if let Some(user) = owner.user {
                answer["user"] = json!(user);
            }
            answer
        }
        AdminCommand::Secret(SecretCommand::Revoke(owner)) => {
            // What nobody has seen opens nothing.
            rotate(ports, *owner).await?;
            json!({"organization": owner.organization, "user": owner.user, "revoked": true})
        }
    })
}

async fn rotate(ports: &Ports, owner: Owner) -> Result<Secret> {
    match owner.user {
        Some(user) => principal::rotate_user(ports, owner.organization, user).await,
        None => principal::rotate_organization(ports, owner.organization).await,
    }
    .context("cannot replace the secret")
}

/// One line a thing, `name value` pairs.
fn in_words(answer: &Value) -> String {
    match answer {
        Value::Array(rows) if rows.is_empty() => "none".into(),
        Value::Array(rows) => rows.iter().map(in_words).collect::<Vec<_>>().join("\n"),
        Value::Object(fields) => {
            let shown = fields.iter().filter(|(_, value)| !value.is_null());
            let pair = |(name, value): (&String, &Value)| match value {
                Value::String(text) => format!("{name} {text}"),
                value => format!("{name} {value}"),
            };
            shown.map(pair).collect::<Vec<_>>().join("  ")
        }
        value => value.to_string(),
    }
}
