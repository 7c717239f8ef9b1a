//! The rows of the table: their measurements, their goals and their format.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use crate::clock::{Reading, median};
use crate::measure::{Case, Size, Who};
use crate::plot::{Series, chart};
use crate::{cold, cost};

/// The options of a measurement.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Small sizes and each once, to see that everything works.
    #[arg(long)]
    pub quick: bool,
    /// Only rows whose name has this in it.
    #[arg(long)]
    pub only: Option<String>,
    /// Processes for each measurement; the median counts.
    #[arg(long, default_value_t = 3)]
    pub repeats: usize,
    /// Writes table and plots into docs/.
    #[arg(long)]
    pub write: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { quick: false, only: None, repeats: 3, write: false }
    }
}

/// A row as it is shown.
#[derive(Debug, Clone, Default)]
struct Row {
    name: String,
    floor: String,
    durable: String,
    ours: String,
    ratio: String,
    must: String,
    aim: String,
    verdict: &'static str,
}

/// The limit and the goal of a figure; smaller is better.
#[derive(Debug, Clone, Copy)]
struct Goal {
    must: f64,
    aim: Option<f64>,
}

impl Goal {
    fn verdict(self, figure: f64) -> &'static str {
        match self.aim {
            Some(aim) if figure <= aim => "aim reached",
            None if figure <= self.must => "reached",
            Some(_) if figure <= self.must => "reached",
            _ => "**missed**",
        }
    }
}

/// Runs measurements in processes of their own, and remembers them.
struct Runner {
    repeats: usize,
    taken: HashMap<String, Vec<Reading>>,
}

impl Runner {
    /// One after the other, taking turns, so that whatever else the machine does hits all alike.
    fn take(&mut self, whos: &[Who], case: Case, size: Size, repeats: usize) -> anyhow::Result<()> {
        for _ in 0..repeats.min(self.repeats) {
            for who in whos {
                let reading = run_process(*who, case, size)?;
                self.taken.entry(key(*who, case, size)).or_default().push(reading);
            }
        }
        Ok(())
    }

    fn median(&self, who: Who, case: Case, size: Size, of: impl Fn(&Reading) -> f64) -> f64 {
        median(self.taken.get(&key(who, case, size)).into_iter().flatten().map(of).collect())
    }
}

fn key(who: Who, case: Case, size: Size) -> String {
    format!("{who:?} {case:?} {size:?}")
}

fn run_process(who: Who, case: Case, size: Size) -> anyhow::Result<Reading> {
    let word = |value: serde_json::Value| value.as_str().map(str::to_owned).unwrap_or_default();
    let output = Command::new(std::env::current_exe()?)
        .args(["measure", &word(serde_json::to_value(who)?), &word(serde_json::to_value(case)?)])
        .args(["--count", &size.count.to_string(), "--due", &size.due.to_string()])
        .args(["--delay-ms", &size.delay_ms.to_string(), "--at-once", &size.at_once.to_string()])
        .args(["--rounds", &size.rounds.to_string()])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "{who:?} {case:?} {size:?} failed");
    let text = String::from_utf8(output.stdout)?;
    serde_json::from_str(text.lines().last().unwrap_or_default()).context("a measurement is one line of JSON")
}

/// CPU microseconds of one poll, record, message or delivery.
fn each_us(reading: &Reading) -> f64 {
    reading.cpu_s * 1e6 / reading.count.max(1) as f64
}

fn us(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{:.0} ms", value / 1000.0),
        value if value >= 1000.0 => format!("{:.1} ms", value / 1000.0),
        value if value >= 10.0 => format!("{value:.0} µs"),
        value => format!("{value:.2} µs"),
    }
}

fn times(value: f64) -> String {
    format!("{value:.2} x")
}

/// Sizes of a run.
struct Sizes {
    polls: u64,
    burst: u64,
    scans: Vec<u64>,
    members: u64,
    due: u64,
    rounds: u64,
}

impl Sizes {
    fn of(quick: bool) -> Self {
        match quick {
            true => Self { polls: 30, burst: 200, scans: vec![300, 600], members: 600, due: 40, rounds: 1 },
            false => Self {
                polls: 2000,
                burst: 10_000,
                scans: vec![10_000, 100_000, 1_000_000],
                members: 1_000_000,
                due: 66_667,
                rounds: 3,
            },
        }
    }
}

