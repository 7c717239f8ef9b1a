// Charts, drawn here as SVG. Each comes with its figures as a table for those who do not see it.

import { h, number, s, span } from "./dom.js";

const WIDTH = 340;
const HEIGHT = 140;
const LEFT = 42;
const BOTTOM = 22;

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** A round number not below the value: a small number of steps times a power of ten. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return [1, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power).find((step) => step >= value);
}

function axes(top, from, to, label) {
  const short = to - from < 86_400_000 ? clock : day;
  const at = (share) => HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - 8);
  return [
    ...[0, 0.5, 1].flatMap((share) => [
      s("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: at(share), y2: at(share) }),
      s(
        "text",
        { x: LEFT - 7, y: at(share) + 4, "text-anchor": "end" },
        Number.isInteger(top * share) ? label(top * share) : "",
      ),
    ]),
    ...[0, 0.5, 1].map((share) =>
      s(
        "text",
        { x: LEFT + share * (WIDTH - LEFT), y: HEIGHT - 4, "text-anchor": ["start", "middle", "end"][share * 2] },
        short.format(from + share * (to - from)),
      ),
    ),
  ];
}

function figure(title, note, legend, chart, head, rows) {
  return h(
    "figure",
    { class: "card stack" },
    h(
      "figcaption",
      { class: "row between" },
      h("h2", null, title),
      h(
        "span",
        { class: "legend" },
        legend.map(([series, name]) => h("span", null, h("i", { class: series }), name)),
      ),
    ),
    h("p", { class: "dim small" }, note),
    chart,
    h(
      "details",
      { class: "small" },
      h("summary", null, "As a table"),
      h(
        "div",
        { class: "table", tabindex: "0", role: "region", "aria-label": title },
        h(
          "table",
          null,
          h(
            "thead",
            null,
            h(
              "tr",
              null,
              head.map((text) => h("th", { scope: "col" }, text)),
            ),
          ),
          h(
            "tbody",
            null,
            rows.map((row) =>
              h(
                "tr",
                null,
                row.map((text) => h("td", null, text)),
              ),
            ),
          ),
        ),
      ),
    ),
  );
}

/** Stretches of time of a length that suits, from the first moment to now. */
export function buckets(moments, now = Date.now(), wanted = 24) {
  const oldest = Math.min(now - 5 * 60_000, ...moments);
  const sizes = [10, 15, 30, 60, 300, 900, 3600, 10_800, 43_200, 86_400, 604_800].map((seconds) => seconds * 1000);
  const size = sizes.find((length) => (now - oldest) / length <= wanted) ?? sizes.at(-1);
  const first = Math.floor(oldest / size) * size;
  return { size, first, count: Math.floor((now - first) / size) + 1 };
}

/** Columns over time. `series`: [name, [moments in ms], class of its colour]. */
export function columns(title, series) {
  const { size, first, count } = buckets(series.flatMap(([, moments]) => moments));
  const sums = series.map(([, moments]) => {
    const filled = new Array(count).fill(0);
    for (const moment of moments) filled[Math.min(count - 1, Math.max(0, Math.floor((moment - first) / size)))]++;
    return filled;
  });
  const totals = Array.from({ length: count }, (_, at) => sums.reduce((sum, filled) => sum + filled[at], 0));
  const top = roundUp(Math.max(1, ...totals));
  const step = (WIDTH - LEFT) / count;
  const tall = (HEIGHT - BOTTOM - 8) / top;
  const bars = [];
  for (let at = 0; at < count; at++) {
    let base = HEIGHT - BOTTOM;
    sums.forEach((filled, which) => {
      if (filled[at] === 0) return;
      const height = filled[at] * tall;
      base -= height;
      const bar = {
        class: series[which][2],
        x: LEFT + at * step + step * 0.14,
        y: base,
        width: Math.max(step * 0.72, 1),
        height: Math.max(height - 1, 1),
        rx: Math.min(2, step / 4),
      };
      bars.push(
        s("rect", bar, s("title", null, `${filled[at]} ${series[which][0]}, ${day.format(first + at * size)}`)),
      );
    });
  }
  const all = series.map(([name, moments]) => `${number(moments.length)} ${name}`).join(", ");
  const chart = s(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${all}` },
    axes(top, first, first + count * size, (value) => number(value)),
    bars,
  );
  const rows = totals.flatMap((total, at) =>
    total > 0 ? [[day.format(first + at * size), ...sums.map((filled) => number(filled[at]))]] : [],
  );
  return figure(
    title,
    all,
    series.map(([name, , colour]) => [colour, name]),
    chart,
    ["From", ...series.map(([name]) => name)],
    rows,
  );
}

/** One dot an attempt, on a logarithmic scale of time: answered well, or a cross. */
export function latencies(title, attempts) {
  const now = Date.now();
  const moments = attempts.map((attempt) => Date.parse(attempt.at));
  const from = Math.min(now - 5 * 60_000, ...moments);
  const most = Math.max(10, ...attempts.map((attempt) => attempt.durationMs));
  const decades = Math.ceil(Math.log10(most));
  const y = (ms) => HEIGHT - BOTTOM - (Math.log10(Math.max(ms, 1)) / decades) * (HEIGHT - BOTTOM - 8);
  const x = (moment) => LEFT + ((moment - from) / Math.max(now - from, 1)) * (WIDTH - LEFT - 6);
  const isGood = (attempt) => attempt.status >= 200 && attempt.status < 300;
  const dots = attempts.map((attempt, at) => {
    const [cx, cy] = [x(moments[at]), y(attempt.durationMs)];
    const said = s("title", null, `${attempt.durationMs} ms, ${attempt.status ?? attempt.error ?? "no answer"}`);
    return isGood(attempt)
      ? s("circle", { class: "s1", cx, cy, r: 3.5 }, said)
      : s("path", { class: "fail", d: `M${cx - 4} ${cy - 4}l8 8m0-8l-8 8` }, said);
  });
  const sorted = attempts.map((attempt) => attempt.durationMs).sort((a, b) => a - b);
  const quantile = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
  const short = now - from < 86_400_000 ? clock : day;
  const lines = Array.from({ length: decades + 1 }, (_, power) => power).flatMap((power) => [
    s("line", { class: "axis", x1: LEFT, x2: WIDTH, y1: y(10 ** power), y2: y(10 ** power) }),
    s("text", { x: LEFT - 7, y: y(10 ** power) + 4, "text-anchor": "end" }, span(10 ** power / 1000)),
  ]);
  const said =
    sorted.length > 0
      ? `median ${number(quantile(0.5))} ms, 95 % within ${number(quantile(0.95))} ms`
      : "no attempts yet";
  const chart = s(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${said}` },
    lines,
    s("text", { x: LEFT, y: HEIGHT - 4 }, short.format(from)),
    s("text", { x: WIDTH, y: HEIGHT - 4, "text-anchor": "end" }, short.format(now)),
    sorted.length > 0 &&
      s("line", { class: "middle", x1: LEFT, x2: WIDTH, y1: y(quantile(0.5)), y2: y(quantile(0.5)) }),
    dots,
  );
  const rows = attempts.map((attempt) => [
    day.format(Date.parse(attempt.at)),
    `${attempt.durationMs} ms`,
    String(attempt.status ?? attempt.error ?? "no answer"),
  ]);
  return figure(
    title,
    said,
    [
      ["s1", "2xx"],
      ["s3", "× other"],
    ],
    chart,
    ["At", "Took", "Answer"],
    rows,
  );
}

