"use strict";
/* What the report's cases and the reading pages share: nodes, storage, CSV, and the window of the images. Images of a
   page that lies in a folder cannot be read by its script, so SVG filters set the window. */
const tools = (function () {
  function make(tag, attributes, ...children) {
    const svg = ["svg", "g", "rect", "text", "image", "filter", "feComponentTransfer", "feFuncR", "feFuncG", "feFuncB"].includes(tag);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
    }
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  }
  function stored(name) {
    try { return JSON.parse(localStorage.getItem(name)); } catch { return null; }  // damaged, or storage is off
  }
  function put(name, value) {
    try { localStorage.setItem(name, JSON.stringify(value)); return true; } catch { return false; }
  }
  function csv(rows) {
    const harmless = (text) => (/^[=+\-@\t]/.test(text) ? "'" + text : text);  // a spreadsheet would compute a note
    const quote = (value) => '"' + harmless(String(value === undefined || value === null ? "" : value)).replaceAll('"', '""') + '"';
    return rows.map((row) => row.map(quote).join(",")).join("\r\n") + "\r\n";
  }
  function save(name, text) {
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    make("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }
  const now = () => new Date().toISOString().slice(0, 19) + "Z";

  const loaded = new Map(), MOST = 60;
  function picture(path) {
    if (!loaded.has(path)) {
      if (loaded.size > MOST) loaded.delete(loaded.keys().next().value);
      const image = new Image();
      image.src = path;
      loaded.set(path, image);
    }
    return loaded.get(path);
  }

  /* Windows of T1 (0) and T2 (1). `base` is the window to begin with, from 0 (black as stored) to 1 (white); what the
     reader changes is kept relative to it. Nodes that `shows` was called for follow. */
  const CLICK = 4, WHOLE = { width: 1, shift: 0 };
  function windows(root, changed) {
    const base = [[0, 1], [0, 1]], own = [{ ...WHOLE }, { ...WHOLE }], parts = [];
    for (const contrast of [0, 1]) {
      const functions = ["feFuncR", "feFuncG", "feFuncB"].map((name) => make(name, { type: "linear" }));
      parts.push(functions);
      root.append(make("svg", { width: 0, height: 0, class: "filters-of-images", "aria-hidden": "true" },
        make("filter", { id: "window-" + contrast, "color-interpolation-filters": "sRGB", x: 0, y: 0, width: "100%", height: "100%" },
          make("feComponentTransfer", {}, ...functions))));
    }
    function ends(contrast) {
      const [low, high] = base[contrast], width = (high - low) * own[contrast].width;
      const middle = (low + high) / 2 + own[contrast].shift * (high - low);
      return [middle - width / 2, middle + width / 2];
    }
    function apply() {
      for (const contrast of [0, 1]) {
        const [low, high] = ends(contrast), slope = 1 / Math.max(high - low, 0.004);
        for (const part of parts[contrast]) {
          part.setAttribute("slope", slope);
          part.setAttribute("intercept", -low * slope);
        }
      }
      if (changed) changed();
    }
    function change(contrasts, width, shift) {
      for (const contrast of contrasts) {
        const mine = own[contrast];
        mine.width = Math.min(Math.max(mine.width * width, 0.02), 4);
        mine.shift = Math.min(Math.max(mine.shift + shift, -1), 1);
      }
      apply();
    }
    /* Drag: to the right wider, down darker. A press that does not move is a click. */
    function drag(node, contrast, click) {
      let from = null, moved = false;
      node.addEventListener("pointerdown", (event) => {
        if (event.button) return;
        from = [event.clientX, event.clientY];
        moved = false;
        node.setPointerCapture(event.pointerId);
      });
      node.addEventListener("pointermove", (event) => {
        if (!from) return;
        const dx = event.clientX - from[0], dy = event.clientY - from[1];
        if (!moved && Math.hypot(dx, dy) < CLICK) return;
        moved = true;
        from = [event.clientX, event.clientY];
        change([contrast], Math.exp(dx / 200), dy / 400);
      });
      node.addEventListener("pointerup", (event) => { if (from && !moved && click) click(event); from = null; });
      node.addEventListener("pointercancel", () => { from = null; });
      node.addEventListener("dragstart", (event) => event.preventDefault());
    }
    apply();
    return {
      shows: (node, contrast) => { node.style.filter = `url(#window-${contrast})`; return node; },
      begin: (contrast, low, high) => { base[contrast] = [low, high]; apply(); },
      narrow: (contrasts) => change(contrasts, 1 / 1.2, 0), widen: (contrasts) => change(contrasts, 1.2, 0),
      reset: () => { own[0] = { ...WHOLE }; own[1] = { ...WHOLE }; apply(); },
      text: (contrast) => ends(contrast).map((end) => Math.round(100 * end)).join("–") + " %",
      drag,
    };
  }
  return { make, stored, put, csv, save, now, picture, windows };
})();
