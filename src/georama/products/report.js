"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const box = document.getElementById("map");
  const canvas = box.querySelector("canvas");
  const tip = document.getElementById("tip");
  const key = document.getElementById("key");
  const pen = canvas.getContext("2d");
  const { w, h, west, north, dx, dy } = data.grid;
  const east = west + w * dx, south = north - h * dy;
  const NONE = 65535;

  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const words = (text) => {
    const raw = bytes(text), out = new Uint16Array(raw.length / 2);
    for (let i = 0; i < out.length; i++) out[i] = raw[2 * i] | (raw[2 * i + 1] << 8);
    return out;
  };
  // Numbers are packed as 16 bits between the two ends of their layer.
  const unpack = (layer) => {
    const packed = words(layer.data), out = new Float64Array(packed.length);
    for (let i = 0; i < out.length; i++)
      out[i] = packed[i] === NONE ? NaN : layer.low + packed[i] * layer.step;
    return out;
  };
  const applicable = bytes(data.applicable);
  const fields = data.fields.map((f) => ({ ...f, value: unpack(f.value), lower: unpack(f.lower),
    upper: unpack(f.upper), doubt: unpack(f.doubt), scale: paint(f.scale),
    doubt_scale: paint(f.doubt_scale) }));
  function paint(scale) { return scale && { ...scale, table: bytes(scale.table) }; }

  let field = fields[0], layer = "prediction";
  const chosen = (name) => document.querySelector(`input[name="${name}"]`);

  const number = (v) => {
    if (!Number.isFinite(v)) return "none";
    const a = Math.abs(v);
    if (a !== 0 && (a >= 1e6 || a < 1e-4)) return v.toExponential(2);
    if (a >= 10000) return String(Math.round(v)).replace(/\B(?=(\d{3})+$)/g, "\u202f");
    return String(a >= 1000 ? Math.round(v) : +v.toPrecision(3)).replace("-", "\u2212");
  };
  const unit = data.unit ? " " + data.unit : "";
  const named = (v) => data.classes.length
    ? (Number.isFinite(v) && data.classes[v] ? data.classes[v].name : "none") : number(v) + unit;
  const fraction = (scale, v) => {
    const low = scale.log ? Math.log(scale.low) : scale.low;
    const high = scale.log ? Math.log(scale.high) : scale.high;
    const at = scale.log ? Math.log(Math.max(v, scale.low)) : v;
    return Math.min(1, Math.max(0, (at - low) / (high - low)));
  };
  const colour = (scale, v) => {
    const i = 3 * Math.round(255 * fraction(scale, v));
    return [scale.table[i], scale.table[i + 1], scale.table[i + 2]];
  };
  const valueColour = (v) => field.scale ? colour(field.scale, v) : (data.classes[v] || {}).colour;

  const sheet = document.createElement("canvas"), mask = document.createElement("canvas");
  sheet.width = mask.width = w; sheet.height = mask.height = h;
  function fill() {
    const ink = sheet.getContext("2d"), image = ink.createImageData(w, h);
    const out = mask.getContext("2d"), veil = out.createImageData(w, h);
    for (let i = 0; i < w * h; i++) {
      const v = field.value[i];
      if (!Number.isFinite(v)) continue;
      let c;
      if (layer === "prediction") c = valueColour(v);
      else if (layer === "doubt") c = colour(field.doubt_scale, field.doubt[i]);
      else c = applicable[i] === 1 ? [47, 133, 108] : [200, 124, 48];
      if (!c) c = [150, 150, 150];
      image.data.set([c[0], c[1], c[2], 255], 4 * i);
      if (applicable[i] !== 1) veil.data[4 * i + 3] = 255;
    }
    ink.putImageData(image, 0, 0);
    out.putImageData(veil, 0, 0);
  }

  // Degrees east are as long as the cosine of the middle latitude says.
  const squeeze = Math.max(0.35, w * dx > 180 ? 1 : Math.cos((north + south) / 2 * Math.PI / 180));
  let wide = 0, tall = 0, least = 1, k = 1, x0 = (west + east) / 2, y0 = (north + south) / 2;
  const X = (lon) => wide / 2 + (lon - x0) * k * squeeze;
  const Y = (lat) => tall / 2 - (lat - y0) * k;
  const lonAt = (x) => x0 + (x - wide / 2) / (k * squeeze);
  const latAt = (y) => y0 - (y - tall / 2) / k;

  function size() {
    // A page in a hidden tab or a folded frame has no width yet; it asks again when it gets one.
    if (!box.clientWidth) return;
    const before = k / least;
    wide = box.clientWidth;
    tall = Math.round(Math.min(680, Math.max(210, wide * (north - south) / ((east - west) * squeeze))));
    const ratio = window.devicePixelRatio || 1;
    canvas.style.height = tall + "px";
    canvas.width = Math.round(wide * ratio);
    canvas.height = Math.round(tall * ratio);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    least = Math.min(wide / ((east - west) * squeeze), tall / (north - south));
    k = least * before;
    clamp();
    draw();
  }
  function clamp() {
    k = Math.min(least * 200, Math.max(least, k));
    const rx = Math.min((east - west) / 2, wide / (2 * k * squeeze));
    const ry = Math.min((north - south) / 2, tall / (2 * k));
    x0 = Math.min(east - rx, Math.max(west + rx, x0));
    y0 = Math.min(north - ry, Math.max(south + ry, y0));
  }
  function trace(lines, close) {
    pen.beginPath();
    for (const line of lines) {
      let lon = line[0], lat = line[1];
      pen.moveTo(X(lon / data.grain), Y(lat / data.grain));
      for (let i = 2; i < line.length; i += 2) {
        lon += line[i]; lat += line[i + 1];
        pen.lineTo(X(lon / data.grain), Y(lat / data.grain));
      }
      if (close) pen.closePath();
    }
  }
  function stripes() {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 8;
    const ink = tile.getContext("2d");
    ink.fillStyle = "rgba(215,215,215,.38)";
    ink.fillRect(0, 0, 8, 8);
    ink.strokeStyle = "rgba(40,40,40,.75)";
    ink.lineWidth = 1.2;
    ink.beginPath();
    for (const a of [-8, 0, 8]) { ink.moveTo(a, 8); ink.lineTo(a + 8, 0); }
    ink.stroke();
    return tile;
  }
  const tile = stripes();

  let waiting = false;
  function draw() { if (!waiting) { waiting = true; requestAnimationFrame(now); } }
  function now() {
    waiting = false;
    const style = getComputedStyle(document.documentElement);
    const ink = (name) => style.getPropertyValue(name).trim();
    pen.fillStyle = ink("--sea");
    pen.fillRect(0, 0, wide, tall);
    pen.fillStyle = ink("--land");
    trace(data.land, true);
    pen.fill("evenodd");
    const at = [X(west), Y(north), (east - west) * k * squeeze, (north - south) * k];
    pen.imageSmoothingEnabled = at[2] < w && !data.classes.length;
    pen.drawImage(sheet, ...at);
    if (layer !== "applicable" && chosen("veil").checked) {
      const veil = document.createElement("canvas");
      veil.width = wide; veil.height = tall;
      const soft = veil.getContext("2d");
      soft.imageSmoothingEnabled = false;
      soft.drawImage(mask, ...at);
      soft.globalCompositeOperation = "source-in";
      soft.fillStyle = soft.createPattern(tile, "repeat");
      soft.fillRect(0, 0, wide, tall);
      pen.drawImage(veil, 0, 0);
    }
    pen.lineJoin = "round";
    pen.strokeStyle = "rgba(90,90,90,.7)"; pen.lineWidth = 0.5;
    trace(data.borders, false); pen.stroke();
    pen.strokeStyle = "rgba(30,30,30,.9)"; pen.lineWidth = 0.9;
    trace(data.land, true); pen.stroke();
    if (chosen("dots").checked) dots();
    graticule(ink("--ink"), ink("--page"));
  }
  function radius() {
    const first = (data.dots.lon.length > 800 ? 2 : 3.4) * Math.min(1, Math.max(0.6, wide / 900));
    return Math.min(6, first * (k / least) ** 0.25);
  }
  function dots() {
    const r = radius(), d = data.dots;
    for (let i = 0; i < d.lon.length; i++) {
      const x = X(d.lon[i]), y = Y(d.lat[i]);
      if (x < -9 || y < -9 || x > wide + 9 || y > tall + 9) continue;
      const v = d.truth ? d.truth[i] : null;
      const c = v !== null && layer === "prediction" ? valueColour(v) : null;
      pen.beginPath();
      pen.arc(x, y, r, 0, 7);
      pen.strokeStyle = "#fff"; pen.lineWidth = r; pen.stroke();
      pen.fillStyle = c ? `rgb(${c.join(",")})` : "#fff"; pen.fill();
      pen.strokeStyle = "#111"; pen.lineWidth = 1; pen.stroke();
    }
  }
  function graticule(ink, page) {
    const step = (span) => [60, 30, 20, 10, 5, 2, 1, .5, .2, .1, .05, .02, .01, .005, .002, .001]
      .find((s) => span / s >= 3.5) || .001;
    pen.font = "11px system-ui, sans-serif";
    pen.lineWidth = 0.5; pen.strokeStyle = "rgba(110,110,110,.55)";
    const put = (text, x, y) => {
      pen.strokeStyle = page; pen.lineWidth = 3; pen.strokeText(text, x, y);
      pen.fillStyle = ink; pen.fillText(text, x, y);
      pen.lineWidth = 0.5; pen.strokeStyle = "rgba(110,110,110,.55)";
    };
    const name = (v, a, b) => `${+Math.abs(v).toFixed(3)}°${v === 0 || Math.abs(v) === 180 ? "" : v > 0 ? a : b}`;
    const sx = step(lonAt(wide) - lonAt(0)), sy = step(latAt(0) - latAt(tall));
    for (let v = Math.ceil(lonAt(0) / sx) * sx; v <= lonAt(wide); v += sx) {
      const x = X(v);
      pen.beginPath(); pen.moveTo(x, 0); pen.lineTo(x, tall); pen.stroke();
      const lon = Math.round((((v + 180) % 360 + 360) % 360 - 180) * 1e4) / 1e4;
      pen.textAlign = "center";
      if (x > 50 && x < wide - 25) put(name(lon, "E", "W"), x, tall - 6);
    }
    for (let v = Math.ceil(latAt(tall) / sy) * sy; v <= latAt(0); v += sy) {
      const y = Y(v);
      pen.beginPath(); pen.moveTo(0, y); pen.lineTo(wide, y); pen.stroke();
      pen.textAlign = "left";
      if (y > 16 && y < tall - 22) put(name(Math.round(v * 1e4) / 1e4, "N", "S"), 5, y + 4);
    }
  }

  function rounds(low, high, most) {
    const size = 10 ** Math.floor(Math.log10((high - low) / most));
    const step = [1, 2, 2.5, 5, 10].map((s) => s * size).find((s) => (high - low) / s <= most);
    const out = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++)
      out.push(+(i * step).toPrecision(12));
    return out;
  }
  function powers(low, high) {
    const every = [1, 2, 5], out = [];
    for (let p = Math.floor(Math.log10(low)); p <= Math.log10(high); p++)
      for (const s of high / low > 1000 ? [1] : every)
        if (s * 10 ** p >= low && s * 10 ** p <= high) out.push(+(s * 10 ** p).toPrecision(12));
    return out.length ? out : [low, high];
  }

  function legend() {
    key.replaceChildren();
    const add = (parent, tag, kind, text) => {
      const made = document.createElement(tag);
      if (kind) made.className = kind;
      if (text !== undefined) made.textContent = text;
      parent.append(made);
      return made;
    };
    if (layer === "applicable" || (layer === "prediction" && data.classes.length)) {
      const list = add(key, "div", "names");
      const rows = layer === "applicable"
        ? [{ name: "applicable: the places speak for it", colour: [47, 133, 108] },
          { name: "extrapolated", colour: [200, 124, 48] }]
        : data.classes.filter((c) => c.shown);
      for (const row of rows) {
        const one = add(list, "span");
        add(one, "i").style.background = `rgb(${row.colour.join(",")})`;
        one.append(row.name);
      }
      return;
    }
    const scale = layer === "prediction" ? field.scale : field.doubt_scale;
    const stops = [];
    for (let i = 0; i <= 32; i++) {
      const j = 3 * Math.round(i * 255 / 32);
      stops.push(`rgb(${scale.table[j]},${scale.table[j + 1]},${scale.table[j + 2]})`);
    }
    add(key, "div", "bar").style.background = `linear-gradient(to right, ${stops.join(",")})`;
    const ends = add(key, "div", "ends");
    const parts = wide < 500 ? 3 : 6;
    for (const v of scale.log ? powers(scale.low, scale.high) : rounds(scale.low, scale.high, parts)) {
      const at = scale.log ? Math.log(v / scale.low) / Math.log(scale.high / scale.low)
        : (v - scale.low) / (scale.high - scale.low);
      add(ends, "span", "", number(v)).style.left = 100 * at + "%";
    }
    const what = layer === "prediction" ? field.name : data.doubt_name;
    const of = data.unit && !(layer === "doubt" && data.classes.length) ? ` (${data.unit})` : "";
    add(key, "div", "title", what + of);
  }

  function nearest(x, y) {
    const d = data.dots, reach = Math.max(8, radius() + 3);
    let best = -1, least2 = reach * reach;
    for (let i = 0; i < d.lon.length; i++) {
      const far = (X(d.lon[i]) - x) ** 2 + (Y(d.lat[i]) - y) ** 2;
      if (far < least2) { least2 = far; best = i; }
    }
    return best;
  }
  const where = (lon, lat) => {
    lon = ((lon + 180) % 360 + 360) % 360 - 180;
    return `${Math.abs(lat).toFixed(2)}°${lat < 0 ? "S" : "N"} ${Math.abs(lon).toFixed(2)}°${lon < 0 ? "W" : "E"}`;
  };
  function tell(x, y) {
    const lon = lonAt(x), lat = latAt(y), level = Math.round(100 * data.level);
    const lines = [];
    const i = chosen("dots").checked ? nearest(x, y) : -1;
    if (i >= 0) {
      const d = data.dots;
      lines.push(`Place at ${where(d.lon[i], d.lat[i])}`);
      if (d.truth) lines.push(`measured: ${named(d.truth[i])}`);
      if (d.prediction) lines.push(`predicted without it: ${named(d.prediction[i])}`);
      if (d.lower && !data.classes.length)
        lines.push(`${level} % interval: ${number(d.lower[i])} to ${number(d.upper[i])}${unit}`);
    } else {
      const c = Math.floor((lon - west) / dx), r = Math.floor((north - lat) / dy);
      const at = r * w + c;
      if (c < 0 || r < 0 || c >= w || r >= h || !Number.isFinite(field.value[at]))
        lines.push(where(lon, lat), "no prediction here");
      else {
        lines.push(where(lon, lat), `${field.name}: ${named(field.value[at])}`);
        if (data.classes.length)
          lines.push(`probability: ${number(field.lower[at])}`,
            `classes in the ${level} % set: ${Math.round(field.upper[at])}`);
        else
          lines.push(`${level} % interval: ${number(field.lower[at])} to ${number(field.upper[at])}${unit}`);
        lines.push(applicable[at] === 1 ? "applicable" : "extrapolated: do not rely on it");
      }
    }
    tip.textContent = lines.join("\n");
    tip.style.display = "block";
    tip.style.left = Math.max(4, Math.min(wide - tip.offsetWidth - 4,
      x + 14 + tip.offsetWidth > wide ? x - tip.offsetWidth - 14 : x + 14)) + "px";
    tip.style.top = Math.max(4, Math.min(tall - tip.offsetHeight - 4, y + 14)) + "px";
    return tip.textContent;
  }
  const hush = () => { tip.style.display = "none"; };

  function zoom(factor, x, y) {
    const lon = lonAt(x), lat = latAt(y), before = k;
    k = Math.min(least * 200, Math.max(least, k * factor));
    x0 = lon - (x - wide / 2) / (k * squeeze);
    y0 = lat + (y - tall / 2) / k;
    clamp();
    draw();
    return k !== before;
  }
  const fingers = new Map();
  const spot = (event) => {
    const frame = canvas.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, spot(event));
    tell(...spot(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const [x, y] = spot(event), last = fingers.get(event.pointerId);
    if (!last) { tell(x, y); return; }
    if (fingers.size === 1) {
      if (Math.hypot(x - last[0], y - last[1]) < 2) return;
      x0 -= (x - last[0]) / (k * squeeze);
      y0 += (y - last[1]) / k;
    } else {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      const gap = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      zoom(gap([x, y]) / gap(last), (x + other[0]) / 2, (y + other[1]) / 2);
    }
    fingers.set(event.pointerId, [x, y]);
    clamp(); draw(); hush();
  });
  for (const name of ["pointerup", "pointercancel"])
    canvas.addEventListener(name, (event) => fingers.delete(event.pointerId));
  canvas.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hush(); });
  canvas.addEventListener("wheel", (event) => {
    // When the map is at its smallest, scrolling goes on down the page.
    if (zoom(Math.exp(-event.deltaY * 0.0015), ...spot(event))) { event.preventDefault(); hush(); }
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const move = moves[event.key];
    if (move) {
      x0 += move[0] * wide / (8 * k * squeeze);
      y0 += move[1] * tall / (8 * k);
      clamp(); draw();
    } else if (event.key === "+" || event.key === "=") zoom(1.5, wide / 2, tall / 2);
    else if (event.key === "-") zoom(1 / 1.5, wide / 2, tall / 2);
    else if (event.key === "0") zoom(1e-9, wide / 2, tall / 2);
    else return;
    event.preventDefault();
  });
  const press = (id, action) => document.getElementById(id).addEventListener("click", action);
  press("in", () => zoom(1.7, wide / 2, tall / 2));
  press("out", () => zoom(1 / 1.7, wide / 2, tall / 2));
  press("all", () => zoom(1e-9, wide / 2, tall / 2));
  for (const input of document.querySelectorAll('input[name="layer"]'))
    input.addEventListener("change", () => { layer = input.value; fill(); legend(); draw(); });
  for (const name of ["dots", "veil"]) chosen(name).addEventListener("change", draw);
  const select = document.getElementById("field");
  if (select) select.addEventListener("change", () => {
    field = fields[+select.value]; fill(); legend(); draw();
  });
  // A browser may bring back the switches of an earlier visit.
  const ticked = document.querySelector('input[name="layer"]:checked');
  if (ticked) layer = ticked.value;
  if (select) field = fields[+select.value];

  fill();
  size();
  legend();
  addEventListener("resize", () => { size(); legend(); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  box.dataset.ready = "yes";
  // So that a script can read a point of the map: georama.tell(lon, lat).
  window.georama = { tell: (lon, lat) => tell(X(lon), Y(lat)) };
})();