/// Measures, prints, and writes if asked to.
#[allow(clippy::print_stdout)] // The table is what it is for.
pub async fn run(options: &Options, root: &Path) -> anyhow::Result<()> {
    let sizes = Sizes::of(options.quick);
    let mut runner = Runner { repeats: if options.quick { 1 } else { options.repeats.max(1) }, taken: HashMap::new() };
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    let mut rows = Vec::new();
    let mut plots = Vec::new();
    if wanted("small polls") {
        rows.extend(small_polls(&mut runner, &sizes)?);
    }
    if wanted("slow") {
        rows.push(slow(&mut runner, &sizes)?);
    }
    if wanted("burst") {
        rows.push(burst(&mut runner, &sizes)?);
    }
    if wanted("scan") {
        rows.extend(scans(&mut runner, &sizes, &mut plots)?);
    }
    if wanted("dispatch") {
        rows.extend(dispatches(&mut runner, &sizes, &mut plots)?);
    }
    if wanted("delivery") {
        rows.push(delivery(&mut runner, &sizes)?);
    }
    if wanted("rest") {
        rows.push(rest(&mut runner, &sizes)?);
    }
    if wanted("cold") && !options.quick {
        rows.extend(cold_starts(if cfg!(debug_assertions) { "dev" } else { "bench" }).await?);
    }
    if wanted("cost") {
        rows.extend(costs(options.quick).await?);
    }
    let text = in_words(&rows);
    println!("{text}");
    if options.write {
        for (name, svg) in &plots {
            std::fs::write(root.join("docs").join(name), svg)?;
        }
        replace_measured(&root.join("docs/benchmarks.md"), &format!("{}\n\n{text}", machine()))?;
    }
    Ok(())
}

fn in_words(rows: &[Row]) -> String {
    let mut text = String::from(
        "| | floor | durable floor | Pollux | ratio | must | aim | |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for row in rows {
        let Row { name, floor, durable, ours, ratio, must, aim, verdict } = row;
        let _ = writeln!(text, "| {name} | {floor} | {durable} | {ours} | {ratio} | {must} | {aim} | {verdict} |");
    }
    text
}

/// On what and when.
fn machine() -> String {
    let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = information.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = model.map_or("an unknown processor", |(_, model)| model);
    format!("Measured on {} on {cores} cores of {model}.", chrono::Utc::now().format("%Y-%m-%d"))
}

/// Puts `text` between the marks of a page.
pub fn replace_measured(page: &Path, text: &str) -> anyhow::Result<()> {
    const MARKS: (&str, &str) = ("<!-- measured -->", "<!-- end of measured -->");
    let before = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let (head, rest) = before.split_once(MARKS.0).context("the page has no mark")?;
    let (_, tail) = rest.split_once(MARKS.1).context("the page has no second mark")?;
    std::fs::write(page, format!("{head}{}\n{}\n{}{tail}", MARKS.0, text.trim_end(), MARKS.1))?;
    Ok(())
}

// ---------------------------------------------------------------- Rows

