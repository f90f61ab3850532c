// Loads the page again when what it shows has changed on the disk.
const version = () => fetch("version", { cache: "no-store" }).then(answer => answer.text());
version().then(first => setInterval(async () => {
  const now = await version().catch(() => first);
  if (now !== first && !document.hidden) location.reload();
}, 2000));
