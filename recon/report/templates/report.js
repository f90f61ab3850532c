// The page's parts, each for the run that is shown.
const byId = id => document.getElementById(id);
const stages = {};
const stage = id => (stages[id] ??= new Stage(byId(id)));
const shown = () => page.runs[Number(byId("run")?.value ?? 0)];

async function showObject({ mesh, reference, cameras, asset }) {
  if (!mesh) { byId("object").hidden = true; return; }
  byId("object").hidden = false;
  if (asset && byId("object-look")) { await showMaterial("object", { asset, mesh }); return; }
  const panes = [{ label: "reconstruction", objects: [clay(await meshGeometry(mesh))] }];
  if (reference) panes.push({ label: "reference", objects: [clay(await meshGeometry(reference))] });
  if (cameras?.views) panes[0].objects.push(await frusta(cameras.views));
  stage("object").setFrame(largest(panes.flatMap(({ objects }) => objects.map(({ geometry }) => geometry))));
  stage("object").setPanes(panes);
}

function largest(geometries) {
  geometries.forEach(geometry => geometry.computeBoundingSphere());
  return geometries.reduce((a, b) => (a.boundingSphere.radius >= b.boundingSphere.radius ? a : b));
}

async function showFlow(run) {
  const { flow, training } = run;
  byId("flow-section").hidden = !flow && !training;
  if (!flow && !training) return;
  const paths = {};
  for (const [name, path] of Object.entries({ flow, training })) {
    if (path) paths[name] = { ...path, faces: await indices(path.faces), frames: await Promise.all(path.frames.map(numbers)) };
  }
  const inputs = { flow: byId("pseudo-time"), training: byId("training-time") };
  inputs.training.max = training ? training.frames.length - 1 : 0;
  for (const [name, input] of Object.entries(inputs)) {
    input.closest("label").hidden = !paths[name];
    input.oninput = () => showFrame(name);
  }
  inputs.training.value = inputs.training.max;
  const geometry = geometryOf((paths.flow ?? paths.training).frames.at(-1).slice(), (paths.flow ?? paths.training).faces);
  const all = (paths.flow ?? paths.training).frames[0];
  const ball = geometryOf(all.slice(), geometry.index.array);
  stage("flow").setFrame(ball);
  const shape = flow ? withGraticule(clay(geometry), ball) : clay(geometry);
  stage("flow").setPanes([{ label: "", objects: [shape] }]);
  byId("lines").closest("label").hidden = !flow;
  const showLines = () => { shape.material.userData.lines.value = Number(byId("lines").checked); stage("flow").draw(); };
  byId("lines").onchange = showLines;
  if (flow) showLines();

  function showFrame(name) {
    const { frames, iterations } = paths[name];
    const at = name === "flow" ? inputs.flow.value * (frames.length - 1) : Number(inputs.training.value);
    blend(geometry, frames[Math.floor(at)], frames[Math.min(Math.floor(at) + 1, frames.length - 1)], at % 1);
    const text = name === "flow" ? `${Math.round(100 * inputs.flow.value)}%` : `iteration ${iterations[at].toLocaleString("en")}`;
    inputs[name].nextElementSibling.textContent = text;
    inputs[name].setAttribute("aria-valuetext", text);
    byId("flow").dataset.shown = `${name} ${at}`;
    stage("flow").draw();
  }
  for (const name of Object.keys(paths).reverse()) showFrame(name);
  byId("play").onclick = () => play(inputs.flow, () => showFrame("flow"));
  byId("play").hidden = !flow;
}

// Between two steps points move along straight lines.
function blend(geometry, from, to, share) {
  const { array } = geometry.attributes.position;
  for (let i = 0; i < array.length; i++) array[i] = from[i] + share * (to[i] - from[i]);
  geometry.attributes.position.needsUpdate = true;
  geometry.computeVertexNormals();
}

function play(input, showFrame) {
  const start = performance.now();
  const step = now => {
    input.value = Math.min(1, (now - start) / 3000);
    showFrame();
    if (now - start < 3000) requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
}

async function showAsset(run) {
  byId("material-section").hidden = !run.asset || !run.mesh;
  if (run.asset && run.mesh) await showMaterial("material", run);
}

async function showSurface(run) {
  const { mesh, scales } = run;
  byId("surface-section").hidden = !mesh;
  if (!mesh) return;
  const geometry = await meshGeometry(mesh);
  const options = Object.entries(scales).map(([key, scale]) => [key, scale.name]);
  fill(byId("quantity"), [...options, ["", "shape alone"]], options[0]?.[0]);
  const update = async () => {
    const key = byId("quantity").value;
    const scale = scales[key];
    const objects = [scale ? painted(geometry, await numbers(mesh.values[key]), scale) : clay(geometry)];
    const cameras = scale?.set && run.cameras[scale.set];
    byId("cameras").closest("label").hidden = !cameras;
    const far = cameras && byId("cameras").checked;
    if (far) objects.push(await frusta(cameras));
    stage("surface").setFrame(far ? objects[1].geometry : geometry);
    stage("surface").setPanes([{ label: "", objects, even: Boolean(scale) }]);
    showScale(byId("scale-surface"), scale);
    byId("note-surface").textContent = scale?.note ?? "";
    byId("surface").dataset.shown = key;
  };
  byId("quantity").onchange = update;
  byId("cameras").onchange = update;
  await update();
}

const compare = byId("compare") && new Compare(byId("compare"));
const later = {};

// The parts below come when they are about to be seen.
function showRun() {
  const run = shown();
  document.querySelectorAll("[data-run]").forEach(part => { part.hidden = part.dataset.run !== (byId("run")?.value ?? "0"); });
  showObject(run);
  if (!compare) return;
  later.asset?.(run);
  later.flow?.(run);
  later.surface?.(run);
  compare.setRun(run);
  memory.write("run", byId("run")?.value ?? "0");
}

if (byId("run")) {
  const kept = memory.read("run");
  if (kept in page.runs) byId("run").value = kept;
  byId("run").addEventListener("change", showRun);
}
showRun();
if (compare) {
  compare.restore();
  whenSeen(byId("material-section"), () => { later.asset = showAsset; showAsset(shown()); });
  whenSeen(byId("flow-section"), () => { later.flow = showFlow; showFlow(shown()); });
  whenSeen(byId("surface-section"), () => { later.surface = showSurface; showSurface(shown()); });
}
document.documentElement.dataset.ready = Math.round(performance.now());
