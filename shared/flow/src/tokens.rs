//! Access tokens: refreshed before they end and after a 401, once for however many polls race for it.
//!
//! The refresher claims the tokens item first (a conditional write that names an end), asks the vendor, and
//! stores the answer before anybody uses it. Whoever loses the claim waits and reads what the winner stored.
//! A claim left behind by a crash ends by itself; whether the old refresh token was spent then shows in the
//! vendor's answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::id::InstanceId;
use domain::secret::{Secret, hide};
use elements::auth::{self, AuthFault, Grant};
use elements::connection::Connection;
use elements::{Element, Tokens};

use crate::ports::{Audience, Bounds, Condition, Item, StoreError};
use crate::secrets;
use crate::service::{FlowError, Service};
use crate::table::{self, TokensRecord};

/// How long a claim on the refresh holds: longer than the exchange may take.
const CLAIM: Duration = Duration::from_secs(30);
/// How long a loser waits between two looks at what the winner stored.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How often a busy table is asked to keep renewed tokens. The vendor may have ended the old refresh token, so losing
/// the new one would cost the user a new login.
const KEEP_TRIES: u32 = 5;
/// Bounds of a token exchange: far below the claim.
pub const TOKEN_BOUNDS: Bounds =
    Bounds { audience: Audience::Vendor, deadline: Duration::from_secs(15), largest_body: 256 * 1024 };

/// Why there are no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The vendor will not renew them: someone must log in again.
    #[error("the vendor no longer accepts the login: {0}")]
    Dead(String),
    /// Not now.
    #[error("the token could not be renewed now: {reason}")]
    Busy {
        /// What happened.
        reason: String,
        /// When the vendor wants to be asked again.
        after: Option<Duration>,
    },
    /// Our own trouble.
    #[error(transparent)]
    Flow(#[from] FlowError),
}

/// Opens stored tokens.
pub async fn open(service: &Service, instance: InstanceId, record: &TokensRecord) -> Result<Tokens, FlowError> {
    let plain = service
        .ports
        .vault
        .open(&secrets::vault_owner(instance), &record.sealed)
        .await
        .map_err(FlowError::vault("the tokens of an instance"))?;
    serde_json::from_str(plain.expose()).map_err(|_| FlowError::Damaged("sealed tokens are not tokens"))
}

/// Seals tokens for storing.
pub async fn seal(service: &Service, instance: InstanceId, tokens: &Tokens) -> Result<TokensRecord, FlowError> {
    let plain = serde_json::to_string(tokens).expect("tokens have text keys and serialize");
    let sealed = service
        .ports
        .vault
        .seal(&secrets::vault_owner(instance), &Secret::new(plain))
        .await
        .map_err(FlowError::vault("the tokens of an instance"))?;
    Ok(TokensRecord { sealed, expires_at: tokens.expires_at, refreshing_until: None })
}

/// One token exchange with the vendor.
pub async fn exchange(
    service: &Service,
    element: &Element,
    connection: &Connection,
    grant: Grant<'_>,
    previous: Option<&Tokens>,
) -> Result<Tokens, TokenError> {
    let request = auth::token_request(element, &service.bases, connection, grant)
        .map_err(|problem| TokenError::Dead(problem.to_string()))?;
    let offered = offered(&request, grant);
    let answer = service.ports.http.send(request, TOKEN_BOUNDS).await;
    let answer = answer.map_err(|error| TokenError::Busy { reason: error.to_string(), after: None })?.response;
    let read = |response: &http::Response<Bytes>| auth::read_tokens(element, response, service.ports.now(), previous);
    let tokens = read(&answer).or_else(|_| {
        // What a refusal says is stored and shown, and vendors quote what they were asked.
        let said = String::from_utf8_lossy(answer.body());
        let secrets = connection.secrets().chain(previous.and_then(|previous| previous.refresh.as_ref()));
        let said = Bytes::from(hide(&said, secrets.chain(&offered)));
        read(&answer.map(|_| said))
    });
    tokens.map_err(|fault| match fault {
        AuthFault::Dead { reason } => TokenError::Dead(reason),
        AuthFault::Retry { after, reason } => TokenError::Busy { reason, after },
        AuthFault::Unreadable { reason } => TokenError::Busy { reason, after: None },
    })
}

/// The secrets that a token request carries beside the connection's.
fn offered(request: &http::Request<Bytes>, grant: Grant<'_>) -> Vec<Secret> {
    let basic = request.headers().get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = basic.and_then(|value| value.split_once(' ')).map(|(_, pair)| Secret::new(pair));
    match grant {
        Grant::Code { code, code_verifier, .. } => {
            [Some(code), code_verifier].into_iter().flatten().cloned().chain(basic).collect()
        }
        Grant::Refresh { refresh } => [refresh.clone()].into_iter().chain(basic).collect(),
        Grant::ClientCredentials | Grant::Login => basic.into_iter().collect(),
    }
}

