/* The cases of report.html. It fetches nothing; images lie beside the page. Data become text or attributes and are never
   parsed as HTML. A study has `levels`, in the order of data.levels: {why} (not graded), or {mc, p, score, odd, box, shown,
   slice, alone, agree, apart, upper, lower, t1} (modic/cases/outliers.py and images.py). */
(function () {
  const data = JSON.parse(document.getElementById("cases-data").textContent);
  const { make, stored, put } = tools, PAGE = 100;
  const root = document.getElementById("cases");
  const state = { shown: [], at: 0, level: -1, page: 0, map: true, large: false, slice: 0 };
  const windows = tools.windows(root);

  /* --- small tools ------------------------------------------------------------------------------------------------ */
  const percent = (value) => (value === undefined ? "–" : Math.round(100 * value) + " %");
  const top = (level) => level.p.indexOf(Math.max(...level.p));
  const shown = (level) => level.shown ?? level.mc ?? top(level);  // `shown` comes with the pictures
  const grade = (mc) => (mc === null ? "abstained" : "MC" + mc);
  const current = () => data.studies[state.shown[state.at]];
  const readable = (study) => study.levels.map((level, i) => (level.p ? i : -1)).filter((i) => i >= 0);

  /* --- verdicts: kept in this browser until exported, separately for each reader ------------------------------------- */
  const WHO = "modic reader";
  let who = stored(WHO) || "", verdicts = {};
  const store = () => "modic verdicts" + (who && " " + who);
  const id = (study, level) => [study.key, study.run || "", data.levels[level]].join("|");
  const verdict = (study, level) => verdicts[id(study, level)];
  function keep(study, level, change) {
    verdicts = { ...verdicts, ...stored(store()) };  // another page may have been open at the same time
    const key = id(study, level), before = verdicts[key] || {};
    const after = { ...before, ...change, at: tools.now() };
    if (!after.verdict && !after.note) delete verdicts[key];
    else verdicts[key] = after;
    counted(put(store(), verdicts));
  }
  function counted(kept) {
    const count = Object.values(verdicts).filter((given) => given.verdict).length;
    const whose = who ? " of " + who : "";
    document.getElementById("kept").textContent = kept ? `${count} verdicts${whose} kept in this browser`
      : `${count} verdicts${whose}, which this browser does not keep: export before you close the page`;
  }
  /* Other initials are another reader. Verdicts given before any initials belong to the first reader who enters some. */
  function become(name) {
    if (name === who) return;
    const before = { store: store(), shown: JSON.stringify(verdicts) }, nobodys = who === "" ? verdicts : {};
    who = name;
    verdicts = { ...nobodys, ...stored(store()) };
    const kept = put(WHO, who) && put(store(), verdicts);
    if (kept && before.store === "modic verdicts") localStorage.removeItem(before.store);
    counted(kept);
    if (JSON.stringify(verdicts) !== before.shown) draw();  // a redraw would swallow the click that ended the initials
  }
  function exported() {
    const rows = [["study_key", "level", "reader", "mc", "verdict", "note", "read_at", "blind", "sample_id"]];
    for (const study of data.studies) for (const level of readable(study)) {
      const given = verdict(study, level);
      if (!given) continue;
      const mc = given.verdict === "agree" ? shown(study.levels[level]) : /^mc\d$/.test(given.verdict || "") ? given.verdict[2] : "";
      rows.push([study.key, data.levels[level], who, mc, given.verdict, given.note, given.at, "no", ""]);
    }
    return tools.csv(rows);
  }
  /* --- images ------------------------------------------------------------------------------------------------------- */
  const picture = (study, name) => tools.picture(study.path + "/" + name);
  /* One tile of regions.webp with its saliency map on top; `contrast` is 0 for T1 and 1 for T2. */
  function tile(study, level, contrast, slice, size) {
    const column = contrast * study.slices + slice;
    function layer(image, opacity) {
      const canvas = make("canvas", { width: size, height: size }), context = canvas.getContext("2d");
      context.globalAlpha = opacity;
      context.imageSmoothingQuality = "high";
      function paint() {
        const from = image.naturalWidth / (2 * study.slices);  // pixels of a tile
        if (!from) return;
        context.clearRect(0, 0, size, size);
        context.drawImage(image, column * from, level * from, from, from, 0, 0, size, size);
      }
      if (!image.complete) image.addEventListener("load", paint);
      paint();
      return canvas;
    }
    const node = make("div", { class: "tile" }, windows.shows(layer(picture(study, "regions.webp"), 1), contrast));
    if (state.map) node.append(layer(picture(study, "maps.webp"), 0.65));
    return node;
  }
  function overview(study, name, title) {
    const [width, height] = study.size, boxes = study.levels.map((level) => level.box).filter(Boolean);
    const left = Math.max(0, Math.min(width, ...boxes.map((box) => box[0])) - width / 8);  // the spine, not belly and back
    const right = Math.min(width, Math.max(0, ...boxes.map((box) => box[2])) + width / 4);
    const svg = make("svg", { viewBox: `${left} 0 ${right - left} ${height}`, role: "img", "aria-label": title });
    svg.append(windows.shows(make("image", { href: study.path + "/" + name, width, height }), name === "t2.webp" ? 1 : 0));
    study.levels.forEach((level, i) => {
      if (!level.box) return;
      const [x0, y0, x1, y1] = level.box;
      const group = make("g", { class: i === state.level ? "on" : null, onclick: () => choose(i) });
      group.append(make("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0 }));
      group.append(make("text", { x: x1 + 5, y: (y0 + y1) / 2 + 4 }, data.levels[i]));
      svg.append(group);
    });
    return make("figure", {}, svg, make("figcaption", {}, title));
  }

  /* --- the study in view ---------------------------------------------------------------------------------------------- */
  function levelRow(study, level, i) {
    const name = data.levels[i];
    if (!level.p) return make("tr", {}, make("td", {}, name), make("td", { colspan: 7, class: "soft" }, level.why));
    const bar = make("span", { class: "bar", title: level.p.map((p, k) => `MC${k} ${percent(p)}`).join(", ") });
    level.p.forEach((p, k) => bar.append(make("i", { class: "b" + k, "data-share": p })));
    for (const part of bar.children) part.style.width = 100 * part.dataset.share + "%";
    const drawn = study.path && level.slice !== undefined;
    const given = verdict(study, i);
    return make("tr", { class: "level" + (i === state.level ? " on" : ""), onclick: () => choose(i) },
      make("td", {}, name),
      make("td", {}, make("b", {}, grade(level.mc)), level.mc === null ? make("small", { class: "soft", title: level.odd }, " MC" + top(level) + "?", level.odd ? " measured otherwise" : null) : null),
      make("td", {}, bar, " " + level.p.map((p) => Math.round(100 * p)).join(" / ")),
      make("td", {}, level.score.toFixed(2)),
      make("td", {}, (level.alone ? `${level.agree} of ${level.alone.length}; ` : "") + percent(level.apart)),
      make("td", {}, level.upper === undefined ? "–" : `${percent(level.upper)} / ${percent(level.lower)}`),
      make("td", {}, ...(drawn ? [0, 1].map((contrast) => tile(study, i, contrast, level.slice, 112)) : [])),
      make("td", { class: "flag" }, given ? given.verdict || "note" : ""));
  }
  function levelTable(study) {
    const heads = ["level", "grade", "P of MC0 / 1 / 2, %", "score", "slices alone: agree; range of P", "saliency above / below", "T1, T2", "verdict"];
    return make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((head) => make("th", {}, head)))),
      make("tbody", {}, ...study.levels.map((level, i) => levelRow(study, level, i))));
  }
  function tiles(study, i) {
    const level = study.levels[i], grid = make("div", { class: "tiles" });
    grid.style.gridTemplateColumns = `repeat(${study.slices}, minmax(0, 1fr))`;
    ["T1", "T2"].forEach((name, contrast) => {
      for (let slice = 0; slice < study.slices; slice++) {
        const alone = level.alone && contrast ? ` alone MC${level.shown}: ${percent(level.alone[slice])}` : "";
        const image = tile(study, i, contrast, slice, 224);
        windows.drag(image, contrast, () => { state.large = true; state.slice = slice; draw(); });
        grid.append(make("figure", { class: level.slice === slice ? "on" : null }, image,
          make("figcaption", { title: `${name} slice ${slice + 1}${alone}` }, `${name} ${slice + 1}${alone}`)));
      }
    });
    return grid;
  }
  /* T1 and T2 of one slice at full height. */
  function large(study, i) {
    const node = make("div", { class: "large" });
    ["T1", "T2"].forEach((name, contrast) => {
      const image = tile(study, i, contrast, state.slice, 800);
      windows.drag(image, contrast, () => { state.large = false; draw(); });
      node.append(make("figure", {}, image, make("figcaption", {},
        `${name} slice ${state.slice + 1} of ${study.slices}, from the patient's right to left; anterior is left; z: back`)));
    });
    node.addEventListener("wheel", (event) => { event.preventDefault(); turnSlice(Math.sign(event.deltaY)); }, { passive: false });
    return node;
  }
  function turnSlice(by) {
    const next = state.slice + by;
    if (next < 0 || next >= current().slices) return;
    state.slice = next;
    draw();
  }
  function choices(level) {
    const grades = [0, 1, 2].map((k) => ["mc" + k, "MC" + k, String(k)]);
    return [["agree", "agree: MC" + shown(level), "a"], ...grades, ["wrong level", "wrong level", "w"], ["unusable", "unusable", "u"]];
  }
  function give(value) {
    const given = verdict(current(), state.level) || {};
    keep(current(), state.level, { verdict: given.verdict === value ? "" : value });
    draw();
    root.focus({ preventScroll: true });
  }
  function verdictBar(study, i) {
    const given = verdict(study, i) || {}, bar = make("div", { class: "verdict" });
    for (const [value, label, key] of choices(study.levels[i]))
      bar.append(make("button", { class: given.verdict === value ? "on" : null, "data-verdict": value, onclick: () => give(value) },
        label, make("kbd", {}, key)));
    bar.append(make("input", { id: "note", placeholder: "note (t)", maxlength: 500, value: given.note || "", "aria-label": "note",
      onchange: (event) => keep(study, i, { note: event.target.value.trim() }) }));  // no redraw: it would swallow the click that ended the note
    return bar;
  }
  function heading(study) {
    const facts = [study.status, study.scanner, study.about, study.why].filter(Boolean);
    return [make("div", { class: "line" }, make("h3", {}, make("code", {}, study.key)), make("span", { class: "soft" }, facts.join(" · "))),
      ...(study.flags || []).map(([, text]) => make("div", { class: "flag" }, text))];
  }
  function draw() {
    const view = root.querySelector(".view"), study = current(), scrolled = view.scrollTop;
    view.replaceChildren();
    drawItems();
    if (!study) return view.append(make("p", { class: "soft" }, "No study passes the filters."));
    const level = study.levels[state.level], drawn = study.path && level && level.box;
    view.append(...heading(study));
    if (level) view.append(make("div", { class: "line" }, make("b", {}, data.levels[state.level]), verdictBar(study, state.level)));
    if (drawn && state.large) view.append(large(study, state.level));
    else {
      const pictures = study.path ? [overview(study, "t1.webp", "T1"), overview(study, "t2.webp", "T2")] : [];
      view.append(make("div", { class: "top" }, drawn ? tiles(study, state.level) : null, ...pictures));
      if (study.levels.length) view.append(levelTable(study));
    }
    view.scrollTop = scrolled;
    const next = data.studies[state.shown[state.at + 1]];
    if (next && next.path) ["regions.webp", "maps.webp"].forEach((name) => picture(next, name));
  }

  /* --- moving --------------------------------------------------------------------------------------------------------- */
  function choose(level) { state.level = level; settle(); draw(); }
  function settle() { state.slice = (current() && current().levels[state.level] || {}).slice || 0; }
  function go(at) {
    if (at < 0 || at >= state.shown.length) return;
    state.at = at;
    state.page = Math.floor(at / PAGE);
    state.level = startLevel(current());
    settle();
    draw();
    root.querySelector(".view").scrollTop = 0;
    const on = root.querySelector(".items .on");
    if (on) on.scrollIntoView({ block: "nearest" });
  }
  /* How much a level contributes to each kind of outlier; a study opens at the level that contributes most. */
  const WORST = { MC1: (level) => level.p[1], measured: (level) => Number(Boolean(level.odd)), slices: (level) => level.apart || 0, score: (level) => 1 - level.score };
  function startLevel(study) {
    const all = readable(study), passing = all.filter((i) => passes(study.levels[i], i));
    const first = (study.flags || [])[0], worst = WORST[filters.kind || (first && data.kinds[first[0]])] || WORST.MC1;
    const worse = (best, i) => (best < 0 || worst(study.levels[i]) > worst(study.levels[best]) ? i : best);
    return (passing.length ? passing : all).reduce(worse, -1);
  }
  function moveLevel(by) {
    const all = readable(current()), at = all.indexOf(state.level) + by;
    if (at >= 0 && at < all.length) choose(all[at]);
  }
  const KEYS = {
    j: () => go(state.at + 1), k: () => go(state.at - 1), ArrowRight: () => go(state.at + 1), ArrowLeft: () => go(state.at - 1),
    ArrowDown: () => moveLevel(1), ArrowUp: () => moveLevel(-1), m: () => { state.map = !state.map; draw(); },
    "[": () => windows.widen([0, 1]), "]": () => windows.narrow([0, 1]), r: () => windows.reset(),
    z: () => { state.large = !state.large; draw(); }, Escape: () => { state.large = false; draw(); },
    t: () => { const note = document.getElementById("note"); if (note) note.focus(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!root.contains(event.target)) {  // elsewhere on the page, only `j` and `k` work: they lead here
      if (event.target !== document.body || !["j", "k"].includes(event.key)) return;
      root.scrollIntoView();
    }
    if (["INPUT", "SELECT"].includes(event.target.tagName)) {
      if (event.key === "Enter" || event.key === "Escape") { event.target.blur(); root.focus({ preventScroll: true }); }
      return;
    }
    const study = current(), choice = study && state.level >= 0 && choices(study.levels[state.level]).find((c) => c[2] === event.key);
    if (choice) give(choice[0]);
    else if (KEYS[event.key]) KEYS[event.key]();
    else return;
    event.preventDefault();
    if (event.key !== "t") root.focus({ preventScroll: true });
  });

  /* --- the list ------------------------------------------------------------------------------------------------------- */
  const filters = { kind: "", status: "", level: "", grade: "", confidence: "", scanner: "", verdict: "", text: "" };
  function passes(level, i) {
    if (filters.level !== "" && data.levels[i] !== filters.level) return false;
    const graded = level && level.p;
    if (filters.grade !== "" && !(graded && grade(level.mc) === filters.grade)) return false;
    return !(filters.confidence !== "" && !(graded && Math.max(...level.p) < Number(filters.confidence)));
  }
  function passesStudy(study) {
    if (filters.status !== "" && study.status !== filters.status) return false;
    if (filters.scanner !== "" && study.scanner !== filters.scanner) return false;
    if (filters.kind !== "" && !study.flags.some(([kind]) => data.kinds[kind] === filters.kind)) return false;
    if (filters.text !== "" && !study.key.includes(filters.text)) return false;
    const read = readable(study).some((i) => verdict(study, i));
    if (filters.verdict !== "" && read !== (filters.verdict === "yes")) return false;
    const byLevel = filters.level !== "" || filters.grade !== "" || filters.confidence !== "";
    return !byLevel || study.levels.some((level, i) => passes(level, i));
  }
  function refilter() {
    state.shown = [];
    data.studies.forEach((study, i) => { if (passesStudy(study)) state.shown.push(i); });
    state.at = state.page = 0;
    state.level = state.shown.length ? startLevel(current()) : -1;
    settle();
    draw();
  }
  function item(index, at) {
    const study = data.studies[index], read = readable(study), done = read.filter((i) => verdict(study, i)).length;
    const flags = (study.flags || []).map(([kind]) => data.kinds[kind]).join(", ") || study.status;
    return make("li", { class: at === state.at ? "on" : null, onclick: () => go(at) },
      done ? make("span", { class: "done" }, `${done} read`) : null, make("code", {}, study.key),
      flags ? make("small", {}, flags) : null);
  }
  function drawItems() {
    const from = state.page * PAGE, until = Math.min(from + PAGE, state.shown.length);
    root.querySelector(".items").replaceChildren(...state.shown.slice(from, until).map((index, i) => item(index, from + i)));
    root.querySelector(".pager span").textContent = state.shown.length ? `${from + 1}–${until} of ${state.shown.length}` : "none";
  }
  function turn(by) {
    const page = state.page + by;
    if (page >= 0 && page * PAGE < state.shown.length) go(page * PAGE);
  }
  function select(name, label, values) {
    const box = make("select", { "aria-label": label, id: "filter-" + name,
      onchange: (event) => { filters[name] = event.target.value; refilter(); } }, make("option", { value: "" }, label));
    for (const [value, text] of values) box.append(make("option", { value }, text));
    return box;
  }
  function same(values) { return values.map((value) => [value, value]); }
  function filterBar() {
    const scanners = [...new Set(data.studies.map((study) => study.scanner))].sort();
    const all = data.n > data.studies.length ? `the first ${data.studies.length} of ${data.n} studies` : "all studies, outliers first";
    const kind = select("kind", all, same(data.kinds));
    kind.className = "wide2";
    return [kind, select("status", "any status", same(["graded", "excluded", "failed"])), select("level", "any level", same(data.levels)),
      select("grade", "any grade", same(["MC0", "MC1", "MC2", "abstained"])),
      select("confidence", "any confidence", [0.5, 0.6, 0.7, 0.8, 0.9].map((p) => [p, "below " + percent(p)])),
      select("scanner", "any scanner", same(scanners)), select("verdict", "read or not", [["yes", "with a verdict"], ["no", "without a verdict"]]),
      make("input", { placeholder: "study key", "aria-label": "study key", oninput: (event) => { filters.text = event.target.value.trim(); refilter(); } }),
      make("input", { id: "reader", placeholder: "your initials", "aria-label": "your initials", maxlength: 40, value: who,
        onchange: (event) => become(event.target.value.trim()) })];
  }
  const help = "keys: j k study, ↑ ↓ level, a 0 1 2 w u verdict, t note, m saliency, z full height, [ ] r or drag: window";
  root.append(
    make("div", { class: "side" },
      make("div", { class: "filters" }, ...filterBar(),
        make("button", { id: "export", onclick: () => tools.save("verdicts.csv", exported()) }, "export CSV"),
        make("span", { class: "soft", id: "kept" }), make("small", { class: "soft wide2" }, help)),
      make("div", { class: "pager" }, make("button", { onclick: () => turn(-1), "aria-label": "previous page" }, "‹"), make("span"),
        make("button", { onclick: () => turn(1), "aria-label": "next page" }, "›")),
      make("ul", { class: "items" })),
    make("div", { class: "view" }));
  verdicts = stored(store()) || {};
  refilter();
  counted(true);
  function follow() {
    const key = location.hash.slice(1), place = () => state.shown.findIndex((index) => data.studies[index].key === key);
    if (!data.studies.some((study) => study.key === key)) return;
    if (place() < 0) {  // a filter hides it
      for (const box of root.querySelectorAll(".filters :is(select, input):not(#reader)")) box.value = "";
      for (const name of Object.keys(filters)) filters[name] = "";
      refilter();
    }
    go(place());
    root.scrollIntoView();
    root.focus({ preventScroll: true });
  }
  window.addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {  // clicking the same link again changes no hash
    const link = event.target.closest("a[href^='#']");
    if (link && link.hash === location.hash) follow();
  });
  follow();
})();
