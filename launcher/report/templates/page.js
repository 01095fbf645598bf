"use strict";
// Unpacks Plotly and the charts that this page carries, draws them, and keeps the buttons in step. Asks no network.
(async () => {
  const root = document.documentElement;
  const all = (query) => [...document.querySelectorAll(query)];
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const token = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const state = { runs: new Set(), parts: new Set(), divided: false, width: null };
  let plots = [];

  const theme = document.getElementById("theme");
  const named = () => theme && (theme.textContent = dark() ? "Light theme" : "Dark theme");
  theme?.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    named();
    redraw();
  });
  system.addEventListener("change", () => (named(), redraw()));
  named();

  const viewer = document.getElementById("viewer");
  all(".pictures button").forEach((button) =>
    button.addEventListener("click", () => {
      const [small, large] = [button.querySelector("img"), viewer.querySelector("img")];
      [large.src, large.alt] = [small.src, small.alt];
      viewer.showModal();
    }),
  );
  viewer?.addEventListener("click", () => viewer.close());
  all("button[data-copy]").forEach((button) =>
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy);
      getSelection().selectAllChildren(text);
      await navigator.clipboard?.writeText(text.textContent).then(() => (button.textContent = "Copied"), () => {});
    }),
  );

  const links = new Map(all("nav a").map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver(
    (entries) => entries.forEach((one) => links.get(one.target.id)?.classList.toggle("here", one.isIntersecting)),
    { rootMargin: "-20% 0px -70% 0px" },
  );
  all("section[id]").forEach((section) => seen.observe(section));

  async function unpack(id) {
    const packed = atob(document.getElementById(id).textContent.trim());
    const bytes = new Uint8Array(packed.length);
    for (let at = 0; at < packed.length; at++) bytes[at] = packed.charCodeAt(at);
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  }

  function trace(one) {
    const { run, gain, part, band } = one.meta;
    const paint = token(`c${run % 8}`);
    const off = state.runs.has(run) || state.parts.has(part);
    const values = state.divided && gain ? one.y.map((y) => (y === null ? null : y / gain)) : one.y;
    const shown = { ...one, y: values, visible: !off && !(state.divided && one.chart.per_gain && !gain) };
    if (band) return { ...shown, ...(one.fill ? { fillcolor: `${paint}33` } : {}) };
    return { ...shown, line: { ...one.line, color: paint }, marker: { ...one.marker, color: paint } };
  }

  function layout(chart, paper) {
    const [text, muted, grid, line, panel] = ["text", "muted", "grid", "line", "panel"].map(token);
    const made = structuredClone(chart.layout);
    for (const axis of [made.xaxis, made.yaxis])
      Object.assign(axis, { gridcolor: grid, linecolor: line, tickcolor: line, tickfont: { color: muted } });
    if (state.divided && chart.per_gain) made.yaxis.title.text += " per unit of gain";
    else if (chart.per_gain) made.yaxis.title.text += ", as written";
    (made.shapes ?? []).forEach((shape) => (shape.line.color = muted));
    (made.annotations ?? []).forEach((label) => (label.font.color = muted));
    const looks = { bgcolor: panel, bordercolor: line, font: { color: text } };
    return {
      ...made,
      font: { family: "system-ui, sans-serif", size: 12, color: text },
      paper_bgcolor: paper ?? "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      hoverlabel: { ...made.hoverlabel, ...looks },
      uirevision: "keep",
      ...(state.width ? { width: state.width, autosize: false } : { autosize: true }),
    };
  }

  const config = { displayModeBar: false, responsive: true, doubleClick: "reset" };
  const draw = (plot) => Plotly.react(plot.at, plot.chart.data.map(trace), layout(plot.chart), config);

  // Many long runs take a moment to draw: those on the screen come first, and a click in between is answered.
  const waiting = new Set();
  const seenNow = ({ at }) => at.getBoundingClientRect().bottom > 0 && at.getBoundingClientRect().top < innerHeight;
  async function redraw() {
    plots.forEach((plot) => waiting.add(plot));
    if (root.dataset.ready !== "true" || !plots.length) return; // someone is at it already
    root.dataset.ready = "drawing";
    while (waiting.size) {
      const plot = [...waiting].find(seenNow) ?? [...waiting][0];
      waiting.delete(plot);
      await draw(plot);
      await new Promise((next) => setTimeout(next));
    }
    root.dataset.ready = "true";
  }

  function save(plot, format) {
    const shown = { ...layout(plot.chart, token("panel")), showlegend: true, legend: { orientation: "h", y: -0.25 } };
    shown.title = { text: plot.chart.title, x: 0.02, font: { size: 15 } };
    shown.margin.t += 34;
    shown.margin.b += 40;
    const size = { width: 900, height: 480, format, filename: plot.chart.code };
    Plotly.downloadImage({ data: plot.chart.data.map(trace), layout: { ...shown, height: 480 } }, size);
  }

  function press() {
    all("button[data-run], button[data-part]").forEach((chip) => {
      const off = chip.dataset.run ? state.runs.has(Number(chip.dataset.run)) : state.parts.has(chip.dataset.part);
      chip.setAttribute("aria-pressed", String(!off));
    });
    redraw();
  }

  function wire() {
    all("button[data-run], button[data-part]").forEach((chip) => {
      const [set, value] = chip.dataset.run ? [state.runs, Number(chip.dataset.run)] : [state.parts, chip.dataset.part];
      if (chip.getAttribute("aria-pressed") === "false") set.add(value);
      chip.addEventListener("click", () => {
        set.has(value) ? set.delete(value) : set.add(value);
        press();
      });
    });
    all("button[data-all]").forEach((button) =>
      button.addEventListener("click", () => {
        const runs = new Set(all("button[data-run]").map((chip) => Number(chip.dataset.run)));
        state.runs.size ? state.runs.clear() : [...runs].slice(1).forEach((run) => state.runs.add(run));
        press();
      }),
    );
    all("button[data-divided]").forEach((choice) => {
      if (choice.getAttribute("aria-pressed") === "true") state.divided = choice.dataset.divided === "1";
      choice.addEventListener("click", () => {
        state.divided = choice.dataset.divided === "1";
        all("button[data-divided]").forEach((one) => one.setAttribute("aria-pressed", String(one === choice)));
        redraw();
      });
    });
    addEventListener("beforeprint", () => {
      const [theme, wide] = [root.dataset.theme, root.clientWidth];
      root.dataset.theme = "light";
      plots.forEach((plot) => {
        state.width = plots.length === 1 ? Math.min(wide, 680) : plot.at.closest(".three") ? 204 : 318;
        draw(plot);
      });
      addEventListener("afterprint", () => {
        theme ? (root.dataset.theme = theme) : delete root.dataset.theme;
        state.width = null;
        redraw();
      }, { once: true });
    });
  }

  try {
    if (document.getElementById("charts")) {
      const code = document.createElement("script");
      code.textContent = await unpack("plotly");
      document.head.append(code);
      const charts = new Map(JSON.parse(await unpack("charts")).map((chart) => [chart.code, chart]));
      charts.forEach((chart) => chart.data.forEach((one) => (one.chart = chart)));
      wire();
      for (const at of all(".plot")) {
        const plot = { at, chart: charts.get(at.dataset.chart) };
        at.style.height = `${plot.chart.layout.height}px`; // else it is lost when the window's size changes
        await draw(plot);
        plots.push(plot);
        const figure = at.closest(".chart");
        figure.querySelector("[data-reset]")?.addEventListener("click", () => {
          plot.at.layout.uirevision = Math.random();
          const again = { "xaxis.range": plot.chart.layout.xaxis.range.slice(), "yaxis.autorange": true };
          Plotly.relayout(plot.at, again);
        });
        figure.querySelectorAll("[data-save]").forEach((button) =>
          button.addEventListener("click", () => save(plot, button.dataset.save)),
        );
        await new Promise((next) => setTimeout(next));
      }
    }
    root.dataset.ready = "true";
  } catch (error) {
    root.dataset.ready = "failed";
    all(".plot").forEach((plot) => {
      if (!plot.firstChild) plot.textContent = "This chart needs a browser from 2023 or later. The numbers are in the tables.";
    });
    console.error(error);
  }
})();
