//! `pollux serve`: starts the system, says how to use it, and ends it in good order.

use std::path::PathBuf;

use anyhow::Result;
use domain::configuration::keys;
use domain::secret::Secret;

use crate::cli::ServeArguments;
use crate::data::Credentials;
use crate::inbox::Behaviour;
use crate::output::say;
use crate::sandbox::Vendor;
use crate::system::{Options, System};

/// Serves until Ctrl-C or SIGTERM; a second one does not wait for what is in hand.
pub async fn run(arguments: ServeArguments) -> Result<()> {
    let mut signals = Signals::listen()?;
    let options = Options {
        address: arguments.addr,
        data: arguments.data,
        vendors: arguments.vendors,
        elements: arguments.elements.or_else(|| std::env::var_os("POLLUX_ELEMENTS_DIR").map(PathBuf::from)),
        minute: arguments.minute,
        allow_private: !arguments.deny_private,
        sandbox: !arguments.no_sandbox,
    };
    let system = System::start(&options).await?;
    let example = Behaviour { signature_key: Some(Secret::new(SIGNATURE_KEY)), ..Behaviour::default() };
    system.inbox.behave(ACCOUNT, example);
    say(greeting(&system, &options));
    signals.next().await;
    say("Finishing what is in hand. Once more ends at once.");
    tokio::select! {
        () = system.stop() => say("Stopped."),
        () = signals.next() => say("Ended. What was in hand is found again by the next start."),
    }
    Ok(())
}

/// The signals that ask a process to end.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            terminate: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            // Neither can fail once it listens.
            _ = tokio::signal::ctrl_c() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}

/// The text that is printed at the start: the address, the secrets, and three lines to paste.
fn greeting(system: &System, options: &Options) -> String {
    let url = &system.url;
    let file = Credentials::file(&options.data);
    let mut text = format!(
        "Pollux answers on {url} and keeps its data in {data}. Ctrl-C ends it.\n\n\
         User secret          {user}\n\
         Organization secret  {organization}\n\
         (both also in {file})\n\n",
        data = options.data.display(),
        user = system.credentials.user_secret.expose(),
        organization = system.credentials.organization_secret.expose(),
        file = file.display(),
    );
    text += match options.allow_private {
        true => {
            "Callbacks and vendors may be on private addresses, this machine included; --deny-private forbids it.\n"
        }
        false => {
            "Callbacks and vendors on private addresses are refused, the sandbox and the inbox on this machine included.\n"
        }
    };
    if !options.sandbox {
        return text + "There is no sandbox: elements are called where they really are.\n";
    }
    let vendors = Vendor::ALL.map(Vendor::key).join(", ");
    text += &format!("Elements call the sandbox at {url}/sandbox, which plays {vendors}.\n");
    if !options.allow_private {
        return text;
    }
    let [create, change, read] = lines_to_paste(system);
    let wait = match options.minute.as_secs() {
        60 => "within a minute".to_owned(),
        _ => format!("within {} ms", options.minute.as_millis()),
    };
    text + &format!(
        "\nTo see it work, paste these lines.\n\n\
         # 1. An account at Square, its timesheets polled every minute, events sent to the inbox:\n{create}\n\n\
         # 2. A timecard changes at Square:\n{change}\n\n\
         # 3. The event is in the inbox {wait}, its two signatures checked:\n{read}\n"
    )
}

/// The example's own data set in the sandbox, so that it changes no other, and its name in the inbox.
const ACCOUNT: &str = "hello";
/// The key that signs the example's events. The inbox checks them with it.
const SIGNATURE_KEY: &str = "hello-signature-key";

fn lines_to_paste(system: &System) -> [String; 3] {
    let url = &system.url;
    let authorization = system.credentials.authorization();
    let body = serde_json::json!({
        "element": {"key": "square"},
        "providerData": {"code": format!("sandbox-code-{ACCOUNT}")},
        "configuration": {
            keys::REDIRECT_URL: format!("{url}/callback"),
            keys::API_KEY: "sandbox-key",
            keys::API_SECRET: "sandbox-secret",
            keys::EVENTS_ENABLED: true,
            keys::CALLBACK_URL: format!("{url}/inbox/{ACCOUNT}"),
            keys::SIGNATURE_KEY: SIGNATURE_KEY,
            keys::REFRESH_INTERVAL: "1",
            keys::POLLER_CONFIGURATION: {"timesheets": {
                "url": "/hubs/employee/timesheets?where=begin_updated_at='${gmtDate:yyyy-MM-dd'T'HH:mm:ssXXX}'",
                "idField": "id",
                "datesConfiguration": {
                    "updatedDateField": "updated_at",
                    "updatedDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX",
                    "updatedDateTimezone": "GMT",
                    "createdDateField": "created_at",
                    "createdDateFormat": "yyyy-MM-dd'T'HH:mm:ssXXX",
                    "createdDateTimezone": "GMT",
                },
            }},
        },
        "tags": ["hello"],
        "name": "Hello Square",
    });
    // In a shell's single quotes a single quote is written as '\''.
    let body = body.to_string().replace('\'', r"'\''");
    [
        format!(
            "curl -sS -X POST {url}/elements/api-v2/instances -H 'Authorization: {authorization}' \
             -H 'Content-Type: application/json' -d '{body}'"
        ),
        format!(
            "curl -sS -X POST '{url}/sandbox/control/square/timecards?account={ACCOUNT}' \
             -H 'Content-Type: application/json' -d '{{}}'"
        ),
        format!("curl -sS {url}/inbox/{ACCOUNT}"),
    ]
}
