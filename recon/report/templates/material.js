// The asset, a GLB as other programs get it: its material under the flash, or what the material is made of.
const LOOKS = {
  flash: "the material under the flash",
  color: "base colour",
  roughness: "roughness",
  normals: "normals",
  shape: "the shape alone",
};

// Pictures inside the file are decoded as those of the page are: what fetches them would ask the page's policy.
window.createImageBitmap = undefined;

async function assetOf({ key, place }) {
  const gltf = await new Promise((done, failed) => new THREE.GLTFLoader().parse(bytes(key).buffer, "", done, failed));
  const group = new THREE.Group();
  group.matrixAutoUpdate = false;
  group.matrix.fromArray(place);
  group.add(gltf.scene);
  group.traverse(part => { if (part.isMesh) part.userData.own = part.material; });
  return group;
}

const MATERIALS = {
  flash: own => own,
  color: ({ map, color, vertexColors }) => new THREE.MeshBasicMaterial({ map, color, vertexColors }),
  roughness: ({ roughnessMap, roughness }) =>
    new THREE.MeshBasicMaterial({ map: roughnessMap, color: new THREE.Color().setScalar(roughness ?? 1) }),
  normals: ({ normalMap, normalScale }) =>
    new THREE.MeshNormalMaterial(normalMap ? { normalMap, normalScale } : {}),
};

// Shows the asset of a run on a stage, as the list beside it says.
async function showMaterial(id, { asset, mesh }) {
  const list = byId(`${id}-look`);
  const geometry = await meshGeometry(mesh);
  const group = await assetOf(asset);
  const update = () => {
    const look = list.value;
    const objects = look === "shape" ? [clay(geometry)] : [group];
    if (look !== "shape") group.traverse(part => { if (part.isMesh) part.material = MATERIALS[look](part.userData.own); });
    stage(id).setFrame(geometry);
    stage(id).setPanes([{ label: "", objects, flash: look === "flash", linear: look === "flash" || look === "color" }]);
    byId(id).dataset.shown = look;
  };
  fill(list, Object.entries(LOOKS), LOOKS[list.value] ? list.value : "flash");
  list.onchange = update;
  update();
}
