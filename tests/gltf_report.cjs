// Prints what the Khronos glTF validator finds in the file named last, as JSON. NODE_PATH says where it is installed.
const fs = require("fs");
const validator = require("gltf-validator");

validator
  .validateBytes(new Uint8Array(fs.readFileSync(process.argv.at(-1))), { maxIssues: 0 })
  .then(report => console.log(JSON.stringify(report)), error => { console.error(error); process.exit(1); });
