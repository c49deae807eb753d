// The viewer's page: rows of linked panels, each a NiiVue canvas. The cases and what they hold come as JSON in the page;
// voxels come from the server on demand, or, in a page that stands alone, from script elements.
(async () => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const cases = JSON.parse($("cases").textContent);
  const files = new Map([...document.querySelectorAll("script.file")].map((one) => [one.dataset.name, one]));
  const isAlone = files.size > 0;
  const isSmall = matchMedia("(max-width: 700px)").matches;

  // ---------------------------------------------------------------------------------------------------- colours
  const hex = (text) => [0, 2, 4].map((i) => parseInt(text.slice(i, i + 2), 16));
  const stops = (text) => text.split(" ").map(hex);
  const MAPS = {
    gray: stops("000000 ffffff"),
    viridis: stops("440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725"),
    magma: stops("000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"),
    inferno: stops("000004 0b0724 210c4a 3d0965 57106e 71196e 8a226a a32c61 bc3754 d24644 e45a31 f1731d f98e09 fcac11 f9cb35 f2ea69 fcffa4"),
    redblue: stops("053061 175290 2a71b2 3f8ec0 6bacd1 9bc9e0 c2ddec e0ecf3 f7f6f6 fbe5d8 fbccb4 f5aa89 e48066 d05548 ba2832 930e26 67001f"),
    // Dark in the middle, which is transparent: what does not differ shows the image.
    difference: stops("7fd4ff 3aa0f0 1464b8 0a3a6e 101a24 101010 2a1c08 6e3e0a b86a14 f0a03a ffd97f"),
  };
  // Which part of a scale lets the image through: its lower end, its middle, or none of it.
  const ROLES = {
    image: ["gray", "none"], mask: ["viridis", "low"], raters: ["viridis", "low"], seeds: ["seeds", "low"],
    distance: ["magma", "low"], probability: ["viridis", "low"], signed: ["redblue", "low"], level: ["redblue", "low"],
    difference: ["difference", "middle"], entropy: ["inferno", "low"], values: ["viridis", "low"],
  };

  function colourMap(colours, clear) {
    const map = { R: [], G: [], B: [], A: [], I: [] };
    colours.forEach((colour, i) => {
      map.I.push(Math.round((255 * i) / (colours.length - 1)));
      [map.R, map.G, map.B].forEach((list, k) => list.push(colour[k]));
      map.A.push(255);
    });
    if (clear === "low") map.A[0] = 0;
    if (clear === "middle") {
      const middle = colours.length >> 1;
      for (const [list, value] of [[map.R, 16], [map.G, 16], [map.B, 16]]) list[middle] = value;
      map.I[middle] = 126;
      map.A[middle] = 0;
      map.I.splice(middle + 1, 0, 129);
      map.A.splice(middle + 1, 0, 0);
      for (const list of [map.R, map.G, map.B]) list.splice(middle + 1, 0, 16);
      for (const [at, index] of [[middle, 125], [middle + 3, 130]]) {
        map.I.splice(at, 0, index);
        map.A.splice(at, 0, 255);
        for (const list of [map.R, map.G, map.B]) list.splice(at, 0, 16);
      }
    }
    return map;
  }

  // ---------------------------------------------------------------------------------------------------- geometry
  function invert(m) {
    // Of a 4x4 affine with rows of numbers.
    const [a, b, c] = m.map((row) => row.slice(0, 3));
    const cross = (u, v) => [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    const [bc, ca, ab] = [cross(b, c), cross(c, a), cross(a, b)];
    const det = a[0] * bc[0] + a[1] * bc[1] + a[2] * bc[2];
    const rows = [0, 1, 2].map((i) => [bc[i] / det, ca[i] / det, ab[i] / det]);
    return rows.map((row) => [...row, -row.reduce((sum, value, k) => sum + value * m[k][3], 0)]);
  }
  const apply = (m, v) => [0, 1, 2].map((i) => m[i][0] * v[0] + m[i][1] * v[1] + m[i][2] * v[2] + m[i][3]);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  cases.forEach((one) => (one.inverse = invert(one.affine)));
  const mmOf = (one, voxel) => apply(one.affine, voxel);
  const voxelAt = (one, mm) => apply(one.inverse, mm).map((v, i) => clamp(Math.round(v), 0, one.shape[i] - 1));

  // ---------------------------------------------------------------------------------------------------- voxels
  async function gunzip(element) {
    const bytes = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  async function answer(address) {
    let response;
    try {
      response = await fetch(address);
    } catch {
      throw new Error("The server does not answer. Is 'softlabels view' still running?");
    }
    if (response.ok) return response;
    const text = await response.text();
    let message = text;
    try { message = JSON.parse(text).error; } catch { /* plain text */ }
    throw new Error(message);
  }

  class Recent {
    // Promises of buffers, kept up to a number of bytes.
    constructor(most) { this.most = most; this.kept = new Map(); }
    async get(name, make) {
      let found = this.kept.get(name);
      this.kept.delete(name);
      if (!found) {
        found = make();
        found.catch(() => this.kept.delete(name));
      }
      this.kept.set(name, found);
      await found;
      await this.trim(name);
      return found;
    }
    async trim(latest) {
      let bytes = 0;
      for (const [name, promise] of [...this.kept].reverse()) {
        const settled = await Promise.race([promise.catch(() => null), Promise.resolve(null)]);
        bytes += settled?.byteLength ?? 0;
        if (bytes > this.most && name !== latest) this.kept.delete(name);
      }
    }
  }
  const buffers = new Recent((isSmall ? 64 : 384) * 2 ** 20);

  function fieldName(one) {
    return state.field === "detail" ? (one.detail ?? one.start).join(",") : state.field;
  }

  function voxels(caseNumber, layer, channel) {
    if (isAlone) {
      const name = `${caseNumber}/${layer.id}/${channel}`;
      if (!files.has(name)) return Promise.reject(new Error("Not in this page: it was written with fewer classes."));
      return buffers.get(name, () => gunzip(files.get(name)));
    }
    const most = Math.floor(clamp((isSmall ? 12e6 : 64e6) / Math.max(panels.length, 1), 2e5, 2 ** 24));
    const query = new URLSearchParams({ case: caseNumber, layer: layer.id, channel, field: fieldName(cases[caseNumber]), voxels: most });
    return buffers.get(`${query}`, async () => (await answer(`layer?${query}`)).arrayBuffer());
  }

  function headOf(buffer) {
    const view = new DataView(buffer);
    const text = new TextDecoder().decode(new Uint8Array(buffer, 148, 80)).replace(/\0.*$/s, "");
    const [x, y, z] = [1, 2, 3].map((i) => view.getInt16(40 + 2 * i, true));
    const rows = [0, 1, 2].map((i) => [0, 1, 2, 3].map((k) => view.getFloat32(280 + 16 * i + 4 * k, true)));
    return {
      shape: [x, y, z], rows, slope: view.getFloat32(112, true), inter: view.getFloat32(116, true),
      high: view.getFloat32(124, true), low: view.getFloat32(128, true), bits: view.getInt16(72, true), ...JSON.parse(text),
    };
  }

  function valueIn(buffer, mm) {
    // The value of the drawn voxel that is nearest to a place, as it was before it was coded up to `error`.
    const head = headOf(buffer);
    const [x, y, z] = apply(invert([...head.rows, [0, 0, 0, 1]]), mm).map((v, i) => Math.round(v));
    if ([x, y, z].some((v, i) => v < 0 || v >= head.shape[i])) return { value: NaN, error: 0 };
    const list = head.bits === 8 ? new Uint8Array(buffer, 352) : new Uint16Array(buffer, 352);
    const code = list[x + head.shape[0] * (y + head.shape[1] * z)];
    if (head.nonfinite && code === 0) return { value: Infinity, error: 0 };
    return { value: code * head.slope + head.inter, error: head.error };
  }

  // ---------------------------------------------------------------------------------------------------- state
  const targetOf = (row) => cases[row.case].targets.find((one) => one.name === row.target);
  const layersOf = (row) => cases[row.case].layers.filter((one) => one.target === null || one.target === row.target);
  const modalities = [...new Set(cases.flatMap((one) => one.layers.filter((l) => l.role === "image").flatMap((l) => l.channels.map((c) => c.name))))];
  const state = { rows: [], modality: modalities[0] ?? null, plane: cases[0].plane, field: isAlone ? "alone" : "whole", hidden: new Set(), cross: true, labels: 0.45 };
  const panels = [];
  for (const one of cases) one.mm = mmOf(one, one.start);

  function classesOf(row) {
    const target = targetOf(row);
    if (target) return target.classes;
    const names = [...new Set(layersOf(row).flatMap((layer) => layer.channels.map((c) => c.class)).filter((name) => name !== null))];
    return names.map((name) => ({ name, colour: "#E69F00" }));
  }

  function channelOf(row, layer) {
    // The channel of the row's class and the chosen image channel; -1 if there is none.
    return layer.channels.findIndex((one) =>
      (one.class === null || one.class === row.class) && (one.modality === null || one.modality === state.modality));
  }

  function newRow(caseNumber, target) {
    const row = { case: caseNumber, target, class: null };
    const classes = classesOf(row);
    const voxel = cases[caseNumber].labels.length ? cases[caseNumber].startLabel : null;
    const fitting = classes.filter((one) => one.values?.includes(voxel) && !(one.values.length === 1 && one.values[0] === 0));
    row.class = (fitting.at(-1) ?? classes.find((one) => !(one.values?.length === 1 && one.values[0] === 0)) ?? classes[0] ?? { name: null }).name;
    return row;
  }

  function kindsOf(row) {
    // What a row shows, in order: image with labels, the layers of its target, then all others.
    const kinds = [];
    const all = layersOf(row);
    if (all.some((one) => one.role === "labels")) kinds.push({ id: "labels", title: "labels", layer: all.find((one) => one.role === "labels") });
    else if (all.some((one) => one.role === "image")) kinds.push({ id: "image", title: "image", layer: null });
    for (const layer of [...all.filter((one) => one.target !== null), ...all.filter((one) => one.target === null)]) {
      if (!["image", "labels"].includes(layer.role)) kinds.push({ id: layer.id.split("/").at(-1), title: layer.title, layer });
    }
    return kinds;
  }

  // ---------------------------------------------------------------------------------------------------- panels
  const format = (value) => (Number.isInteger(value) ? String(value) : Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(2) : String(+value.toPrecision(4)));

  const spaced = (name) => name.replaceAll("_", " ");

  class Panel {
    constructor() {
      this.element = document.createElement("section");
      this.element.className = "panel";
      this.element.innerHTML = `<div class="panel-head"><b></b><button type="button" class="gear" title="colour range and opacity">scale</button>
        <button type="button" class="grow" title="larger, smaller">⤢</button></div>
        <div class="settings" hidden><label>from <input type="number" class="from" step="any"></label><label>to <input type="number" class="to" step="any"></label>
        <label>opacity <input type="range" class="opacity" min="0" max="1" step="0.05"></label><button type="button" class="auto">reset</button></div>
        <div class="picture"><canvas tabindex="0"></canvas><div class="says"></div></div>
        <div class="panel-foot"><span class="low"></span><span class="bar"></span><span class="high"></span><span class="value"></span></div>`;
      this.find = (name) => this.element.querySelector(name);
      this.range = null;
      this.opacity = null;
      this.turn = 0;
      this.find(".grow").onclick = () => { this.element.classList.toggle("large"); };
      this.find(".gear").onclick = () => { this.find(".settings").hidden = !this.find(".settings").hidden; };
      this.find(".auto").onclick = () => { this.range = this.opacity = null; paintAll(); };
      for (const name of [".from", ".to"]) this.find(name).onchange = () => this.rangeTyped();
      this.find(".opacity").oninput = (event) => { this.opacity = +event.target.value; this.paint(); };
    }

    async start() {
      const canvas = this.find("canvas");
      this.nv = new niivue.Niivue({
        backColor: [0, 0, 0, 1], crosshairColor: [1, 1, 0, 0.6], crosshairWidthUnit: "percent", show3Dcrosshair: false,
        isRadiologicalConvention: true, isNearestInterpolation: true, isForceMouseClickToVoxelCenters: true, isColorbar: false,
        isOrientCube: false, showLegend: false, dragAndDropEnabled: false, multiplanarShowRender: 0, logLevel: "error", loadingText: "", fontMinPx: 11,
        dragMode: niivue.DRAG_MODE.pan, viewModeHotKey: "none", clipPlaneHotKey: "none", cycleClipPlaneHotKey: "none", fontSizeScaling: 0,
      });
      // A double click would set a colour range that the page does not know of.
      this.nv.resetBriCon = () => {};
      await this.nv.attachToCanvas(canvas, false);
      for (const [name, colours] of Object.entries(MAPS)) {
        for (const clear of ["none", "low", "middle"]) this.nv.addColormap(`softlabels-${name}-${clear}`, colourMap(colours, clear));
      }
      this.nv.onLocationChange = (place) => { if (this.isLoaded && !this.isPlaced) moveTo(this.row.case, [...place.mm].slice(0, 3), this); };
      canvas.addEventListener("pointerdown", (event) => { this.isPanned = event.button === 2; }, true);
      canvas.addEventListener("pointermove", () => { if (this.isPanned) shareZoom(this); });
      addEventListener("pointerup", () => { this.isPanned = false; });
      this.find(".picture").addEventListener("wheel", (event) => {
        event.preventDefault();
        event.stopPropagation();
        if (event.ctrlKey) zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
        else stepSlice(event.deltaY > 0 ? 1 : -1, this.row.case);
      }, { capture: true, passive: false });
    }

    show(row, kind) { this.row = row; this.kind = kind; this.element.dataset.kind = kind.id; }

    async load() {
      const turn = ++this.turn;
      const { row, kind } = this;
      const layer = kind.layer;
      this.say("loading");
      this.title();
      if (!this.nv) await this.start();
      const channel = layer ? channelOf(row, layer) : 0;
      try {
        const image = layersOf(row).find((one) => one.role === "image");
        const modality = image ? Math.max(image.channels.findIndex((one) => one.name === state.modality), 0) : -1;
        if (channel < 0) throw new Error(`This target has no class ${row.class}.`);
        const under = image ? await voxels(row.case, image, modality) : null;
        const over = layer ? await voxels(row.case, layer, channel) : null;
        if (turn !== this.turn) return;
        this.image = under && { head: headOf(under), volume: await volumeOf(under, "gray", "none") };
        const [map, clear] = layer ? ROLES[layer.role] ?? ["gray", "none"] : [];
        const name = map === "seeds" ? this.seedMap(row) : map;
        this.over = over && { head: headOf(over), volume: await volumeOf(over, name, clear), map: name, buffer: over };
        if (layer?.role === "labels") this.over.volume.setColormapLabel(labelMap(cases[row.case].labels));
        if (turn !== this.turn) return;
        const volumes = [this.image, this.over].filter(Boolean).map((one) => one.volume);
        this.nv.volumes = volumes;
        this.nv.back = volumes[0];
        this.nv.overlays = volumes.slice(1);
        this.isLoaded = true;
        this.say("");
      } catch (error) {
        if (turn !== this.turn) return;
        this.isLoaded = false;
        this.over = null;
        this.find(".value").textContent = "";
        this.say(error.message, true);
      }
    }

    seedMap(row) {
      const colour = classesOf(row).find((one) => one.name === row.class)?.colour ?? "#E69F00";
      const name = `seeds-${colour.slice(1)}`;
      MAPS[name] ??= [hex(colour.slice(1)), hex(colour.slice(1))];
      this.nv.addColormap(`softlabels-${name}-low`, colourMap(MAPS[name], "low"));
      return name;
    }

    title() {
      const { kind, row } = this;
      const channel = kind.layer?.channels[channelOf(row, kind.layer)];
      const about = ["labels", "image"].includes(kind.id) ? state.modality : channel?.modality;
      const text = about ? `${kind.title}${kind.id === "labels" ? " on" : ","} ${spaced(about)}` : kind.title;
      this.find("b").textContent = text;
      this.find("b").title = [text, channel?.class && spaced(channel.class), kind.layer?.unit].filter(Boolean).join(", ");
    }

    scale() {
      // The range typed in, or that of all panels of the same kind, so that equal colours mean equal values.
      if (this.range) return this.range;
      const alike = panels.filter((one) => one.isLoaded && one.over && one.scaleGroup() === this.scaleGroup());
      return [Math.min(...alike.map((one) => one.over.head.low)), Math.max(...alike.map((one) => one.over.head.high))];
    }

    scaleGroup() {
      // Maps of one kind in one unit: a signed map's difference is not measured as a probability's is.
      return [this.kind.id, this.kind.layer.role, this.kind.layer.unit, targetOf(this.row)?.kind].join();
    }

    paint() {
      if (!this.isLoaded) return;
      const role = this.kind.layer?.role ?? "image";
      const ownsImage = role === "labels" || role === "image";
      const shown = ownsImage ? this.range ?? [this.image.head.low, this.image.head.high] : this.scale();
      if (this.image) [this.image.volume.cal_min, this.image.volume.cal_max] = ownsImage ? shown : [this.image.head.low, this.image.head.high];
      if (this.over) {
        const { volume, head } = this.over;
        // What is not finite has the code below the lowest value; a scale that ends between the two leaves it clear.
        const low = head.nonfinite && shown[0] === head.low ? shown[0] - head.slope / 4 : shown[0];
        if (role !== "labels") [volume.cal_min, volume.cal_max] = [low, shown[1]];
        volume.opacity = this.opacity ?? (role === "labels" ? state.labels : 1);
      }
      this.nv.opts.sliceType = { axial: 0, coronal: 1, sagittal: 2, all: 3 }[state.plane];
      this.nv.opts.dragMode = state.plane === "all" ? niivue.DRAG_MODE.none : niivue.DRAG_MODE.pan;
      this.nv.opts.crosshairWidth = state.cross ? 0.6 : 0;
      this.nv.opts.crosshairGap = 0.03 * Math.max(...this.nv.volumes[0].dimsRAS.slice(1).map((n, i) => n * this.nv.volumes[0].pixDimsRAS[i + 1]));
      this.nv.opts.isNearestInterpolation = !$("smooth").checked;
      this.isPlaced = true;
      this.upload();
      this.place();
      this.foot(role, shown);
    }

    upload() {
      // Give to the graphics card what it does not have yet: both volumes, or the upper one alone, which is far cheaper.
      const look = (one) => one && [one.volume.id, one.volume.cal_min, one.volume.cal_max, one.volume.opacity, $("smooth").checked].join();
      const [under, over] = [look(this.image ?? this.over), look(this.image ? this.over : null)];
      if (under !== this.uploaded?.under || !over !== !this.uploaded?.over) this.nv.updateGLVolume();
      else if (over !== this.uploaded.over) this.nv.refreshLayers(this.over.volume, 1);
      this.uploaded = { under, over };
    }

    foot(role, shown) {
      const isSeeds = role === "seeds", isLabels = role === "labels";
      this.find(".bar").style.background = `linear-gradient(to right, ${MAPS[isLabels || role === "image" ? "gray" : this.over.map].map((c) => `rgb(${c})`).join(", ")})`;
      for (const name of [".bar", ".low", ".high"]) this.find(name).hidden = isSeeds || isLabels;
      this.find(".low").textContent = format(shown[0]);
      this.find(".high").textContent = format(shown[1]);
      this.find(".from").value = +shown[0].toPrecision(6);
      this.find(".to").value = +shown[1].toPrecision(6);
      this.find(".opacity").value = this.over ? this.over.volume.opacity : 1;
    }

    place() {
      if (!this.isLoaded) return;
      this.isPlaced = true;
      this.nv.scene.crosshairPos = this.nv.mm2frac(cases[this.row.case].mm, 0, true);
      this.nv.drawScene();
      this.isPlaced = false;
    }

    rangeTyped() {
      const [low, high] = [this.find(".from"), this.find(".to")].map((one) => one.valueAsNumber);
      if (Number.isFinite(low) && Number.isFinite(high) && low < high) this.range = [low, high];
      this.paint();
    }

    say(text, isFault = false) {
      this.find(".says").textContent = text;
      this.find(".says").classList.toggle("fault", isFault);
    }

    end() {
      ++this.turn;
      this.isLoaded = false;
      this.nv?.cleanup();
      this.nv?.gl.getExtension("WEBGL_lose_context")?.loseContext();
      this.element.remove();
    }
  }

  async function volumeOf(buffer, map, clear) {
    const volume = await niivue.NVImage.new(buffer, "layer.nii", `softlabels-${map}-${clear}`);
    const { low, high } = headOf(buffer);
    [volume.cal_min, volume.cal_max] = [low, high];
    return volume;
  }

  function labelMap(labels) {
    const codes = labels.map((one) => one.code);
    const size = Math.max(...codes) + 1;
    const map = { R: Array(size).fill(0), G: Array(size).fill(0), B: Array(size).fill(0), A: Array(size).fill(0), I: [...Array(size).keys()], labels: Array(size).fill("") };
    for (const one of labels) {
      if (one.value === 0) continue;
      [map.R[one.code], map.G[one.code], map.B[one.code]] = hex(one.colour.slice(1));
      map.A[one.code] = 255;
      map.labels[one.code] = one.name;
    }
    return map;
  }

  // ---------------------------------------------------------------------------------------------------- layout
  const select = (options, value, onchange) => {
    const element = document.createElement("select");
    for (const [key, text] of options) element.add(new Option(text, key));
    element.value = value;
    element.onchange = () => onchange(element.value);
    return element;
  };
  const labelled = (text, element) => {
    const label = document.createElement("label");
    label.append(text, element);
    return label;
  };

  async function layout() {
    const wanted = state.rows.flatMap((row) => kindsOf(row).filter((kind) => !state.hidden.has(kind.id)).map((kind) => [row, kind]));
    while (panels.length > wanted.length) panels.pop().end();
    while (panels.length < wanted.length) {
      const panel = new Panel();
      panels.push(panel);
    }
    wanted.forEach(([row, kind], i) => {
      if (panels[i].kind?.id !== kind.id) panels[i].range = panels[i].opacity = null;
      panels[i].show(row, kind);
    });
    // The same kind stands in the same column of every row.
    const columns = state.rows.flatMap((row) => kindsOf(row)).map((kind) => kind.id).filter((id, i, all) => all.indexOf(id) === i && !state.hidden.has(id));
    $("rows").style.setProperty("--columns", columns.length);
    for (const panel of panels) panel.element.style.setProperty("--column", columns.indexOf(panel.kind.id) + 1);
    const heads = state.rows.map((row) => rowElement(row));
    panels.forEach((panel) => {
      heads[state.rows.indexOf(panel.row)].querySelector(".panels").append(panel.element);
      panel.title();
      panel.say("loading");
    });
    $("rows").replaceChildren(...heads);
    panelMenu();
    $("add-row").hidden = state.rows.length > 1 || cases.flatMap((one) => one.targets).length < 2;
    await reload();
  }

  function rowElement(row) {
    const element = document.createElement("section");
    element.className = "row";
    element.innerHTML = `<div class="row-head"></div><div class="panels"></div><div class="legend"></div>`;
    const head = element.querySelector(".row-head");
    const change = (name) => (value) => {
      Object.assign(row, newRow(name === "case" ? +value : row.case, name === "target" ? value : cases[name === "case" ? +value : row.case].targets.some((t) => t.name === row.target) ? row.target : cases[+value].targets[0]?.name ?? null));
      layout();
    };
    if (cases.length > 1) head.append(labelled("case ", select(cases.map((one, i) => [i, one.id]), row.case, change("case"))));
    const targets = cases[row.case].targets;
    if (targets.length) head.append(labelled("target ", select(targets.map((one) => [one.name, one.title ? `${one.name} (${one.title})` : one.name]), row.target, change("target"))));
    const classes = classesOf(row);
    if (classes.length) {
      const chooser = select(classes.map((one) => [one.name, spaced(one.name)]), row.class, (value) => setClass(row, value));
      chooser.className = "class";
      head.append(labelled("class ", chooser));
      const find = document.createElement("button");
      find.textContent = "find";
      find.title = "go to the middle of the class (f)";
      find.onclick = () => findClass(row);
      if (classes[0].values) head.append(find);
    }
    if (state.rows.length > 1) {
      const close = document.createElement("button");
      close.textContent = "close";
      close.onclick = () => { state.rows.splice(state.rows.indexOf(row), 1); layout(); };
      head.append(close);
    }
    const legend = element.querySelector(".legend");
    // Once per case, below its last row.
    legend.hidden = state.rows.findLast((one) => one.case === row.case) !== row;
    for (const one of cases[row.case].labels.filter((label) => label.value !== 0)) {
      const item = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.style.background = one.colour;
      item.append(swatch, spaced(one.name));
      legend.append(item);
    }
    return element;
  }

  function panelMenu() {
    const kinds = new Map(state.rows.flatMap((row) => kindsOf(row)).map((kind) => [kind.id, kind.title]));
    $("panel-list").replaceChildren(...[...kinds].map(([id, title]) => {
      const box = document.createElement("input");
      box.type = "checkbox";
      box.checked = !state.hidden.has(id);
      box.onchange = () => { box.checked ? state.hidden.delete(id) : state.hidden.add(id); layout(); };
      return labelled("", box).appendChild(document.createTextNode(title)).parentNode;
    }));
  }

  let loading = Promise.resolve();
  function reload(which = panels) {
    // One panel after another: the first is seen soon, and no more is held in memory than must be.
    const mine = [...which];
    loading = loading.then(async () => {
      for (const panel of mine) if (panels.includes(panel)) { await panel.load(); panel.paint(); }
      paintAll();
      await readOut();
    });
    return loading;
  }
  const paintAll = () => panels.forEach((panel) => panel.paint());

  function setClass(row, name) {
    for (const one of state.rows) if (one === row || classesOf(one).some((c) => c.name === name)) one.class = name;
    document.querySelectorAll(".row").forEach((element, i) => {
      const chooser = element.querySelector("select.class");
      if (chooser) chooser.value = state.rows[i].class;
    });
    return reload(panels.filter((panel) => panel.kind.layer && panel.kind.layer.channels.some((c) => c.class !== null)));
  }

  // ---------------------------------------------------------------------------------------------------- moving
  function moveTo(caseNumber, mm, from = null) {
    const isLinked = $("link").checked;
    cases.forEach((one, i) => { if (i === caseNumber || isLinked) one.mm = [...mm]; });
    for (const panel of panels) if (panel !== from && (isLinked || panel.row.case === caseNumber)) panel.place();
    readOut();
  }
  const goTo = (caseNumber, voxel) => moveTo(caseNumber, mmOf(cases[caseNumber], voxel));
  const firstCase = () => state.rows[0].case;
  const sliceAxis = (one) => one.axes[state.plane === "all" ? "axial" : state.plane];

  function stepSlice(by, caseNumber = firstCase()) {
    const one = cases[caseNumber];
    const axis = sliceAxis(one);
    const world = { sagittal: 0, coronal: 1, axial: 2 }[state.plane === "all" ? "axial" : state.plane];
    step(caseNumber, axis, by * (one.affine[world][axis] < 0 ? -1 : 1));
  }

  function step(caseNumber, axis, by) {
    const one = cases[caseNumber];
    const voxel = voxelAt(one, one.mm);
    voxel[axis] = clamp(voxel[axis] + by, 0, one.shape[axis] - 1);
    goTo(caseNumber, voxel);
  }

  function stepOnScreen(right, down) {
    // Radiological convention: right of the screen is the patient's left; in sagittal slices it is the back.
    const plane = state.plane === "all" ? "axial" : state.plane;
    const [across, along] = { axial: ["sagittal", "coronal"], coronal: ["sagittal", "axial"], sagittal: ["coronal", "axial"] }[plane];
    const one = cases[firstCase()];
    const name = right ? across : along;
    const axis = one.axes[name];
    const world = { sagittal: 0, coronal: 1, axial: 2 }[name];
    step(firstCase(), axis, -(right + down) * Math.sign(one.affine[world][axis] || 1));
  }

  function zoom(factor) {
    for (const panel of panels.filter((one) => one.isLoaded)) {
      const pan = [...panel.nv.scene.pan2Dxyzmm];
      const next = factor === 0 ? 1 : clamp(pan[3] * factor, 0.5, 30);
      const mm = panel.nv.frac2mm(panel.nv.scene.crosshairPos);
      const moved = factor === 0 ? [0, 0, 0] : [0, 1, 2].map((i) => pan[i] + (pan[3] - next) * mm[i]);
      panel.nv.scene.pan2Dxyzmm = [...moved, next];
      panel.nv.drawScene();
    }
  }

  function shareZoom(from) {
    for (const panel of panels) {
      if (panel === from || !panel.isLoaded) continue;
      panel.nv.scene.pan2Dxyzmm = [...from.nv.scene.pan2Dxyzmm];
      panel.nv.drawScene();
    }
  }

  async function findClass(row) {
    // Go to the voxel nearest to the centroid of the class, in the slice that holds most of it.
    const one = cases[row.case];
    const layer = layersOf(row).find((l) => l.role === "labels");
    const values = classesOf(row).find((c) => c.name === row.class)?.values;
    if (!layer || !values) return;
    const buffer = await voxels(row.case, layer, 0);
    const head = headOf(buffer);
    const list = head.bits === 8 ? new Uint8Array(buffer, 352) : new Uint16Array(buffer, 352);
    const codes = new Set(one.labels.filter((label) => values.includes(label.value)).map((label) => label.code));
    // Files count voxels as (x, y, z), the case as (z, y, x).
    const axis = 2 - sliceAxis(one);
    const [nx, ny] = head.shape;
    const at = (i) => [i % nx, Math.floor(i / nx) % ny, Math.floor(i / (nx * ny))];
    const slices = new Map();
    list.forEach((code, i) => {
      if (!codes.has(code)) return;
      const slice = at(i)[axis];
      if (!slices.has(slice)) slices.set(slice, []);
      slices.get(slice).push(i);
    });
    if (!slices.size) return;
    const found = [...slices.values()].reduce((a, b) => (b.length > a.length ? b : a)).map(at);
    const mean = [0, 1, 2].map((k) => found.reduce((sum, v) => sum + v[k], 0) / found.length);
    const far = (v) => v.reduce((sum, value, k) => sum + (value - mean[k]) ** 2, 0);
    moveTo(row.case, apply(head.rows, found.reduce((a, b) => (far(b) < far(a) ? b : a))));
  }

  // ---------------------------------------------------------------------------------------------------- reading out
  const place = (mm) => ["RL", "AP", "SI"].map((letters, i) => `${letters[mm[i] < 0 ? 1 : 0]} ${Math.abs(mm[i]).toFixed(1)}`).join("  ");

  function picksOf(row) {
    const picks = [];
    for (const layer of layersOf(row)) {
      if (["image", "raters"].includes(layer.role)) layer.channels.forEach((_, i) => picks.push([layer, i]));
      else if (layer.role === "distance") layer.channels.forEach((one, i) => { if (one.class === null || one.class === row.class) picks.push([layer, i]); });
      else if (channelOf(row, layer) >= 0) picks.push([layer, channelOf(row, layer)]);
    }
    return picks;
  }

  async function valuesAt(row) {
    const one = cases[row.case];
    const picks = picksOf(row);
    if (isAlone) {
      return Promise.all(picks.map(async ([layer, channel]) => {
        if (!files.has(`${row.case}/${layer.id}/${channel}`)) return [layer, channel, null, 0];
        const { value, error } = valueIn(await voxels(row.case, layer, channel), one.mm);
        return [layer, channel, layer.role === "labels" ? one.labels.find((label) => label.code === value)?.value ?? NaN : value, error];
      }));
    }
    const query = new URLSearchParams({ case: row.case, voxel: voxelAt(one, one.mm), picks: JSON.stringify(picks.map(([layer, channel]) => [layer.id, channel])) });
    const found = await (await answer(`values?${query}`)).json();
    return picks.map(([layer, channel], i) => [layer, channel, found[i] === "inf" ? Infinity : found[i] === "nan" ? NaN : found[i], 0]);
  }

  function spoken(row, layer, value, error) {
    if (value === null) return "not in this page";
    if (layer.role === "labels") return `${spaced(cases[row.case].labels.find((one) => one.value === value)?.name ?? "?")} (${value})`;
    if (value === Infinity) return layer.infinite;
    if (Number.isNaN(value)) return "outside";
    if (error < 1e-6 * Math.max(Math.abs(value), 1)) return format(value);
    return `${value.toFixed(clamp(1 - Math.floor(Math.log10(error)), 0, 8))} ± ${format(+error.toPrecision(1))}`;
  }

  let asked = 0, isReading = false;
  async function readOut() {
    // Only the latest place is asked for, and one question at a time.
    ++asked;
    const one = cases[firstCase()];
    const axis = sliceAxis(one);
    const voxel = voxelAt(one, one.mm);
    $("slice").max = one.shape[axis] - 1;
    $("slice").value = voxel[axis];
    $("slice-number").textContent = `${voxel[axis] + 1} of ${one.shape[axis]}`;
    $("place").textContent = [...new Set(state.rows.map((row) => row.case))].map((i) => {
      const v = voxelAt(cases[i], cases[i].mm);
      return `${cases.length > 1 ? `${cases[i].id}: ` : ""}${place(cases[i].mm)} mm, voxel z ${v[0]}, y ${v[1]}, x ${v[2]}`;
    }).join("   |   ") + fieldNote();
    if (isReading) return;
    isReading = true;
    try {
      let done = 0;
      while (done !== asked) {
        done = asked;
        const tables = [];
        for (const row of state.rows) {
          const found = await valuesAt(row);
          tables.push(valueTable(row, found));
          for (const panel of panels.filter((p) => p.row === row && p.isLoaded)) showValue(panel, row, found);
        }
        $("values").replaceChildren(...tables);
      }
    } catch (error) {
      $("values").textContent = error.message;
    } finally {
      isReading = false;
    }
  }

  function fieldNote() {
    const head = panels.find((one) => one.isLoaded)?.nv.volumes[0] && panels.find((one) => one.isLoaded);
    const steps = (head?.over ?? head?.image)?.head.step;
    return steps && steps.some((one) => one > 1) ? `   (every ${steps.join(" x ")} voxel drawn; press d for all around the cursor)` : "";
  }

  function showValue(panel, row, found) {
    const image = found.filter(([layer]) => layer.role === "image").find(([layer, channel]) => layer.channels[channel].name === state.modality);
    const own = panel.kind.layer && found.find(([layer, channel]) => layer === panel.kind.layer && channel === channelOf(row, layer));
    const parts = panel.kind.layer?.role === "labels" ? [own, image] : [own ?? image];
    panel.find(".value").textContent = parts.filter(Boolean).map(([layer, , value, error]) => spoken(row, layer, value, error)).join(", ");
  }

  function valueTable(row, found) {
    const table = document.createElement("table");
    if (state.rows.length > 1) table.createCaption().textContent = [cases.length > 1 ? cases[row.case].id : null, row.target].filter(Boolean).join(", ");
    for (const [layer, channel, value, error] of found) {
      const line = table.insertRow();
      const one = layer.channels[channel];
      const about = one.name === layer.id ? "" : `: ${spaced(one.name)}`;
      line.insertCell().textContent = `${layer.title}${about}`;
      line.insertCell().textContent = spoken(row, layer, value, error);
    }
    return table;
  }

  // ---------------------------------------------------------------------------------------------------- controls
  function setField(name) {
    state.field = name;
    $("field").value = name;
    if (name === "detail") cases.forEach((one) => (one.detail = voxelAt(one, one.mm)));
    return reload();
  }
  function setPlane(name) {
    state.plane = name;
    $("plane").value = name;
    paintAll();
    readOut();
  }
  function setModality(name) {
    state.modality = name;
    $("modality").value = name;
    return reload();
  }
  const next = (list, value, by) => list[(list.indexOf(value) + by + list.length) % list.length];
  function nextClass(by) {
    const row = state.rows[0];
    const names = classesOf(row).map((one) => one.name);
    if (names.length) setClass(row, next(names, row.class, by));
  }
  function toggleHelp() {
    $("help").hidden = !$("help").hidden;
    $("help-button").setAttribute("aria-expanded", String(!$("help").hidden));
  }
  function toggleLabels() {
    state.labels = state.labels ? 0 : 0.45;
    panels.filter((one) => one.kind.id === "labels").forEach((one) => { one.opacity = null; one.paint(); });
  }
  const KEYS = {
    ArrowLeft: () => stepOnScreen(-1, 0), ArrowRight: () => stepOnScreen(1, 0), ArrowUp: () => stepOnScreen(0, -1), ArrowDown: () => stepOnScreen(0, 1),
    ",": () => stepSlice(-1), ".": () => stepSlice(1), PageUp: () => stepSlice(-1), PageDown: () => stepSlice(1),
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: () => zoom(0),
    c: () => nextClass(1), C: () => nextClass(-1), m: () => setModality(next(modalities, state.modality, 1)), M: () => setModality(next(modalities, state.modality, -1)),
    f: () => findClass(state.rows[0]), v: () => setPlane(next(["axial", "coronal", "sagittal", "all"], state.plane, 1)), l: toggleLabels, x: () => { state.cross = !state.cross; paintAll(); },
    s: () => { $("smooth").checked = !$("smooth").checked; paintAll(); }, d: () => { if (!isAlone) setField("detail"); }, "?": toggleHelp,
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea") || !KEYS[event.key]) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    KEYS[event.key]();
  }, true);
  document.addEventListener("contextmenu", (event) => { if (event.target.closest("canvas")) event.preventDefault(); });

  async function begin() {
    if (isAlone || $("niivue")) {
      const text = await new Response(await gunzip($("niivue"))).text();
      const script = document.createElement("script");
      const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
      await new Promise((resolve, reject) => { script.onload = resolve; script.onerror = reject; script.src = address; document.head.append(script); });
      URL.revokeObjectURL(address);
    }
    for (const name of modalities) $("modality").add(new Option(name, name));
    $("modality").parentNode.hidden = modalities.length === 0;
    $("modality").onchange = (event) => setModality(event.target.value);
    $("plane").value = state.plane;
    $("plane").onchange = (event) => setPlane(event.target.value);
    $("slice").oninput = (event) => {
      const one = cases[firstCase()];
      const voxel = voxelAt(one, one.mm);
      voxel[sliceAxis(one)] = +event.target.value;
      goTo(firstCase(), voxel);
    };
    $("field-label").hidden = isAlone;
    $("field").onchange = (event) => setField(event.target.value);
    $("smooth").onchange = paintAll;
    $("link-label").hidden = cases.length < 2;
    $("help-button").onclick = toggleHelp;
    $("add-row").onclick = () => {
      const [first] = state.rows;
      const target = next(cases[first.case].targets.map((one) => one.name), first.target, 1);
      state.rows.push(newRow(first.case, target));
      return layout();
    };
    const targets = cases[0].targets.map((one) => one.name);
    state.hidden.add("stored").add("domain").add("raters");
    if (isSmall) ["seeds", "entropy"].forEach((name) => state.hidden.add(name));
    state.rows.push(newRow(0, targets[0] ?? null));
    if (cases.length > 1) {
      const same = cases[1].targets.some((one) => one.name === targets[0]);
      state.rows.push(newRow(1, same ? targets[0] : cases[1].targets[0]?.name ?? null));
    } else if (targets.length > 1 && !isSmall) state.rows.push(newRow(0, targets[1]));
    await layout();
  }

  // For tests and for people at the console.
  window.softlabels = { cases, state, panels, goTo, setClass, setField, setPlane, setModality, settled: () => loading };
  try {
    await begin();
    document.body.dataset.state = "ready";
  } catch (error) {
    document.body.dataset.state = "failed";
    $("rows").textContent = `The viewer could not start: ${error.message}. It needs a browser with WebGL 2.`;
  }
})();