fn small_polls(runner: &mut Runner, sizes: &Sizes) -> anyhow::Result<Vec<Row>> {
    let size = Size { count: sizes.polls, due: 0, delay_ms: 0, at_once: 64, rounds: sizes.rounds };
    let mut rows = Vec::new();
    for (case, name) in [(Case::Idle, "nothing changed"), (Case::Event, "one event")] {
        runner.take(&[Who::Floor, Who::Durable, Who::Flow, Who::Service], case, size, usize::MAX)?;
        let cpu = |who| runner.median(who, case, size, each_us);
        let (floor, durable) = (cpu(Who::Floor), cpu(Who::Durable));
        let whole = if case == Case::Event { Some(Goal { must: 5.0, aim: Some(2.5) }) } else { None };
        for (who, label, goal) in [
            (Who::Flow, "flow over a table in memory", Some(Goal { must: 2.5, aim: Some(1.5) })),
            (Who::Service, "whole local service", whole),
        ] {
            let ratio = cpu(who) / durable;
            rows.push(Row {
                name: format!("small poll, {name}: {label}, CPU a poll"),
                floor: us(floor),
                durable: us(durable),
                ours: us(cpu(who)),
                ratio: times(ratio),
                must: goal.map_or(String::new(), |goal| format!("{} x durable", goal.must)),
                aim: goal.and_then(|goal| goal.aim).map_or(String::new(), |aim| format!("{aim} x")),
                verdict: goal.map_or("", |goal| goal.verdict(ratio)),
            });
        }
        let rate = |who| runner.median(who, case, size, |reading| reading.count as f64 / reading.wall_s);
        let share = rate(Who::Service) / rate(Who::Durable);
        let goal = Goal { must: 3.0, aim: Some(1.5) };
        rows.push(Row {
            name: format!("small poll, {name}: whole local service, polls a second"),
            floor: format!("{:.0}", rate(Who::Floor)),
            durable: format!("{:.0}", rate(Who::Durable)),
            ours: format!("{:.0}", rate(Who::Service)),
            ratio: format!("{share:.2} of durable"),
            must: if case == Case::Event { "a third".into() } else { String::new() },
            aim: if case == Case::Event { "two thirds".into() } else { String::new() },
            verdict: if case == Case::Event { goal.verdict(1.0 / share) } else { "" },
        });
    }
    Ok(rows)
}

fn slow(runner: &mut Runner, sizes: &Sizes) -> anyhow::Result<Row> {
    let delay_ms = if sizes.polls < 100 { 20 } else { 200 };
    let size = Size { count: sizes.polls, due: 0, delay_ms, at_once: 64, rounds: 1 };
    runner.take(&[Who::Floor, Who::Durable, Who::Flow], Case::Event, size, 1)?;
    let wall = |who| runner.median(who, Case::Event, size, |reading| reading.wall_s);
    let (ratio, goal) = (wall(Who::Flow) / wall(Who::Floor), Goal { must: 1.5, aim: Some(1.15) });
    let seconds = |value: f64| format!("{value:.1} s");
    Ok(Row {
        name: format!(
            "{} polls, one event each, vendor and callback take {delay_ms} ms, 64 in flight: wall",
            size.count
        ),
        floor: seconds(wall(Who::Floor)),
        durable: seconds(wall(Who::Durable)),
        ours: seconds(wall(Who::Flow)),
        ratio: times(ratio),
        must: "1.5 x floor".into(),
        aim: "1.15 x".into(),
        verdict: goal.verdict(ratio),
    })
}

fn burst(runner: &mut Runner, sizes: &Sizes) -> anyhow::Result<Row> {
    let size = Size { count: sizes.burst, due: 0, delay_ms: 0, at_once: 64, rounds: sizes.rounds * 2 };
    runner.take(&[Who::Floor, Who::Durable, Who::Flow], Case::Burst, size, usize::MAX)?;
    let cpu = |who| runner.median(who, Case::Burst, size, each_us);
    let (ratio, goal) = (cpu(Who::Flow) / cpu(Who::Floor), Goal { must: 4.0, aim: Some(2.0) });
    Ok(Row {
        name: format!("burst: {} of {} records changed, CPU", size.count / 10, size.count),
        floor: us(cpu(Who::Floor)),
        durable: us(cpu(Who::Durable)),
        ours: us(cpu(Who::Flow)),
        ratio: times(ratio),
        must: "4 x floor".into(),
        aim: "2 x".into(),
        verdict: goal.verdict(ratio),
    })
}