/// Tokens that are good now. `spent` are tokens that the vendor just refused: the answer is never those.
pub async fn renewed(
    service: &Service,
    element: &Arc<Element>,
    instance: InstanceId,
    connection: &Connection,
    spent: Option<&Tokens>,
) -> Result<Tokens, TokenError> {
    let key = table::tokens_key(instance);
    let store = &service.ports.store;
    let give_up = service.ports.now() + CLAIM;
    loop {
        let item = store.get(&key).await.map_err(FlowError::store("the tokens of an instance"))?;
        let stored = match &item {
            Some(item) => Some(table::read::<TokensRecord>(item).map_err(FlowError::from)?),
            None => None,
        };
        let current = match &stored {
            Some(record) => Some(open(service, instance, record).await?),
            None => None,
        };
        let now = service.ports.now();
        if let Some(current) = &current {
            let usable = match spent {
                Some(spent) => current.access != spent.access,
                None => !auth::refresh_due(element, current, now),
            };
            if usable {
                return Ok(current.clone());
            }
        }
        if stored.as_ref().and_then(|record| record.refreshing_until).is_some_and(|until| until > now) {
            if now > give_up {
                return Err(TokenError::Busy { reason: "another refresh takes too long".into(), after: None });
            }
            service.ports.ambient.sleep(LOOK_AGAIN).await;
            continue;
        }
        let Some(claimed) = claim(service, item.as_ref(), stored.as_ref(), now).await? else { continue };
        let spent = current.as_ref().map(|tokens| tokens.access.clone());
        let refreshed = refresh_claimed(service, element, instance, connection, current, stored, claimed).await;
        // A refusal may only mean that somebody else, whose claim had run out, was faster after all.
        if let Err(TokenError::Dead(_)) = &refreshed
            && let Some(item) = store.get(&key).await.map_err(FlowError::store("the tokens of an instance"))?
        {
            let latest = open(service, instance, &table::read(&item).map_err(FlowError::from)?).await?;
            if spent.is_some_and(|spent| spent != latest.access) {
                return Ok(latest);
            }
        }
        return refreshed;
    }
}

/// Takes the right to refresh. None: somebody else was faster.
async fn claim(
    service: &Service,
    item: Option<&Item>,
    stored: Option<&TokensRecord>,
    now: DateTime<Utc>,
) -> Result<Option<u64>, FlowError> {
    let (Some(item), Some(stored)) = (item, stored) else { return Ok(Some(0)) };
    let claimed = TokensRecord { refreshing_until: Some(now + CLAIM), ..stored.clone() };
    match service.ports.store.transact(&[table::replace(item.key.clone(), item.version, &claimed)]).await {
        Ok(()) => Ok(Some(item.version + 1)),
        Err(StoreError::Conflict { .. }) => Ok(None),
        Err(source) => Err(FlowError::Store { subject: "the claim to refresh tokens", source }),
    }
}

async fn refresh_claimed(
    service: &Service,
    element: &Element,
    instance: InstanceId,
    connection: &Connection,
    current: Option<Tokens>,
    stored: Option<TokensRecord>,
    claimed_version: u64,
) -> Result<Tokens, TokenError> {
    let grant = match current.as_ref().and_then(|tokens| tokens.refresh.as_ref()) {
        Some(refresh) => Grant::Refresh { refresh },
        None => auth::unattended_grant(element)
            .ok_or_else(|| TokenError::Dead("the access token ended and the vendor gave no refresh token".into()))?,
    };
    match exchange(service, element, connection, grant, current.as_ref()).await {
        Ok(tokens) => {
            keep(service, instance, claimed_version, &tokens).await?;
            Ok(tokens)
        }
        Err(error) => {
            // The claim is given back so that the next poll need not wait for its end. Losing this write costs
            // only that wait.
            if let Some(stored) = stored {
                let write = table::replace(table::tokens_key(instance), claimed_version, &stored);
                let _ = service.ports.store.transact(&[write]).await;
            }
            Err(error)
        }
    }
}

