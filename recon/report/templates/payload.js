// The binary parts of the page: see recon/report/payload.py for their format.
const page = JSON.parse(document.getElementById("page").textContent);

const bytes = key => Uint8Array.from(atob(document.getElementById(`part-${key}`).textContent), c => c.charCodeAt(0));

const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array };

async function indices({ key, type }) {
  const stream = new Blob([bytes(key)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new ARRAYS[type](await new Response(stream).arrayBuffer());
}

async function numbers(array) {
  const steps = await indices(array);
  const levels = 2 ** (8 * steps.BYTES_PER_ELEMENT) - 1;
  return Float32Array.from(steps, step => array.low + (step / levels) * (array.high - array.low));
}

const urls = new Map();

function pictureUrl(key) {
  if (!urls.has(key)) urls.set(key, URL.createObjectURL(new Blob([bytes(key)], { type: "image/webp" })));
  return urls.get(key);
}

// Runs `act` when the element is first about to be seen.
function whenSeen(element, act) {
  const observer = new IntersectionObserver(entries => {
    if (!entries.some(entry => entry.isIntersecting)) return;
    observer.disconnect();
    act();
  }, { rootMargin: "300px" });
  observer.observe(element);
}

document.querySelectorAll("img[data-part]").forEach(image =>
  whenSeen(image, () => { image.src = pictureUrl(image.dataset.part); }));