// The hatching of gaps, once for all strips: not by colour alone.
document.body.append(
  s(
    "svg",
    { class: "hidden", "aria-hidden": "true" },
    s(
      "pattern",
      { id: "gap", width: 8, height: 12, patternUnits: "userSpaceOnUse" },
      s("rect", { class: "hatch-ground", width: 8, height: 12 }),
      s("path", { class: "hatch-line", d: "M0 12L8 0" }),
    ),
  ),
);

/** Which stretches of time are covered: a strip from the first of them, at most a week ago, to now. */
export function coverageStrip(resource) {
  const now = Date.now();
  const stretches = resource.stretches.map(({ from, to }) => [Date.parse(from), Date.parse(to)]);
  if (stretches.length === 0)
    return h("p", { class: "dim small" }, "Nothing is covered yet: the first poll begins it.");
  const start = Math.max(stretches[0][0], now - 7 * 86_400_000);
  const length = Math.max(now - start, 1000);
  const x = (moment) => (1000 * Math.max(0, moment - start)) / length;
  const gaps = resource.gaps.map(({ from, to }) => [Date.parse(from), Date.parse(to)]).filter(([, to]) => to > start);
  const until = stretches.at(-1)[1];
  // What is not covered yet is no gap: the next poll that succeeds covers it.
  const late = resource.trouble || resource.stale ? `, up to ${span((now - until) / 1000)} ago` : "";
  const gap = ([from, to]) => `a gap of ${span((to - from) / 1000)} at ${day.format(from)}`;
  const said =
    gaps.length === 0
      ? `Covered without a gap since ${day.format(stretches.at(-1)[0])}${late}`
      : `Covered since ${day.format(stretches[0][0])}${late}, with ${gaps.map(gap).join("; ")}`;
  const rect = (name, from, to, least = 0) =>
    s("rect", { class: name, x: x(from), y: 0, width: Math.max(x(to) - x(from), least), height: 12 });
  const strip = s(
    "svg",
    { class: "strip", viewBox: "0 0 1000 12", preserveAspectRatio: "none", role: "img", "aria-label": said },
    rect("pending", until, now),
    stretches.filter(([, to]) => to >= start).map(([from, to]) => rect("covered", from, to, 3)),
    gaps.map(([from, to]) =>
      s(
        "rect",
        { x: x(from), y: 0, width: Math.max(x(to) - x(from), 6), height: 12, fill: "url(#gap)" },
        s("title", null, gap([from, to])),
      ),
    ),
  );
  return h(
    "div",
    null,
    strip,
    h(
      "div",
      { class: "strip-ends" },
      h("span", { class: "wide-only" }, day.format(start)),
      h("span", null, said),
      h("span", null, "now"),
    ),
  );
}