/// Stores renewed tokens, before anybody uses them.
async fn keep(service: &Service, instance: InstanceId, claimed: u64, tokens: &Tokens) -> Result<(), TokenError> {
    let store = &service.ports.store;
    let key = table::tokens_key(instance);
    let record = seal(service, instance, tokens).await?;
    let condition = if claimed == 0 { Condition::Absent } else { Condition::Version(claimed) };
    let write = [table::put(key.clone(), claimed + 1, &record, condition)];
    let mut tries = 1;
    loop {
        match store.transact(&write).await {
            Ok(()) => return Ok(()),
            Err(StoreError::Busy(_)) if tries < KEEP_TRIES => {
                tries += 1;
                service.ports.ambient.sleep(LOOK_AGAIN).await;
            }
            Err(StoreError::Conflict { .. }) => {
                // Either an earlier try was written and only its answer was lost, or the claim ended and another
                // refresher took over.
                let item = store.get(&key).await.map_err(FlowError::store("renewed tokens"))?;
                let kept = item.map(|item| table::read::<TokensRecord>(&item)).transpose().map_err(FlowError::from)?;
                return match kept.is_some_and(|kept| kept.sealed == record.sealed) {
                    true => Ok(()),
                    false => Err(TokenError::Busy { reason: "another refresh took over".into(), after: None }),
                };
            }
            Err(source) => return Err(FlowError::Store { subject: "renewed tokens", source }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use chrono::TimeDelta;
    use futures::FutureExt;
    use serde_json::json;

    use super::*;
    use crate::ports::{Ports, Store, Write};
    use crate::testing::{Fault, FixedAmbient, MemoryStore, TestPorts};

    const INSTANCE: InstanceId = InstanceId(42);

    /// An account whose access token has ended, and a vendor who gives the next one for the refresh token.
    struct Account {
        store: Arc<MemoryStore>,
        test: TestPorts,
        service: Service,
        element: Arc<Element>,
        connection: Connection,
        /// What is written while the vendor is asked.
        meanwhile: Arc<Mutex<Vec<Write>>>,
    }

    impl Account {
        async fn with(status: u16) -> Self {
            let (store, meanwhile) = (Arc::<MemoryStore>::default(), Arc::<Mutex<Vec<Write>>>::default());
            let (of_vendor, writes) = (store.clone(), meanwhile.clone());
            let test = TestPorts::new("2026-01-05T09:00:00Z", move |_| {
                let writes = std::mem::take(&mut *writes.lock().expect("no panic"));
                for outcome in of_vendor.write_each(&writes).now_or_never().expect("at once") {
                    outcome.expect("written");
                }
                let answer = json!({"access_token": "new", "expires_at": "2026-02-05T09:00:00Z"});
                let answer = http::Response::builder().status(status).body(Bytes::from(answer.to_string()));
                Ok(answer.expect("an answer"))
            });
            let ambient = Arc::new(FixedAmbient::at("2026-01-05T09:00:00Z").leaping());
            let test = TestPorts { store: store.clone(), ambient, ..test };
            let service = test.service();
            let element = service.catalog.get("square").expect("an element").clone();
            let configuration = json!({"oauth.api.key": "id", "oauth.api.secret": "s"});
            let configuration = configuration.as_object().expect("an object");
            let (connection, _) =
                Connection::resolve(&element, configuration, &Default::default()).expect("a connection");
            let account = Self { store, test, service, element, connection, meanwhile };
            account.put(1, "old", None).await;
            account
        }

        fn ports(&self) -> &Ports {
            &self.service.ports
        }

        async fn record(&self, access: &str, refreshing_until: Option<DateTime<Utc>>) -> TokensRecord {
            let expires_at = Some(self.ports().now());
            let tokens = Tokens {
                access: Secret::new(access),
                refresh: Some(Secret::new("refresh")),
                expires_at,
                extra: Default::default(),
            };
            let record = seal(&self.service, INSTANCE, &tokens).await.expect("sealed");
            TokensRecord { refreshing_until, ..record }
        }

        async fn put(&self, version: u64, access: &str, refreshing_until: Option<DateTime<Utc>>) {
            let record = self.record(access, refreshing_until).await;
            let write = table::put(table::tokens_key(INSTANCE), version, &record, Condition::Unconditional);
            self.store.transact(&[write]).await.expect("written");
        }

        async fn renewed(&self) -> Result<String, TokenError> {
            let renewed = renewed(&self.service, &self.element, INSTANCE, &self.connection, None).await;
            renewed.map(|tokens| tokens.access.expose().to_owned())
        }

        /// Version, access token and claim as they are stored.
        async fn stored(&self) -> (u64, String, Option<DateTime<Utc>>) {
            let item = self.store.get(&table::tokens_key(INSTANCE)).await.expect("the table").expect("tokens");
            let record: TokensRecord = table::read(&item).expect("tokens");
            let tokens = open(&self.service, INSTANCE, &record).await.expect("opened");
            (item.version, tokens.access.expose().to_owned(), record.refreshing_until)
        }

        fn asked(&self) -> usize {
            self.test.http.requests().len()
        }
    }

    #[tokio::test]
    async fn a_claim_and_what_came_of_it_are_versions_of_their_own() {
        let account = Account::with(200).await;
        assert_eq!(account.renewed().await.expect("renewed"), "new");
        // Whoever read the tokens, or the claim on them, before cannot write over these.
        assert_eq!(account.stored().await, (3, "new".into(), None));
        assert_eq!(account.renewed().await.expect("kept"), "new");
        assert_eq!(account.asked(), 1);
    }

    #[tokio::test]
    async fn a_claim_that_came_to_nothing_is_given_back() {
        let account = Account::with(503).await;
        let began = account.ports().now();
        for asked in 1..=2 {
            assert!(matches!(account.renewed().await, Err(TokenError::Busy { .. })));
            assert_eq!(account.asked(), asked);
        }
        assert_eq!(account.stored().await, (5, "old".into(), None));
        assert_eq!(account.ports().now(), began, "nobody waits for the end of a claim");
    }

    #[tokio::test]
    async fn a_busy_table_is_asked_five_times_to_keep_what_the_vendor_gave() {
        for (failures, is_kept) in [(4, true), (5, false)] {
            let account = Account::with(200).await;
            // The first of all is the claim.
            account.store.plan_faults(move |number| (1..=failures).contains(&number).then_some(Fault::NotWritten));
            match account.renewed().await {
                Ok(access) => assert!(is_kept && access == "new", "{failures}: {access}"),
                Err(error) => assert!(!is_kept && matches!(error, TokenError::Flow(_)), "{failures}: {error:?}"),
            }
        }
    }

    #[tokio::test]
    async fn kept_tokens_whose_answer_was_lost_are_told_from_anothers() {
        let account = Account::with(200).await;
        account.store.plan_faults(|number| (number == 1).then_some(Fault::AnswerLost));
        assert_eq!(account.renewed().await.expect("kept"), "new");

        let account = Account::with(200).await;
        let theirs = account.record("theirs", None).await;
        let write = table::put(table::tokens_key(INSTANCE), 9, &theirs, Condition::Unconditional);
        account.meanwhile.lock().expect("no panic").push(write);
        assert!(matches!(account.renewed().await, Err(TokenError::Busy { .. })));
        assert_eq!(account.stored().await, (9, "theirs".into(), None));
    }

    #[tokio::test]
    async fn anothers_claim_is_waited_for_until_it_ends_but_not_for_ever() {
        let instant = |account: &Account, milliseconds| account.ports().now() + TimeDelta::milliseconds(milliseconds);
        let claim = CLAIM.as_millis() as i64;
        // The other's clock may be a little ahead.
        for (left, waited) in [(-1, 0), (0, 0), (1, 100), (claim, claim), (claim + 50, claim + 100)] {
            let account = Account::with(200).await;
            let began = account.ports().now();
            account.put(2, "old", Some(instant(&account, left))).await;
            assert_eq!(account.renewed().await.expect("renewed"), "new", "{left}");
            assert_eq!((account.ports().now() - began).num_milliseconds(), waited, "{left}");
        }
        let account = Account::with(200).await;
        account.put(2, "old", Some(instant(&account, 2 * claim))).await;
        assert!(matches!(account.renewed().await, Err(TokenError::Busy { .. })));
        assert_eq!(account.asked(), 0);
    }

    /// A token may carry claims and keys.
    #[test]
    fn an_answer_may_be_a_quarter_of_a_megabyte() {
        let largest = TOKEN_BOUNDS.largest_body;
        assert_eq!(largest, 262_144);
    }

    /// What a refusal may quote, and has to be hidden.
    #[test]
    fn every_secret_of_a_token_request_is_known() {
        let request = |authorization: Option<&str>| {
            let mut request = http::Request::builder().uri("https://a.example/token");
            if let Some(value) = authorization {
                request = request.header(http::header::AUTHORIZATION, value);
            }
            request.body(Bytes::new()).expect("a request")
        };
        let said = |request: &http::Request<Bytes>, grant: Grant<'_>| -> Vec<String> {
            offered(request, grant).iter().map(|secret| secret.expose().to_owned()).collect()
        };
        let (plain, basic) = (request(None), request(Some("Basic cGFpcg==")));
        let refresh = Secret::new("refresh");
        assert_eq!(said(&plain, Grant::Refresh { refresh: &refresh }), ["refresh"]);
        assert_eq!(said(&basic, Grant::Refresh { refresh: &refresh }), ["refresh", "cGFpcg=="]);
        assert_eq!(said(&basic, Grant::ClientCredentials), ["cGFpcg=="]);
        assert_eq!(said(&plain, Grant::Login), [""; 0]);
        let (code, verifier) = (Secret::new("code"), Secret::new("verifier"));
        let grant = Grant::Code { code: &code, redirect_uri: "https://b.example/", code_verifier: Some(&verifier) };
        assert_eq!(said(&basic, grant), ["code", "verifier", "cGFpcg=="]);
    }
}
