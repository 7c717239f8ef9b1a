//! The poller's step: one poll of one resource, from its state to its committed events.
//!
//! The dispatcher (or a person, by *poll now*) wrote the job; the delivery step acts next, on rows that the commit
//! files. What makes this correct is one rule: the resource's state item is written with every commit, on
//! condition of the version that was read, together with the index buckets and deliveries that belong to it.
//! Two polls of one resource may run at once; one of them commits, the other throws its work away. No lease is
//! needed for that, and none is promised.
//!
//! Order matters in three places, each narrated where it happens: a rotated token is stored before it is used,
//! the cursor moves in the last transaction of a pass, and jobs go to the queue after the commit.

mod index;
mod report;
pub mod state;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use domain::backoff::{self, Jitter};
use domain::configuration::ResourceConfiguration;
use domain::detect::{self, Judgement, Missing, Pass, Rule};
use domain::index::{Entry, hash_of, key_of, parts_of};
use domain::problem::FieldProblem;
use domain::record::{Change, ChangeKind, Record, Told};
use elements::auth::{self, Tokens};
use elements::call::Caller;
use elements::connection::Connection;
use elements::listing::{Cursor, Finished, Listing, Page, Pass as ListingPass};
use elements::plan::{ChangeKind as Finding, Partitions, Plan};
use elements::single::{self, Confirmation, Hydrated};
use elements::{Element, Fault};

use self::index::Index;
pub use self::report::{Outcome, PROBLEMS_SHOWN, PollProblem, PollReport};
use self::state::{Held, LastPoll, Recent, ResourceRecord, Resume, Trouble};

use crate::job::PollJob;
use crate::outbox::{self, ElementLabel};
use crate::ports::{Audience, Bounds, Message, QueueName, Range, StoreError, Write};
use crate::secrets;
use crate::service::{FlowError, Service};
use crate::table::{self, InstanceRecord, Reconnect};
use crate::tokens::{self, TokenError};

/// Bounds of one exchange with a vendor. A page is read whole, so its size bounds the poll's memory.
const VENDOR_BOUNDS: Bounds =
    Bounds { audience: Audience::Vendor, deadline: Duration::from_secs(60), largest_body: 32 * 1024 * 1024 };
/// A transaction takes 100 writes. Some room is left for what one more notification brings.
const WRITES_PER_COMMIT: usize = 80;
/// A transaction takes 4 MB.
const BYTES_PER_COMMIT: usize = 2 * 1024 * 1024;
/// Events of one notification at most.
const EVENTS_PER_NOTIFICATION: usize = 10;
/// Told changes held in memory before they are committed page by page.
const CHANGES_HELD: usize = 2000;
/// The same in bytes of records.
const CHANGE_BYTES_HELD: usize = 16 * 1024 * 1024;
/// Confirmations of missing records in one poll; the rest waits for the next complete listing.
const CONFIRMATIONS_PER_POLL: usize = 200;
/// How often one pass may start over because the vendor's page cursor died.
const RESTARTS: u32 = 3;
/// A stamp further ahead of the vendor's clock than a wrong time zone can explain moves no cursor.
const LARGEST_SKEW: TimeDelta = TimeDelta::hours(26);
/// So many polls in a row must be refused before a login counts as lost, where the vendor did not say so outright.
const REFUSALS_BELIEVED: u32 = 3;
/// How often one pass may ask for a smaller page.
const SHRINKS: u32 = 10;
/// A job is sent again by the queue within this time; longer pauses wait for the wheel.
const LONGEST_REQUEUE: Duration = Duration::from_secs(15 * 60);

/// Why the poll runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The wheel says so: skipped while backing off, and when a newer poll is done.
    Scheduled,
    /// The instance was just made: only a first pass is wanted.
    Baseline,
    /// Somebody asked.
    Now {
        /// List everything and look for deletions, due or not.
        sweep: bool,
    },
}

/// Polls one resource. `until` is when the invocation's time is up: what is not done by then is handed on.
pub async fn poll(service: &Service, job: &PollJob, mode: Mode, until: DateTime<Utc>) -> Result<PollReport, FlowError> {
    let mut tries = 0;
    loop {
        let report = poll_once(service, job, mode, until).await?;
        tries += 1;
        // Somebody waits for the answer and nobody else will come back to it: read again and poll again.
        if report.outcome == Outcome::OutrunByAnother && matches!(mode, Mode::Now { .. }) && tries < 5 {
            continue;
        }
        return Ok(report);
    }
}

