// What a person has chosen survives the reloads of a page that follows a training.
// A sandboxed page, such as MLflow's preview, may not store anything, and does without.
const memory = {
  read(key) {
    try { return JSON.parse(sessionStorage.getItem(key)); } catch { return null; }
  },
  write(key, value) {
    try { sessionStorage.setItem(key, JSON.stringify(value)); } catch { /* sandboxed */ }
  },
};
