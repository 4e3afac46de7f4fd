// What a file can be, by its first bytes, as the server decides it: whether it is worth sending.

const HEAD = 4096;
const STARTS = {
  image: ["\xff\xd8\xff", "\x89PNG\r\n\x1a\n", "II*\0", "MM\0*", "II+\0", "BM"],
  zip: ["PK\x03\x04", "PK\x05\x06", "PK\x07\x08"],
  // Without a preamble; a text in UTF-16: the server looks closer.
  dicom: ["\x02\0", "\x08\0"],
  message: ["\xff\xfe", "\xfe\xff"],
};
const ORDER = /^(?:\xef\xbb\xbf)?[\x0b \t\r\n]*(?:MSH|FHS|BHS|\{)/;

function kindOf(head) {
  if (head.slice(128, 132) === "DICM") return "dicom";
  const found = Object.entries(STARTS).find(([, starts]) => starts.some((start) => head.startsWith(start)));
  if (found) return found[0];
  return ORDER.test(head) ? "message" : "other";
}

// A file that cannot be read here is sent all the same: what is wrong with it is said then.
async function sniff(file) {
  try {
    const bytes = new Uint8Array(await file.slice(0, HEAD).arrayBuffer());
    return kindOf(String.fromCharCode(...bytes));
  } catch {
    return "unknown";
  }
}

async function anyField(files) {
  for (const file of files) if ((await sniff(file)) !== "other") return true;
  return false;
}

async function zipsAmong(files) {
  const kinds = await Promise.all(files.map(sniff));
  return new Set(files.filter((_, n) => kinds[n] === "zip"));
}
