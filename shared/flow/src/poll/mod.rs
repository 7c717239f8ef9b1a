//! The poller's step: one poll of one resource, from its state to its committed events.
//!
//! The dispatcher (or a person, by *poll now*) wrote the job; the delivery step acts next, on rows that the commit
//! files. What makes this correct is one rule: the resource's state item is written with every commit, on
//! condition of the version that was read, together with the index buckets and deliveries that belong to it.
//! Two polls of one resource may run at once; one of them commits, the other throws its work away. No lease is
//! needed for that; a poll that takes long notes in the state that it is at work, only so that the short ones do not
//! outrun it again and again.
//!
//! Order matters in three places, each narrated where it happens: a rotated token is stored before it is used,
//! the cursor moves in the last transaction of a pass, and jobs go to the queue after the commit.

mod account;
mod commit;
pub(crate) mod handed_over;
mod index;
mod missing;
mod report;
mod seen;
pub use store::records::resource as state;
#[cfg(test)]
mod tests;
mod trouble;
pub mod why;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use domain::configuration::ResourceConfiguration;
use domain::detect::{self, Judgement, Pass};
use domain::index::{Entry, hash_of, key_of};
use domain::record::{Change, ChangeKind, Record, Told};
use domain::wheel::Wheel;
use elements::Fault;
use elements::listing::{Cursor, Finished, Listing, RecordPage, ScanMode};
use elements::plan::{ChangeStrategy, Partitions, Plan};
use elements::single::{self, Hydrated};

use self::index::Index;
pub use self::report::{Outcome, PROBLEMS_SHOWN, PollProblem, PollReport};
use self::seen::Seen;
use self::state::{Recent, ResourceRecord, Shape, SoFar};
use self::trouble::{LONGEST_REQUEUE, VendorTrouble, give_up, in_words};

use crate::job::{PollJob, Queued};
use crate::ports::{Message, QueueName, Range};
use crate::secrets;
use crate::service::{FlowError, Service};
use crate::table::{self, InstanceRecord, PauseRecord};
use crate::tokens;
use crate::vendor::{Purpose, Session, VendorError};
use crate::{fields, trace};

