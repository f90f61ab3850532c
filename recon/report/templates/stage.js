// A 3D viewer: panes side by side that one camera looks into. Drag, arrow keys, + - 0, space.
const SECONDS_A_TURN = 20;
const HOME = { azimuth: -1.15, elevation: 0.22, distance: 1 };
const CLAY = new THREE.Color("#e2d9cb");

class Stage {
  constructor(element) {
    this.element = element;
    this.button = element.querySelector(".turn");
    this.pose = memory.read(`pose-${element.id}`) ?? { ...HOME };
    this.turning = !matchMedia("(prefers-reduced-motion: reduce)").matches && element.dataset.turning !== "no";
    this.panes = [];
    this.renderer = new THREE.WebGLRenderer({ antialias: true, alpha: true, preserveDrawingBuffer: true });
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    this.renderer.autoClear = false;
    this.canvas = this.renderer.domElement;
    Object.assign(this.canvas, { tabIndex: 0 });
    this.canvas.setAttribute("role", "img");
    this.canvas.setAttribute("aria-label", `${element.dataset.label}. Arrow keys turn it, plus and minus zoom, space starts and stops.`);
    element.prepend(this.canvas);
    this.camera = new THREE.PerspectiveCamera(28, 1, 0.01, 100);
    this.camera.up.set(0, 0, 1);
    this.listen();
    this.show();
    requestAnimationFrame(now => this.step(now));
  }

  // Each pane: { label, objects, even, flash, linear }. Even light leaves colours of a scale as they are to be read; a
  // flash beside the camera is nearly all light there is; linear colours are encoded for the screen.
  setPanes(panes) {
    this.element.querySelectorAll(".label").forEach(label => label.remove());
    this.panes = panes.map(({ label, objects, even, flash, linear }, i) => {
      const scene = new THREE.Scene();
      scene.add(...objects, new THREE.HemisphereLight("#ffffff", even ? "#d8d4ce" : "#7d766d", flash ? 0.12 : even ? 0.8 : 0.5));
      const light = new THREE.DirectionalLight(flash ? "#ffffff" : "#fff6ea", flash ? 1 : even ? 0.25 : 0.68);
      scene.add(light, light.target);
      if (panes.length > 1) {
        const text = document.createElement("span");
        text.className = "label";
        text.style.left = `${(100 * (i + 0.5)) / panes.length}%`;
        text.textContent = label;
        this.element.append(text);
      }
      return { scene, light, flash, linear };
    });
    this.draw();
  }

  // What the camera looks at, and how large it is.
  setFrame(geometry) {
    geometry.computeBoundingSphere();
    this.frame = geometry.boundingSphere.clone();
    this.draw();
  }

  draw() {
    this.dirty = true;
  }

  step(now) {
    const seen = this.element.offsetParent && !document.hidden;
    if (seen && this.turning && this.last !== undefined) {
      this.pose.azimuth += (2 * Math.PI * Math.min(now - this.last, 100)) / 1000 / SECONDS_A_TURN;
      this.dirty = true;
    }
    this.last = now;
    if (seen && this.dirty && this.visible !== false && this.frame) this.render();
    requestAnimationFrame(then => this.step(then));
  }

  render() {
    this.dirty = false;
    const { clientWidth: width, clientHeight: height } = this.element;
    if (width !== this.width || height !== this.height) {
      Object.assign(this, { width, height });
      this.renderer.setSize(width, height);
    }
    const count = Math.max(this.panes.length, 1);
    const aspect = width / count / height;
    const { azimuth, elevation, distance } = this.pose;
    const { center, radius } = this.frame;
    const half = Math.tan((this.camera.fov * Math.PI) / 360) * Math.min(1, aspect);
    const away = (1.06 * radius * distance) / Math.sin(Math.atan(half));
    const towards = new THREE.Vector3(
      Math.cos(elevation) * Math.cos(azimuth), Math.cos(elevation) * Math.sin(azimuth), Math.sin(elevation));
    this.camera.position.copy(center).addScaledVector(towards, away);
    this.camera.near = away / 100;
    this.camera.far = away * 20;
    this.camera.aspect = aspect;
    this.camera.updateProjectionMatrix();
    this.camera.lookAt(center);
    this.renderer.setScissorTest(false);
    this.renderer.clear();
    this.renderer.setScissorTest(true);
    this.panes.forEach(({ scene, light, flash, linear }, i) => {
      // From above the left shoulder of whoever looks, or from the lens.
      this.renderer.outputEncoding = linear ? THREE.sRGBEncoding : THREE.LinearEncoding;
      light.position.set(...(flash ? [0, 0, 1] : [-0.55, 0.75, 1])).applyQuaternion(this.camera.quaternion).multiplyScalar(radius).add(center);
      light.target.position.copy(center);
      const place = [Math.round((width * i) / count), 0, Math.round(width / count), height];
      this.renderer.setViewport(...place);
      this.renderer.setScissor(...place);
      this.renderer.render(scene, this.camera);
    });
    this.element.dataset.drawn = Number(this.element.dataset.drawn ?? 0) + 1;
  }

  orbit(right, up) {
    this.pose.azimuth -= right;
    this.pose.elevation = Math.max(-1.5, Math.min(1.5, this.pose.elevation + up));
    this.moved();
  }

  zoom(factor) {
    this.pose.distance = Math.max(0.3, Math.min(6, this.pose.distance * factor));
    this.moved();
  }

  moved() {
    memory.write(`pose-${this.element.id}`, this.pose);
    this.draw();
  }

  // Whoever takes hold of the mesh wants it to stay.
  hold() {
    this.turning = false;
    this.show();
  }

  show() {
    this.button.setAttribute("aria-pressed", this.turning);
  }

  toggle() {
    this.turning = !this.turning;
    this.show();
  }

