// The files of what was dropped, folders walked to the end.

const OWN_OF_SYSTEMS = /^(\..*|thumbs\.db|desktop\.ini)$/i;

function readAll(reader) {
  return new Promise((good, bad) => {
    const all = [];
    // A reader gives at most a hundred at a time.
    const more = () => reader.readEntries((some) => (some.length ? (all.push(...some), more()) : good(all)), bad);
    more();
  });
}

async function walk(entry) {
  if (entry.isFile) return [await new Promise((good, bad) => entry.file(good, bad))];
  const found = [];
  for (const inner of await readAll(entry.createReader())) found.push(...(await walk(inner)));
  return found;
}

// The entries have to be taken at once: after the event the browser has forgotten them.
async function dropped(transfer) {
  const entries = [...(transfer.items || [])].map((item) => (item.webkitGetAsEntry ? item.webkitGetAsEntry() : null));
  if (!entries.some(Boolean)) return [...transfer.files];
  const found = [];
  for (const entry of entries.filter(Boolean)) found.push(...(await walk(entry)));
  return found;
}

// What systems put into folders is left out, and counted.
function withoutSystemFiles(files) {
  const kept = files.filter((file) => !OWN_OF_SYSTEMS.test(file.name));
  return { kept, left: files.length - kept.length };
}
