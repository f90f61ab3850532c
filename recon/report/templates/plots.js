// Draws each plot when it is first visible, in the page's colours, and shows the chosen runs and curves.
const color = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function themed({ data, layout }) {
  const axis = { gridcolor: color("--grid"), linecolor: color("--line"), tickcolor: color("--line") };
  const font = { family: getComputedStyle(document.body).fontFamily, size: 13, color: color("--ink") };
  return {
    data: data.map(trace => ({ ...trace, visible: chosen(trace.meta) })),
    layout: {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font,
      hoverlabel: { bgcolor: color("--card"), bordercolor: color("--line"), font: { color: color("--ink") } },
      ...(layout.xaxis && { xaxis: { ...layout.xaxis, ...axis }, yaxis: { ...layout.yaxis, ...axis } }),
      annotations: layout.annotations?.map(each => ({ ...each, bgcolor: color("--card"), borderpad: 1 })),
      ...(layout.xaxis && innerWidth < 700 && { margin: { ...layout.margin, l: 52, r: 4 } }),
    },
  };
}

function checked(id) {
  return new Set([...document.querySelectorAll(`#${id} input:checked`)].map(input => input.value));
}

const chosen = ({ run, curve }) => checked("shown-runs").has(String(run)) && (!curve || checked("shown-curves").has(curve));

let plotly;

// Five megabytes that need not be understood before somebody looks at a plot.
function loadPlotly() {
  plotly ??= Promise.resolve().then(() => {
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  });
  return plotly;
}

async function drawPlot(element) {
  await loadPlotly();
  const source = document.querySelector(`script[data-figure="${element.id}"]`);
  const { data, layout } = themed(JSON.parse(source.textContent));
  await Plotly.react(element, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
  element.dataset.drawn = "yes";
}

const redrawPlots = () => document.querySelectorAll(".plot[data-drawn]").forEach(element => element.offsetParent && drawPlot(element));

document.querySelectorAll(".plot").forEach(element => whenSeen(element, () => drawPlot(element)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawPlots);
document.querySelectorAll(".chips, .tabs").forEach(group => group.addEventListener("change", redrawPlots));