  key({ key }) {
    const keys = {
      ArrowLeft: () => this.orbit(-0.12, 0),
      ArrowRight: () => this.orbit(0.12, 0),
      ArrowUp: () => this.orbit(0, 0.12),
      ArrowDown: () => this.orbit(0, -0.12),
      "+": () => this.zoom(0.9),
      "-": () => this.zoom(1 / 0.9),
      0: () => { Object.assign(this.pose, HOME); this.moved(); },
    };
    if (key === " ") this.toggle();
    else if (keys[key]) { this.hold(); keys[key](); }
    else return false;
    return true;
  }

  listen() {
    const { canvas } = this;
    this.button.addEventListener("click", () => this.toggle());
    canvas.addEventListener("pointerdown", event => {
      canvas.setPointerCapture(event.pointerId);
      canvas.focus({ preventScroll: true });
      this.hold();
    });
    canvas.addEventListener("pointermove", event => {
      if (canvas.hasPointerCapture(event.pointerId)) this.orbit(event.movementX * 0.009, event.movementY * 0.009);
    });
    // Only where it was clicked before: the wheel is also what scrolls the page.
    canvas.addEventListener("wheel", event => {
      if (document.activeElement !== canvas) return;
      event.preventDefault();
      this.zoom(Math.exp(event.deltaY * 0.001));
    }, { passive: false });
    canvas.addEventListener("keydown", event => { if (this.key(event)) event.preventDefault(); });
    new ResizeObserver(() => this.draw()).observe(this.element);
    new IntersectionObserver(([entry]) => { this.visible = entry.isIntersecting; }).observe(this.element);
  }
}

async function meshGeometry({ vertices, faces }) {
  return geometryOf(await numbers(vertices), await indices(faces));
}

function geometryOf(vertices, faces) {
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(vertices, 3));
  geometry.setIndex(new THREE.BufferAttribute(faces, 1));
  geometry.computeVertexNormals();
  return geometry;
}

function clay(geometry) {
  return new THREE.Mesh(geometry, new THREE.MeshPhongMaterial({ color: CLAY, specular: "#141312", shininess: 18 }));
}

// Draws the lines of latitude and longitude of `sphere`, 15 degrees apart, wherever its points were carried.
function withGraticule(mesh, sphere) {
  const { center } = sphere.boundingSphere;
  const { array } = sphere.attributes.position;
  mesh.geometry.setAttribute("origin", new THREE.BufferAttribute(array.map((value, i) => value - center.getComponent(i % 3)), 3));
  const lines = (mesh.material.userData.lines = { value: 1 });
  mesh.material.onBeforeCompile = shader => {
    shader.uniforms.lines = lines;
    shader.vertexShader = shader.vertexShader
      .replace("#include <common>", "#include <common>\nattribute vec3 origin; varying vec3 came;")
      .replace("#include <begin_vertex>", "#include <begin_vertex>\ncame = origin;");
    shader.fragmentShader = shader.fragmentShader
      .replace("#include <common>", "#include <common>\nvarying vec3 came; uniform float lines;")
      .replace("#include <color_fragment>", `
        vec3 way = normalize(came);
        vec2 at = vec2(atan(way.y, way.x), asin(clamp(way.z, -1.0, 1.0))) * 12.0 / PI;
        vec2 line = 1.0 - smoothstep(0.4, 1.4, abs(fract(at - 0.5) - 0.5) / fwidth(at));
        line.x *= smoothstep(0.1, 0.3, length(way.xy)); // meridians crowd at the poles
        vec3 tint = mix(diffuse, 0.5 + 0.5 * way, 0.35);
        diffuseColor.rgb = mix(diffuse, tint * (1.0 - 0.6 * max(line.x, line.y)), lines);`);
  };
  return mesh;
}

// Colours of a scale at the vertices, shaded little so that they can be read.
function painted(geometry, values, { map, low, high }) {
  const table = page.scales[map].map(color => new THREE.Color(color).toArray());
  const colors = new Float32Array(3 * values.length);
  values.forEach((value, i) => {
    const place = Math.max(0, Math.min(1, (value - low) / (high - low))) * (table.length - 1);
    colors.set(table[Math.round(place)], 3 * i);
  });
  const copy = geometry.clone();
  copy.setAttribute("color", new THREE.BufferAttribute(colors, 3));
  return new THREE.Mesh(copy, new THREE.MeshLambertMaterial({ vertexColors: true, emissive: "#202020" }));
}

// Cameras as pyramids: apex and four corners each.
async function frusta(array) {
  const points = await numbers(array);
  const lines = [];
  for (let start = 0; start < points.length; start += 15) {
    const at = k => points.subarray(start + 3 * k, start + 3 * k + 3);
    for (const [a, b] of [[0, 1], [0, 2], [0, 3], [0, 4], [1, 2], [2, 3], [3, 4], [4, 1]]) lines.push(...at(a), ...at(b));
  }
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(lines), 3));
  return new THREE.LineSegments(geometry, new THREE.LineBasicMaterial({ color: "#5b8fc7" }));
}

// Names the ends of a colour map beside its bar.
function showScale(element, scale) {
  element.hidden = !scale;
  if (!scale) return;
  const digits = scale.high >= 10 ? 0 : scale.high >= 1 ? 2 : 3;
  // An object of micrometres in metres has distances that no fixed number of digits shows.
  const text = value => (scale.high < 0.001 ? value.toPrecision(2) : value.toFixed(digits));
  element.querySelector(".what").textContent = scale.label;
  element.querySelector(".low").textContent = scale.low ? text(scale.low) : "0";
  element.querySelector(".high").textContent = text(scale.high);
  element.querySelector(".bar").style.background = `linear-gradient(to right, ${page.scales[scale.map].join(",")})`;
}
