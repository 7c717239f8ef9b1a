//! A session with a vendor: the one way in which a step sends it a request.
//!
//! It spends the element's budget before each call, bounds the call in time and size, renews a token that the vendor
//! refuses, and measures how long the vendor takes. What an answer means is read by its caller.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::id::InstanceId;
use domain::problem::FieldProblem;
use elements::call::CallContext;
use elements::connection::Connection;
use elements::{Element, Fault, Tokens, auth};
use sha2::{Digest, Sha256};
use store::records::instance::InstanceRecord;

use super::budget::Payer;
use super::error::VendorError;
use super::{secrets, tokens};
use crate::ports::{Audience, Bounds, HttpError};
use crate::service::Service;

/// Largest answer that is read of a listing or a record, in bytes. A page is read whole, so this bounds a step's memory.
const LARGEST_PAGE: usize = 16 << 20;

/// The purpose of a session. It decides how long a call may take, how large an answer may be, and whose budget pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A poll: as long as the element's file allows, paid by the account.
    Poll,
    /// A user's call to a hub. It pays from a budget of its own, so that a large listing keeps nobody from looking at a
    /// record.
    Hub,
    /// A try of a configuration, which somebody waits for. It pays nothing.
    Rehearsal,
    /// A small call that proves that the vendor lets us in. It pays nothing.
    Proof,
}

impl Purpose {
    fn bounds(self, element: &Element) -> Bounds {
        let timeout = element.defaults.timeout.map(|timeout| timeout.0);
        let (deadline, largest_body) = match self {
            Self::Poll => (timeout.unwrap_or(Duration::from_secs(60)), LARGEST_PAGE),
            // The user's gateway gives up after 30 s.
            Self::Hub => (timeout.unwrap_or(Duration::MAX).min(Duration::from_secs(20)), LARGEST_PAGE),
            Self::Rehearsal => (Duration::from_secs(15), LARGEST_PAGE),
            Self::Proof => (Duration::from_secs(10), 1 << 20),
        };
        Bounds { audience: Audience::Vendor, deadline, largest_body }
    }
}

/// The time that a vendor took to answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Calls that were answered, or waited for until their deadline.
    pub calls: u64,
    /// Time of all of them together.
    pub total: Duration,
    /// Time of the longest.
    pub longest: Duration,
}

impl Latency {
    /// Time of all calls together, in ms.
    pub fn total_ms(&self) -> u64 {
        self.total.as_millis() as u64
    }

    /// Time of the longest, in ms.
    pub fn longest_ms(&self) -> u64 {
        self.longest.as_millis() as u64
    }

    fn note(&mut self, elapsed: Duration) {
        self.calls += 1;
        self.total += elapsed;
        self.longest = self.longest.max(elapsed);
    }
}

/// The calls of one step to one account at a vendor. A clone is a session of its own, for steps that call at once.
#[derive(Clone)]
pub struct Session<'a> {
    service: &'a Service,
    purpose: Purpose,
    element: Arc<Element>,
    connection: Connection,
    tokens: Option<Tokens>,
    /// The instance that owns the tokens. None: they are not stored and cannot be renewed.
    instance: Option<InstanceId>,
    /// A token was refused and renewed. It is done once.
    refreshed: bool,
    until: Option<DateTime<Utc>>,
    latency: Latency,
}

impl<'a> Session<'a> {
    /// A session of an instance, with the tokens that were read with it.
    pub fn new(
        service: &'a Service,
        purpose: Purpose,
        element: Arc<Element>,
        connection: Connection,
        tokens: Option<Tokens>,
        instance: Option<InstanceId>,
    ) -> Self {
        let (refreshed, until, latency) = (false, None, Latency::default());
        Self { service, purpose, element, connection, tokens, instance, refreshed, until, latency }
    }

    /// A session of a stored instance, with tokens that are good now.
    ///
    /// # Errors
    /// The element is gone, the configuration does not fit it, or there are no tokens.
    pub async fn open(service: &'a Service, instance: &InstanceRecord, purpose: Purpose) -> Result<Self, VendorError> {
        let gone = || VendorError::NoElement(instance.element.clone());
        let element = Arc::clone(service.catalog.get(&instance.element).ok_or_else(gone)?);
        let (connection, _) = secrets::connection(service, &element, instance).await?;
        let mut session = Self::new(service, purpose, element, connection, None, Some(instance.id));
        session.renew_if_due().await?;
        Ok(session)
    }

    /// The same session for a rehearsal, which has time until that instant.
    pub fn for_rehearsal(self, until: DateTime<Utc>) -> Self {
        Self { purpose: Purpose::Rehearsal, until: Some(until), ..self }
    }

    /// The present instant.
    pub fn now(&self) -> DateTime<Utc> {
        self.service.ports.now()
    }

    /// The vendor.
    pub fn element(&self) -> &Arc<Element> {
        &self.element
    }

    /// The account.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Uses what an answer of the vendor adds to the connection.
    pub fn learn(&mut self, connection: Connection) {
        self.connection = connection;
    }