fn scans(runner: &mut Runner, sizes: &Sizes, plots: &mut Vec<(&str, String)>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let size_of = |count| Size { count, due: 0, delay_ms: 0, at_once: 1, rounds: 1 };
    let per_record = |runner: &Runner, who, count| {
        runner.median(who, Case::Scan, size_of(count), |reading| reading.cpu_s * 1e6 / count as f64)
    };
    for count in &sizes.scans {
        let repeats = if *count >= 1_000_000 { 1 } else { usize::MAX };
        runner.take(&[Who::Floor, Who::Durable, Who::Flow], Case::Scan, size_of(*count), repeats)?;
        let cpu = |who| per_record(runner, who, *count);
        let ratio = cpu(Who::Flow) / cpu(Who::Floor);
        let goal = (*count == 100_000).then_some(Goal { must: 2.5, aim: Some(1.5) });
        rows.push(Row {
            name: format!("full scan, 100 of {count} changed: CPU a record"),
            floor: us(cpu(Who::Floor)),
            durable: format!("{} (fingerprints)", us(cpu(Who::Durable))),
            ours: us(cpu(Who::Flow)),
            ratio: times(ratio),
            must: goal.map_or(String::new(), |_| "2.5 x floor".into()),
            aim: goal.map_or(String::new(), |_| "1.5 x".into()),
            verdict: goal.map_or("", |goal| goal.verdict(ratio)),
        });
    }
    let (Some(least), Some(most)) = (sizes.scans.first(), sizes.scans.last()) else { return Ok(rows) };
    let growth = |who| per_record(runner, who, *most) / per_record(runner, who, *least);
    rows.push(Row {
        name: format!("growth of that from {least} to {most} records"),
        floor: times(growth(Who::Floor)),
        durable: times(growth(Who::Durable)),
        ours: times(growth(Who::Flow)),
        must: "1.3 x".into(),
        aim: "flat".into(),
        verdict: Goal { must: 1.3, aim: Some(1.05) }.verdict(growth(Who::Flow)),
        ..Row::default()
    });
    let peak = |who, count| runner.median(who, Case::Scan, size_of(count), |reading| reading.peak_mb);
    let mb = |value: f64| format!("{value:.0} MB");
    rows.push(Row {
        name: format!("peak memory of a scan of {most}, the stored index included"),
        floor: mb(peak(Who::Floor, *most)),
        durable: mb(peak(Who::Durable, *most)),
        ours: mb(peak(Who::Flow, *most)),
        must: "160 MB".into(),
        aim: "100 MB".into(),
        verdict: Goal { must: 160.0, aim: Some(100.0) }.verdict(peak(Who::Flow, *most)),
        ..Row::default()
    });
    let series = |of: &dyn Fn(Who, u64) -> f64| {
        [(Who::Floor, "floor"), (Who::Durable, "with fingerprints"), (Who::Flow, "Pollux")]
            .map(|(who, name)| Series {
                name: name.into(),
                points: sizes.scans.iter().map(|count| (*count as f64, of(who, *count))).collect(),
            })
            .to_vec()
    };
    let cpu = series(&|who, count| per_record(runner, who, count) * count as f64 / 1e6);
    plots.push(("scan-cpu.svg", chart("Full scan, 100 records changed", "records", "CPU seconds", &cpu)));
    plots.push(("scan-memory.svg", chart("Full scan, peak memory", "records", "MB", &series(&peak))));
    Ok(rows)
}

fn dispatches(runner: &mut Runner, sizes: &Sizes, plots: &mut Vec<(&str, String)>) -> anyhow::Result<Vec<Row>> {
    // Members come in whole slots: as many due ones as there are rounds, and the rest in the other slots.
    let size_of = |count| Size { count, due: sizes.due, delay_ms: 0, at_once: 1, rounds: 1 };
    let alone = 2 * sizes.due;
    let counts = [alone, alone + (sizes.members - alone) / 3, sizes.members];
    runner.take(&[Who::Floor], Case::Dispatch, size_of(sizes.members), usize::MAX)?;
    for count in counts {
        runner.take(&[Who::Flow], Case::Dispatch, size_of(count), usize::MAX)?;
    }
    let floor = runner.median(Who::Floor, Case::Dispatch, size_of(sizes.members), each_us);
    let cpu = |count| runner.median(Who::Flow, Case::Dispatch, size_of(count), each_us);
    let goal = Goal { must: 1.3, aim: None };
    let growth = cpu(sizes.members) / cpu(alone);
    let line = |name: &str, each: &dyn Fn(u64) -> f64| Series {
        name: name.into(),
        points: counts.iter().map(|count| (*count as f64, each(*count))).collect(),
    };
    let series = [line("batched sends", &|_| floor), line("Pollux", &cpu)];
    let title = format!("Dispatch of {} due members", sizes.due);
    plots.push(("dispatch.svg", chart(&title, "members of the wheel", "CPU µs a message", &series)));
    Ok(vec![
        Row {
            name: format!("dispatch: {} due of {} members, CPU a message", sizes.due, sizes.members),
            floor: us(floor),
            ours: us(cpu(sizes.members)),
            ratio: times(cpu(sizes.members) / floor),
            must: "1.3 x floor".into(),
            verdict: goal.verdict(cpu(sizes.members) / floor),
            ..Row::default()
        },
        Row {
            name: format!("growth of that from {alone} to {} members", sizes.members),
            ours: times(growth),
            must: "flat".into(),
            verdict: Goal { must: 1.1, aim: None }.verdict(growth),
            ..Row::default()
        },
    ])
}