async fn poll_once(
    service: &Service,
    job: &PollJob,
    mode: Mode,
    until: DateTime<Utc>,
) -> Result<PollReport, FlowError> {
    let began = service.ports.now();
    let report = PollReport::new(&job.resource, began);
    let Some(loaded) = Loaded::load(service, job, mode).await? else { return Ok(report.ended(Outcome::Gone, began)) };
    if let Some(outcome) = loaded.reason_to_skip(job, mode, service.wheel.start_of(job.minute), began) {
        return Ok(report.ended(outcome, began));
    }
    let mut run = match Run::prepare(service, job, loaded, report, began, until).await? {
        Ok(run) => run,
        Err((loaded, report, message)) => {
            let trouble = VendorTrouble { message, ..VendorTrouble::default() };
            return give_up(service, job, loaded, report, trouble, mode).await;
        }
    };
    let ended = match run.all_partitions(mode).await {
        Ok(()) => run.commit(true).await.map(|()| Outcome::Committed),
        Err(Stop::OutOfTime) => run.commit(false).await.map(|()| Outcome::Suspended),
        Err(stop) => Err(stop),
    };
    // Jobs go out after the commit, whatever ended the run: what an intermediate commit filed is waiting.
    let Run { jobs, loaded, report, .. } = run;
    send_deliveries(service, jobs).await;
    match ended {
        Ok(outcome) => {
            if outcome == Outcome::Suspended {
                requeue(service, job, Duration::ZERO).await;
            }
            Ok(report.ended(outcome, service.ports.now()))
        }
        Err(Stop::Outrun) => Ok(report.ended(Outcome::OutrunByAnother, service.ports.now())),
        Err(Stop::Trouble(trouble)) => give_up(service, job, loaded, report, trouble, mode).await,
        Err(Stop::OutOfTime) => Ok(report.ended(Outcome::Suspended, service.ports.now())),
        Err(Stop::Flow(error)) => Err(error),
    }
}

/// What ends a run before its end.
enum Stop {
    /// Our own trouble.
    Flow(FlowError),
    /// The state's version moved on.
    Outrun,
    /// The invocation's time is up.
    OutOfTime,
    /// The vendor's trouble.
    Trouble(VendorTrouble),
}

impl From<FlowError> for Stop {
    fn from(error: FlowError) -> Self {
        Stop::Flow(error)
    }
}

/// The vendor, or the way to it, does not do its part.
#[derive(Debug, Clone, Default)]
struct VendorTrouble {
    message: String,
    after: Option<Duration>,
    login: Login,
}

/// What a failure says about the instance's credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Login {
    /// Nothing.
    #[default]
    Fine,
    /// Refused, which may be the vendor's passing confusion.
    Refused,
    /// Spent for good: only a new login helps.
    Dead,
}

/// What one query of the instance's partition brings.
struct Loaded {
    instance: InstanceRecord,
    instance_version: u64,
    state: ResourceRecord,
    version: u64,
    tokens: Option<table::TokensRecord>,
}

