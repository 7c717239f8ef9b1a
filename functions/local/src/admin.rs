//! `pollux admin`: organizations, users and their secrets, in the embedded table or in the cloud's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use aws::settings::Settings;
use aws::start::StartError;
use aws::store::DynamoStore;
use aws::vault::KeyFileVault;
use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use domain::id::{InstanceId, OrganizationId, UserId};
use domain::secret::Secret;
use domain::wheel::{LONGEST_INTERVAL, SHORTEST_INTERVAL};
use flow::accounts::limits::{self, Allowance};
use flow::accounts::{self, Renewal, audit};
use flow::instances;
use flow::ports::Ports;
use serde_json::{Value, json};
use store::records::account::{Limits, LimitsRecord, OrganizationRecord, UserRecord};
use store::records::audit::By;

use crate::data::{Claim, Credentials, DEFAULT_DIRECTORY, DataDirectory};
use crate::engine::{self, Engine};
use crate::output::say;
use crate::queue::LocalQueue;
use crate::system;

/// The options of `admin`.
#[derive(Debug, Args)]
pub struct AdminArguments {
    /// The command.
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
    /// Secrets of users, organizations and instances
    #[command(subcommand)]
    Secret(SecretCommand),
    /// Limits of an organization
    #[command(subcommand)]
    Limits(LimitsCommand),
    /// Audit trail of an organization: who changed what, the youngest first
    Audit(AuditArguments),
    /// Make a table that was restored from a point in time ready, so that it sends no flood
    ///
    /// Sets every delivery under way aside, as queued, and lets every resource start again: it emits only records
    /// that vendors stamp later than the instant given. To be run before dispatcher and poller see the table.
    Restore {
        /// When the lost table last worked, such as 2026-01-05T09:00:00Z; what changed by then counts as emitted
        #[arg(long, alias = "told-until", value_name = "INSTANT")]
        emitted_until: DateTime<Utc>,
    },
    /// Keys that seal credentials
    #[command(subcommand)]
    Keys(KeysCommand),
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a new key for what is sealed from now on, also by a service that is running; the old ones still open what
    /// they sealed. Of the key file in a data directory; in the cloud, KMS does it by itself
    Rotate,
    /// Seal again, with the newest key, all that an older one sealed
    Reseal,
}

#[derive(Debug, Subcommand)]
enum OrganizationCommand {
    /// Make an organization with its first user; shows their secrets, this once
    Create {
        /// Name, for people
        #[arg(long)]
        name: String,
    },
    /// List all organizations
    List,
    /// Refuse its users, and let its instances rest
    Disable(Organization),
    /// Undo that; what was switched off for itself stays off
    Enable(Organization),
}

#[derive(Debug, Clone, Copy, Args)]
struct Organization {
    /// Id of the organization
    #[arg(long, value_name = "ID")]
    organization: OrganizationId,
}

#[derive(Debug, Clone, Copy, Args)]
struct User {
    /// Id of the organization
    #[arg(long, value_name = "ID")]
    organization: OrganizationId,
    /// Id of the user
    #[arg(long, value_name = "ID")]
    user: UserId,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Make one more user of an organization; shows the secret, this once
    Create {
        /// Id of the organization
        #[arg(long, value_name = "ID")]
        organization: OrganizationId,
        /// Name of the user, for people
        #[arg(long)]
        name: String,
    },
    /// List the users of an organization
    List(Organization),
    /// Let a user in no longer
    Disable(User),
    /// Let a user in again, with the same secret
    Enable(User),
}

#[derive(Debug, Clone, Copy, Args)]
struct Owner {
    /// Id of the organization
    #[arg(long, value_name = "ID")]
    organization: OrganizationId,
    /// Id of the user; without it and an instance, the organization's own secret is meant
    #[arg(long, value_name = "ID", conflicts_with = "instance")]
    user: Option<UserId>,
    /// Id of the instance whose token is meant
    #[arg(long, value_name = "ID")]
    instance: Option<InstanceId>,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Replace a secret; the new one is shown, this once
    Rotate {
        /// Whose
        #[command(flatten)]
        owner: Owner,
        /// Minutes for which the old one works beside it; without, it stops at once
        #[arg(long, value_name = "MINUTES", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=LONGEST_GRACE))]
        grace: u32,
    },
    /// Make a secret stop working at once, and the one before it; `rotate` gives a new one later
    Revoke(Owner),
}

/// Thirty days, in minutes.
const LONGEST_GRACE: i64 = 30 * 24 * 60;

