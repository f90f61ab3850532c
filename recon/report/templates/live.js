// Loads the page again when what it shows has changed on the disk. Kept as a file, it stays as it is.
async function version() {
  const answer = await fetch("version", { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.statusText);
  return answer.text();
}
version().then(first => setInterval(async () => {
  const now = await version().catch(() => first);
  if (now !== first && !document.hidden) location.reload();
}, 2000), () => {});
