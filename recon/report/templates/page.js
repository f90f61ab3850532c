// Draws each figure when it is first visible, in the page's colours, and turns the meshes.
const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function themed(layout) {
  const axis = { gridcolor: color("--grid"), linecolor: color("--line"), tickcolor: color("--line") };
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: color("--ink") },
    hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--ink") } },
    ...(layout.xaxis && { xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis } }),
    // On a narrow screen the legend would leave no room beside it.
    ...(layout.legend && innerWidth < 860 && {
      legend: { ...layout.legend, orientation: "h", y: -0.2 },
      margin: { ...layout.margin, l: 52 },
    }),
  };
}

async function draw(element) {
  const source = document.querySelector(`script[data-figure="${element.id}"]`);
  const { data, layout } = JSON.parse(source.textContent);
  await Plotly.react(element, data, themed(layout), { responsive: true, displaylogo: false, displayModeBar: false });
  if (element.classList.contains("turning") && !element.dataset.drawn) startTurning(element);
  element.dataset.drawn = true;
}

const seen = new IntersectionObserver(entries => {
  for (const { target, isIntersecting } of entries) if (isIntersecting && !target.dataset.drawn) draw(target);
});
document.querySelectorAll(".plot").forEach(element => seen.observe(element));

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () =>
  document.querySelectorAll(".plot[data-drawn]").forEach(draw));

document.querySelectorAll(".tabs").forEach(tabs => tabs.addEventListener("change", () =>
  tabs.parentElement.querySelectorAll(".plot[data-drawn]").forEach(element => element.offsetParent && Plotly.Plots.resize(element))));

document.getElementById("run")?.addEventListener("change", event =>
  document.querySelectorAll("[data-run]").forEach(part => { part.hidden = part.dataset.run !== event.target.value; }));

const SECONDS_A_TURN = 16;

function startTurning(element) {
  const button = document.querySelector(`[data-turn="${element.id}"]`);
  let turning = !matchMedia("(prefers-reduced-motion: reduce)").matches;
  let last;
  const show = () => button.setAttribute("aria-pressed", turning);
  const step = async now => {
    const visible = element.offsetParent && !document.hidden;
    if (turning && visible && last !== undefined) {
      const camera = element._fullLayout.scene.camera;
      const angle = 2 * Math.PI * Math.min(now - last, 100) / 1000 / SECONDS_A_TURN;
      const { x, y, z } = camera.eye;
      const eye = { x: x * Math.cos(angle) - y * Math.sin(angle), y: x * Math.sin(angle) + y * Math.cos(angle), z };
      await Plotly.relayout(element, { "scene.camera.eye": eye });
    }
    last = now;
    requestAnimationFrame(step);
  };
  button.addEventListener("click", () => { turning = !turning; show(); });
  // Whoever takes hold of the mesh wants it to stay.
  for (const event of ["pointerdown", "wheel", "touchstart"]) {
    element.addEventListener(event, () => { turning = false; show(); }, { passive: true });
  }
  show();
  requestAnimationFrame(step);
}