impl Loaded {
    async fn load(service: &Service, job: &PollJob, mode: Mode) -> Result<Option<Self>, FlowError> {
        // A scheduled poll may read a moment-old state: at worst it loses at the commit. Whoever waits for an
        // answer wants what was written just before.
        let wanted = table::resource_key(job.instance, &job.resource);
        let range = Range { consistent: mode != Mode::Scheduled, ..Range::between(table::META, wanted.sk.clone()) };
        let (mut instance, mut tokens, mut state) = (None, None, None);
        let mut after = None;
        loop {
            let page = service.ports.store.query(&wanted.pk, &range, after.as_deref()).await;
            let page = page.map_err(FlowError::store("an instance"))?;
            for item in page.items {
                if item.key.sk == table::META {
                    instance = Some((table::read::<InstanceRecord>(&item)?, item.version));
                } else if item.key.sk == table::TOKENS {
                    tokens = Some(table::read(&item)?);
                } else if item.key.sk == wanted.sk {
                    state = Some((table::read(&item)?, item.version));
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let (Some((instance, instance_version)), Some((state, version))) = (instance, state) else { return Ok(None) };
        Ok(Some(Self { instance, instance_version, state, version, tokens }))
    }

    fn reason_to_skip(&self, job: &PollJob, mode: Mode, due: DateTime<Utc>, now: DateTime<Utc>) -> Option<Outcome> {
        let covered = match mode {
            Mode::Scheduled => self.state.covers(due),
            Mode::Baseline => self.state.based,
            Mode::Now { .. } => false,
        };
        if !self.instance.resources.contains_key(&job.resource) {
            Some(Outcome::Gone)
        } else if self.instance.disabled || !self.instance.events_enabled {
            Some(Outcome::Disabled)
        } else if self.instance.reconnect.is_some() {
            Some(Outcome::NeedsLogin)
        } else if covered {
            Some(Outcome::AlreadyCovered)
        } else if mode == Mode::Scheduled && self.state.skip_until.is_some_and(|until| until > now) {
            Some(Outcome::BackingOff)
        } else {
            None
        }
    }
}

/// One poll under way.
struct Run<'a> {
    service: &'a Service,
    job: &'a PollJob,
    element: Arc<Element>,
    configured: ResourceConfiguration,
    plan: Arc<Plan>,
    connection: Connection,
    tokens: Option<Tokens>,
    refreshed: bool,
    loaded: Loaded,
    /// The state as it is stored: what intermediate commits build on.
    stored: ResourceRecord,
    index: Index,
    /// Judged as known only, or as baseline: to remember, nothing to tell.
    silent: Vec<(String, Entry)>,
    /// To tell, with what is to be remembered of each.
    told: Vec<(Change, String, Entry)>,
    told_bytes: usize,
    /// Keys judged in this poll and not yet in the index.
    judged: std::collections::HashMap<String, Entry>,
    listed: Vec<(Option<DateTime<Utc>>, u64, u64)>,
    /// Partitions of this pass that are through, earlier invocations' included.
    done: Vec<String>,
    /// Newest stamp of this pass, over all partitions.
    newest: Option<DateTime<Utc>>,
    jobs: Vec<Message>,
    report: PollReport,
    began: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl<'a> Run<'a> {
    /// Everything a run needs; or why this resource cannot be polled as it is configured.
    async fn prepare(
        service: &'a Service,
        job: &'a PollJob,
        loaded: Loaded,
        mut report: PollReport,
        began: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Result<Self, (Loaded, PollReport, String)>, FlowError> {
        let Some(element) = service.catalog.get(&loaded.instance.element).cloned() else {
            let message = format!("the element \"{}\" is not installed", loaded.instance.element);
            return Ok(Err((loaded, report, message)));
        };
        let (connection, configuration) = match secrets::connection(service, &element, &loaded.instance).await? {
            Ok(resolved) => resolved,
            Err(problems) => return Ok(Err((loaded, report, in_words(&problems)))),
        };
        let configured: ResourceConfiguration = serde_json::from_str(loaded.instance.resources[&job.resource].get())
            .map_err(|_| FlowError::Damaged("the configuration of a resource"))?;
        let plan = match Plan::resolve(&element, &job.resource, &configured, &configuration) {
            Ok((plan, warnings)) => {
                report.warnings = warnings;
                plan
            }
            Err(problems) => return Ok(Err((loaded, report, in_words(&problems)))),
        };
        let tokens = match &loaded.tokens {
            Some(record) => Some(tokens::open(service, loaded.instance.id, record).await?),
            None => None,
        };
        let index = Index::new(loaded.instance.id, &job.resource, loaded.state.buckets, loaded.state.entries);
        Ok(Ok(Self {
            service,
            job,
            element,
            configured,
            plan: Arc::new(plan),
            connection,
            tokens,
            refreshed: false,
            stored: loaded.state.clone(),
            loaded,
            index,
            silent: Vec::new(),
            told: Vec::new(),
            told_bytes: 0,
            judged: std::collections::HashMap::new(),
            listed: Vec::new(),
            done: Vec::new(),
            newest: None,
            jobs: Vec::new(),
            report,
            began,
            until,
        }))
    }

    /// Lists every partition, judges what comes, and readies the state for the last commit.
    async fn all_partitions(&mut self, mode: Mode) -> Result<(), Stop> {
        if auth::needs_tokens(&self.element, &self.connection) {
            let due = self.tokens.as_ref().is_none_or(|tokens| auth::refresh_due(&self.element, tokens, self.began));
            if due {
                self.renew(false).await?;
            }
        }
        let partitions = self.partitions().await?;
        let sweep = self.sweep_is_due(mode);
        self.report.baseline = !self.loaded.state.based;
        if let Some(resume) = &self.loaded.state.resume {
            (self.done, self.newest) = (resume.done.clone(), resume.newest);
        }
        let mut all_complete = true;
        let mut lost_history = false;
        for partition in partitions {
            if self.done.contains(&partition) {
                continue;
            }
            let ended = self.partition(&partition, sweep).await?;
            all_complete &= ended.complete;
            lost_history |= ended.lost_history;
            self.done.push(partition);
        }
        let state = &mut self.loaded.state;
        if !state.based {
            state.based = true;
            state.covered_since = self.newest;
            state.index_is_complete = all_complete;
        }
        if all_complete {
            state.swept_at = Some(self.began);
        }
        if lost_history {
            state.coverage.break_off(self.began);
        }
        state.coverage.extend(self.began);
        state.resume = None;
        state.failures = 0;
        state.skip_until = None;
        state.trouble = None;
        self.listed.sort_unstable_by(|a, b| b.cmp(a));
        state.recent = Recent::of(self.listed.iter().map(|(_, key, fingerprint)| (*key, *fingerprint)));
        self.report.covered_until = state.coverage.until();
        Ok(())
    }

    fn sweep_is_due(&self, mode: Mode) -> bool {
        if matches!(mode, Mode::Now { sweep: true }) {
            return true;
        }
        let (Some(every), Some(last)) = (self.plan.sweep_every(), self.loaded.state.swept_at) else { return false };
        TimeDelta::from_std(every).is_ok_and(|every| last + every <= self.began)
    }

    /// The partitions to list: one nameless one, the configured ones, or those that the parent lists.
    async fn partitions(&mut self) -> Result<Vec<String>, Stop> {
        let parent = match self.plan.partitions(&self.connection) {
            Partitions::Single => return Ok(vec![String::new()]),
            Partitions::Fixed(names) => return Ok(names),
            Partitions::Parent(parent) => parent,
        };
        let mut names = Vec::new();
        let mut listing = Listing::start(&parent, ListingPass::Complete, &Cursor::Start, None, "", self.began);
        loop {
            match self.page(&parent, &mut listing).await? {
                Ok(page) => {
                    names.extend(page.records.into_iter().filter(|record| record.told != Told::Deleted).map(|r| r.id));
                    if page.done {
                        return Ok(self.plan.partitions_of(&names));
                    }
                }
                Err(fault) => return Err(Stop::Trouble(trouble_of(fault))),
            }
        }
    }

    /// One page of a listing. A refused token is renewed once a poll; what else the vendor says is the caller's.
    async fn page(&mut self, plan: &Plan, listing: &mut Listing) -> Result<Result<Page, Fault>, Stop> {
        loop {
            let request = listing.request(plan, &self.caller()).map_err(|problem| trouble(problem.to_string()))?;
            let response = self.exchange(request).await?;
            self.report.pages += 1;
            match listing.read(plan, &self.caller(), &response) {
                Err(Fault::RefreshAuth { reason }) => self.renew_after(reason).await?,
                other => return Ok(other),
            }
        }
    }

    fn caller(&self) -> Caller<'_> {
        Caller {
            element: &self.element,
            connection: &self.connection,
            bases: &self.service.bases,
            tokens: self.tokens.as_ref(),
        }
    }

    async fn exchange(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, Stop> {
        let exchange = self.service.ports.http.send(request, VENDOR_BOUNDS).await;
        let exchange = exchange.map_err(|error| trouble(format!("the vendor could not be reached: {error}")))?;
        if exchange.truncated {
            let limit = VENDOR_BOUNDS.largest_body >> 20;
            return Err(trouble(format!("the vendor's page is larger than {limit} MB: configure a smaller pageSize")));
        }
        Ok(exchange.response)
    }

    /// New tokens after the vendor refused the ones in hand; a second refusal in one poll is final.
    async fn renew_after(&mut self, reason: String) -> Result<(), Stop> {
        if self.refreshed || !auth::needs_tokens(&self.element, &self.connection) {
            let message = format!("the vendor refused the credentials: {reason}");
            return Err(Stop::Trouble(VendorTrouble { message, after: None, login: Login::Refused }));
        }
        self.renew(true).await
    }

    async fn renew(&mut self, refused: bool) -> Result<(), Stop> {
        let spent = if refused { self.tokens.as_ref() } else { None };
        let renewed = tokens::renewed(self.service, &self.element, self.job.instance, &self.connection, spent).await;
        self.tokens = Some(renewed.map_err(|error| match error {
            TokenError::Flow(error) => Stop::Flow(error),
            TokenError::Busy { reason, after } => {
                Stop::Trouble(VendorTrouble { message: reason, after, login: Login::Fine })
            }
            TokenError::Dead(message) => Stop::Trouble(VendorTrouble { message, after: None, login: Login::Dead }),
        })?);
        self.refreshed |= refused;
        Ok(())
    }

    /// Lists one partition from its cursor to its end.
    async fn partition(&mut self, partition: &str, sweep: bool) -> Result<PartitionEnd, Stop> {
        let state = &self.loaded.state;
        let cursor = state.cursors.get(partition).cloned().unwrap_or(Cursor::Start);
        let resumed = state.resume.clone().filter(|resume| resume.partition == partition);
        let baseline = !state.based || cursor == Cursor::Start;
        let mut complete = baseline || sweep || self.plan.change_kind() == Finding::FullScanHash;
        let lower = self.lower_bound(&cursor);
        let start = |complete: bool| {
            let pass = if complete { ListingPass::Complete } else { ListingPass::Changes };
            Listing::start(&self.plan, pass, &cursor, if complete { None } else { lower }, partition, self.began)
        };
        let mut listing = start(complete);
        let mut whole = true;
        let mut plausible = None;
        if let Some(resume) = resumed
            && let Some(saved) = Listing::resume(&resume.listing)
        {
            (listing, complete) = (saved, resume.complete);
            // The records of the earlier invocation are not in `seen`: this pass cannot say what is missing.
            whole = false;
        }
        let mut pass = self.pass(baseline);
        let mut seen: Option<HashSet<u64>> = complete.then(HashSet::new);
        let (mut restarts, mut shrinks, mut lost_history) = (0, 0, false);
        loop {
            let plan = Arc::clone(&self.plan);
            let page = match self.page(&plan, &mut listing).await? {
                Ok(page) => page,
                Err(Fault::ShrinkPage) if shrinks < SHRINKS => {
                    shrinks += 1;
                    continue;
                }
                Err(Fault::RestartScan { .. }) if restarts < RESTARTS => {
                    // The listing went back to its first page by itself.
                    restarts += 1;
                    seen = complete.then(HashSet::new);
                    whole = true;
                    continue;
                }
                Err(Fault::ResetCursor { .. }) if !complete && restarts < RESTARTS => {
                    // The vendor forgot our place. Everything is listed and compared with what is known; only a
                    // resource whose listing cannot show everything has a gap after that.
                    restarts += 1;
                    lost_history = !self.loaded.state.index_is_complete;
                    complete = true;
                    seen = Some(HashSet::new());
                    listing =
                        Listing::start(&self.plan, ListingPass::Complete, &Cursor::Start, None, partition, self.began);
                    continue;
                }
                Err(fault) => return Err(Stop::Trouble(trouble_of(fault))),
            };
            // A record stamped far in the future would carry the cursor over everything that changes until then.
            let latest = page.server_date.unwrap_or(self.began) + LARGEST_SKEW;
            let stamps = page.records.iter().filter_map(|record| record.updated);
            plausible = plausible.max(stamps.filter(|stamp| *stamp <= latest).max());
            self.newest = self.newest.max(plausible);
            if self.configured.filter_by_current_date {
                pass.not_after = pass.not_after.or(page.server_date);
            }
            for problem in &page.problems {
                self.report.problem(problem.what.clone(), problem.sample.clone());
            }
            let done = page.done;
            self.judge(page.records, &pass, if complete { None } else { lower }, seen.as_mut(), &cursor).await?;
            if done {
                break;
            }
            let out_of_time = self.service.ports.now() >= self.until;
            if out_of_time || self.told.len() >= CHANGES_HELD || self.told_bytes >= CHANGE_BYTES_HELD {
                self.loaded.state.resume = Some(Resume {
                    partition: partition.to_owned(),
                    done: self.done.clone(),
                    listing: listing.save(),
                    complete,
                    began: self.began,
                    newest: self.newest,
                });
                if out_of_time {
                    return Err(Stop::OutOfTime);
                }
                self.commit(false).await?;
            }
        }
        let Finished { cursor: ended, complete: reached_the_end } = listing.finish(&self.plan);
        let complete = complete && reached_the_end;
        self.report.complete_listing |= complete;
        if let (true, true, false, Some(seen)) = (complete, whole, baseline, &seen) {
            self.look_for_missing(partition, seen, &pass).await?;
        }
        let ended = match ended {
            Cursor::Watermark(stamp) if plausible.is_none_or(|plausible| stamp > plausible) => match cursor {
                Cursor::Watermark(before) => Cursor::Watermark(plausible.map_or(before, |stamp| stamp.max(before))),
                _ => Cursor::Watermark(plausible.unwrap_or_default()),
            },
            other => other,
        };
        self.loaded.state.cursors.insert(partition.to_owned(), ended);
        Ok(PartitionEnd { complete, lost_history })
    }

    /// Where the next pass begins to read: the cursor less the overlap. Records in between are known and dropped.
    fn lower_bound(&self, cursor: &Cursor) -> Option<DateTime<Utc>> {
        let Cursor::Watermark(watermark) = cursor else { return None };
        let floor = self.plan.overlap().to_std().unwrap_or_default();
        let overlap = self.loaded.state.overlap(floor);
        Some(TimeDelta::from_std(overlap).map_or(*watermark, |overlap| *watermark - overlap))
    }

    fn pass(&self, baseline: bool) -> Pass {
        let (state, configured) = (&self.loaded.state, &self.configured);
        Pass {
            instance: self.job.instance,
            resource: self.job.resource.clone(),
            baseline,
            index_is_complete: state.index_is_complete,
            covered_since: state.covered_since,
            first_revision: state.first_revision,
            created_rule: configured.created_rule,
            created_tolerance: TimeDelta::seconds(configured.created_check_tolerance_s.unwrap_or(0).into()),
            initial_poll: configured.initial_poll,
            not_after: None,
        }
    }

    /// Judges a page's records against the index and holds what follows for the next commit.
    async fn judge(
        &mut self,
        records: Vec<Record>,
        pass: &Pass,
        lower: Option<DateTime<Utc>>,
        mut seen: Option<&mut HashSet<u64>>,
        cursor: &Cursor,
    ) -> Result<(), Stop> {
        self.report.records += records.len() as u64;
        let mut unknown = Vec::with_capacity(records.len());
        for record in records {
            let key = key_of(&record.partition, &record.id);
            let hash = hash_of(&key);
            if let Some(seen) = seen.as_deref_mut()
                && record.told != Told::Deleted
            {
                seen.insert(hash);
            }
            // A listing newest first ends with a page that reaches below the bound: that part was judged before.
            let below = lower.is_some_and(|lower| record.updated.is_some_and(|updated| updated < lower));
            if below {
                self.report.suppressed += 1;
                continue;
            }
            if self.loaded.state.recent.contains(hash, record.fingerprint) {
                self.listed.push((record.updated, hash, record.fingerprint));
                self.report.suppressed += 1;
                continue;
            }
            unknown.push((record, key, hash));
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let store = self.service.ports.store.clone();
        if seen.is_some() && self.loaded.state.entries > 0 {
            self.index.load_everything(&*store).await?;
        } else {
            self.index.load(&*store, unknown.iter().map(|(_, _, hash)| *hash)).await?;
        }
        let unknown = if self.plan.hydrates() { self.hydrate(unknown).await? } else { unknown };
        for (record, key, hash) in unknown {
            let known = self.judged.get(&key).copied().or_else(|| self.index.get(hash, &key));
            let Judgement { rule, told, entry } = detect::judge(&record, known, pass);
            if seen.is_none() && rule != Rule::AfterPollBegan {
                self.listed.push((record.updated, hash, record.fingerprint));
            }
            if let Cursor::Watermark(watermark) = cursor
                && told.is_some()
                && let Some(updated) = record.updated
            {
                self.loaded.state.lateness.count((*watermark - updated).to_std().unwrap_or_default());
            }
            match (told, entry) {
                (Some(kind), Some(entry)) => self.tell(detect::change_of(&record, kind, entry, pass), key, entry),
                (_, Some(entry)) => {
                    self.report.suppressed += 1;
                    self.judged.insert(key.clone(), entry);
                    self.silent.push((key, entry));
                }
                _ => self.report.suppressed += 1,
            }
        }
        // A first pass over a large account tells nothing and could hold everything: packed buckets take a
        // fraction of that.
        if self.silent.len() >= CHANGES_HELD {
            let silent = std::mem::take(&mut self.silent);
            for (key, _) in &silent {
                self.judged.remove(key);
            }
            self.index.put(&*store, silent).await?;
        }
        Ok(())
    }

    fn tell(&mut self, change: Change, key: String, entry: Entry) {
        match change.kind {
            ChangeKind::Created => self.report.created += 1,
            ChangeKind::Updated => self.report.updated += 1,
            ChangeKind::Deleted => self.report.deleted += 1,
        }
        self.told_bytes += change.raw.len();
        self.judged.insert(key.clone(), entry);
        self.told.push((change, key, entry));
    }

    /// Reads each record by its id, for listings that name records without their content.
    async fn hydrate(&mut self, named: Vec<(Record, String, u64)>) -> Result<Vec<(Record, String, u64)>, Stop> {
        let mut whole = Vec::with_capacity(named.len());
        for (record, key, hash) in named {
            loop {
                let request = single::hydrate_request(&self.plan, &self.caller(), &record);
                let Some(request) = request.map_err(|problem| trouble(problem.to_string()))? else {
                    whole.push((record, key, hash));
                    break;
                };
                let response = self.exchange(request).await?;
                match single::hydrated(&self.plan, &self.caller(), &record, &response) {
                    Ok(Hydrated::Record(record)) => whole.push((record, key, hash)),
                    Ok(Hydrated::Gone) => {}
                    Err(Fault::RefreshAuth { reason }) => {
                        self.renew_after(reason).await?;
                        continue;
                    }
                    Err(fault) => return Err(Stop::Trouble(trouble_of(fault))),
                }
                break;
            }
        }
        Ok(whole)
    }

    /// After a complete listing: what is known and was not listed is gone, if asking for it by id says so too.
    async fn look_for_missing(&mut self, partition: &str, seen: &HashSet<u64>, pass: &Pass) -> Result<(), Stop> {
        if self.plan.confirm().is_none() || !self.loaded.state.index_is_complete {
            return Ok(());
        }
        let store = self.service.ports.store.clone();
        self.index.load_everything(&*store).await?;
        let (mut missing, mut known) = (Vec::new(), 0);
        self.index.each(|key, entry| {
            if parts_of(key).0 == partition && !entry.gone {
                known += 1;
                if !seen.contains(&hash_of(key)) {
                    missing.push(key.to_owned());
                }
            }
        });
        let approved = self.loaded.state.held.as_ref().is_some_and(|held| held.approved);
        let share = if approved { 1.0 } else { self.plan.max_delete_share() };
        match Missing::of_complete_listing(missing, known, share) {
            Missing::Held(missing) => {
                self.report.held += missing.len() as u64;
                let sample = missing.iter().take(PROBLEMS_SHOWN).map(|key| parts_of(key).1.to_owned()).collect();
                let since = self.loaded.state.held.as_ref().map_or(self.began, |held| held.since);
                let missing = missing.len() as u64;
                self.loaded.state.held = Some(Held { since, missing, known, sample, approved: false });
            }
            Missing::ToConfirm(missing) => {
                let left_over = missing.len().saturating_sub(CONFIRMATIONS_PER_POLL);
                for key in missing.into_iter().take(CONFIRMATIONS_PER_POLL) {
                    self.confirm(key, pass).await?;
                }
                if left_over == 0 {
                    self.loaded.state.held = None;
                }
            }
        }
        Ok(())
    }

    async fn confirm(&mut self, key: String, pass: &Pass) -> Result<(), Stop> {
        let (partition, id) = parts_of(&key);
        loop {
            let request = single::confirm_request(&self.plan, &self.caller(), id, partition);
            let Some(request) = request.map_err(|problem| trouble(problem.to_string()))? else { break };
            let response = self.exchange(request).await?;
            match single::confirmed(&self.plan, &self.caller(), &response) {
                Ok(Confirmation::Gone) => break,
                Ok(Confirmation::Present) => {
                    self.report.problem("not listed, but there when asked for by id", id);
                    return Ok(());
                }
                Err(Fault::RefreshAuth { reason }) => self.renew_after(reason).await?,
                Err(fault) => return Err(Stop::Trouble(trouble_of(fault))),
            }
        }
        let Some(known) = self.index.get(hash_of(&key), &key) else { return Ok(()) };
        let entry = Entry { revision: known.revision.saturating_add(1), gone: true, ..known };
        let stub = Record {
            id: id.to_owned(),
            partition: partition.to_owned(),
            raw: Bytes::from(serde_json::json!({ "id": id }).to_string()),
            updated: None,
            created: None,
            fingerprint: known.fingerprint,
            told: Told::Deleted,
        };
        let change = detect::change_of(&stub, ChangeKind::Deleted, entry, pass);
        self.tell(change, key, entry);
        Ok(())
    }

    /// Commits what is held, in as many transactions as it takes. With `ended`, the state as it will be (cursor,
    /// coverage) goes with the last one. Before that, and without it, only index figures, lateness and resume
    /// point move: a crash between two transactions repeats reading, and what was told is known.
    async fn commit(&mut self, ended: bool) -> Result<(), Stop> {
        let store = self.service.ports.store.clone();
        self.judged.clear();
        let silent = std::mem::take(&mut self.silent);
        self.index.load(&*store, silent.iter().map(|(key, _)| hash_of(key))).await?;
        self.index.put(&*store, silent).await?;
        while self.index.dirty() > WRITES_PER_COMMIT / 2 {
            self.write(Vec::new(), None).await?;
        }

        let told = std::mem::take(&mut self.told);
        self.told_bytes = 0;
        let now = self.service.ports.now();
        let (mut writes, mut bytes): (Vec<Write>, usize) = (Vec::new(), 0);
        let mut told = told.into_iter().peekable();
        while told.peek().is_some() {
            let (mut changes, mut entries) = (Vec::new(), Vec::new());
            for (change, key, entry) in told.by_ref().take(EVENTS_PER_NOTIFICATION) {
                changes.push(change);
                entries.push((key, entry));
            }
            self.index.load(&*store, entries.iter().map(|(key, _)| hash_of(key))).await?;
            self.index.put(&*store, entries).await?;
            let filed = outbox::file(
                &self.loaded.instance,
                &ElementLabel { key: &self.element.key, hub: &self.element.hub },
                &self.job.resource,
                self.plan.object_type(),
                &changes,
                self.began,
                now,
                &Service::RETRY_WHEEL,
            );
            for outgoing in filed {
                self.report.notifications += 1;
                bytes += outgoing.bytes;
                writes.extend(outgoing.writes);
                if let Some(job) = outgoing.job {
                    let body = serde_json::to_string(&job).expect("jobs serialize");
                    let group = job.organization.to_string();
                    self.jobs.push(Message { body, delay: Duration::ZERO, group });
                }
            }
            // An entry and the event it stands for share a transaction: all changed buckets go with the rows.
            if writes.len() + self.index.dirty() > WRITES_PER_COMMIT || bytes > BYTES_PER_COMMIT {
                self.write(std::mem::take(&mut writes), None).await?;
                bytes = 0;
            }
        }
        let last = if ended {
            let (at, records) = (self.began, self.report.records);
            let duration_ms = u64::try_from((now - self.began).num_milliseconds()).unwrap_or(0);
            let mut state = self.loaded.state.clone();
            state.last = Some(LastPoll { at, records, changes: self.report.changes(), duration_ms });
            Some(state)
        } else {
            // What is told so far is committed with this write, so partitions that are through keep their cursors.
            let cursors = self.loaded.state.cursors.clone();
            Some(ResourceRecord { cursors, ..self.between() })
        };
        self.write(writes, last).await
    }

    /// The state between two transactions of one pass: as it is stored, but for what may move early.
    fn between(&self) -> ResourceRecord {
        ResourceRecord {
            lateness: self.loaded.state.lateness.clone(),
            resume: self.loaded.state.resume.clone(),
            ..self.stored.clone()
        }
    }

    /// One transaction: the state, on condition of its version, with rows and changed buckets.
    async fn write(&mut self, mut writes: Vec<Write>, ended: Option<ResourceRecord>) -> Result<(), Stop> {
        let mut state = ended.unwrap_or_else(|| self.between());
        writes.extend(self.index.take_writes(99usize.saturating_sub(writes.len())));
        (state.buckets, state.entries) = (self.index.layout(), self.index.entries());
        let key = table::resource_key(self.job.instance, &self.job.resource);
        writes.push(table::replace(key, self.loaded.version, &state));
        match self.service.ports.store.transact(&writes).await {
            Ok(()) => {
                self.loaded.version += 1;
                self.loaded.state.buckets = state.buckets;
                self.loaded.state.entries = state.entries;
                self.stored = state;
                Ok(())
            }
            Err(StoreError::Conflict { .. }) => Err(Stop::Outrun),
            Err(source) => Err(Stop::Flow(FlowError::Store { subject: "the commit of a poll", source })),
        }
    }
}

/// How the listing of one partition ended.
struct PartitionEnd {
    complete: bool,
    lost_history: bool,
}

/// The poll failed for a reason outside: nothing of it moves but the count of failures and the pause they ask for.
async fn give_up(
    service: &Service,
    job: &PollJob,
    loaded: Loaded,
    mut report: PollReport,
    trouble: VendorTrouble,
    mode: Mode,
) -> Result<PollReport, FlowError> {
    let now = service.ports.now();
    let key = table::resource_key(job.instance, &job.resource);
    // Intermediate commits may have moved the version: the stored state is read again and only marked.
    let Some(item) = service.ports.store.get(&key).await.map_err(FlowError::store("the state of a resource"))? else {
        return Ok(report.ended(Outcome::Gone, now));
    };
    let mut state: ResourceRecord = table::read(&item)?;
    state.failures = state.failures.saturating_add(1);
    let pause = backoff::pause(state.failures, trouble.after, Jitter::from_random(service.ports.ambient.random()));
    let skip_until = now + TimeDelta::from_std(pause).unwrap_or(TimeDelta::days(1));
    state.skip_until = Some(skip_until);
    let since = state.trouble.as_ref().map_or(now, |trouble| trouble.since);
    state.trouble = Some(Trouble { since, message: trouble.message.clone() });
    let failures = state.failures;
    let marked = service.ports.store.transact(&[table::replace(key, item.version, &state)]).await;
    match marked {
        Ok(()) | Err(StoreError::Conflict { .. }) => {}
        Err(source) => return Err(FlowError::Store { subject: "the failure of a poll", source }),
    }
    let login_lost = trouble.login == Login::Dead || (trouble.login == Login::Refused && failures >= REFUSALS_BELIEVED);
    if login_lost {
        let reconnect = Some(Reconnect { since: now, reason: trouble.message.clone() });
        let instance = InstanceRecord { reconnect, ..loaded.instance };
        let write = table::replace(table::instance_key(job.instance), loaded.instance_version, &instance);
        match service.ports.store.transact(&[write]).await {
            // An edit meanwhile may well have been the new login.
            Ok(()) | Err(StoreError::Conflict { .. }) => {}
            Err(source) => return Err(FlowError::Store { subject: "the need of a new login", source }),
        }
    } else if !matches!(mode, Mode::Now { .. }) && pause <= LONGEST_REQUEUE {
        requeue(service, job, pause).await;
    }
    report.failure = Some(trouble.message);
    report.skip_until = Some(skip_until);
    Ok(report.ended(Outcome::Failed, now))
}

/// Sends the job again. A message that the queue does not take is no loss: the next slot of the wheel comes.
async fn requeue(service: &Service, job: &PollJob, delay: Duration) {
    let body = serde_json::to_string(job).expect("jobs serialize");
    // A whole second later than the pause, so that the message does not arrive within it.
    let delay = if delay.is_zero() { delay } else { delay + Duration::from_secs(1) };
    let message = Message { body, delay, group: job.organization.to_string() };
    for outcome in service.ports.queue.send(QueueName::Polls, vec![message]).await {
        if let Err(error) = outcome {
            tracing::warn!(error = %error, "a poll could not be queued again");
        }
    }
}

/// Jobs for the committed deliveries. What the queue does not take, the retry entries of the rows repair.
async fn send_deliveries(service: &Service, jobs: Vec<Message>) {
    if jobs.is_empty() {
        return;
    }
    let refused =
        service.ports.queue.send(QueueName::Deliveries, jobs).await.iter().filter(|sent| sent.is_err()).count();
    if refused > 0 {
        tracing::warn!(refused, "deliveries could not be queued; their retry entries will bring them");
    }
}

fn trouble(message: String) -> Stop {
    Stop::Trouble(VendorTrouble { message, ..VendorTrouble::default() })
}

fn trouble_of(fault: Fault) -> VendorTrouble {
    let (message, after, login) = match fault {
        Fault::Retry { after, reason } => (reason, after, Login::Fine),
        Fault::RateLimited { after, reason } => {
            (format!("the vendor asks for fewer calls: {reason}"), after, Login::Fine)
        }
        Fault::RefreshAuth { reason } => {
            (format!("the vendor refused the credentials: {reason}"), None, Login::Refused)
        }
        Fault::Reconnect { reason } => (format!("the vendor wants a new login: {reason}"), None, Login::Dead),
        Fault::ResetCursor { reason } => {
            (format!("the vendor's cursor expires again and again: {reason}"), None, Login::Fine)
        }
        Fault::RestartScan { reason } => {
            (format!("the vendor's page cursor dies again and again: {reason}"), None, Login::Fine)
        }
        Fault::ShrinkPage => ("the vendor finds even the smallest page too large".into(), None, Login::Fine),
        Fault::ConfigError { reason } => (reason, None, Login::Fine),
    };
    VendorTrouble { message, after, login }
}

fn in_words(problems: &[FieldProblem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
