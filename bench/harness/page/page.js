// Turns the rows of a run into charts and tables. Everything is drawn from the JSON in the element `data`; a section
// for which nothing was measured is left away.
"use strict";
(() => {
  const page = JSON.parse(document.getElementById("data").textContent);
  const root = document.documentElement;
  const charts = [];
  // For whoever looks at the page with a program: the charts, and how a theme is set.
  window.wigwag = { page, charts, setTheme };

  // ---- words and numbers

  const SMALL = ["ns", "us", "ms", "s"];
  function duration(ns) {
    if (ns == null || !isFinite(ns)) return "-";
    let value = ns, unit = 0;
    while (Math.abs(value) >= 1000 && unit < 3) { value /= 1000; unit += 1; }
    return digits(value) + " " + SMALL[unit];
  }
  function digits(value) {
    const size = Math.abs(value);
    if (size === 0) return "0";
    return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
  }
  function times(ratio) { return ratio == null || !isFinite(ratio) ? "-" : digits(ratio) + "\u00d7"; }
  function bytes(count) {
    if (count == null) return "-";
    const units = ["B", "KiB", "MiB", "GiB"];
    let unit = 0;
    while (count >= 1024 && unit < 3) { count /= 1024; unit += 1; }
    return (unit === 0 || Number.isInteger(count) ? String(Math.round(count)) : digits(count)) + " " + units[unit];
  }
  function rate(perSecond) {
    if (perSecond == null) return "-";
    if (perSecond >= 1e6) return digits(perSecond / 1e6) + " M/s";
    if (perSecond >= 1e3) return digits(perSecond / 1e3) + " k/s";
    return digits(perSecond) + "/s";
  }
  const WAITS = { adaptive: "default", spin: "polls", park: "sleeps" };
  const PINS = { two: "two processors", one: "one processor", none: "not pinned" };

  // ---- who is who

  const order = page.contenders.map((contender) => contender.name);
  const labels = new Map(page.contenders.map((contender) => [contender.name, contender.label]));
  const label = (name) => labels.get(name) || name;
  const isOurs = (row) => row.contender === page.ours;
  // A name that waits in one way only needs no word about it.
  const waitsOf = new Map();
  for (const row of page.rows) {
    if (!waitsOf.has(row.contender)) waitsOf.set(row.contender, new Set());
    waitsOf.get(row.contender).add(row.wait);
  }
  function named(row) {
    const several = (waitsOf.get(row.contender) || new Set()).size > 1;
    return label(row.contender) + (several ? ", " + WAITS[row.wait] : "");
  }
  function place(row) {
    const at = order.indexOf(row.contender);
    return (at < 0 ? 99 : at) * 4 + ["adaptive", "spin", "park"].indexOf(row.wait);
  }
  function colour(row) {
    const dark = root.dataset.theme === "dark";
    if (isOurs(row)) return { adaptive: dark ? "#ff9250" : "#d9480f", spin: dark ? "#ffc078" : "#f08c00", park: dark ? "#ff8787" : "#c92a2a" }[row.wait];
    if (/^(limit|raw|raw64|two-buffers|copy|futex)$/.test(row.contender)) {
      const grey = { limit: [30, 82], raw: [52, 62], raw64: [40, 72], "two-buffers": [60, 55], copy: [68, 48], futex: [45, 68] }[row.contender];
      return `hsl(220 8% ${grey[dark ? 1 : 0]}%)`;
    }
    // Steps of the golden angle, from blue on: neighbours in a table are far apart in colour, and none is ours.
    const at = Math.max(0, order.indexOf(row.contender)), hue = (200 + 137.508 * at) % 320;
    return `hsl(${hue + 40} ${dark ? 64 : 68}% ${(dark ? 58 : 32) + 8 * (at % 3)}%)`;
  }

  // ---- elements

  function make(tag, properties, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties || {})) {
      if (name in element) element[name] = value; else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child != null));
    return element;
  }
  const main = document.getElementById("main");
  const contents = document.getElementById("contents");
  function section(id, title, text) {
    const element = make("section", { id }, make("h2", {}, title), text ? make("p", {}, text) : null);
    main.append(element);
    contents.append(make("a", { href: "#" + id }, title));
    return element;
  }
  function table(into, heads, rows) {
    const head = make("tr", {}, ...heads.map((name, at) => make("th", { scope: "col", className: heads.text && heads.text.includes(at) ? "text" : "" }, name)));
    const body = rows.map((cells) => make("tr", { className: cells.ours ? "ours" : "" }, ...cells.map((cell, at) => {
      const td = make("td", { className: heads.text && heads.text.includes(at) ? "text" + (heads.long === at ? " long" : "") : "" });
      if (cell instanceof Node) td.append(cell); else if (Array.isArray(cell)) td.append(cell[0], make("small", {}, cell[1])); else td.textContent = cell;
      return td;
    })));
    into.append(make("div", { className: "scroll", tabIndex: 0 }, make("table", {}, make("thead", {}, head), make("tbody", {}, ...body))));
  }
  // Buttons of which one is pressed.
  function choice(into, options, chosen) {
    const box = make("span", { className: "choice", role: "group" });
    const buttons = options.map(([value, name]) => make("button", { type: "button", onclick: () => press(value) }, name));
    let current = options[0][0];
    const press = (value, quiet) => {
      current = value;
      buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(options[at][0] === value)));
      if (!quiet) chosen();
    };
    box.append(...buttons);
    if (options.length > 1) into.append(box);
    press(current, true);
    return () => current;
  }

  // ---- charts

  // What a chart shows: { title, x: [values], xText, xTicks, xLog, y text, lines: [{ row, values }] }.
  function chart(into, height) {
    const box = make("div", { className: "plot" });
    const heading = make("h3"), holder = make("div", { className: "chart" }), legend = make("ul", { className: "legend" });
    const tip = make("div", { className: "tip" });
    box.append(heading, holder, legend);
    into.append(box);
    const entry = { plot: null, shown: null, show, box, title: "" };
    const hidden = new Set();
    charts.push(entry);

    function show(what) {
      entry.shown = what;
      entry.title = what.title;
      heading.textContent = what.title;
      if (entry.plot) entry.plot.destroy();
      what.lines.sort((one, other) => place(one.row) - place(other.row));
      legend.replaceChildren(...what.lines.map((line, at) => item(line, at + 1)));
      entry.plot = new uPlot(options(what), [what.x, ...what.lines.map((line) => line.values)], holder);
      entry.plot.over.append(tip);
    }

    function item(line, at) {
      const value = make("span", { className: "value" });
      const button = make("button", { type: "button", title: "Hide or show " + line.name, className: isOurs(line.row) ? "ours" : "" },
        make("span", { className: "swatch", style: "border-color:" + colour(line.row) }), make("span", { className: "what" }, line.name), value);
      button.setAttribute("aria-pressed", String(!hidden.has(line.name)));
      button.onclick = () => {
        if (!hidden.delete(line.name)) hidden.add(line.name);
        button.setAttribute("aria-pressed", String(!hidden.has(line.name)));
        entry.plot.setSeries(at, { show: !hidden.has(line.name) });
      };
      button.onmouseenter = () => entry.plot.setSeries(at, { focus: true });
      button.onmouseleave = () => entry.plot.setSeries(null, { focus: true });
      line.value = value;
      return make("li", {}, button);
    }

    function options(what) {
      const style = getComputedStyle(root);
      const [soft, grid] = ["--soft", "--grid"].map((name) => style.getPropertyValue(name).trim());
      const font = "12px system-ui, 'DejaVu Sans', sans-serif";
      const axis = { stroke: soft, font, labelFont: font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 6 } };
      return {
        width: Math.max(260, holder.clientWidth), height,
        padding: [10, 24, 0, 0],
        legend: { show: false },
        focus: { alpha: 0.18 },
        cursor: { y: false, points: { size: 7 }, focus: { prox: 30 }, drag: { x: false, y: false } },
        scales: {
          x: { time: false, distr: what.xLog ? 3 : 1, range: what.xLog
            ? (_, low, high) => [low / 1.15, high * 1.15] : (_, low, high) => [low - 0.1, high + 0.1] },
          y: { distr: 3, range: (_, low, high) => low == null ? [1, 10] : [low / 1.4, high * 1.4] },
        },
        axes: [
          { ...axis, splits: () => what.xTicks || what.x, values: (plot, splits) => thin(plot, splits, what.xText), size: 34, gap: 4, filter: (_, splits) => splits },
          { ...axis, size: 66, gap: 6, values: (_, splits) => leading(splits, what.yText), filter: (_, splits) => splits,
            splits: (plot, _, low, high) => decades(low, high) },
        ],
        series: [{}, ...what.lines.map((line) => ({
          label: line.name, show: !hidden.has(line.name), stroke: colour(line.row), spanGaps: true,
          width: isOurs(line.row) && line.row.wait === "adaptive" ? 3.5 : 1.8,
          dash: isOurs(line.row) && line.row.wait !== "adaptive" ? [5, 4] : undefined,
          points: { show: true, size: isOurs(line.row) ? 7 : 5, fill: colour(line.row), width: 1 },
        }))],
        hooks: { setCursor: [(plot) => point(plot, what)] },
      };
    }

    function point(plot, what) {
      const { idx, left, top } = plot.cursor;
      const away = idx == null || left == null || left < 0;
      let nearest = null, distance = Infinity;
      what.lines.forEach((line, at) => {
        const value = away ? null : line.values[idx];
        line.value.textContent = value == null ? "" : what.yText(value);
        if (value == null || !plot.series[at + 1].show) return;
        const far = Math.abs(plot.valToPos(value, "y") - top);
        if (far < distance) { distance = far; nearest = line; }
      });
      if (!nearest) { tip.style.visibility = "hidden"; return; }
      const value = nearest.values[idx];
      tip.replaceChildren(make("i", { style: "background:" + colour(nearest.row) }), make("b", {}, nearest.name), make("br"), what.xText(what.x[idx]) + ": " + what.yText(value));
      tip.style.visibility = "visible";
      const x = plot.valToPos(what.x[idx], "x"), y = plot.valToPos(value, "y");
      const room = plot.over.clientWidth - tip.offsetWidth;
      tip.style.left = Math.max(0, Math.min(room, x - tip.offsetWidth / 2)) + "px";
      tip.style.top = (y > tip.offsetHeight + 14 ? y - tip.offsetHeight - 12 : y + 14) + "px";
    }

    const redraw = () => entry.shown && entry.show(entry.shown);
    entry.redraw = redraw;
    let width = 0;
    new ResizeObserver(() => {
      if (Math.abs(holder.clientWidth - width) < 2 || !entry.plot) return;
      width = holder.clientWidth;
      entry.plot.setSize({ width: Math.max(260, width), height });
    }).observe(holder);
    return entry;
  }
  const round = (words) => words.replace(/\.0+ /, " ");
  // Words at the powers of ten, and where there are few of them at 2 and 5 between.
  function leading(splits, text) {
    const first = (value) => Math.round(value / 10 ** Math.floor(Math.log10(value) + 1e-9));
    const told = splits.filter((value) => first(value) === 1).length > 1 ? [1] : [1, 2, 5];
    return splits.map((value) => (told.includes(first(value)) ? round(text(value)) : null));
  }
  // Where the lines of a logarithmic axis are.
  function decades(low, high) {
    const splits = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
      for (const step of [1, 2, 3, 4, 5, 6, 7, 8, 9]) {
        const value = step * 10 ** power;
        if (value >= low && value <= high) splits.push(Number(value.toPrecision(3)));
      }
    }
    return splits;
  }
  // Words on an axis that do not run into each other.
  function thin(plot, splits, text) {
    let end = -Infinity;
    return splits.map((value) => {
      const words = round(text(value)), at = plot.valToPos(value, "x"), half = words.length * 3.6 + 5;
      if (at - half < end) return null;
      end = at + half;
      return words;
    });
  }
  // Rows as lines: one for each contender and way of waiting, a value for each x.
  function lines(rows, xs, xOf, yOf) {
    const found = new Map();
    for (const row of rows) {
      const name = named(row);
      if (!found.has(name)) found.set(name, { name, row, values: xs.map(() => null) });
      const y = yOf(row);
      found.get(name).values[xs.indexOf(xOf(row))] = y > 0 ? y : null;
    }
    return [...found.values()].filter((line) => line.values.some((value) => value != null));
  }
  const distinct = (values) => [...new Set(values)].sort((one, other) => one - other);
  const height = () => (window.innerWidth < 700 ? 330 : 420);
  const polls = (row) => row.wait === "spin" || (isOurs(row) && row.wait === "adaptive");
  const sleeps = (row) => row.wait !== "spin";

  // ---- sections

  const closed = page.rows.filter((row) => row.load === "closed");
  const plain = closed.filter((row) => row.in_flight === 1 && row.sessions === 1);

  function inShort() {
    const baseline = page.rows.some((row) => row.ratio != null && row.baseline === page.ours);
    const sizes = [48, 4096, 1 << 20].filter((size) => plain.some((row) => row.size === size && row.pin === "two"));
    const paced = page.rows.filter((row) => row.load === "paced" && row.rate === 1000 && row.pin === "none");
    if (!baseline || (!sizes.length && !paced.length)) return;
    const into = section("short", "In short", "The median round trip as a multiple of Wigwag's with its default waiting, in the same rounds: above 1, Wigwag takes less. Below it the time itself.");
    const key = (row) => row.contender + " " + row.wait;
    const keys = new Map();
    for (const row of [...plain.filter((row) => row.pin === "two" && sizes.includes(row.size)), ...paced]) keys.set(key(row), row);
    const ours = paced.find((row) => isOurs(row) && row.wait === "adaptive");
    const cpu = (row) => row.client_cpu_ns_per_call + row.server_cpu_ns_per_call;
    const rows = [...keys.values()].sort((one, other) => place(one) - place(other)).map((row) => {
      const same = (other) => key(other) === key(row);
      const cells = [named(row)];
      for (const size of sizes) cells.push(heat(plain.find((other) => same(other) && other.pin === "two" && other.size === size)));
      if (paced.length) {
        const at = paced.find(same);
        cells.push(heat(at), at && ours ? pair(cpu(at) / cpu(ours), duration(cpu(at))) : "-");
      }
      cells.ours = isOurs(row) && row.wait === "adaptive";
      return cells;
    });
    table(into, ["", ...sizes.map(bytes), ...(paced.length ? ["1,000/s", "its CPU per call"] : [])], rows);
  }
  function heat(row) { return row ? pair(row.ratio, duration(row.p50_ns)) : "-"; }
  function pair(ratio, text) {
    const strength = Math.min(0.34, Math.abs(Math.log10(ratio || 1)) * 0.13);
    const mark = make("span", { className: "heat" }, times(ratio));
    mark.style.background = `rgb(var(--${ratio >= 1 ? "good" : "bad"}) / ${strength.toFixed(3)})`;
    return make("span", {}, mark, make("small", {}, text));
  }

  function bySize() {
    const kinds = [["polls", "polling", (row) => row.pin === "two" && polls(row)], ["sleeps", "sleeping", (row) => row.pin === "two" && sleeps(row)],
      ["one", "both on one processor", (row) => row.pin === "one" && sleeps(row)], ["none", "not pinned", (row) => row.pin === "none" && sleeps(row)]]
      .filter(([, , is]) => distinct(plain.filter(is).map((row) => row.size)).length > 1);
    if (!kinds.length) return;
    const into = section("size", "Round trip by size", "Closed loop, one request at a time, median. Both axes are logarithmic. Point at a line for its value; press a name to hide or show it.");
    const choices = into.appendChild(make("div", { className: "choices" }));
    const draw = () => {
      const [, name, is] = kinds.find((kind) => kind[0] === kind_());
      const rows = plain.filter(is), x = distinct(rows.map((row) => row.size));
      shown.show({ title: "Median round trip, " + name, x, xLog: true, xText: bytes, yText: duration, lines: lines(rows, x, (row) => row.size, (row) => row.p50_ns) });
    };
    const kind_ = choice(choices, kinds, () => draw());
    const shown = chart(into, height());
    draw();
  }

  function oneWay() {
    const found = page.rows.filter((row) => row.load === "one-way");
    if (!found.length) return;
    const into = section("one-way", "One way", "The client writes pieces as fast as the server reads and checks them; the time ends when the last byte was checked.");
    const pins = ["two", "one", "none"].filter((pin) => found.some((row) => row.pin === pin)).map((pin) => [pin, PINS[pin]]);
    const throughput = (perSecond) => bytes(perSecond) + "/s";
    if (distinct(found.map((row) => row.size)).length > 1) {
      const choices = into.appendChild(make("div", { className: "choices" }));
      const draw = () => {
        const rows = found.filter((row) => row.pin === pin()), x = distinct(rows.map((row) => row.size));
        shown.show({ title: "Bytes per second by the size of a write", x, xLog: true, xText: bytes, yText: throughput, lines: lines(rows, x, (row) => row.size, (row) => row.bytes_per_second) });
      };
      const pin = choice(choices, pins, () => draw());
      const shown = chart(into, height());
      draw();
    }
    const heads = Object.assign(["", "write", "where", "throughput", "CPU of both sides per GiB", "system calls per write", "time, of " + label(found[0].baseline || "unix")], { text: [2] });
    table(into, heads, found.map((row) => {
      const cpu = (row.client_cpu_ns_per_call + row.server_cpu_ns_per_call) * 2 ** 30 / row.size;
      const cells = [named(row), bytes(row.size), PINS[row.pin], throughput(row.bytes_per_second), duration(cpu), row.system_calls_per_call == null ? "-" : digits(row.system_calls_per_call), times(row.ratio)];
      cells.ours = isOurs(row);
      return cells;
    }));
  }

  function percentiles() {
    const groups = new Map();
    const what = (row) => {
      const load = row.load === "paced" ? row.rate.toLocaleString("en") + " calls/s" : row.load === "bursts" ? `bursts of ${row.burst}` : "closed loop";
      return `${bytes(row.size)}, ${load}, ${PINS[row.pin]}`;
    };
    for (const row of page.rows.filter((row) => row.in_flight === 1 && row.sessions === 1 && ["closed", "paced", "bursts"].includes(row.load) && row.curve)) {
      if (!groups.has(what(row))) groups.set(what(row), []);
      groups.get(what(row)).push(row);
    }
    if (!groups.size) return;
    const into = section("percentiles", "Percentiles", "How the slowest calls of each look. Closed loops below a microsecond are timed in batches of 1,000 calls, so there these are percentiles of batch means; calls at a rate or in bursts are timed one by one.");
    const choices = into.appendChild(make("div", { className: "choices" }));
    const select = make("select", { ariaLabel: "Work", onchange: () => draw() }, ...[...groups.keys()].map((name) => make("option", {}, name)));
    const preferred = [...groups.keys()].find((name) => name.startsWith("48 B, 1,000 calls/s"));
    if (preferred) select.value = preferred;
    choices.append(select);
    const kind = choice(choices, [["sleeps", "sleeping"], ["polls", "polling"]], () => draw());
    const at = page.percentiles.map((percentile) => -Math.log10(1 - Math.min(percentile, 99.999) / 100));
    const draw = () => {
      let rows = groups.get(select.value).filter(kind() === "polls" ? polls : sleeps);
      if (!rows.length) rows = groups.get(select.value);
      const found = rows.map((row) => ({ name: named(row), row, values: row.curve }));
      const text = (x) => { const place = at.findIndex((value) => Math.abs(value - x) < 1e-9); return place < 0 ? "" : page.percentiles[place] === 100 ? "max" : page.percentiles[place] + "%"; };
      const ticks = at.filter((_, place) => [1, 50, 75, 90, 99, 99.9, 99.99, 100].includes(page.percentiles[place]));
      shown.show({ title: "Latency by percentile", x: at, xTicks: ticks, xText: text, yText: duration, lines: found });
    };
    const shown = chart(into, height());
    draw();
  }

  function byRate() {
    const paced = page.rows.filter((row) => row.load === "paced");
    if (distinct(paced.map((row) => row.rate)).length < 2) return;
    const into = section("rate", "At a steady rate", "Latency, and beside it what it costs: processor time of both sides for each call. At 100,000 calls per second the client computes through its pauses, which is part of its time.");
    const choices = into.appendChild(make("div", { className: "choices" }));
    const draw = () => {
      const rows = paced.filter((row) => row.pin === pin() && (kind() === "polls" ? polls : sleeps)(row)), x = distinct(rows.map((row) => row.rate));
      const common = { x, xLog: true, xText: rate, yText: duration };
      const which = { p50_ns: "Median", p99_ns: "99th percentile" }[figure()];
      latency.show({ ...common, title: which + " of the latency", lines: lines(rows, x, (row) => row.rate, (row) => row[figure()]) });
      cost.show({ ...common, title: "Processor time per call, both sides", lines: lines(rows, x, (row) => row.rate, (row) => row.client_cpu_ns_per_call + row.server_cpu_ns_per_call) });
    };
    const pins = [["none", "not pinned"], ["two", "two processors"], ["one", "one processor"]].filter(([pin]) => paced.some((row) => row.pin === pin));
    const pin = choice(choices, pins, () => draw());
    const kind = choice(choices, [["sleeps", "sleeping"], ["polls", "polling"]].filter(([kind]) => kind === "sleeps" || paced.some((row) => row.wait === "spin")), () => draw());
    const figure = choice(choices, [["p50_ns", "median"], ["p99_ns", "99th"]], () => draw());
    const both = into.appendChild(make("div", { className: "pair" }));
    const latency = chart(both, 340), cost = chart(both, 340);
    draw();
  }

  function bursts() {
    const found = page.rows.filter((row) => row.load === "bursts");
    if (!found.length) return;
    const first = found[0];
    const into = section("bursts", "Bursts", `${first.burst} calls back to back, then ${duration(first.pause_ns)} of silence; ${PINS[first.pin]}.`);
    const rows = found.sort((one, other) => one.p50_ns - other.p50_ns).map((row) => {
      const cells = [named(row), duration(row.p50_ns), duration(row.p99_ns), duration(row.first_call_p50_ns), duration(row.client_cpu_ns_per_call + row.server_cpu_ns_per_call)];
      cells.ours = isOurs(row) && row.wait === "adaptive";
      return cells;
    });
    table(into, ["", "median", "99th", "first call of a burst", "CPU per call"], rows);
  }

  function scaling(id, title, text, rows, xOf, words) {
    const x = distinct(rows.map(xOf));
    if (x.length < 2) return;
    const into = section(id, title, text);
    const choices = into.appendChild(make("div", { className: "choices" }));
    const draw = () => {
      const some = rows.filter(kind() === "polls" ? polls : sleeps);
      const several = lines(some, x, xOf, (row) => row[figure()]).filter((line) => line.values.filter((value) => value != null).length > 1);
      shown.show({ title: figure() === "p50_ns" ? "Median latency" : "Calls per second, all together", x, xLog: true, xText: words, yText: figure() === "p50_ns" ? duration : rate, lines: several });
    };
    const kinds = [["sleeps", "sleeping"], ["polls", "polling"]].filter(([kind]) => rows.some((row) => (kind === "polls" ? row.wait === "spin" : sleeps(row)) && xOf(row) > 1));
    const kind = choice(choices, kinds.length ? kinds : [["sleeps", "sleeping"]], () => draw());
    const figure = choice(choices, [["calls_per_second", "rate"], ["p50_ns", "latency"]], () => draw());
    const shown = chart(into, height());
    draw();
  }

  function start() {
    const found = page.rows.filter((row) => row.load === "start");
    if (!found.length) return;
    const into = section("start", "From nothing to the first reply", "A new client process connects and makes its first call: nothing is warm. Starting the process itself is not in it.");
    const rows = found.sort((one, other) => one.p50_ns - other.p50_ns).map((row) => {
      const cells = [named(row), duration(row.p50_ns), duration(row.p90_ns), duration(row.max_ns), times(row.ratio)];
      cells.ours = isOurs(row) && row.wait === "adaptive";
      return cells;
    });
    table(into, ["", "median", "90th", "slowest", "of Wigwag's"], rows);
  }

  function idle() {
    if (!page.idle.length) return;
    const first = page.idle[0];
    const into = section("idle", "Silent clients", `${first.clients} clients are connected, have made one call, and are silent for ${digits(first.seconds)} s. Memory is that of both processes, shared pages counted once; what the kernel holds for them is not in it.`);
    table(into, ["", "CPU of both sides", "wake-ups", "memory per client"], page.idle.map((row) => {
      const cells = [label(row.contender), digits(row.cpu_us_per_second) + " us/s", digits(row.switches_per_second) + "/s", bytes(row.bytes_per_client)];
      cells.ours = isOurs(row);
      return cells;
    }));
  }

  function crashes() {
    if (!page.crashes.length) return;
    const into = section("killed", "After SIGKILL", "The server is killed in the middle of calls: when does the client know? Then both are gone: what is left? And after a client was killed, what does the next one get from the same server?");
    const heads = Object.assign(["", "the client of a killed server", "left behind", "the next client gets"], { text: [1, 2, 3] });
    table(into, heads, page.crashes.map((row) => {
      const knows = row.client_knows_after_ms == null ? "hangs" : "an error after " + duration(row.client_knows_after_ms * 1e6);
      const cells = [label(row.contender), row.client_knows_after_ms == null ? [knows, `was given ${digits(row.patience_ms / 1000)} s`] : knows,
        row.left_behind ? [`${row.left_behind} ${row.left_behind === 1 ? "thing" : "things"}`, bytes(row.left_bytes)] : "nothing", row.next_client];
      cells.ours = isOurs(row);
      return cells;
    }));
  }

  function broadcasts() {
    if (!page.broadcasts || !page.broadcasts.length) return;
    const into = section("broadcast", "One publisher, several readers", "Each is a process of its own; every byte is written, read and checked. Messages a second that the slowest reader has read whole, and how many that is for each of Wigwag's in the same rounds.");
    const cases = [...new Map(page.broadcasts.map((row) => [row.size + " " + row.readers, [row.size, row.readers]])).values()];
    const names = [...new Map(page.broadcasts.map((row) => [row.label + " " + row.wait, row])).values()];
    const heads = ["", ...cases.map(([size, readers]) => `${bytes(size)} to ${readers}`)];
    table(into, heads, names.map((one) => {
      const cells = [[one.label, one.wait], ...cases.map(([size, readers]) => {
        const row = page.broadcasts.find((row) => row.label === one.label && row.wait === one.wait && row.size === size && row.readers === readers);
        if (!row) return "-";
        const lost = row.lost == null ? "" : `, ${digits(row.lost * 100)} % lost`;
        return [digits(row.read_per_second) + "/s", (row.ratio == null ? "-" : (row.ratio < 0.1 ? row.ratio.toPrecision(2) : digits(row.ratio)) + "x") + lost];
      })];
      cells.ours = isOurs(one);
      return cells;
    }));
  }

  function company() {
    if (!page.contenders.some((contender) => contender.how)) return;
    const into = section("who", "Who took part, and how", "Each in its best fair configuration, as the head of its file in bench/compare/src/contenders says.");
    const heads = Object.assign(["", "configuration"], { text: [1], long: 1 });
    table(into, heads, page.contenders.map((contender) => {
      const cells = [contender.label, contender.missing ? `Not measured: ${contender.missing}` : contender.how];
      cells.ours = contender.name === page.ours;
      return cells;
    }));
    if (!page.left_out.length) return;
    const left = page.left_out.map((left) => Object.assign([label(left.contender), left.what, left.why], {}));
    const details = make("details", { style: "margin-top:14px" }, make("summary", {}, `${left.length} ${left.length === 1 ? "case that was" : "cases that were"} not measured, and why`));
    into.append(details);
    table(details, Object.assign(["", "what", "why"], { text: [1, 2], long: 2 }), left);
  }

  function everything() {
    const into = section("rows", "All rows", null);
    const details = make("details", {}, make("summary", {}, `${page.rows.length} measured cases`));
    into.append(details);
    // Built when somebody wants to see it.
    details.addEventListener("toggle", () => {
      if (!details.open || details.querySelector("table")) return;
      const load = (row) => row.load === "paced" ? rate(row.rate) : row.load === "bursts" ? `bursts of ${row.burst}` : row.load;
      const heads = Object.assign(["", "size", "load", "where", "in flight", "clients", "median", "90th", "99th", "99.9th", "max", "rate", "client CPU", "server CPU", "ratio"], { text: [2, 3] });
      table(details, heads, page.rows.map((row) => [named(row), bytes(row.size), load(row), PINS[row.pin], row.in_flight, row.busy, duration(row.p50_ns), duration(row.p90_ns), duration(row.p99_ns),
        duration(row.p999_ns), duration(row.max_ns), rate(row.calls_per_second), duration(row.client_cpu_ns_per_call), duration(row.server_cpu_ns_per_call), times(row.ratio)]));
    });
  }

  function machine() {
    const into = section("machine", "Machine, commands, data", null);
    const facts = { processor: page.machine.cpu, processors: `${page.machine.processors} (${page.machine.kinship})`, memory: bytes(page.machine.memory), kernel: page.machine.kernel,
      "clock governor": page.machine.governor, "virtual machine": page.machine.virtual_machine, "load before": page.machine.load, day: page.machine.day };
    into.append(make("dl", { className: "facts" }, ...Object.entries(facts).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))])));
    into.append(make("pre", {}, page.commands.map((command) => "$ " + command).join("\n")));
    const button = make("button", { type: "button", id: "download" }, "Download the figures (JSON)");
    button.onclick = () => {
      const url = URL.createObjectURL(new Blob([document.getElementById("data").textContent], { type: "application/json" }));
      make("a", { href: url, download: "wigwag-bench.json" }).click();
      setTimeout(() => URL.revokeObjectURL(url), 1000);
    };
    into.append(button);
  }

  // ---- theme

  function setTheme(theme) {
    root.dataset.theme = theme;
    document.getElementById("theme").textContent = theme === "dark" ? "light" : "dark";
    charts.forEach((entry) => entry.redraw());
  }
  document.getElementById("theme").onclick = () => setTheme(root.dataset.theme === "dark" ? "light" : "dark");
  const darkness = matchMedia("(prefers-color-scheme: dark)");
  darkness.addEventListener("change", () => setTheme(darkness.matches ? "dark" : "light"));
  setTheme(darkness.matches ? "dark" : "light");

  // ---- the page

  document.getElementById("title").textContent = page.title;
  document.getElementById("lead").textContent = page.lead;
  document.getElementById("stamp").textContent = `${page.machine.day} \u00b7 ${page.machine.cpu}, ${page.machine.processors} processors \u00b7 ${page.machine.kernel} \u00b7 virtual machine: ${page.machine.virtual_machine}`;
  inShort();
  bySize();
  oneWay();
  percentiles();
  byRate();
  bursts();
  scaling("in-flight", "Requests under way", "48 bytes, one client with several requests under way, two processors.", closed.filter((row) => row.size === 48 && row.sessions === 1 && row.pin === "two"), (row) => row.in_flight, String);
  scaling("clients", "Clients of one server", "48 bytes, each client a thread in a closed loop, not pinned: threads that share few processors wait for the scheduler too.",
    closed.filter((row) => row.size === 48 && row.in_flight === 1 && row.pin === "none"), (row) => row.busy, String);
  start();
  idle();
  crashes();
  broadcasts();
  company();
  everything();
  machine();
})();