/// Told changes held in memory before they are committed page by page.
const CHANGES_HELD: usize = 2000;
/// The same in bytes of records.
const CHANGE_BYTES_HELD: usize = 16 * 1024 * 1024;
/// How often one pass may start over because the vendor forgot our place.
const RESETS: u32 = 3;
/// A listing that breaks off after so many pages goes on where it stopped: begun anew it might never get further.
const PAGES_WORTH_KEEPING: u32 = 5;
/// A poll that runs this long, or a quarter of the schedule's minute, is taken out of the others' reach.
const TAKEN_AFTER: Duration = Duration::from_secs(2);
/// For so many times as long, a minute where a minute lasts one; a poll that dies leaves the resource to the others
/// after that.
const TAKEN_FOR: u32 = 30;
/// So long a pass belongs to the job that saved it last; then that job is taken for lost and any other goes on.
const HANDOVER: TimeDelta = TimeDelta::minutes(5);

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
    let mut report = PollReport::new(&job.resource, began);
    let loaded = Loaded::load(service, job, mode).await?;
    let Some(mut loaded) = loaded else { return Ok(report.ended(Outcome::Gone, began)) };
    // A pass that goes on keeps the id it began with, however many invocations it takes.
    let pass_began = loaded.state.resume.as_ref().map_or(began, |resume| resume.so_far.began);
    report.trace = trace::of_poll(job.instance, &job.resource, pass_began);
    tracing::Span::current().record(fields::TRACE, &report.trace);
    // First of all: whatever keeps the vendor from being polled must not keep deliveries from being looked after.
    if !handed_over::look_after(service, job, &mut loaded).await? {
        return Ok(report.ended(Outcome::OutrunByAnother, began));
    }
    if let Some(outcome) = loaded.reason_to_skip(job, mode, service.wheel.start_of(job.minute), began) {
        return Ok(report.ended(outcome, began));
    }
    report.overdue_ms = loaded.overdue_ms(job, service.wheel, began);
    let mut run = match Run::prepare(service, job, loaded, report, began, until).await? {
        Ok(run) => run,
        Err((loaded, report, message)) => {
            let trouble = VendorTrouble { message, ..VendorTrouble::default() };
            return give_up(service, job, loaded, report, trouble, mode, None).await;
        }
    };
    let ended = match run.all_partitions(mode).await {
        Ok(()) => run.commit(true).await.map(|()| Outcome::Committed),
        Err(Stop::OutOfTime) => {
            // Whoever goes on takes it again.
            run.stored.taken_until = None;
            run.commit(false).await.map(|()| Outcome::Suspended)
        }
        Err(stop) => Err(stop),
    };
    // Jobs go out after the commit, whatever ended the run: what an intermediate commit filed is waiting.
    let account = run.session.account();
    run.report.vendor_took(run.session.latency());
    let Run { jobs, loaded, report, come_back, .. } = run;
    send_deliveries(service, jobs).await;
    match ended {
        Ok(outcome) => {
            // After a longer pause the wheel comes round.
            if outcome == Outcome::Suspended && come_back <= LONGEST_REQUEUE {
                requeue(service, job, come_back).await;
            }
            Ok(report.ended(outcome, service.ports.now()))
        }
        Err(Stop::Outrun) => Ok(report.ended(Outcome::OutrunByAnother, service.ports.now())),
        Err(Stop::Trouble(trouble)) => give_up(service, job, loaded, report, trouble, mode, account).await,
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

/// What one query of the instance's partition brings.
struct Loaded {
    instance: InstanceRecord,
    instance_version: u64,
    state: ResourceRecord,
    version: u64,
    tokens: Option<table::TokensRecord>,
    /// The vendor wants no calls for this account until then.
    paused_until: Option<DateTime<Utc>>,
}

impl Loaded {
    async fn load(service: &Service, job: &PollJob, mode: Mode) -> Result<Option<Self>, FlowError> {
        // A scheduled poll may read a moment-old state: at worst it loses at the commit. Whoever waits for an
        // answer wants what was written just before.
        let wanted = table::resource_key(job.instance, &job.resource);
        let range = Range { consistent: mode != Mode::Scheduled, ..Range::between(table::META, wanted.sk.clone()) };
        let (mut instance, mut tokens, mut state, mut paused_until) = (None, None, None, None);
        let mut after = None;
        loop {
            let page = service.ports.store.query(&wanted.pk, &range, after.as_deref()).await;
            let page = page.map_err(FlowError::store("an instance"))?;
            for item in page.items {
                if item.key.sk == table::META {
                    instance = Some((table::read::<InstanceRecord>(&item)?, item.version));
                } else if item.key.sk == table::TOKENS {
                    tokens = Some(table::read(&item)?);
                } else if item.key.sk == table::PAUSE {
                    paused_until = Some(table::read::<PauseRecord>(&item)?.until);
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
        Ok(Some(Self { instance, instance_version, state, version, tokens, paused_until }))
    }

    /// See [`PollReport::overdue_ms`].
    fn overdue_ms(&self, job: &PollJob, wheel: Wheel, now: DateTime<Utc>) -> Option<u64> {
        let interval = wheel.minute() * u32::from(self.instance.interval_of(&job.resource));
        let uncovered = now - self.state.coverage.until()?;
        Some(uncovered.to_std().unwrap_or_default().saturating_sub(interval).as_millis() as u64)
    }

    fn reason_to_skip(&self, job: &PollJob, mode: Mode, due: DateTime<Utc>, now: DateTime<Utc>) -> Option<Outcome> {
        let covered = match mode {
            Mode::Scheduled => self.state.covers(due),
            Mode::Baseline => self.state.based,
            Mode::Now { .. } => false,
        };
        let taken = self.state.taken_until.is_some_and(|until| until > now);
        let other = |resume: &state::Resume| resume.minute != job.minute && now < resume.saved + HANDOVER;
        let handed_on = self.state.resume.as_ref().is_some_and(other);
        if !self.instance.resources.contains_key(&job.resource) {
            Some(Outcome::Gone)
        } else if self.instance.disabled || !self.instance.events_enabled {
            Some(Outcome::Disabled)
        } else if self.instance.reconnect.is_some() {
            Some(Outcome::NeedsLogin)
        } else if covered {
            Some(Outcome::AlreadyCovered)
        } else if mode == Mode::Scheduled
            && self.state.skip_until.max(self.paused_until).is_some_and(|until| until > now)
        {
            Some(Outcome::BackingOff)
        } else if mode == Mode::Scheduled && (taken || handed_on) {
            Some(Outcome::UnderWay)
        } else {
            None
        }
    }
}

/// One poll under way.
struct Run<'a> {
    service: &'a Service,
    job: &'a PollJob,
    session: Session<'a>,
    configured: ResourceConfiguration,
    plan: Arc<Plan>,
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
    so_far: SoFar,
    confirmations: usize,
    /// The way in which fingerprints are made is new since the index was written.
    reshaped: bool,
    /// For rows that are committed.
    jobs: Vec<Message>,
    /// For rows of the next transaction.
    uncommitted: Vec<Message>,
    report: PollReport,
    began: DateTime<Utc>,
    /// When the pass began that this poll ends: earlier, when it took several invocations.
    pass_began: DateTime<Utc>,
    /// How long a suspended pass rests.
    come_back: Duration,
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
        let instance = Some(loaded.instance.id);
        let session = Session::new(service, Purpose::Poll, element, connection, tokens, instance);
        let index = Index::of(loaded.instance.id, &job.resource, &loaded.state);
        let so_far = loaded.state.resume.as_ref().map_or_else(|| SoFar::beginning(began), |it| it.so_far.clone());
        let pass_began = so_far.began;
        Ok(Ok(Self {
            service,
            job,
            session,
            configured,
            plan: Arc::new(plan),
            stored: loaded.state.clone(),
            loaded,
            index,
            silent: Vec::new(),
            told: Vec::new(),
            told_bytes: 0,
            judged: std::collections::HashMap::new(),
            listed: Vec::new(),
            so_far,
            confirmations: missing::CONFIRMATIONS_PER_POLL,
            reshaped: false,
            jobs: Vec::new(),
            uncommitted: Vec::new(),
            report,
            began,
            pass_began,
            come_back: Duration::ZERO,
            until,
        }))
    }

    /// Lists every partition, judges what comes, and readies the state for the last commit.
    async fn all_partitions(&mut self, mode: Mode) -> Result<(), Stop> {
        self.session.renew_if_due().await?;
        self.compare_shapes().await?;
        let partitions = self.partitions().await?;
        self.so_far.sweep |= self.reshaped || self.sweep_is_due(mode);
        self.report.baseline = !self.loaded.state.based;
        for partition in &partitions {
            if !self.so_far.done.contains_key(partition) {
                self.partition(partition).await?;
            }
        }
        let so_far = std::mem::replace(&mut self.so_far, SoFar::beginning(self.began));
        let shape = self.shape();
        let state = &mut self.loaded.state;
        let all_complete = !so_far.incomplete;
        if !state.based {
            state.based = true;
            state.covered_since = so_far.newest;
            state.told_until = None;
        }
        state.index_is_complete |= all_complete;
        if all_complete && !so_far.unconfirmed {
            state.swept_at = Some(so_far.began);
        }
        if so_far.sweep || all_complete {
            state.sweep_tried = (!so_far.unconfirmed).then_some(so_far.began);
        }
        if so_far.swept {
            state.held = so_far.held;
        }
        if so_far.lost_history {
            state.coverage.break_off(so_far.began);
        }
        // What changed while the pass was under way may have been behind it: it covers up to where it began.
        state.coverage.extend(so_far.began);
        state.cursors = so_far.done;
        state.resume = None;
        state.failures = 0;
        state.skip_until = None;
        state.taken_until = None;
        state.trouble = None;
        state.shape = Some(shape);
        self.listed.sort_unstable_by(|a, b| b.cmp(a));
        let state = &mut self.loaded.state;
        state.recent = Recent::of(self.listed.iter().map(|(_, key, fingerprint)| (*key, *fingerprint)));
        self.report.covered_until = state.coverage.until();
        self.pass_began = so_far.began;
        Ok(())
    }

    fn sweep_is_due(&self, mode: Mode) -> bool {
        if matches!(mode, Mode::Now { sweep: true }) {
            return true;
        }
        self.loaded.state.based
            && self.plan.sweep_every().is_some_and(|every| self.loaded.state.sweep_is_due(every, self.began))
    }

    /// How records are recognized as this poll is configured.
    fn shape(&self) -> Shape {
        let (resource, configured) = (self.plan.resource(), &self.configured);
        let hash = |text: String| (hash_of(&text) >> 32) as u32;
        Shape {
            ids: hash(format!("{:?} {:?} {:?}", resource.records.id, resource.records.id_derive, configured.id_field)),
            versions: hash(format!("{:?} {:?} {:?}", resource.fingerprint, resource.hydrate, configured.updated)),
        }
    }

    /// An element's new release may know records by other ids or other versions. With other ids nothing that is
    /// remembered means anything: the resource starts anew and tells what changed since the last pass. With other
    /// versions everything is listed once, and what has its old stamp is remembered by its new version, in silence.
    async fn compare_shapes(&mut self) -> Result<(), Stop> {
        let shape = self.shape();
        let state = &self.loaded.state;
        let Some(before) = state.shape.filter(|before| state.based && *before != shape) else { return Ok(()) };
        if self.plan.change_strategy() == ChangeStrategy::HistoryId {
            return Ok(());
        }
        if before.ids == shape.ids {
            self.reshaped = true;
            self.loaded.state.recent = Recent::default();
            if !self.so_far.sweep {
                (self.loaded.state.resume, self.so_far) = (None, SoFar::beginning(self.began));
            }
            return Ok(());
        }
        let anew = ResourceRecord::anew(self.loaded.instance.created_at, self.began).after(state);
        self.index = Index::of(self.job.instance, &self.job.resource, &anew);
        (self.loaded.state, self.stored) = (anew.clone(), anew);
        self.so_far = SoFar::beginning(self.began);
        self.write(Vec::new(), None).await
    }

    /// The partitions to list: one nameless one, the configured ones, or those that the parent lists.
    async fn partitions(&mut self) -> Result<Vec<String>, Stop> {
        let parent = match self.plan.partitions(self.session.connection()) {
            Partitions::Single => return Ok(vec![String::new()]),
            Partitions::Fixed(names) => return Ok(names),
            Partitions::Parent(parent) => parent,
        };
        let mut names = Vec::new();
        let mut listing = Listing::start(&parent, ScanMode::Complete, &Cursor::Start, None, "", self.began);
        loop {
            match self.page(&parent, &mut listing).await {
                Ok(page) => {
                    names.extend(page.records.into_iter().filter(|record| record.told != Told::Deleted).map(|r| r.id));
                    if page.done {
                        return Ok(self.plan.partitions_of(&names));
                    }
                }
                // The listing went back to its first page by itself, and says when that is too often.
                Err(VendorError::Fault(Fault::RestartScan { .. })) => names.clear(),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One page of a listing, a smaller one where the vendor wants that.
    async fn page(&mut self, plan: &Plan, listing: &mut Listing) -> Result<RecordPage, VendorError> {
        loop {
            let request = listing.request(plan, &self.session.context())?;
            let response = self.session.send(request).await?;
            self.report.pages += 1;
            match listing.read(plan, &self.session.context(), &response) {
                Ok(page) => return Ok(page),
                Err(Fault::ShrinkPage) => {}
                Err(fault) => self.session.renew_after(fault).await?,
            }
        }
    }

    /// Lists one partition from its cursor to its end.
    async fn partition(&mut self, partition: &str) -> Result<(), Stop> {
        let state = &self.loaded.state;
        let known_place = state.cursors.get(partition).cloned();
        let baseline = !state.based || known_place.is_none();
        let cursor = known_place.unwrap_or_default();
        let resumed = state.resume.clone().filter(|resume| resume.partition == partition);
        let mut complete = baseline
            || self.so_far.sweep
            || cursor == Cursor::Start
            || self.plan.change_strategy() == ChangeStrategy::FullScanHash;
        let mut lower = if complete { None } else { self.lower_bound(&cursor) };
        let kind = if complete { ScanMode::Complete } else { ScanMode::Changes };
        let mut listing = Listing::start(&self.plan, kind, &cursor, lower, partition, self.began);
        let mut newest = None;
        let mut seen = complete.then(Seen::default);
        if let Some(resume) = resumed
            && let Some(saved) = Listing::resume(&resume.listing)
        {
            let stored = match resume.complete {
                true => Seen::load(&*self.service.ports.store, self.job, resume.seen_pieces).await?,
                false => None,
            };
            if stored.is_some() == resume.complete {
                (listing, complete, newest, lower) = (saved, resume.complete, resume.newest, resume.lower);
                seen = stored;
            }
        }
        let mut pass = self.pass(baseline);
        let (mut resets, mut good_pages) = (0, 0);
        let plan = Arc::clone(&self.plan);
        loop {
            let place =
                |listing: &Listing, newest| Place { partition, listing: listing.save(), complete, newest, lower };
            let page = match self.page(&plan, &mut listing).await {
                Ok(page) => page,
                Err(VendorError::Fault(Fault::RestartScan { .. })) => {
                    seen = complete.then(Seen::default);
                    continue;
                }
                Err(VendorError::Fault(Fault::ResetCursor { .. })) if resets < RESETS => {
                    // The vendor forgot our place. Everything is listed and compared with what is known; only a
                    // resource whose listing cannot show everything has a gap after that.
                    resets += 1;
                    self.so_far.lost_history |= !baseline
                        && (!self.loaded.state.index_is_complete
                            || self.plan.change_strategy() == ChangeStrategy::HistoryId);
                    (complete, lower) = (true, None);
                    seen = Some(Seen::default());
                    listing =
                        Listing::start(&self.plan, ScanMode::Complete, &Cursor::Start, None, partition, self.began);
                    continue;
                }
                Err(error) => {
                    let stop = Stop::from(error);
                    let passing = matches!(&stop, Stop::Trouble(trouble) if trouble.passing);
                    if good_pages >= PAGES_WORTH_KEEPING && passing {
                        self.suspend(place(&listing, newest), seen.as_mut()).await?;
                        self.commit(false).await?;
                    }
                    return Err(stop);
                }
            };
            good_pages += 1;
            newest = newest.max(page.newest);
            if self.configured.filter_by_current_date {
                pass.not_after = pass.not_after.or(page.server_date);
            }
            for problem in &page.problems {
                self.report.problem(problem.what.clone(), problem.sample.clone());
            }
            let (done, server_date) = (page.done, page.server_date);
            self.judge(page.records, &pass, lower, seen.as_mut(), &cursor).await?;
            self.take().await?;
            if done {
                break;
            }
            let budget_opens = self.session.over_budget_for();
            self.come_back = budget_opens.unwrap_or_default();
            let out_of_time = budget_opens.is_some() || self.service.ports.now() >= self.until;
            if out_of_time && baseline && self.loaded.state.told_until.is_none() {
                // Whoever made the instance has an answer now: what the vendor stamps from here on is told.
                self.loaded.state.told_until = server_date.map(|date| date - TimeDelta::microseconds(1));
            }
            if out_of_time || self.told.len() >= CHANGES_HELD || self.told_bytes >= CHANGE_BYTES_HELD {
                self.suspend(place(&listing, newest), seen.as_mut()).await?;
                if out_of_time {
                    return Err(Stop::OutOfTime);
                }
                self.commit(false).await?;
            }
        }
        let Finished { cursor: ended, complete: reached_the_end } = listing.finish(&self.plan);
        let complete = complete && reached_the_end;
        self.report.complete_listing |= complete;
        if let (true, false, Some(seen)) = (complete, baseline, &seen) {
            self.look_for_missing(partition, seen, &pass).await?;
        }
        self.so_far.incomplete |= !complete;
        self.so_far.newest = self.so_far.newest.max(newest);
        self.so_far.done.insert(partition.to_owned(), ended);
        Ok(())
    }

    /// Takes the resource for this poll once it has run for long: one write, renewed as long as it goes on.
    pub(super) async fn take(&mut self) -> Result<(), Stop> {
        let now = self.service.ports.now();
        let long = TAKEN_AFTER.min(self.service.wheel.minute() / 4);
        let ran_long = (now - self.began).to_std().is_ok_and(|ran| ran >= long);
        let taken_for = TimeDelta::from_std(long * TAKEN_FOR).expect("a minute at most");
        if !ran_long || self.stored.taken_until.is_some_and(|until| until > now + taken_for / 2) {
            return Ok(());
        }
        self.stored.taken_until = Some(now + taken_for);
        self.write(Vec::new(), None).await
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
            began: self.began,
            told_until: match (baseline, state.based) {
                (false, _) => None,
                (true, false) => state.told_until,
                // A partition that others preceded: what changed in it while they were covered is news.
                (true, true) => state.covered_since.or(state.coverage.stretches().first().map(|first| first.from)),
            },
            reshaped: self.reshaped,
            index_is_complete: state.index_is_complete,
            covered_since: state.covered_since.or(state.told_until),
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
        mut seen: Option<&mut Seen>,
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
            let version = version_of(&record);
            if self.loaded.state.recent.contains(hash, version) {
                self.listed.push((record.updated, hash, version));
                self.report.suppressed += 1;
                continue;
            }
            unknown.push((record, key, hash));
        }
        if unknown.is_empty() {
            return Ok(());
        }
        let store = self.service.ports.store.clone();
        if seen.is_some() {
            self.index.load_everything(&*store).await?;
        } else {
            self.index.load(&*store, unknown.iter().map(|(_, _, hash)| *hash)).await?;
        }
        let unknown = if self.plan.hydrates() { self.hydrate(unknown).await? } else { unknown };
        for (record, key, hash) in unknown {
            let known = self.judged.get(&key).copied().or_else(|| self.index.get(hash, &key));
            let Judgement { told, entry, .. } = detect::judge(&record, known, pass);
            // Only what the index will know in this very version: a stale listing is no memory.
            let remembered = entry.or(known);
            if remembered
                .is_some_and(|it| (it.fingerprint, it.gone) == (record.fingerprint, record.told == Told::Deleted))
            {
                self.listed.push((record.updated, hash, version_of(&record)));
                Recent::shorten(&mut self.listed);
            }
            if let (Some(_), Cursor::Watermark(watermark), Some(updated)) = (told, cursor, record.updated)
                && (seen.is_none() || self.came_late(known, updated))
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

    /// Whether a record that a complete listing brought up should have come by the polls before it: its stamp is new,
    /// and not from before the complete listing that preceded. An edit that no stamp tells of is not late.
    fn came_late(&self, known: Option<Entry>, updated: DateTime<Utc>) -> bool {
        known.is_none_or(|known| known.stamp != updated.timestamp_micros())
            && self.loaded.state.swept_at.is_some_and(|swept| updated >= swept)
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
            let asked = self.session.ask(
                |context| single::hydrate_request(&self.plan, context, &record),
                |context, response| single::hydrated(&self.plan, context, &record, response),
            );
            match asked.await? {
                Some(Hydrated::Record(record)) => whole.push((record, key, hash)),
                Some(Hydrated::Gone) => {}
                None => whole.push((record, key, hash)),
            }
        }
        Ok(whole)
    }
}

/// Where a listing under way stands.
struct Place<'a> {
    partition: &'a str,
    listing: String,
    complete: bool,
    newest: Option<DateTime<Utc>>,
    lower: Option<DateTime<Utc>>,
}

/// A record's version beside the cursor. A tombstone that keeps the fingerprint is another version.
fn version_of(record: &Record) -> u64 {
    if record.told == Told::Deleted { !record.fingerprint } else { record.fingerprint }
}

/// Sends the job again. A message that the queue does not take is no loss: the next slot of the wheel comes.
async fn requeue(service: &Service, job: &PollJob, delay: Duration) {
    // A whole second later than the pause, so that the message does not arrive within it.
    let delay = if delay.is_zero() { delay } else { delay + Duration::from_secs(1) };
    for outcome in service.ports.queue.send(QueueName::Polls, vec![job.message(delay)]).await {
        if let Err(error) = outcome {
            tracing::warn!(error = %error, "a poll could not be queued again");
        }
    }
}

/// Jobs for the committed deliveries. What the queue does not take, the safeguard of each row repairs.
async fn send_deliveries(service: &Service, jobs: Vec<Message>) {
    if jobs.is_empty() {
        return;
    }
    let refused =
        service.ports.queue.send(QueueName::Deliveries, jobs).await.iter().filter(|sent| sent.is_err()).count();
    if refused > 0 {
        tracing::warn!(refused, "deliveries could not be queued; their retry entries or the next poll will bring them");
    }
}
