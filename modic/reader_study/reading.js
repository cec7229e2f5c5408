/* The page of a reader (modic/reader_study/pages.py): whole stacks of T1 and T2 side by side, the readings by keys. It
   fetches nothing; images lie beside it. `data.items` are the discs in the reader's order: {key, level, drawn, places,
   repeat, link, given}, with a place in the stack of each contrast. */
(function () {
  const data = JSON.parse(document.getElementById("cases-data").textContent);
  const { make, stored, put } = tools, NAMES = ["T1", "T2"], CONTRASTS = [0, 1];
  const root = document.getElementById("cases"), arbitration = data.mode === "arbitration";
  const FIELD_MM = 2.4;  // width of the view, in widths of the box
  const state = { at: 0, mm: 0, whole: false, large: null, frame: true, field: "disc", over: null, asks: "" };
  const item = () => data.items[state.at], study = (of) => data.studies[of.key];
  const whole = () => study(item()).whole;

  /* --- readings: kept in this browser until exported ---------------------------------------------------------------- */
  const STORE = "modic reading " + data.sample + " " + data.reader;
  let readings = stored(STORE) || {};
  const id = (of) => [of.key, data.levels[of.level], of.repeat || 0].join("|");
  const reading = (of) => readings[id(of)] || {};
  const isRead = (of) => Boolean(reading(of).verdict);
  function keep(change) {
    readings = { ...readings, ...stored(STORE) };  // another page may have been open at the same time
    const key = id(item());
    readings[key] = { ...readings[key], ...change, at: tools.now() };
    const given = readings[key];
    if (!given.verdict && !given.note && !given.upper && !given.lower && !given.mixed) delete readings[key];
    kept = put(STORE, readings);
  }
  let kept = put(STORE, readings);
  const mc = (given) => (/^mc\d$/.test(given.verdict || "") ? given.verdict[2] : "");
  const typed = (endplate) => (endplate.type === "1/2" ? "mixed" : endplate.type);  // a spreadsheet would make a date of 1/2
  const COLUMNS = ["study_key", "level", "reader", "mc", "mixed", "mc_upper", "udby_upper", "mc_lower", "udby_lower", "verdict", "note",
    "seconds", "read_at", "blind", "sample_id", "drawn", "repeat", "role"];
  function exported() {
    const rows = [COLUMNS];
    for (const of of data.items) {
      const given = reading(of), upper = given.upper || {}, lower = given.lower || {};
      if (!readings[id(of)]) continue;
      rows.push([of.key, data.levels[of.level], data.reader, mc(given), given.mixed ? "yes" : "", typed(upper), upper.extent, typed(lower),
        lower.extent, given.verdict, given.note, given.seconds === undefined ? "" : given.seconds.toFixed(1), given.at, "yes", of.sample ?? data.sample,
        of.drawn, of.repeat, arbitration ? "arbiter" : "reader"]);
    }
    return tools.csv(rows);
  }

  /* --- time a disc: while its page is visible, without pauses ------------------------------------------------------- */
  const PAUSE = 60;  // seconds without a sign of life after which the clock stands
  let spent = 0, last = performance.now();
  function lap() {
    const now = performance.now();
    spent += Math.min((now - last) / 1000, PAUSE);
    last = now;
  }
  document.addEventListener("visibilitychange", () => { if (document.hidden) lap(); else last = performance.now(); });
  for (const kind of ["pointermove", "pointerdown", "wheel", "keydown"]) document.addEventListener(kind, lap, { passive: true, capture: true });
  function seconds() {
    lap();
    const all = (reading(item()).seconds || 0) + spent;
    spent = 0;
    return all;
  }

  /* --- slices: places in mm along the spine's left-right axis, 0 at the slice of the disc's box ---------------------- */
  const image = (contrast) => study(item()).images[contrast];
  const place = (contrast) => item().places[contrast];
  const sliceAt = (contrast, mm) => Math.round((mm - place(contrast).first) / place(contrast).step);
  const inside = (contrast, slice) => slice >= 0 && slice < image(contrast).n;
  const finer = () => (place(0).step < place(1).step - 0.01 ? 0 : 1);  // the stack whose slices are stepped through
  const mmOf = (contrast, slice) => place(contrast).first + slice * place(contrast).step;
  function scroll(by) {
    const contrast = finer(), next = sliceAt(contrast, state.mm) + by;
    if (!inside(contrast, next)) return;
    state.mm = mmOf(contrast, next);
    drawImages();
  }

  /* --- drawing ------------------------------------------------------------------------------------------------------ */
  /* What is in view of one contrast: pixels of the slice, from its upper left corner, and screen pixels for a millimetre. */
  function view(contrast, width, height, whole) {
    const { size, spacing } = image(contrast), box = place(contrast).box;
    const centre = whole ? [size[0] / 2, size[1] / 2] : [(box[0] + box[2]) / 2 + 0.5, (box[1] + box[3]) / 2 + 0.5];
    const mm = whole ? Math.max((size[0] * spacing[0]) / width, (size[1] * spacing[1]) / height)
      : Math.max((FIELD_MM * (box[2] - box[0]) * spacing[0]) / Math.min(width, height), 0.001);
    const w = (width * mm) / spacing[0], h = (height * mm) / spacing[1];
    return { x: centre[0] - w / 2, y: centre[1] - h / 2, w, h, perMm: 1 / mm, perPixel: [spacing[0] / mm, spacing[1] / mm] };
  }
  function paint(canvas, contrast, slice, from) {
    const about = image(contrast), sheet = tools.picture(about.file), context = canvas.getContext("2d");
    const cell = (place(contrast).from || 0) + slice, [columns, rows] = about.size;
    function now() {
      context.clearRect(0, 0, canvas.width, canvas.height);
      if (!sheet.complete || !sheet.naturalWidth || !inside(contrast, slice)) return;
      const x0 = Math.max(0, from.x), y0 = Math.max(0, from.y);
      const x1 = Math.min(columns, from.x + from.w), y1 = Math.min(rows, from.y + from.h);
      if (x1 <= x0 || y1 <= y0) return;
      const sx = canvas.width / from.w, sy = canvas.height / from.h;
      context.imageSmoothingQuality = "high";
      context.drawImage(sheet, (cell % about.across) * columns + x0, Math.floor(cell / about.across) * rows + y0, x1 - x0, y1 - y0,
        (x0 - from.x) * sx, (y0 - from.y) * sy, (x1 - x0) * sx, (y1 - y0) * sy);
    }
    canvas.ready = now;
    now();
    if (!sheet.complete) sheet.addEventListener("load", () => { if (canvas.ready === now) now(); });
  }
  function sized(canvas, width, height) {
    const dense = window.devicePixelRatio || 1, w = Math.max(1, Math.round(width * dense)), h = Math.max(1, Math.round(height * dense));
    if (canvas.width !== w) canvas.width = w;
    if (canvas.height !== h) canvas.height = h;
  }
  let panes = [];
  const windows = tools.windows(document.body, captions);
  panes = CONTRASTS.map((contrast) => {
    const canvas = windows.shows(make("canvas", { role: "img" }), contrast), label = (name, ...more) => make("span", { class: name }, ...more);
    const parts = { canvas, slice: make("span", {}), window: label("window"), scale: label("scale"), side: label("side"), outside: label("outside"),
      frame: make("div", { class: "frame" }), strip: make("div", { class: "strip" }) };
    parts.image = make("div", { class: "image" }, canvas, label("name", make("b", {}, NAMES[contrast]), " ", parts.slice), parts.window, parts.scale,
      parts.side, label("anterior", "A"), label("posterior", "P"), parts.outside, parts.frame);
    parts.node = make("div", { class: "pane" }, parts.image, parts.strip);
    windows.drag(parts.image, contrast, () => { state.large = state.large === null ? contrast : null; drawImages(); });
    parts.image.addEventListener("wheel", (event) => { event.preventDefault(); scroll(Math.sign(event.deltaY)); }, { passive: false });
    parts.image.addEventListener("pointerenter", () => { state.over = contrast; });
    parts.image.addEventListener("pointerleave", () => { state.over = null; });
    return parts;
  });
  function captions() { panes.forEach((pane, contrast) => { pane.window.textContent = "window " + windows.text(contrast); }); }
  function drawPane(contrast) {
    const pane = panes[contrast], about = image(contrast), slice = sliceAt(contrast, state.mm);
    pane.node.classList.toggle("large", state.large === contrast);
    const { clientWidth: width, clientHeight: height } = pane.image;
    if (!width || !height) return;
    sized(pane.canvas, width, height);
    const from = view(contrast, width, height, state.whole || !whole());
    paint(pane.canvas, contrast, slice, from);
    const there = inside(contrast, slice);
    pane.outside.textContent = there ? "" : `no slice of ${NAMES[contrast]} here`;
    pane.slice.textContent = there ? `slice ${slice + 1} of ${about.n}` : "";
    pane.canvas.setAttribute("aria-label", `${NAMES[contrast]} ${pane.slice.textContent}`);
    side(pane.side, contrast, slice);
    const bar = [50, 20, 10, 5].find((mm) => mm * from.perMm < width / 3) || 5;
    pane.scale.hidden = !whole();
    pane.scale.style.width = bar * from.perMm + "px";
    pane.scale.replaceChildren(make("i", {}, bar + " mm"));
    const [x0, y0, x1, y1] = place(contrast).box, [sx, sy] = from.perPixel;
    pane.frame.hidden = !state.frame || !whole() || !there;
    Object.assign(pane.frame.style, { left: (x0 + 0.5 - from.x) * sx + "px", top: (y0 + 0.5 - from.y) * sy + "px",
      width: (x1 - x0) * sx + "px", height: (y1 - y0) * sy + "px" });
  }
  /* R ··●··· L: which way the slices run, and where this one lies beside that of the disc's box. */
  function side(node, contrast, slice) {
    const n = image(contrast).n, marks = Array.from({ length: n }, (_, k) => (k === slice ? "●" : "·")).join("");
    const mm = mmOf(contrast, slice), where = Math.abs(mm) < place(contrast).step / 2 ? "slice of the box" : `${Math.abs(mm).toFixed(0)} mm to the ${mm < 0 ? "right" : "left"}`;
    node.replaceChildren("R ", make("i", {}, marks), " L", whole() ? ` · ${where}` : "");
  }
  const STRIP = 7;
  function drawStrip(contrast) {
    const strip = panes[contrast].strip, middle = sliceAt(contrast, 0), now = sliceAt(contrast, state.mm), n = image(contrast).n;
    const count = Math.min(STRIP, n), first = Math.min(Math.max(middle - Math.floor(count / 2), 0), n - count);
    while (strip.children.length > count) strip.lastChild.remove();
    while (strip.children.length < count) {
      const index = strip.children.length;
      strip.append(make("div", { onclick: () => { state.mm = mmOf(contrast, strip.first + index); drawImages(); } }, windows.shows(make("canvas"), contrast)));
    }
    strip.first = first;
    const side = Math.floor(strip.clientWidth / STRIP);
    [...strip.children].forEach((cell, index) => {
      cell.classList.toggle("on", first + index === now);
      cell.title = `${NAMES[contrast]} slice ${first + index + 1}`;
      cell.style.maxWidth = 100 / STRIP + "%";
      sized(cell.firstChild, side, side);
      paint(cell.firstChild, contrast, first + index, view(contrast, side, side, !whole()));
    });
  }
  function drawImages() {
    panesNode.classList.toggle("one", state.large !== null);
    CONTRASTS.forEach((contrast) => { if (state.large === null) drawStrip(contrast); });
    CONTRASTS.forEach(drawPane);
    captions();
  }
  function draw() {
    drawImages();
    drawPanel();
  }

  /* --- the panel ---------------------------------------------------------------------------------------------------- */
  const DISC = [["mc0", "MC0", "no change", "0"], ["mc1", "MC1", "T1 dark, T2 bright", "1"], ["mc2", "MC2", "T1 bright", "2"],
    ["other", "other", "type 3, tumour, …", "o"], ["wrong level", "wrong level", "", "w"], ["unusable", "unusable", "", "u"]];
  const TYPES = [["0", "0"], ["1", "1"], ["2", "2"], ["3", "3"], ["1/2", "m"]], EXTENTS = [["A", "a"], ["B", "b"], ["C", "c"]];
  const SIDES = ["upper", "lower"], REACH = { A: "under 25 % of the vertebra's height", B: "25 to 50 %", C: "over 50 %" };
  function button(text, key, on, press, more) {
    return make("button", { class: on ? "on" : null, onclick: () => { press(); root.focus({ preventScroll: true }); }, ...more }, ...[].concat(text), key ? make("kbd", {}, key) : null);
  }
  function discField(given) {
    const buttons = DISC.map(([value, name, about, key]) => button([make("b", {}, name), about ? make("span", { class: "soft" }, " " + about) : null],
      key, given.verdict === value, () => give(value), { "data-verdict": value, class: [given.verdict === value ? "on" : "", about ? "wide" : ""].join(" ") }));
    buttons.push(button("mixed: types 1 and 2", "m", given.mixed, () => { state.field = "disc"; mixed(); }, { "data-mixed": 1, class: (given.mixed ? "on " : "") + "wide" }));
    return make("div", { class: "field" + (state.field === "disc" ? " now" : "") }, make("div", { class: "verdict" }, ...buttons));
  }
  function endplateField(given, name) {
    const of = given[name] || {};
    const press = (change) => () => { state.field = name; endplate(change); };
    return make("div", { class: "field" + (state.field === name ? " now" : ""), "data-field": name },
      make("h2", {}, name + " endplate", state.field === name ? null : name === "upper" ? make("kbd", {}, "e") : null),
      make("div", { class: "endplate" }, ...TYPES.map(([type, key]) => button(type, type === key ? "" : key, of.type === type, press({ type }), { title: "type " + type })),
        make("span", { class: "gap" }), ...EXTENTS.map(([extent]) => button(extent, "", of.extent === extent, press({ extent }), { title: REACH[extent], disabled: !of.type || of.type === "0" }))));
  }
  function givenTable(of) {
    const rows = of.given.map((one) => make("tr", {}, make("th", {}, one.reader), make("td", {}, one.disc), make("td", {}, one.upper), make("td", {}, one.lower), make("td", {}, one.note)));
    return make("table", { class: "given" }, make("tr", {}, ...["", "disc", "upper", "lower", "note"].map((head) => make("th", { class: "soft" }, head))), ...rows);
  }
  function keptText(done) {
    if (done === data.items.length) return `all ${done} read by ${data.reader}: export the CSV and send it back`;
    return kept ? `${done} of ${data.items.length} read by ${data.reader}, kept in this browser`
      : `${done} read; this browser does not keep them: export before you close the page`;
  }
  function drawPanel() {
    const of = item(), given = reading(of), done = data.items.filter(isRead).length;
    const bar = make("i", {});
    bar.style.width = (100 * done) / data.items.length + "%";
    const parts = [
      make("h1", {}, data.levels[of.level], make("small", {}, `disc ${state.at + 1} of ${data.items.length}`)),
      make("div", { class: "progress" }, bar),
      make("div", { class: "line" }, button("‹", "", false, () => go(state.at - 1), { disabled: state.at === 0, "aria-label": "previous disc" }),
        button("›", "", false, () => go(state.at + 1), { disabled: state.at + 1 === data.items.length, "aria-label": "next disc" }),
        button("next unread", "n", false, nextUnread, { disabled: done === data.items.length }),
        of.link ? make("a", { class: "button", id: "viewer", href: of.link, target: "_blank", rel: "noreferrer" }, "viewer ", make("kbd", {}, "p")) : null),
      of.given ? givenTable(of) : null,
      discField(given), ...SIDES.map((name) => endplateField(given, name)),
      state.asks ? make("div", { class: "warn" }, state.asks) : null,
      make("input", { id: "note", placeholder: "note (t)", maxlength: 500, value: given.note || "", "aria-label": "note",
        onchange: (event) => keep({ note: event.target.value.trim() }) }),  // no redraw: it would swallow the click that ended the note
      make("div", { class: "line" }, button("export CSV", "", false, download, { id: "export" }), button("help", "?", false, help)),
      make("div", { id: "kept", class: kept && done < data.items.length ? "soft" : "warn" }, keptText(done)),
      whole() ? null : make("div", { class: "warn" }, "The archive no longer holds the images of this disc: these are the tiles that were graded."),
      make("div", { class: "help" }, make("kbd", {}, "0"), " ", make("kbd", {}, "1"), " ", make("kbd", {}, "2"), " grade · ", make("kbd", {}, "↑"), " ", make("kbd", {}, "↓"),
        " slice · ", make("kbd", {}, "←"), " ", make("kbd", {}, "→"), " disc · ", make("kbd", {}, "z"), " full height · ", make("kbd", {}, "v"), " whole slice · ",
        make("kbd", {}, "["), " ", make("kbd", {}, "]"), " ", make("kbd", {}, "r"), " or drag: window · ", make("kbd", {}, "f"), " frame"),
    ];
    panel.replaceChildren(...parts.filter(Boolean));
  }
  function download() { tools.save("readings-" + data.reader + ".csv", exported()); }
  function help() { document.getElementById("help").showModal(); }

  /* --- giving a reading --------------------------------------------------------------------------------------------- */
  /* The disc's verdict ends its reading; giving it again takes it back. */
  function give(value) {
    state.asks = "";
    const before = reading(item()).verdict;
    keep({ verdict: before === value ? "" : value, seconds: seconds() });
    if (before === value || !go(state.at + 1)) draw();
  }
  function mixed() { keep({ mixed: !reading(item()).mixed }); draw(); }
  function endplate(change) {
    const name = state.field, before = reading(item())[name] || {}, after = { ...before, ...change };
    if (after.type === undefined) return;
    if (after.type === "0") delete after.extent;
    keep({ [name]: after });
    if (after.type === "0" || after.extent) forward();
    else draw();
  }
  /* From the upper endplate to the lower, then to the disc, whose grade follows from both if it is plain. */
  function forward() {
    if (state.field === "upper") state.field = "lower";
    else if (state.field === "lower") {
      state.field = "disc";
      const given = reading(item()), verdict = given.upper && given.lower ? discOf(given.upper, given.lower) : null;
      if (verdict && !given.verdict) {
        keep({ mixed: verdict.mixed });
        if (verdict.value) return give(verdict.value);
        state.asks = "Two types: which is the larger? 0 1 2 o";
      }
    }
    draw();
  }
  function discOf(upper, lower) {
    const kinds = new Set([upper, lower].flatMap((one) => one.type.split("/")).filter((type) => type !== "0"));
    const ofType = { 1: "mc1", 2: "mc2", 3: "other" };
    if (!kinds.size) return { value: "mc0", mixed: false };
    if (kinds.size === 1) return { value: ofType[[...kinds][0]], mixed: false };
    const larger = upper.extent > lower.extent ? upper : lower.extent > upper.extent ? lower : null;
    const plain = larger && upper.extent && lower.extent && !larger.type.includes("/");
    return { value: plain ? ofType[larger.type] : null, mixed: kinds.has("1") && kinds.has("2") };
  }

  /* --- moving ------------------------------------------------------------------------------------------------------- */
  function go(at) {
    if (at < 0 || at >= data.items.length) return false;
    if (at !== state.at) { lap(); if (isRead(item()) && spent > 1) keep({ seconds: seconds() }); spent = 0; }
    Object.assign(state, { at, mm: 0, field: data.endplates && !isRead(data.items[at]) ? "upper" : "disc", asks: "" });
    CONTRASTS.forEach((contrast) => windows.begin(contrast, ...place(contrast).window));
    draw();
    const next = data.items[at + 1];
    if (next) study(next).images.forEach((one) => tools.picture(one.file));
    return true;
  }
  function nextUnread() {
    const order = [...data.items.keys()].map((step) => (state.at + 1 + step) % data.items.length);
    const at = order.find((index) => !isRead(data.items[index]));
    if (at !== undefined) go(at);
  }
  const both = () => (state.over === null ? CONTRASTS : [state.over]);
  const KEYS = {
    ArrowRight: () => go(state.at + 1), ArrowLeft: () => go(state.at - 1), n: nextUnread,
    ArrowUp: () => scroll(-1), ArrowDown: () => scroll(1),
    "[": () => windows.widen(both()), "]": () => windows.narrow(both()), r: () => windows.reset(),
    z: () => { state.large = state.large === null ? state.over || 0 : state.large === 0 ? 1 : null; drawImages(); },
    v: () => { state.whole = !state.whole; drawImages(); }, f: () => { state.frame = !state.frame; drawImages(); },
    e: () => { state.field = state.field === "disc" ? "upper" : state.field === "upper" ? "lower" : "disc"; draw(); },
    Enter: () => { if (state.field !== "disc") forward(); },
    Escape: () => { state.large = null; state.field = "disc"; draw(); },
    t: () => document.getElementById("note").focus(), "?": help,
    p: () => { const link = document.getElementById("viewer"); if (link) link.click(); },
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open) return;
    if (event.target.tagName === "INPUT") {
      if (event.key === "Enter" || event.key === "Escape") { event.target.blur(); root.focus({ preventScroll: true }); }
      return;
    }
    if (event.key === "Enter" && event.target.tagName === "BUTTON") return;
    const verdict = DISC.find((one) => one[3] === event.key), atDisc = state.field === "disc";
    const type = TYPES.find((one) => one[1] === event.key), extent = EXTENTS.find((one) => one[1] === event.key);
    if (!atDisc && type) endplate({ type: type[0] });
    else if (!atDisc && extent) { if (!["0", undefined].includes((reading(item())[state.field] || {}).type)) endplate({ extent: extent[0] }); }
    else if (verdict) give(verdict[0]);
    else if (event.key === "m") mixed();
    else if (KEYS[event.key]) KEYS[event.key]();
    else return;
    event.preventDefault();
    if (event.key !== "t") root.focus({ preventScroll: true });
  });

  const panesNode = make("div", { class: "panes" }, ...panes.map((pane) => pane.node)), panel = make("div", { class: "panel view" });
  root.append(panesNode, panel);
  new ResizeObserver(() => drawImages()).observe(panesNode);
  go(Math.max(0, data.items.findIndex((of) => !isRead(of))));
  root.focus({ preventScroll: true });
})();