#[derive(Debug, Subcommand)]
enum LimitsCommand {
    /// Show what it may have, and how much of it is used
    Show(Organization),
    /// Set what it may have. What is not named is unlimited; what it has beyond stays
    Set {
        /// Id of the organization
        #[arg(long, value_name = "ID")]
        organization: OrganizationId,
        /// Instances at most
        #[arg(long, value_name = "N")]
        instances: Option<u32>,
        /// Resources in an instance at most
        #[arg(long, value_name = "N")]
        resources: Option<u32>,
        /// Minutes between polls at least
        #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u16).range(i64::from(SHORTEST_INTERVAL)..=i64::from(LONGEST_INTERVAL)))]
        smallest_interval: Option<u16>,
    },
}

#[derive(Debug, Args)]
struct AuditArguments {
    /// Id of the organization
    #[arg(long, value_name = "ID")]
    organization: OrganizationId,
    /// Only what was done to this instance
    #[arg(long, value_name = "ID")]
    instance: Option<InstanceId>,
    /// At most so many entries
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
}

/// Carries out one command.
pub async fn run(arguments: AdminArguments) -> Result<()> {
    let target = Target::open(arguments.data.as_deref()).await?;
    let outcome = carry_out(&target, &arguments.command).await;
    target.close().await;
    let answer = outcome?;
    match arguments.json {
        true => say(serde_json::to_string_pretty(&answer)?),
        false => say(in_words(&answer)),
    }
    Ok(())
}

/// The table that is administered, with what has to be closed after use.
struct Target {
    ports: Ports,
    engine: Option<Engine>,
    data: Option<PathBuf>,
    _directory: Option<DataDirectory>,
}

impl Target {
    async fn open(data: Option<&Path>) -> Result<Self> {
        // Only whether it is there: what it says is read with the other settings, in one place.
        if data.is_none() && std::env::var_os("POLLUX_TABLE").is_some() {
            let settings = Settings::from_env().map_err(StartError::Settings)?;
            let ports = aws::connect(&settings).await?;
            return Ok(Self { ports, engine: None, data: None, _directory: None });
        }
        let data = data.unwrap_or(Path::new(DEFAULT_DIRECTORY)).to_owned();
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
            _ if owner.instance.is_some() => return Ok(()),
            Some(user) if user == credentials.user => &mut credentials.user_secret,
            None if owner.organization == credentials.organization => &mut credentials.organization_secret,
            _ => return Ok(()),
        };
        *place = secret.clone();
        credentials.write(data)
    }
}