fn delivery(runner: &mut Runner, sizes: &Sizes) -> anyhow::Result<Row> {
    let size = Size { count: sizes.polls, due: 0, delay_ms: 0, at_once: 10, rounds: sizes.rounds };
    runner.take(&[Who::Flow], Case::Delivery, size, usize::MAX)?;
    let rate = runner.median(Who::Flow, Case::Delivery, size, |reading| reading.count as f64 / reading.cpu_s);
    Ok(Row { name: "deliveries to fast callbacks, a CPU second".into(), ours: format!("{rate:.0}"), ..Row::default() })
}

fn rest(runner: &mut Runner, sizes: &Sizes) -> anyhow::Result<Row> {
    let size = Size { count: sizes.polls, due: 0, delay_ms: 0, at_once: 1, rounds: 1 };
    runner.take(&[Who::Service], Case::Rest, size, 1)?;
    let mb = runner.median(Who::Service, Case::Rest, size, |reading| reading.peak_mb);
    Ok(Row {
        name: format!("local service at rest with {} instances", sizes.polls),
        ours: format!("{mb:.0} MB"),
        must: "60 MB".into(),
        aim: "30 MB".into(),
        verdict: Goal { must: 60.0, aim: Some(30.0) }.verdict(mb),
        ..Row::default()
    })
}

async fn cold_starts(profile: &str) -> anyhow::Result<Vec<Row>> {
    let taken = cold::starts(21, profile).await?;
    let (empty, ours) = taken.split_first().context("an empty function")?;
    let goal = Goal { must: 1.5, aim: Some(1.2) };
    let row = |cold: &cold::Cold| Row {
        name: format!("cold start of {}: wall to the first answer", cold.name),
        floor: format!("{:.1} ms (empty function)", empty.ms),
        ours: format!("{:.1} ms", cold.ms),
        ratio: times(cold.ms / empty.ms),
        must: "1.5 x empty".into(),
        aim: "1.2 x".into(),
        verdict: goal.verdict(cold.ms / empty.ms),
        ..Row::default()
    };
    Ok(ours.iter().map(row).collect())
}

async fn costs(quick: bool) -> anyhow::Result<Vec<Row>> {
    let bill = cost::table(quick).await?;
    let units = |writes: f64, reads: f64| format!("{writes:.2} write, {reads:.2} read units");
    let priced = |name: &str, figure: f64, [must, aim]: [f64; 2]| Row {
        name: name.into(),
        ours: format!("${figure:.2}"),
        must: format!("${must:.2}"),
        aim: format!("${aim:.2}"),
        verdict: Goal { must, aim: Some(aim) }.verdict(figure),
        ..Row::default()
    };
    Ok(vec![
        Row {
            name: "idle poll on DynamoDB".into(),
            ours: units(bill.idle.writes, bill.idle.reads),
            must: "1 write, 1 read unit".into(),
            aim: "less".into(),
            verdict: match (bill.idle.writes <= 1.001, bill.idle.reads <= 1.001, bill.idle.reads < 0.999) {
                (true, true, true) => "reached, less for reads",
                (true, true, false) => "reached",
                _ => "**missed**",
            },
            ..Row::default()
        },
        priced("a million idle polls, list price", bill.idle_dollars(), cost::IDLE_GOAL),
        priced("a million events, each alone in its notification, list price", bill.event_dollars(), cost::EVENT_GOAL),
    ])
}