    /// The time that the vendor took so far.
    pub fn latency(&self) -> Latency {
        self.latency
    }

    /// The context that requests are built from and answers are read with.
    pub fn context(&self) -> CallContext<'_> {
        CallContext {
            element: &self.element,
            connection: &self.connection,
            bases: &self.service.bases,
            tokens: self.tokens.as_ref(),
        }
    }

    /// The vendor's account, as far as it can be known: by the credentials, or where a user logged in by what the
    /// vendor said of whom. None when nothing tells two logins apart: then limits are not shared.
    pub fn account(&self) -> Option<String> {
        let identity = if auth::needs_tokens(&self.element, &self.connection) {
            let extra = &self.tokens.as_ref()?.extra;
            if extra.is_empty() {
                return None;
            }
            serde_json::to_vec(extra)
        } else {
            serde_json::to_vec(&self.connection)
        };
        let digest = Sha256::digest(identity.expect("texts by text keys serialize"));
        Some(digest[..8].iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The time until the budget has room for a call. None: it has.
    pub fn over_budget_for(&self) -> Option<Duration> {
        let (payer, budget) = (self.payer()?, self.element.budget.as_ref()?);
        self.service.budgets.full_for(&payer, budget, self.now())
    }

    fn payer(&self) -> Option<Payer> {
        let instance = self.instance?;
        let account = match self.purpose {
            Purpose::Poll => self.account(),
            Purpose::Hub => Some(format!("hub {instance}")),
            Purpose::Rehearsal | Purpose::Proof => return None,
        };
        Payer::of(&self.element, &self.service.bases, instance, account, &self.connection)
    }

    /// Gets tokens where the vendor wants some and those in hand are about to end.
    ///
    /// # Errors
    /// The vendor gives none, or not now.
    pub async fn renew_if_due(&mut self) -> Result<(), VendorError> {
        let now = self.now();
        let due = self.tokens.as_ref().is_none_or(|tokens| auth::refresh_due(&self.element, tokens, now));
        match self.instance {
            Some(instance) if due && auth::needs_tokens(&self.element, &self.connection) => {
                self.renew(instance, None).await
            }
            _ => Ok(()),
        }
    }

    /// Sends one request.
    ///
    /// # Errors
    /// No answer came, or not all of it.
    pub async fn send(&mut self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, VendorError> {
        let now = self.now();
        let mut bounds = self.purpose.bounds(&self.element);
        if let Some(until) = self.until {
            let left = (until - now).to_std().unwrap_or_default();
            if left.is_zero() {
                return Err(VendorError::OutOfTime);
            }
            bounds.deadline = bounds.deadline.min(left);
        }
        if let (Some(payer), Some(budget)) = (self.payer(), &self.element.budget) {
            self.service.budgets.spend(&payer, budget, now).map_err(|wait| VendorError::OverBudget { wait })?;
        }
        let exchange = self.service.ports.http.send(request, bounds).await;
        match &exchange {
            Ok(exchange) => self.latency.note(exchange.elapsed),
            Err(HttpError::Deadline(waited)) => self.latency.note(*waited),
            Err(_) => {}
        }
        let exchange = exchange.map_err(VendorError::Unreachable)?;
        match exchange.truncated {
            false => Ok(exchange.response),
            true => Err(VendorError::TooLarge { limit: bounds.largest_body }),
        }
    }

    /// Renews the token after the vendor refused it, so that the request can be sent again.
    ///
    /// # Errors
    /// The fault, where it is another or the token was renewed before. No new token came.
    pub async fn renew_after(&mut self, fault: Fault) -> Result<(), VendorError> {
        let renewable = !self.refreshed && auth::needs_tokens(&self.element, &self.connection);
        match (&fault, self.instance) {
            (Fault::RefreshAuth { .. }, Some(instance)) if renewable => {
                let refused = self.tokens.clone();
                self.renew(instance, refused.as_ref()).await?;
                self.refreshed = true;
                Ok(())
            }
            _ => Err(fault.into()),
        }
    }

    /// Asks for one thing: sends what `request` builds and reads the answer, once more after a refused token. None:
    /// there is nothing to ask.
    ///
    /// # Errors
    /// There is no answer, or it is a fault.
    pub async fn ask<T>(
        &mut self,
        request: impl Fn(&CallContext<'_>) -> Result<Option<http::Request<Bytes>>, FieldProblem>,
        read: impl Fn(&CallContext<'_>, &http::Response<Bytes>) -> Result<T, Fault>,
    ) -> Result<Option<T>, VendorError> {
        loop {
            let Some(request) = request(&self.context())? else { return Ok(None) };
            let response = self.send(request).await?;
            match read(&self.context(), &response) {
                Ok(answer) => return Ok(Some(answer)),
                Err(fault) => self.renew_after(fault).await?,
            }
        }
    }

    async fn renew(&mut self, instance: InstanceId, refused: Option<&Tokens>) -> Result<(), VendorError> {
        let renewed = tokens::renewed(self.service, &self.element, instance, &self.connection, refused).await?;
        self.tokens = Some(renewed);
        Ok(())
    }
}
