//! Access tokens: refreshed before they end and after a 401, once for however many polls race for it.
//!
//! The refresher claims the tokens item first (a conditional write that names an end), asks the vendor, and
//! stores the answer before anybody uses it. Whoever loses the claim waits and reads what the winner stored.
//! A claim left behind by a crash ends by itself; whether the old refresh token was spent then shows in the
//! vendor's answer.

use std::time::Duration;

use bytes::Bytes;
use domain::id::InstanceId;
use domain::secret::{Secret, hide};
use elements::auth::{self, AuthFault, Grant};
use elements::connection::Connection;
use elements::{Element, Tokens};
use store::records::tokens::{TokensRecord, key};
use store::{Commit, Snapshot, StoreError, commit};

use super::error::VendorError;
use super::secrets;
use crate::ports::{Audience, Bounds};
use crate::service::{FlowError, Service};

/// The time that a claim on the refresh holds: longer than the exchange may take.
const CLAIM: Duration = Duration::from_secs(30);
/// The time that a loser waits between two looks at what the winner stored.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// The number of times that a busy table is asked to keep renewed tokens. The vendor may have ended the old refresh token, so losing
/// the new one would cost the user a new login.
const KEEP_TRIES: u32 = 5;
/// Bounds of a token exchange: far below the claim.
pub const TOKEN_BOUNDS: Bounds =
    Bounds { audience: Audience::Vendor, deadline: Duration::from_secs(15), largest_body: 256 * 1024 };

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
) -> Result<Tokens, VendorError> {
    let request = auth::token_request(element, &service.bases, connection, grant)
        .map_err(|problem| VendorError::LoginEnded(problem.to_string()))?;
    let offered = offered(&request, grant);
    let answer = service.ports.http.send(request, TOKEN_BOUNDS).await;
    let answer = answer.map_err(|error| VendorError::NotRenewed { reason: error.to_string(), after: None })?.response;
    let read = |response: &http::Response<Bytes>| auth::read_tokens(element, response, service.ports.now(), previous);
    let tokens = read(&answer).or_else(|_| {
        // What a refusal says is stored and shown, and vendors quote what they were asked.
        let said = String::from_utf8_lossy(answer.body());
        let secrets = connection.secrets().chain(previous.and_then(|previous| previous.refresh.as_ref()));
        let said = Bytes::from(hide(&said, secrets.chain(&offered)));
        read(&answer.map(|_| said))
    });
    tokens.map_err(|fault| match fault {
        AuthFault::Dead { reason } => VendorError::LoginEnded(reason),
        AuthFault::Retry { after, reason } => VendorError::NotRenewed { reason, after },
        AuthFault::Unreadable { reason } => VendorError::NotRenewed { reason, after: None },
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

/// The claim on a refresh, or why there is none.
enum Claim {
    /// The stored tokens are good: nothing is to be refreshed.
    Needless(Tokens),
    /// Somebody else refreshes.
    Taken,
    /// The refresh is ours. The snapshot holds the claim, where there are tokens to claim.
    Ours(Snapshot<TokensRecord>, Option<Tokens>),
}

/// Tokens that are good now. `refused` are tokens that the vendor just refused: the answer is never those.
///
/// # Errors
/// [`VendorError::LoginEnded`], [`VendorError::NotRenewed`] or [`VendorError::Flow`].
pub async fn renewed(
    service: &Service,
    element: &Element,
    instance: InstanceId,
    connection: &Connection,
    refused: Option<&Tokens>,
) -> Result<Tokens, VendorError> {
    let give_up = service.ports.now() + CLAIM;
    loop {
        match claim(service, element, instance, refused).await? {
            Claim::Needless(tokens) => return Ok(tokens),
            Claim::Ours(claimed, current) => {
                return refresh(service, element, instance, connection, claimed, current.as_ref()).await;
            }
            Claim::Taken if service.ports.now() > give_up => {
                return Err(VendorError::NotRenewed { reason: "another refresh takes too long".into(), after: None });
            }
            Claim::Taken => service.ports.ambient.sleep(LOOK_AGAIN).await,
        }
    }
}

/// Takes the right to refresh, if that is needed and nobody has it.
async fn claim(
    service: &Service,
    element: &Element,
    instance: InstanceId,
    refused: Option<&Tokens>,
) -> Result<Claim, FlowError> {
    let store = &*service.ports.store;
    let mut snapshot = key(instance).snapshot(store).await.map_err(FlowError::record("the tokens of an instance"))?;
    let Some(stored) = snapshot.record().cloned() else { return Ok(Claim::Ours(snapshot, None)) };
    let current = open(service, instance, &stored).await?;
    let now = service.ports.now();
    let usable = match refused {
        Some(refused) => current.access != refused.access,
        None => !auth::refresh_due(element, &current, now),
    };
    if usable {
        return Ok(Claim::Needless(current));
    }
    if stored.refreshing_until.is_some_and(|until| until > now) {
        return Ok(Claim::Taken);
    }
    let claimed = TokensRecord { refreshing_until: Some(now + CLAIM), ..stored };
    let written = commit(store, &[snapshot.put(&claimed)]).await;
    match written.map_err(FlowError::store("the claim to refresh tokens"))? {
        Commit::Done => {
            snapshot.written(claimed);
            Ok(Claim::Ours(snapshot, Some(current)))
        }
        Commit::Lost { .. } => Ok(Claim::Taken),
    }
}

/// Asks the vendor for new tokens and keeps them; gives the claim back where none come.
async fn refresh(
    service: &Service,
    element: &Element,
    instance: InstanceId,
    connection: &Connection,
    claimed: Snapshot<TokensRecord>,
    current: Option<&Tokens>,
) -> Result<Tokens, VendorError> {
    let grant = match current.and_then(|tokens| tokens.refresh.as_ref()) {
        Some(refresh) => Some(Grant::Refresh { refresh }),
        None => auth::unattended_grant(element),
    };
    let no_grant = || VendorError::LoginEnded("the access token ended and the vendor gave no refresh token".into());
    let refreshed = match grant {
        Some(grant) => exchange(service, element, connection, grant, current).await,
        None => Err(no_grant()),
    };
    let error = match refreshed {
        Ok(tokens) => return keep(service, instance, &claimed, &tokens).await.map(|()| tokens),
        Err(error) => error,
    };
    let store = &*service.ports.store;
    // The claim is given back so that the next poll need not wait for its end. Losing this write costs only that wait.
    if let Some(record) = claimed.record() {
        let _ = commit(store, &[claimed.put(&TokensRecord { refreshing_until: None, ..record.clone() })]).await;
    }
    // A refusal may only mean that somebody else, whose claim had run out, was faster after all.
    if let (VendorError::LoginEnded(_), Some(current)) = (&error, current)
        && let Some(stored) = key(instance).get(store).await.map_err(FlowError::record("the tokens of an instance"))?
    {
        let latest = open(service, instance, &stored.record).await?;
        if latest.access != current.access {
            return Ok(latest);
        }
    }
    Err(error)
}

/// Stores renewed tokens, before anybody uses them.
async fn keep(
    service: &Service,
    instance: InstanceId,
    claimed: &Snapshot<TokensRecord>,
    tokens: &Tokens,
) -> Result<(), VendorError> {
    let store = &*service.ports.store;
    let record = seal(service, instance, tokens).await?;
    let write = [claimed.put(&record)];
    let mut tries = 1;
    loop {
        match commit(store, &write).await {
            Ok(Commit::Done) => return Ok(()),
            Err(StoreError::Busy(_)) if tries < KEEP_TRIES => {
                tries += 1;
                service.ports.ambient.sleep(LOOK_AGAIN).await;
            }
            Ok(Commit::Lost { .. }) => {
                // Either an earlier try was written and only its answer was lost, or the claim ended and another
                // refresher took over.
                let kept = key(instance).get(store).await.map_err(FlowError::record("renewed tokens"))?;
                return match kept.is_some_and(|kept| kept.record.sealed == record.sealed) {
                    true => Ok(()),
                    false => Err(VendorError::NotRenewed { reason: "another refresh took over".into(), after: None }),
                };
            }
            Err(source) => return Err(FlowError::Store { subject: "renewed tokens", source }.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use chrono::{DateTime, TimeDelta, Utc};
    use futures::FutureExt;
    use serde_json::json;
    use store::{Store, Write};

    use super::*;
    use crate::ports::Ports;
    use crate::testing::{Fault, FixedAmbient, MemoryStore, TestPorts};

    const INSTANCE: InstanceId = InstanceId(42);

    /// An account whose access token has ended, and a vendor who gives the next one for the refresh token.
    struct Account {
        store: Arc<MemoryStore>,
        test: TestPorts,
        service: Service,
        element: Arc<Element>,
        connection: Connection,
        /// The interruption that happens while the vendor is asked.
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
            account.put("old", None).await;
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

        /// Stores tokens in the next version.
        async fn put(&self, access: &str, refreshing_until: Option<DateTime<Utc>>) {
            let record = self.record(access, refreshing_until).await;
            let write = key(INSTANCE).snapshot(&*self.store).await.expect("the table").put(&record);
            self.store.transact(&[write]).await.expect("written");
        }

        async fn renewed(&self) -> Result<String, VendorError> {
            let renewed = renewed(&self.service, &self.element, INSTANCE, &self.connection, None).await;
            renewed.map(|tokens| tokens.access.expose().to_owned())
        }

        /// Version, access token and claim as they are stored.
        async fn stored(&self) -> (String, String, Option<DateTime<Utc>>) {
            let stored = key(INSTANCE).get(&*self.store).await.expect("the table").expect("tokens");
            let tokens = open(&self.service, INSTANCE, &stored.record).await.expect("opened");
            (stored.version().to_string(), tokens.access.expose().to_owned(), stored.record.refreshing_until)
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
        assert_eq!(account.stored().await, ("3".into(), "new".into(), None));
        assert_eq!(account.renewed().await.expect("kept"), "new");
        assert_eq!(account.asked(), 1);
    }

    #[tokio::test]
    async fn a_claim_that_came_to_nothing_is_given_back() {
        let account = Account::with(503).await;
        let began = account.ports().now();
        for asked in 1..=2 {
            assert!(matches!(account.renewed().await, Err(VendorError::NotRenewed { .. })));
            assert_eq!(account.asked(), asked);
        }
        assert_eq!(account.stored().await, ("5".into(), "old".into(), None));
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
                Err(error) => assert!(!is_kept && matches!(error, VendorError::Flow(_)), "{failures}: {error:?}"),
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
        let write = key(INSTANCE).put(&theirs);
        account.meanwhile.lock().expect("no panic").push(write);
        assert!(matches!(account.renewed().await, Err(VendorError::NotRenewed { .. })));
        assert_eq!(account.stored().await, ("1".into(), "theirs".into(), None));
    }

    #[tokio::test]
    async fn anothers_claim_is_waited_for_until_it_ends_but_not_for_ever() {
        let instant = |account: &Account, milliseconds| account.ports().now() + TimeDelta::milliseconds(milliseconds);
        let claim = CLAIM.as_millis() as i64;
        // The other's clock may be a little ahead.
        for (left, waited) in [(-1, 0), (0, 0), (1, 100), (claim, claim), (claim + 50, claim + 100)] {
            let account = Account::with(200).await;
            let began = account.ports().now();
            account.put("old", Some(instant(&account, left))).await;
            assert_eq!(account.renewed().await.expect("renewed"), "new", "{left}");
            assert_eq!((account.ports().now() - began).num_milliseconds(), waited, "{left}");
        }
        let account = Account::with(200).await;
        account.put("old", Some(instant(&account, 2 * claim))).await;
        assert!(matches!(account.renewed().await, Err(VendorError::NotRenewed { .. })));
        assert_eq!(account.asked(), 0);
    }

    /// A token may carry claims and keys.
    #[test]
    fn an_answer_may_be_a_quarter_of_a_megabyte() {
        let largest = TOKEN_BOUNDS.largest_body;
        assert_eq!(largest, 262_144);
    }

    /// The texts that a refusal may quote and that have to be hidden.
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