async fn carry_out(target: &Target, command: &AdminCommand) -> Result<Value> {
    let ports = &target.ports;
    Ok(match command {
        AdminCommand::Organization(command) => organizations(ports, command).await?,
        AdminCommand::User(command) => users(ports, command).await?,
        AdminCommand::Secret(command) => secrets(target, command).await?,
        AdminCommand::Restore { emitted_until } => json!(flow::restore::restore(ports, *emitted_until).await?),
        AdminCommand::Limits(LimitsCommand::Show(Organization { organization })) => {
            let allowance = Allowance::read(ports, *organization).await?;
            limits(*organization, allowance.record())
        }
        AdminCommand::Limits(LimitsCommand::Set { organization, instances, resources, smallest_interval }) => {
            let wanted = Limits { instances: *instances, resources: *resources, smallest_interval: *smallest_interval };
            limits(*organization, Some(limits::set(ports, *organization, wanted).await?))
        }
        AdminCommand::Keys(KeysCommand::Rotate) => {
            let Some(data) = &target.data else {
                bail!("in the cloud KMS rotates its keys by itself; give the alias another key to change it at once");
            };
            KeyFileVault::open(&data.join(system::KEYS))?.rotate()?;
            json!({"rotated": true})
        }
        AdminCommand::Keys(KeysCommand::Reseal) => {
            let done = flow::reseal::reseal(ports).await?;
            json!({"values": done.values, "resealed": done.resealed, "broken": done.broken})
        }
        AdminCommand::Audit(asked) => {
            let (mut entries, mut after) = (Vec::new(), None);
            while entries.len() < asked.limit {
                let wanted = asked.limit - entries.len();
                let page = audit::list(ports, asked.organization, asked.instance, wanted, after.as_ref()).await?;
                entries.extend(page.entries.iter().map(|entry| json!(entry)));
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            Value::Array(entries)
        }
    })
}

async fn organizations(ports: &Ports, command: &OrganizationCommand) -> Result<Value> {
    Ok(match command {
        OrganizationCommand::Create { name } => {
            let made = accounts::create_organization(ports, name).await?;
            json!({
                "organization": made.organization,
                "name": name,
                "user": made.user,
                "userSecret": made.user_secret.expose(),
                "organizationSecret": made.organization_secret.expose(),
            })
        }
        OrganizationCommand::List => {
            let shown = |it: OrganizationRecord| json!({"organization": it.id, "name": it.name, "createdAt": it.created_at, "disabled": it.secret.disabled});
            accounts::organizations(ports).await?.into_iter().map(shown).collect()
        }
        OrganizationCommand::Disable(it) => switch_organization(ports, it.organization, true).await?,
        OrganizationCommand::Enable(it) => switch_organization(ports, it.organization, false).await?,
    })
}

async fn switch_organization(ports: &Ports, organization: OrganizationId, disabled: bool) -> Result<Value> {
    accounts::set_organization_disabled(ports, organization, disabled).await?;
    Ok(json!({"organization": organization, "disabled": disabled}))
}

async fn users(ports: &Ports, command: &UserCommand) -> Result<Value> {
    Ok(match command {
        UserCommand::Create { organization, name } => {
            let (user, secret) = accounts::create_user(ports, *organization, name).await?;
            json!({"user": user, "name": name, "organization": organization, "userSecret": secret.expose()})
        }
        UserCommand::List(Organization { organization }) => {
            let shown = |it: UserRecord| {
                let disabled = it.is_locked_out();
                json!({"user": it.id, "name": it.name, "createdAt": it.created_at, "disabled": disabled})
            };
            accounts::users(ports, *organization).await?.into_iter().map(shown).collect()
        }
        UserCommand::Disable(it) => switch_user(ports, *it, true).await?,
        UserCommand::Enable(it) => switch_user(ports, *it, false).await?,
    })
}

async fn switch_user(ports: &Ports, User { organization, user }: User, disabled: bool) -> Result<Value> {
    accounts::set_user_disabled(ports, organization, user, disabled).await?;
    Ok(json!({"organization": organization, "user": user, "disabled": disabled}))
}

async fn secrets(target: &Target, command: &SecretCommand) -> Result<Value> {
    match command {
        SecretCommand::Rotate { owner, grace } => {
            let grace = TimeDelta::minutes(i64::from(*grace));
            let secret = renew(target, *owner, Renewal::Rotate(grace)).await?;
            target.note(*owner, &secret)?;
            let (field, whose) = match owner {
                Owner { instance: Some(instance), .. } => ("token", json!({"instance": instance})),
                Owner { user: Some(user), .. } => ("userSecret", json!({"user": user})),
                _ => ("organizationSecret", json!({})),
            };
            let mut answer = json!({"organization": owner.organization, field: secret.expose()});
            if let (Some(answer), Some(whose)) = (answer.as_object_mut(), whose.as_object()) {
                answer.extend(whose.clone());
            }
            if grace > TimeDelta::zero() {
                answer["previousValidUntil"] = json!(target.ports.now() + grace);
            }
            Ok(answer)
        }
        SecretCommand::Revoke(owner) => {
            // What nobody has seen opens nothing.
            renew(target, *owner, Renewal::Revoke).await?;
            let Owner { organization, user, instance } = owner;
            Ok(json!({"organization": organization, "user": user, "instance": instance, "revoked": true}))
        }
    }
}

async fn renew(target: &Target, owner: Owner, renewal: Renewal) -> Result<Secret> {
    let (ports, organization) = (&target.ports, owner.organization);
    let renewed = match (owner.user, owner.instance) {
        (_, Some(instance)) => {
            let grace = match renewal {
                Renewal::Rotate(grace) => grace,
                Renewal::Revoke => TimeDelta::zero(),
            };
            let made = instances::rotate_token(ports, By::Operator, organization, instance, grace).await;
            return Ok(made.context("cannot replace the token")?.token);
        }
        (Some(user), None) => accounts::renew_user(ports, organization, user, renewal).await,
        (None, None) => accounts::renew_organization(ports, organization, renewal).await,
    };
    renewed.context("cannot replace the secret")
}

fn limits(organization: OrganizationId, record: Option<LimitsRecord>) -> Value {
    let limits = record.map(|record| record.limits).unwrap_or_default();
    json!({
        "organization": organization,
        "instances": limits.instances,
        "resources": limits.resources,
        "smallestInterval": limits.smallest_interval,
        "usedInstances": record.map(|record| record.instances),
    })
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
